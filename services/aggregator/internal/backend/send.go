package backend

import (
	"bufio"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// send makes a round trip. It follows one redirect: to the same place but for a slash at the end, by which frameworks
// tell apart what people do not, and only where the method stays. A body that came compressed, though we accept none
// that is, is read as what it was.
func (l *httpLink) send(ctx context.Context, method string, body []byte, header http.Header) (*http.Response, error) {
	for followed := false; ; followed = true {
		r := l.request(ctx, method, body, header)
		resp, err := l.b.transport.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		if to := target(resp, r.URL); to != nil && !followed && butForSlash(to, r.URL) &&
			(resp.StatusCode == http.StatusTemporaryRedirect || resp.StatusCode == http.StatusPermanentRedirect) {
			drain(resp.Body)
			resp.Body.Close()
			l.b.moved.Store(to)
			continue
		}
		if strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
			plain, err := gzip.NewReader(resp.Body)
			if err != nil {
				resp.Body.Close()
				return nil, l.b.errorf(ErrInvalidReply, true, "reading a body that is said to be gzip: %w", err)
			}
			resp.Body, resp.ContentLength = through{plain, resp.Body}, -1
		}
		return resp, nil
	}
}

// through is a body that is read through something.
type through struct {
	io.Reader
	io.Closer
}

// target is where a redirect leads; nil: resp is none.
func target(resp *http.Response, from *url.URL) *url.URL {
	location := resp.Header.Get("Location")
	if resp.StatusCode < 300 || resp.StatusCode >= 400 || location == "" {
		return nil
	}
	to, err := from.Parse(location)
	if err != nil {
		return nil
	}
	return to
}

func butForSlash(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && a.Host == b.Host && a.User == nil && a.RawQuery == b.RawQuery && a.EscapedPath() != b.EscapedPath() &&
		strings.TrimSuffix(a.EscapedPath(), "/") == strings.TrimSuffix(b.EscapedPath(), "/")
}

// What a response holds.
type bodyKind uint8

const (
	isOther bodyKind = iota
	isJSON
	isEvents
)

// contentType is the media type, without parameters.
func contentType(resp *http.Response) string {
	t := resp.Header.Get("Content-Type")
	if end := strings.IndexAny(t, ";,"); end >= 0 {
		t = t[:end]
	}
	return strings.TrimSpace(t)
}

// kindOf goes by the content type. Where that says nothing, it looks at how the body begins.
func kindOf(resp *http.Response) bodyKind {
	switch t := strings.ToLower(contentType(resp)); {
	case t == "application/json", strings.HasSuffix(t, "+json"):
		return isJSON
	case t == "text/event-stream":
		return isEvents
	case resp.StatusCode != http.StatusOK, t != "" && t != "text/plain" && t != "application/octet-stream":
		return isOther
	default:
		r := bufio.NewReader(resp.Body)
		resp.Body = through{r, resp.Body}
		for {
			switch c, err := r.ReadByte(); {
			case err != nil:
				return isOther
			case c == ' ' || c == '\t' || c == '\r' || c == '\n':
				continue
			case c == '{':
				r.UnreadByte()
				return isJSON
			case t == "" && (c == 'd' || c == 'e' || c == 'i' || c == 'r' || c == ':'): // data, event, id, retry, a comment
				r.UnreadByte()
				return isEvents
			}
			return isOther
		}
	}
}
