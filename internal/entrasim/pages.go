package entrasim

import (
	"embed"
	"html/template"
	"net/http"
	"net/url"
)

//go:embed page.html
var pageFiles embed.FS

var page = template.Must(template.ParseFS(pageFiles, "page.html"))

// view is what page.html shows: accounts to pick, an error, or a message.
type view struct {
	Title   string
	App     string
	Tenant  string
	People  []Person
	Error   *occurrence
	Message string
}

func (t *Tenant) render(w http.ResponseWriter, status int, v view) {
	v.Tenant = t.cfg.Tenant
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "strict-origin-when-cross-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	w.WriteHeader(status)
	page.Execute(w, v)
}

func (t *Tenant) accountPage(w http.ResponseWriter, q url.Values) {
	t.mu.Lock()
	people := t.dir.clone().People
	t.mu.Unlock()
	t.render(w, http.StatusOK, view{Title: "Pick an account", App: q.Get("client_id"), People: people})
}

// failPage shows an error that Entra shows itself, with nothing sent to the application. HTTP status 200 is unverified.
func (t *Tenant) failPage(w http.ResponseWriter, f fault) {
	o := t.occur(f)
	t.render(w, http.StatusOK, view{Title: "Sorry, but we're having trouble signing you in.", Error: &o})
}

func (t *Tenant) messagePage(w http.ResponseWriter, text string) {
	t.render(w, http.StatusOK, view{Title: text, Message: "You can close this window."})
}

func (t *Tenant) home(w http.ResponseWriter, r *http.Request) {
	t.render(w, http.StatusOK, view{Title: "A simulated Entra tenant", Message: "Sign-in starts at the application, which sends people here."})
}
