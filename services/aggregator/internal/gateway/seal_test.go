package gateway

import (
	"net/http"
	"strings"
	"testing"

	"vmcp/internal/decision"
	"vmcp/internal/keyring/keyringtest"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// TestSealed: what does not come the one way, or is not exactly what authz saw, reaches no backend.
func TestSealed(t *testing.T) {
	probe := mcptest.NewHTTP(t, mcptest.Options{})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": probe})
	id := w.open(t, "ann", "{}")
	call := func() ask { return legacy(id, "1", "tools/call", toolCall("a_echo")) }
	sealed := func(a ask) string { return w.request(t, t.Context(), a).Header.Get(decision.Header) }
	changed := func(f func(*gatewayv1.Decision)) ask { a := call(); a.change = f; return a }
	with := func(a ask, seals ...string) ask { a.seals = seals; return a }
	good := sealed(call())
	other := &world{Gateway: w.Gateway, inv: w.inv, sealKeys: keyringtest.New(t), URL: w.URL}

	tests := map[string]struct {
		a      ask
		status int
	}{
		"no seal":                    {with(call(), []string{}...), 403},
		"an empty seal":              {with(call(), ""), 403},
		"two seals":                  {with(call(), good, good), 403},
		"two seals, one empty":       {with(call(), good, ""), 403},
		"two in one":                 {with(call(), good+","+good), 403},
		"sealed with other keys":     {with(call(), other.request(t, t.Context(), call()).Header.Get(decision.Header)), 403},
		"cut":                        {with(call(), good[:len(good)-1]), 403},
		"of another tool":            {with(legacy(id, "1", "tools/call", toolCall("a_huge")), good), 403},
		"of other arguments":         {with(legacy(id, "1", "tools/call", `"name":"a_echo","arguments":{"text":"ho"}`), good), 403},
		"of another id":              {with(legacy(id, "2", "tools/call", toolCall("a_echo")), good), 403},
		"of another session":         {with(legacy(w.open(t, "ann", "{}"), "1", "tools/call", toolCall("a_echo")), good), 403},
		"of a session, without one":  {with(legacy("", "1", "tools/call", toolCall("a_echo")), good), 403},
		"of a POST, on a GET":        {with(ask{verb: "GET", session: id}, good), 403},
		"of a list, on a call":       {with(call(), sealed(legacy(id, "1", "tools/list", ""))), 403},
		"of a body that parses":      {with(ask{session: id, body: `{"jsonrpc":"2.0","method":"tools/call","id":1,"params":{"name":"a_echo","name":"a_huge"}}`}, good), 403},
		"of no body at all":          {with(ask{session: id}, good), 403},
		"another virtual server":     {changed(func(d *gatewayv1.Decision) { d.VirtualServer = "other" }), 403},
		"another HTTP method":        {changed(func(d *gatewayv1.Decision) { d.HttpMethod = "GET" }), 403},
		"another era":                {changed(func(d *gatewayv1.Decision) { d.Era = uint32(mcpwire.EraModern) }), 403},
		"another kind":               {changed(func(d *gatewayv1.Decision) { d.Kind = uint32(mcpwire.KindNotification) }), 403},
		"another method":             {changed(func(d *gatewayv1.Decision) { d.RpcMethod = "tools/list" }), 403},
		"another name":               {changed(func(d *gatewayv1.Decision) { d.Name = "a_huge" }), 403},
		"no name":                    {changed(func(d *gatewayv1.Decision) { d.Name = "" }), 403},
		"no target":                  {changed(func(d *gatewayv1.Decision) { d.Target = nil }), 403},
		"another body":               {changed(func(d *gatewayv1.Decision) { d.BodySha256[0] ^= 1 }), 403},
		"no body hash":               {changed(func(d *gatewayv1.Decision) { d.BodySha256 = nil }), 403},
		"another session in it":      {changed(func(d *gatewayv1.Decision) { d.SessionId = "x" }), 403},
		"the zero decision":          {changed(func(d *gatewayv1.Decision) { *d = gatewayv1.Decision{IssuedAtMs: d.IssuedAtMs} }), 403},
		"too old":                    {changed(func(d *gatewayv1.Decision) { d.IssuedAtMs -= 31_000 }), 503},
		"from the future":            {changed(func(d *gatewayv1.Decision) { d.IssuedAtMs += 6_000 }), 503},
		"a backend that is not ours": {changed(func(d *gatewayv1.Decision) { d.Target.Backend = "gone" }), 503},

		"29 s old":                  {changed(func(d *gatewayv1.Decision) { d.IssuedAtMs -= 29_000 }), 200},
		"other policies":            {changed(func(d *gatewayv1.Decision) { d.PolicyRevision = "rev-9" }), 200},
		"another catalog":           {changed(func(d *gatewayv1.Decision) { d.CatalogDigest = "x" }), 200},
		"another view":              {changed(func(d *gatewayv1.Decision) { d.View = "x" }), 200},
		"the right one":             {call(), 200},
		"a target on what has none": {ask{session: id, body: `{"jsonrpc":"2.0","id":1,"method":"ping"}`, change: func(d *gatewayv1.Decision) { d.Target = &gatewayv1.Target{Backend: "a"} }}, 403},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			probe.Reset()
			got := w.send(t, tt.a)
			if got.status != tt.status {
				t.Errorf("%d %s, want %d", got.status, got.body, tt.status)
			}
			if tt.status == 403 && got.body != notAllowed {
				t.Errorf("says %s, want %s", got.body, notAllowed)
			}
			if tt.status != 200 && len(probe.Requests()) > 0 {
				t.Errorf("the backend saw %d requests", len(probe.Requests()))
			}
		})
	}
}

func TestBodyLimit(t *testing.T) {
	w := newWorld(t, nil)
	seal := w.request(t, t.Context(), legacy("", "1", "ping", "")).Header.Get(decision.Header)
	for size, chunked := range map[int]bool{MaxBody + 1: true, MaxBody + 2: false} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", w.URL, &endless{size})
		if err != nil {
			t.Fatal(err)
		}
		if !chunked {
			r.ContentLength = int64(size)
		}
		r.Header.Set(decision.Header, seal)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			continue // refused while it was still sending
		}
		resp.Body.Close()
		if resp.StatusCode != 400 {
			t.Errorf("a body of %d bytes, chunked %v: %d, want 400", size, chunked, resp.StatusCode)
		}
	}
}

// TestTarget: a call goes where the seal says, whoever owns its name.
func TestTarget(t *testing.T) {
	a, b := mcptest.NewHTTP(t, mcptest.Options{}), mcptest.NewHTTP(t, mcptest.Options{Tools: 2})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": a, "b": b})
	id := w.open(t, "ann", "{}")
	for _, tt := range []struct {
		ask    ask
		target *gatewayv1.Target
		method string
	}{
		{legacy(id, "1", "tools/call", toolCall("a_echo")), &gatewayv1.Target{Backend: "b", Name: "tool_0001"}, "tools/call"},
		{modern("1", "tools/call", toolCall("a_echo")), &gatewayv1.Target{Backend: "b", Name: "tool_0001"}, "tools/call"},
		{legacy(id, "1", "tools/call", toolCall("not_in_the_catalog")), &gatewayv1.Target{Backend: "b", Name: "tool_0001"}, "tools/call"},
		{legacy(id, "1", "prompts/get", `"name":"a_greet","arguments":{"who":"you"}`), &gatewayv1.Target{Backend: "b", Name: "greet"}, "prompts/get"},
		{legacy(id, "1", "resources/read", `"uri":"test://hello"`), &gatewayv1.Target{Backend: "b", Name: "test://hello"}, "resources/read"},
		{modern("1", "resources/read", `"uri":"test://items/7"`), &gatewayv1.Target{Backend: "b", Name: "test://items/7"}, "resources/read"},
	} {
		a.Reset()
		b.Reset()
		tt.ask.target = tt.target
		got := w.send(t, tt.ask)
		if got.status != 200 || !strings.Contains(got.body, `"result"`) {
			t.Errorf("%s: %d %s", tt.ask.body, got.status, got.body)
		}
		if a.Count(tt.method, "") != 0 || b.Count(tt.method, tt.target.Name) != 1 {
			t.Errorf("%s: a saw %d, b saw %d calls of %s, want 0 and 1", tt.ask.body, a.Count(tt.method, ""), b.Count(tt.method, tt.target.Name), tt.target.Name)
		}
	}
}
