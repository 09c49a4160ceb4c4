package main

import (
	"errors"
	"io"

	"vmcp/internal/gatewayconfig"
)

// The names in JSON stay: programs read them.
type (
	validated struct {
		Valid    bool     `json:"valid"`
		Problems []remark `json:"problems"`
		Notes    []remark `json:"notes"`
		Warnings []string `json:"warnings"`
		Gateway  *summary `json:"gateway,omitempty"`
	}
	remark struct {
		File  string `json:"file,omitempty"`
		Line  int    `json:"line,omitempty"`
		Field string `json:"field,omitempty"`
		Text  string `json:"text"`
	}
	summary struct {
		Name      string           `json:"name"`
		Endpoint  string           `json:"endpoint"`
		Anonymous bool             `json:"anonymous"`
		Audience  string           `json:"audience,omitempty"`
		Issuer    string           `json:"issuer,omitempty"`
		OwnIssuer bool             `json:"own_issuer"`
		SignIn    []string         `json:"sign_in"`
		Policies  int              `json:"policies"`
		ToolNames string           `json:"tool_names"`
		Backends  []backendSummary `json:"backends"`
	}
	backendSummary struct {
		Name      string `json:"name"`
		Kind      string `json:"kind"`
		Transport string `json:"transport"`
		URL       string `json:"url,omitempty"`
		Image     string `json:"image,omitempty"`
		Command   string `json:"command,omitempty"`
	}
)

// validateJSON prints what check found. Problems of documents are part of the answer.
func validateJSON(w io.Writer, g *gatewayconfig.Gateway, warnings []string, err error) error {
	out := validated{Valid: err == nil, Problems: []remark{}, Notes: []remark{}, Warnings: append([]string{}, warnings...)}
	problems, ok := errors.AsType[gatewayconfig.Problems](err)
	if err != nil && !ok {
		return err
	}
	for _, p := range problems {
		out.Problems = append(out.Problems, remark(p))
	}
	if g != nil {
		for _, n := range g.Notes {
			out.Notes = append(out.Notes, remark(n))
		}
		out.Gateway = summarize(g)
	}
	if err := writeJSON(w, out); err != nil || out.Valid {
		return err
	}
	return errSilent
}

func summarize(g *gatewayconfig.Gateway) *summary {
	s := &summary{
		Name: g.Name, Endpoint: g.Endpoint.URL, Anonymous: g.Authz.Anonymous, Audience: g.Endpoint.Audience,
		Issuer: g.Authz.Issuer.URL, OwnIssuer: g.Authz.Issuer.Own, SignIn: []string{},
		Policies: len(g.Authz.Policies.Texts), ToolNames: names(g.Aggregator), Backends: []backendSummary{},
	}
	if s.Endpoint == "" {
		s.Endpoint = g.Endpoint.Path
	}
	if g.AuthServer != nil {
		for _, up := range g.AuthServer.Upstreams {
			s.SignIn = append(s.SignIn, up.IssuerURL)
		}
	}
	for _, b := range g.Aggregator.Backends {
		s.Backends = append(s.Backends, backendSummary{b.Name, b.Kind, string(b.Transport), b.URL, b.Image, b.Command})
	}
	return s
}
