package gatewayconfig

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"vmcp/api/v1beta1"
	"vmcp/internal/secret"
)

var (
	dataKey         = regexp.MustCompile(`^[-._a-zA-Z0-9]+$`) // keys of Secrets and ConfigMaps (Kubernetes)
	onlyPlaceholder = regexp.MustCompile(`^\s*<[A-Za-z][A-Za-z0-9 _.-]*>\s*$`)
)

// secret resolves the reference in field at of d. It gives the value if part is requested; else it is empty, and whether
// there is one is only checked if no part is requested at all and some source of secrets is given: the directory of one
// service has nothing of another's.
func (r *resolver) secret(d *document, at string, ref *v1beta1.SecretKeyRef, part Part) secret.Value {
	if ref == nil {
		d.bad(at, "required")
		return ""
	}
	if !r.dataRef(d, at, ref.Name, ref.Key) {
		return ""
	}
	doc := r.lookup("Secret", ref.Name, d)
	if doc != nil {
		r.reach(doc)
		if doc.keys == nil {
			doc.keys = map[string]Part{}
		}
		doc.keys[ref.Key] |= part
	}
	want := r.src.Parts&part != 0
	podsOwn := part == 0 && r.src.Objects != nil // the operator, which makes the pod, says so at its server
	if !want && (r.src.Parts != 0 || !r.secretsGiven() || podsOwn) {
		r.unchecked = true
		return ""
	}
	value, found := r.secretFile(d, at, ref, want)
	if !found && doc != nil {
		value, found = secretValue(doc, ref.Key)
	}
	switch {
	case !found && doc != nil:
		d.bad(at, "Secret %s has no key %s%s", ref.Name, ref.Key, didYouMean(ref.Key, secretKeys(doc)))
	case !found && r.src.Lookup != nil:
		d.bad(at, "no Secret %s in the namespace: kubectl create secret generic %s --from-file=%s=/dev/stdin", ref.Name, ref.Name, ref.Key)
	case !found && r.src.Secrets != "":
		d.bad(at, "no secret: want a file %s, or a Secret document %s with key %s",
			filepath.Join(r.src.Secrets, ref.Name, ref.Key), ref.Name, ref.Key)
	case !found:
		d.bad(at, "no secret: want a Secret document %s with key %s, or a secrets directory with the file %s/%s",
			ref.Name, ref.Key, ref.Name, ref.Key)
	case onlyPlaceholder.MatchString(value):
		d.bad(at, "secret %s, key %s: %s", ref.Name, ref.Key, placeholderAdvice(strings.TrimSpace(value)))
	case want && value == "":
		d.bad(at, "secret %s, key %s is empty", ref.Name, ref.Key)
	}
	if !want {
		return ""
	}
	return secret.Value(value)
}

// dataRef checks the name and key of a reference; both become parts of file names.
func (r *resolver) dataRef(d *document, at, name, key string) bool {
	ok := true
	if !validName("Secret", name) {
		ok = false
		d.bad(at+".name", "required: a name of lower-case letters, digits, dashes and dots")
	}
	if !dataKey.MatchString(key) || strings.HasPrefix(key, "..") || key == "." {
		ok = false
		d.bad(at+".key", "required: a key of letters, digits, dashes, dots and underscores")
	}
	return ok
}

func (r *resolver) secretsGiven() bool {
	return r.src.Secrets != "" || r.src.Lookup != nil || slices.ContainsFunc(r.docs, func(d *document) bool { return d.kind == "Secret" })
}

// secretFile finds <secrets>/<name>/<key>; it reads it only if want.
func (r *resolver) secretFile(d *document, at string, ref *v1beta1.SecretKeyRef, want bool) (value string, found bool) {
	if r.src.Secrets == "" {
		return "", false
	}
	name := filepath.Join(r.src.Secrets, ref.Name, ref.Key)
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	var data []byte
	if err == nil && info.IsDir() {
		err = errors.New("is a directory")
	} else if err == nil && want {
		data, err = os.ReadFile(name)
	}
	if err != nil {
		d.bad(at, "reading %s: %s", name, reason(err))
		return "", true
	}
	return strings.TrimSuffix(string(data), "\n"), true // one newline, which editors and echo add
}

// secretValue is what Kubernetes would store: stringData before data.
func secretValue(doc *document, key string) (string, bool) {
	s := doc.object.(*secretDocument)
	if v, ok := s.StringData[key]; ok {
		return v, true
	}
	v, ok := s.Data[key]
	if !ok {
		return "", false
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(v), ""))
	if err != nil {
		doc.bad(join("data", key), "not base64 (plain text goes into stringData)")
		return "unreadable", true // one problem is enough
	}
	return strings.TrimSuffix(string(raw), "\n"), true // as in a file
}

func secretKeys(doc *document) []string {
	s := doc.object.(*secretDocument)
	return slices.Sorted(maps.Keys(mergedKeys(s.Data, s.StringData)))
}

func mergedKeys(ms ...map[string]string) map[string]bool {
	all := map[string]bool{}
	for _, m := range ms {
		for k := range m {
			all[k] = true
		}
	}
	return all
}

// configMap resolves a reference to a ConfigMap document. It returns the value's field in the document too, for its line.
func (r *resolver) configMap(d *document, at, name, key string, optional bool) (string, *document, *field) {
	if !r.dataRef(d, at, name, key) {
		return "", nil, nil
	}
	doc := r.lookup("ConfigMap", name, d)
	if doc == nil {
		if !optional {
			d.bad(at+".name", "no ConfigMap %q in the %s%s", name, r.src.place(), didYouMean(name, r.names("ConfigMap")))
		}
		return "", nil, nil
	}
	r.reach(doc)
	data := doc.object.(*configMapDocument).Data
	value, ok := data[key]
	if !ok && !optional {
		d.bad(at+".key", "ConfigMap %s has no key %q%s", name, key, didYouMean(key, slices.Sorted(maps.Keys(data))))
	}
	if !ok {
		return "", nil, nil
	}
	return value, doc, doc.at(join("data", key))
}

// caBundle resolves certificates in PEM form.
func (r *resolver) caBundle(d *document, at string, src *v1beta1.CABundleSource) []byte {
	if src == nil {
		return nil
	}
	ref := src.ConfigMapRef
	if ref == nil {
		d.bad(at+".configMapRef", "required")
		return nil
	}
	key := ref.Key
	if key == "" {
		key = "ca.crt"
	}
	text, doc, f := r.configMap(d, at+".configMapRef", ref.Name, key, ref.Optional)
	if doc == nil {
		return nil
	}
	if !x509.NewCertPool().AppendCertsFromPEM([]byte(text)) {
		doc.bad(f.path, "holds no certificate in PEM form")
		return nil
	}
	return []byte(text)
}
