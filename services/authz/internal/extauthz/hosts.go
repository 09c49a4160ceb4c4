package extauthz

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

// hosts knows which Host and Origin values are ours (HT-1, HT-2): those of resourceUrl and issuer, loopback names when
// the client listener is on loopback, and the origins that annotation vmcp/allowed-origins adds.
type hosts struct {
	authorities map[string]bool // host or host:port in lower case
	origins     map[string]bool // scheme://host[:port] in lower case
	loopback    bool
}

func newHosts(cfg Config) hosts {
	h := hosts{authorities: map[string]bool{}, origins: map[string]bool{}, loopback: cfg.Loopback != 0}
	for _, raw := range []string{cfg.Endpoint.URL, cfg.Endpoint.ResourceURL, cfg.Issuer} {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" {
			continue
		}
		host := strings.ToLower(u.Host)
		h.authorities[host] = true
		h.origins[strings.ToLower(u.Scheme)+"://"+host] = true
		if u.Port() == "" { // Host may say the default port
			port := map[string]string{"https": ":443", "http": ":80"}[u.Scheme]
			h.authorities[host+port] = true
		}
	}
	if cfg.Loopback != 0 {
		port := strconv.Itoa(cfg.Loopback)
		for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
			h.authorities[net.JoinHostPort(name, port)] = true
		}
	}
	for _, o := range cfg.Endpoint.Origins {
		h.origins[strings.ToLower(strings.TrimSuffix(o, "/"))] = true
	}
	return h
}

// check refuses a foreign Host, and an Origin that is present and foreign. The check of one does not depend on the
// other. An absent Origin is no browser's.
func (h *hosts) check(r *request) *answer {
	n := len(r.header("Origin"))
	foreign := n > 1 || n == 1 && !h.allowsOrigin(r.origin)
	if foreign {
		r.origin = "" // no answer tells it that it may read
	}
	switch {
	case !h.authorities[strings.ToLower(r.host)]:
		return foreignHost
	case foreign:
		return foreignOrigin
	}
	return nil
}

func (h *hosts) allowsOrigin(origin string) bool {
	origin = strings.ToLower(origin)
	if h.origins[origin] {
		return true
	}
	if !h.loopback {
		return false
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" || u.User != nil {
		return false
	}
	switch u.Hostname() { // a tool on this machine, such as the Inspector, has a port of its own
	case "localhost", "127.0.0.1", "::1":
		return true
	}
	return false
}
