package backend

import (
	"net/http"
	"testing"
)

func TestCompareParams(t *testing.T) {
	tool := []byte(`{"name":"deploy","inputSchema":{"type":"object","properties":{
		"region":{"type":"string","x-mcp-header":"Region"},
		"spec":{"type":"object","properties":{"count":{"type":"integer","x-mcp-header":"Count"}}}}}}`)
	params, err := headerParams(tool)
	if err != nil {
		t.Fatal(err)
	}
	b := New(Config{})
	b.schemas.Store(&schemas{"deploy": params})
	for _, c := range []struct {
		name, arguments string
		header          http.Header
		ok              bool
	}{
		{"both agree", `{"region":"eu","spec":{"count":3}}`, http.Header{"Mcp-Param-Region": {"eu"}, "Mcp-Param-Count": {"3"}}, true},
		{"nothing given", `{}`, nil, true},
		{"null is absent", `{"region":null}`, nil, true},
		{"a header for null", `{"region":null}`, http.Header{"Mcp-Param-Region": {"null"}}, false},
		{"empty string, empty header", `{"region":""}`, http.Header{"Mcp-Param-Region": {""}}, true},
		{"header missing", `{"region":"eu"}`, nil, false},
		{"header without argument", `{}`, http.Header{"Mcp-Param-Region": {"eu"}}, false},
		{"other value", `{"region":"eu"}`, http.Header{"Mcp-Param-Region": {"us"}}, false},
		{"other case", `{"region":"eu"}`, http.Header{"Mcp-Param-Region": {"EU"}}, false},
		{"base64", `{"region":"zürich"}`, http.Header{"Mcp-Param-Region": {"=?base64?esO8cmljaA==?="}}, true},
		{"given twice", `{"region":"eu"}`, http.Header{"Mcp-Param-Region": {"eu", "eu"}}, false},
		{"integers by value", `{"spec":{"count":42.0}}`, http.Header{"Mcp-Param-Count": {"42"}}, true},
		{"strings not by value", `{"region":"42.0"}`, http.Header{"Mcp-Param-Region": {"42"}}, false},
		{"other integer", `{"spec":{"count":42}}`, http.Header{"Mcp-Param-Count": {"43"}}, false},
		{"unknown header", `{}`, http.Header{"Mcp-Param-Other": {"x"}}, true},
	} {
		if err := b.CompareParams("deploy", []byte(c.arguments), c.header); (err == nil) != c.ok {
			t.Errorf("%s: %v, want ok %v", c.name, err, c.ok)
		}
	}
	if err := b.CompareParams("other", nil, http.Header{"Mcp-Param-Region": {"x"}}); err != nil {
		t.Errorf("a tool without mirrored arguments: %v", err)
	}
}
