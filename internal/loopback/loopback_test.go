package loopback

import "testing"

func TestHost(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "0.0.0.0": false, "::": false, "[::1]": false, "LOCALHOST": false, "localhost.": false, "a.localhost": false, "localhost.example.com": false,
		"127.1": false, "2130706433": false, "10.0.0.1": false, "127.0.0.1:80": false,
	} {
		if got := Host(host); got != want {
			t.Errorf("%q: %t, want %t", host, got, want)
		}
		if got := Address(host + ":1"); got != want && host != "[::1]" && host != "::1" && host != "::ffff:127.0.0.1" {
			t.Errorf("%q with a port: %t, want %t", host, got, want)
		}
	}
	if !Address("[::1]:1") || Address("::1:1") || Address("localhost") {
		t.Error("addresses are host:port")
	}
}
