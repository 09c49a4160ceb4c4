package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/browser"
	"vmcp/internal/mcpwire"
)

// TestSignIn: each role of the guide signs in through Entra, and sees and calls what the guide says.
func TestSignIn(t *testing.T) {
	t.Parallel()
	o := openOffice(t, 0) // the guide's own steps give tokens v1.0
	var catalog []string
	for _, version := range []int{1, 2} {
		o.entra.SetTokenVersion(version)
		for _, who := range []struct {
			name, role string
			forbidden  bool
		}{
			{"admin", "mcp-admin", false}, // first: sees the whole catalog
			{"platform", "mcp-platform", false},
			{"dev", "mcp-developers", true},
		} {
			t.Run(fmt.Sprintf("%s, token v%d", who.name, version), func(t *testing.T) {
				l := o.signIn(t, who.name)
				if got, want := groups(t, l.Access), []string{who.role}; !slices.Equal(got, want) {
					t.Errorf("groups %q, want %q", got, want)
				}
				if l.Type != "Bearer" || l.Expires < 890 || l.Expires > 900 || l.Refresh == "" || l.Scope != "openid offline_access" {
					t.Errorf("type %s, %d s, scope %q", l.Type, l.Expires, l.Scope)
				}
				for _, modern := range []bool{false, true} {
					c := &caller{w: o.world, token: l.Access, modern: modern}
					tools := c.list(t, "tools")
					slices.Sort(tools)
					if catalog == nil {
						catalog = tools
					}
					want := slices.Clone(catalog)
					if who.forbidden {
						want = slices.DeleteFunc(want, func(name string) bool { return name == forbiddenTool })
					}
					if d := cmp.Diff(tools, want); d != "" {
						t.Errorf("lists (-got +want):\n%s", d)
					}
					if a := c.call(t, allowedTool, `{"namespace":"shop"}`); !a.ok() {
						t.Errorf("%s: %d %s", allowedTool, a.status, a.body)
					}
					if a := c.call(t, "github-backend_list_issues", `{"owner":"acme","repo":"web"}`); !a.ok() {
						t.Errorf("issues: %d %s", a.status, a.body)
					}
					before := len(o.calls(t, "kubernetes-backend"))
					a := c.call(t, forbiddenTool, `{"namespace":"gone"}`)
					if who.forbidden && !denied(a, mcpwire.ItemTool, forbiddenTool) || !who.forbidden && !a.ok() {
						t.Errorf("%s: %d %s", forbiddenTool, a.status, a.body)
					}
					if reached := len(o.calls(t, "kubernetes-backend")) > before; reached == who.forbidden {
						t.Errorf("the backend was asked to delete: %t", reached)
					}
					// Without the prefix it is no name of this gateway, for anybody.
					if a := c.call(t, "delete_namespace", `{"namespace":"gone"}`); !denied(a, mcpwire.ItemTool, "delete_namespace") {
						t.Errorf("delete_namespace: %d %s", a.status, a.body)
					}
				}
			})
		}
	}
	if len(catalog) != 20 || !slices.Contains(catalog, forbiddenTool) {
		t.Errorf("the catalog is %q", catalog)
	}
	t.Run("no role", func(t *testing.T) { noRole(t, o) })
	t.Run("role changes", func(t *testing.T) { roleChanges(t, o) })
}

// noRole: who may not, learns it from a page and is given back to the application with an error.
func noRole(t *testing.T, o *office) {
	for _, version := range []int{1, 2} {
		o.entra.SetTokenVersion(version)
		app := o.app(t)
		b := browser.New()
		b.Leave = app.Answered
		page, err := b.SignIn(t.Context(), app.AuthorizeURL(rand43(), "the-state"), account("norole"))
		wants(t, "no role", page, err, http.StatusForbidden, "Your account has no role here", account("norole"), "engineering-tools", "e2e was not connected", "reference")
		var back url.Values
		again := ""
		for _, link := range page.Links {
			u, err := url.Parse(link)
			if err != nil {
				t.Fatal(err)
			}
			if app.Answered(u) {
				back = u.Query()
			} else {
				again = link
			}
		}
		if back.Get("error") != "access_denied" || back.Get("state") != "the-state" || back.Get("iss") != app.Issuer || back.Has("code") {
			t.Errorf("the way back carries %v", back)
		}
		if !strings.HasPrefix(again, app.Issuer+"/oauth/authorize?") || !strings.Contains(again, "prompt=select_account") {
			t.Errorf("another account is chosen at %q", again)
		}
		// The same person with another account, by that link.
		page, err = b.SignIn(t.Context(), again, account("dev"))
		if err != nil || page.Left == nil || page.Left.Query().Get("code") == "" {
			t.Errorf("with another account: %v %+v", err, page)
		}
	}
	// Entra itself stops who is not assigned (the guide's "Assignment required"); it is Entra's page that says so.
	app := o.app(t)
	b := browser.New()
	b.Leave = app.Answered
	page, err := b.SignIn(t.Context(), app.AuthorizeURL(rand43(), "s"), account("outsider"))
	wants(t, "not assigned", page, err, http.StatusOK, "AADSTS50105", "not a direct member of a group with access")
	if got, want := page.URL.Scheme+"://"+page.URL.Host, o.entra.URL; got != want {
		t.Errorf("the page is from %s, want %s", got, want)
	}
	// Without that setting the person comes back, and has no role here.
	o.entra.SetAssignmentRequired(false)
	defer o.entra.SetAssignmentRequired(true)
	page, err = b.SignIn(t.Context(), app.AuthorizeURL(rand43(), "s"), account("outsider"))
	wants(t, "not assigned, not required", page, err, http.StatusForbidden, "Your account has no role here")
}

// roleChanges: what Entra says counts from the next refresh on.
func roleChanges(t *testing.T, o *office) {
	for _, version := range []int{1, 2} {
		o.entra.SetTokenVersion(version)
		o.entra.SetRoles(account("dev"), "mcp-developers")
		l := o.signIn(t, "dev")
		sees := func(want bool) {
			t.Helper()
			c := &caller{w: o.world, token: l.Access, modern: true}
			if got := slices.Contains(c.list(t, "tools"), forbiddenTool); got != want {
				t.Errorf("with %q: %s listed: %t", groups(t, l.Access), forbiddenTool, got)
			}
		}
		sees(false)

		o.entra.SetRoles(account("dev"), "mcp-platform") // another one
		sees(false)
		l.refresh(t)
		sees(true)
		o.entra.SetRoles(account("dev"), "mcp-platform", "mcp-developers") // one more: now the forbid bites
		l.refresh(t)
		sees(false)
		o.entra.SetRoles(account("dev"), "mcp-platform") // one less
		l.refresh(t)
		sees(true)
		if got, want := groups(t, l.Access), []string{"mcp-platform"}; !slices.Equal(got, want) {
			t.Errorf("groups %q, want %q", got, want)
		}

		o.entra.SetAssigned(account("dev"), true) // the last one: no roles
		_, err := l.RefreshTokens(t.Context(), l.Refresh)
		wantRefused(t, "the last role is gone", err, "invalid_grant")
		o.ends(t, "the last role is gone", l.Access)
		o.entra.SetRoles(account("dev"), "mcp-developers")
		_, err = l.RefreshTokens(t.Context(), l.Refresh)
		wantRefused(t, "the sign-in is over, role or not", err, "invalid_grant")
	}

	// The other ways to be out: the account is blocked, its sessions are revoked.
	for what, change := range map[string]func(){
		"blocked":          func() { o.entra.SetDisabled(account("dev"), true) },
		"sessions revoked": func() { o.entra.Revoke(account("dev")) },
		"not assigned":     func() { o.entra.SetAssigned(account("dev"), false) },
	} {
		o.entra.SetRoles(account("dev"), "mcp-developers")
		l := o.signIn(t, "dev")
		change()
		_, err := l.RefreshTokens(t.Context(), l.Refresh)
		wantRefused(t, what, err, "invalid_grant")
		o.ends(t, what, l.Access)
		o.entra.SetDisabled(account("dev"), false)
	}
	o.entra.SetRoles(account("dev"), "mcp-developers")
	o.signIn(t, "dev")
}
