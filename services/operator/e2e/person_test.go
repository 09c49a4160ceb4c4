package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"vmcp/internal/browser"
)

const endpoint = "https://mcp.example.com/mcp"

// A person has signed in and speaks the newest revision, in which a call needs no session.
type person struct {
	token   string
	session string // of 2025-11-25; empty: the newest revision
}

func (n *node) signIn(t *testing.T, account string) *person {
	t.Helper()
	application, err := browser.NewApplication(t.Context(), endpoint, "an application")
	must(t, err)
	tokens, err := application.SignIn(t.Context(), browser.New(), account)
	must(t, err)
	return &person{token: tokens.Access}
}

// ask sends one request and gives the answer's text; an answer that is not 200 is an error.
func (p *person) ask(method, name, params string) (string, error) {
	if p.session == "" {
		meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"person","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
		if params != "" {
			meta += ","
		}
		params = meta + params
	}
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s}}`, method, params)
	r, err := http.NewRequestWithContext(context.Background(), "POST", endpoint, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	for key, value := range map[string]string{"Authorization": "Bearer " + p.token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream"} {
		r.Header.Set(key, value)
	}
	if p.session == "" {
		r.Header.Set("MCP-Protocol-Version", "2026-07-28")
		r.Header.Set("Mcp-Method", method)
		if name != "" {
			r.Header.Set("Mcp-Name", name)
		}
	} else {
		r.Header.Set("MCP-Protocol-Version", "2025-11-25")
		if p.session != "new" {
			r.Header.Set("Mcp-Session-Id", p.session)
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if id := resp.Header.Get("Mcp-Session-Id"); id != "" && p.session == "new" {
		p.session = id
	}
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("status %d: %.300s", resp.StatusCode, text)
	}
	return string(text), err
}

// decode reads an answer, which may be the event of a stream.
func decode(text string, to any) error {
	if i := strings.Index(text, "data: "); i >= 0 && !strings.HasPrefix(text, "{") {
		text = text[i+6:]
	}
	if err := json.NewDecoder(strings.NewReader(text)).Decode(to); err != nil {
		return fmt.Errorf("%w: %.300s", err, text)
	}
	return nil
}

// call calls a tool; an error of the tool or of the gateway is one.
func (p *person) call(tool, arguments string) error {
	text, err := p.ask("tools/call", tool, fmt.Sprintf(`"name":%q,"arguments":%s`, tool, arguments))
	if err != nil {
		return err
	}
	var answer struct {
		Result *struct{ IsError bool }
		Error  *struct{ Message string }
	}
	if err := decode(text, &answer); err != nil {
		return err
	}
	if answer.Error != nil || answer.Result == nil || answer.Result.IsError {
		return fmt.Errorf("%.500s", text)
	}
	return nil
}

// tools are the names in the list.
func (p *person) tools(t *testing.T) []string {
	t.Helper()
	text, err := p.ask("tools/list", "", "")
	must(t, err)
	var answer struct {
		Result struct{ Tools []struct{ Name string } }
	}
	must(t, decode(text, &answer))
	var names []string
	for _, tool := range answer.Result.Tools {
		names = append(names, tool.Name)
	}
	return names
}
