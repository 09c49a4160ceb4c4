package credentials

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"slices"
	"testing"
	"time"

	"vmcp/internal/mtls"
)

// TestYears: over five years each certificate of a pod is trusted by what any other pod has had for
// its files at any moment of the last half hour, and authorities, certificates and keys are renewed and dropped.
func TestYears(t *testing.T) {
	type pod struct{ data Data }
	var before, pods [2]pod
	roles := [2]mtls.Role{mtls.RoleAuthz, mtls.RoleAggregator}
	var authority Data
	keys := map[string]Data{}
	authorities, certificates, seals := map[string]bool{}, map[string]bool{}, map[string]bool{}
	start := time.Now()
	quiet := 0 // looks in which nothing changed; then the next one is a day later
	for now := start; now.Before(start.AddDate(5, 0, 0)); {
		made := len(authorities) + len(certificates)
		if quiet++; quiet > 10 {
			now = now.Add(24 * time.Hour)
		} else {
			now = now.Add(31 * time.Minute)
		}
		var err error
		if authority, err = Authority(authority, now); err != nil {
			t.Fatal(err)
		}
		authorities[string(authority["ca.crt"])] = true
		before = pods
		for i, role := range roles {
			if pods[i].data, err = Certificate(pods[i].data, authority, role, now); err != nil {
				t.Fatal(err)
			}
			certificates[string(pods[i].data["tls.crt"])] = true
			if before[i].data == nil {
				before[i] = pods[i]
			}
		}
		for _, server := range [][2]pod{before, pods} {
			for _, client := range [][2]pod{before, pods} {
				for i, role := range roles {
					if !trusts(t, client[1-i].data, server[i].data, role, now) {
						t.Fatalf("%v after the start a pod does not trust %s", now.Sub(start), role)
					}
				}
			}
		}
		if len(authorities)+len(certificates) > made {
			quiet = 0
		}
		for kind := range Rings {
			if keys[kind], err = Keys(keys[kind], kind, now); err != nil {
				t.Fatal(err)
			}
			if n := len(keys[kind]); n < 1 || n > 2 {
				t.Fatalf("%v after the start there are %d keys of kind %s", now.Sub(start), n, kind)
			}
		}
		for id := range keys["seal"] {
			seals[id] = true
		}
	}
	if len(authorities) != 4 || len(certificates) < 2*5*365/20 || len(seals) < 5*365/31 {
		t.Errorf("%d authorities, %d certificates, %d keys in five years", len(authorities), len(certificates), len(seals))
	}
	if old := slices.Collect(maps.Keys(keys["authserver"])); len(old) != 1 {
		t.Errorf("keys of authserver: %v, want the first one alone", old)
	}
}

// trusts says whether who has these files takes peer for the role at this time.
func trusts(t *testing.T, files, peer Data, role mtls.Role, now time.Time) bool {
	t.Helper()
	pair, err := tls.X509KeyPair(peer["tls.crt"], peer["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(files["ca.crt"])
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: string(role), CurrentTime: now})
	return err == nil
}

// TestKept: nothing is made anew while nothing is due, keys of somebody's own stay, and what cannot be read is an error,
// not a reason to begin again: a new authority would part the pods.
func TestKept(t *testing.T) {
	now := time.Now()
	authority, err := Authority(nil, now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Authority(authority, now.Add(time.Minute))
	if err != nil || string(again["ca.key"]) != string(authority["ca.key"]) {
		t.Errorf("a minute later there is another authority: %v", err)
	}
	if _, err := Authority(Data{"ca.crt": []byte("x")}, now); err == nil {
		t.Error("an authority that cannot be read is replaced")
	}
	own := Data{"mine": []byte("k")}
	kept, err := Keys(own, "seal", now.AddDate(1, 0, 0))
	if err != nil || len(kept) != 1 {
		t.Errorf("keys of somebody's own: %v, %v", len(kept), err)
	}
	c, err := Certificate(nil, authority, mtls.RoleAuthz, now)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Certificate(c, authority, mtls.RoleAggregator, now)
	if err != nil || string(other["tls.crt"]) == string(c["tls.crt"]) {
		t.Errorf("the certificate of another role is taken: %v", err)
	}
}
