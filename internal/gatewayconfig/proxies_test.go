package gatewayconfig

import (
	"fmt"
	"testing"
)

// T24: who is believed about the client's address is a few proxies, and never everybody.
func TestParseTrustedProxies(t *testing.T) {
	for text, want := range map[string]string{
		"1": "{1 []}", "10": "{10 []}", "10.0.0.0/8": "{0 [10.0.0.0/8]}", "192.0.2.7/32, 2001:db8::/32": "{0 [192.0.2.7/32 2001:db8::/32]}",
		"": "", "0": "", "-1": "", "11": "", "10.0.0.1": "", "10.0.0.1/8": "", "0.0.0.0/0": "", "10.0.0.0/8,": "", "::/0": "", "10.0.0.0/8, 1": "", "proxy.example.com": "", "10.0.0.0/33": "",
	} {
		got, err := ParseTrustedProxies(text)
		if (err == nil) != (want != "") || err == nil && fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v, want %s", text, got, err, want)
		}
	}
}
