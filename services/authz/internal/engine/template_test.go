package engine

import (
	"strings"
	"testing"
	"time"

	"vmcp/internal/await"
)

func TestTemplates(t *testing.T) {
	for _, tt := range []struct {
		template, uri string
		want          bool
	}{
		{"r://{id}", "r://5", true},
		{"r://{id}", "r://5/6", false},
		{"r://{id}", "x://r://5", false},
		{"r://{id}/a.b", "r://5/aXb", false},
		{"r://{id:3}", "r://5", true},
		{"r://{+path}", "r://5/6?x=1", true},
		{"r://{id}", "r://%2f", true},
		{"r://{id}", "r://5 6", false},
		{"r://{id}", "r://5\nr://6", false},
		{"r://{id}", "r://é", false},
		{"r://h{/a,b}", "r://h/1/2", true},
		{"r://h{?a,b*}", "r://h?a=1&b=2&b=3", true},
		{"r://h{#a}", "r://h#x", true},
		{"r://{id", "r://5", false},
	} {
		match := compile(tt.template)
		if got := match != nil && match.MatchString(tt.uri); got != tt.want {
			t.Errorf("%s, %q: %v, want %v", tt.template, tt.uri, got, tt.want)
		}
	}
}

func TestAnotherWay(t *testing.T) {
	for _, uri := range []string{
		"repo://x/../secrets/k", "repo://x/./k", "repo://x/..", "repo://x/.", "repo:../k", "repo:.", "../k", "repo://x/%2e%2e/k", "repo://x/%2E./k",
		"repo://%73ecrets/k", "repo://secrets/%6b", "repo://x?q=%41", "repo://x#%7E", "repo://x/%5f%2f", "repo://%30", "repo://%39%2D", "repo://x/../k?q",
	} {
		if !anotherWay(uri) {
			t.Errorf("%s is taken as it is", uri)
		}
	}
	for _, uri := range []string{
		"repo://x/k", "repo://x/..k", "repo://x/k..", "repo://x/...", "repo://x/a.b", "repo://x/%2F%2f", "repo://x/%20%C3%A9", "repo://x?path=../k",
		"repo://x#/../k", "repo://x/%", "repo://x/%4", "repo://x/%zz", "repo://x/%40%5B%60%7b%2f%3A", "", "doc://items/5", "urn:a:b",
	} {
		if anotherWay(uri) {
			t.Errorf("%s is refused", uri)
		}
	}
}

// TestTemplateCost: neither a backend's template nor a client's URI keeps authz busy.
func TestTemplateCost(t *testing.T) {
	uri := "r://" + strings.Repeat("a", maxURI-5) + "\n"
	for _, raw := range []string{
		"r://{a:9999}", "r://{a}{b}{c}", "r://{+a}{+b}{+c}", strings.Repeat("{+a}", maxVariables), "{a" + strings.Repeat(",a*", maxVariables-1) + "}",
		strings.Repeat("{+a}", 2000), "{a" + strings.Repeat(",a", 2000) + "}", strings.Repeat("x", maxTemplate) + "{a}",
	} {
		done := make(chan bool)
		go func() {
			match := compile(raw)
			done <- match != nil && match.MatchString(uri)
		}()
		select {
		case got := <-done:
			if got {
				t.Errorf("%.40s matches", raw)
			}
		case <-time.After(await.Limit):
			t.Fatalf("%.40s takes more than %v", raw, await.Limit)
		}
	}
}
