package oauth

import (
	"net/http"
	"testing"
)

// A whole sign-in over HTTP, with a remembered consent: authorize, Entra (simulated, its RSA signatures included),
// callback, token.
func BenchmarkLogin(b *testing.B) {
	w := newWorld(b, options{})
	a := w.app()
	br := w.browser()
	a.flow().code(br, dev)
	for b.Loop() {
		f := a.flow()
		to := br.get(f.address()).location(b)
		code := br.get(f.signIn(to, dev)).location(b).Query().Get("code")
		if got := f.redeem(code); got.status != http.StatusOK {
			b.Fatalf("%+v", got)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "logins/s")
}

// A refresh over HTTP, with Entra asked each time (simulated, its RSA signatures included).
func BenchmarkRefresh(b *testing.B) {
	w := newWorld(b, options{})
	a := w.app()
	token := a.login(dev).RefreshToken
	for b.Loop() {
		got := a.refresh(token)
		if got.status != http.StatusOK {
			b.Fatalf("%+v", got)
		}
		token = got.RefreshToken
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "refreshes/s")
}
