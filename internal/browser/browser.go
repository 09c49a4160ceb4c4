// Package browser is a person at a browser, and the application that sent them there: it follows redirects, keeps
// cookies, reads pages and presses buttons, without JavaScript; and it plays an MCP client's part in OAuth. The demo, the
// stories of e2e and the tests of sign-in use it. It never goes around a page: what it does a person could do.
package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/html"
)

// Browser is one browser with its cookies.
type Browser struct {
	client *http.Client
	// Leave says which redirects lead out of the browser, to the application. They are not followed.
	Leave func(*url.URL) bool
}

// New makes a browser without cookies.
func New() *Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // never without options
	}
	return &Browser{client: &http.Client{
		Jar: jar, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Page is where the browser stands.
type Page struct {
	URL    *url.URL
	Status int
	Header http.Header
	Title  string
	Text   string // what can be read, blanks folded
	Forms  []Form
	Links  []string
	// Left is the redirect that led out of the browser; the other fields are then empty.
	Left *url.URL
}

// Form is a form of a page.
type Form struct {
	Method, Action string
	Fields         url.Values // hidden and prefilled ones
	Buttons        []Button
}

// Button is a submit button.
type Button struct{ Name, Value, Text string }

// Get opens an address.
func (b *Browser) Get(ctx context.Context, address string) (*Page, error) {
	return b.do(ctx, "GET", address, nil, "")
}

// SignIn opens the address of an authorization server, agrees on its consent page and picks the account on Entra's page,
// where these come. It returns where that ends: the redirect to the application, or a page that stays.
func (b *Browser) SignIn(ctx context.Context, address, account string) (*Page, error) {
	page, err := b.Get(ctx, address)
	if err == nil && page.Has("decision") { // not shown twice to one browser
		page, err = b.Press(ctx, page, "decision", "approve")
	}
	if err == nil && page.Has("account") {
		page, err = b.Press(ctx, page, "account", account)
	}
	if err == nil && page.Has("decision") { // another person in a browser that knows somebody is asked, too
		if page, err = b.Press(ctx, page, "decision", "approve"); err == nil && page.Has("account") {
			page, err = b.Press(ctx, page, "account", account)
		}
	}
	return page, err
}

// Post submits fields from a page of that origin.
func (b *Browser) Post(ctx context.Context, address string, fields url.Values, origin string) (*Page, error) {
	return b.do(ctx, "POST", address, fields, origin)
}

// Press submits the form that holds a button with this name, and this value where it is not empty.
func (b *Browser) Press(ctx context.Context, p *Page, name, value string) (*Page, error) {
	for _, f := range p.Forms {
		for _, button := range f.Buttons {
			if button.Name != name || value != "" && button.Value != value {
				continue
			}
			target, err := p.URL.Parse(f.Action)
			if err != nil {
				return nil, fmt.Errorf("the form's action: %w", err)
			}
			fields := url.Values{}
			for k, v := range f.Fields {
				fields[k] = v
			}
			fields.Set(button.Name, button.Value)
			if strings.EqualFold(f.Method, "post") {
				return b.do(ctx, "POST", target.String(), fields, p.URL.Scheme+"://"+p.URL.Host)
			}
			target.RawQuery = fields.Encode()
			return b.do(ctx, "GET", target.String(), nil, "")
		}
	}
	return nil, fmt.Errorf("the page %q has no button %s=%s: it says %.300q", p.Title, name, value, p.Text)
}

// Has says whether the page has a button of that name.
func (p *Page) Has(button string) bool {
	for _, f := range p.Forms {
		for _, b := range f.Buttons {
			if b.Name == button {
				return true
			}
		}
	}
	return false
}

func (b *Browser) do(ctx context.Context, method, address string, form url.Values, origin string) (*Page, error) {
	for range 20 {
		var body io.Reader
		if form != nil {
			body = strings.NewReader(form.Encode())
		}
		req, err := http.NewRequestWithContext(ctx, method, address, body)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "text/html")
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", origin)
			if origin == req.URL.Scheme+"://"+req.URL.Host {
				req.Header.Set("Sec-Fetch-Site", "same-origin")
			} else {
				req.Header.Set("Sec-Fetch-Site", "cross-site")
			}
		}
		resp, err := b.client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != "" {
			resp.Body.Close()
			next, err := req.URL.Parse(resp.Header.Get("Location"))
			if err != nil {
				return nil, fmt.Errorf("a redirect of %s: %w", req.URL.Host, err)
			}
			if b.Leave != nil && b.Leave(next) {
				return &Page{Left: next, Status: resp.StatusCode, Header: resp.Header}, nil
			}
			method, address, form = "GET", next.String(), nil
			continue
		}
		return read(req.URL, resp)
	}
	return nil, errors.New("more than 20 redirects")
}

func read(at *url.URL, resp *http.Response) (*Page, error) {
	defer resp.Body.Close()
	root, err := html.Parse(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	p := &Page{URL: at, Status: resp.StatusCode, Header: resp.Header}
	var text strings.Builder
	p.walk(root, nil, &text)
	p.Text = strings.Join(strings.Fields(text.String()), " ")
	return p, nil
}

// walk collects what a person sees of n. form is the one it stands in, -1 for none.
func (p *Page) walk(n *html.Node, form *int, text *strings.Builder) {
	switch {
	case n.Type == html.TextNode:
		text.WriteString(n.Data + " ")
	case n.Type == html.ElementNode:
		switch n.Data {
		case "style", "script":
			return
		case "title":
			p.Title = strings.Join(strings.Fields(content(n)), " ")
			return
		case "a":
			p.Links = append(p.Links, attribute(n, "href"))
		case "form":
			p.Forms = append(p.Forms, Form{Method: attribute(n, "method"), Action: attribute(n, "action"), Fields: url.Values{}})
			i := len(p.Forms) - 1
			form = &i
		case "input":
			if form != nil && attribute(n, "name") != "" {
				p.Forms[*form].Fields.Set(attribute(n, "name"), attribute(n, "value"))
			}
		case "button":
			if form != nil {
				p.Forms[*form].Buttons = append(p.Forms[*form].Buttons, Button{attribute(n, "name"), attribute(n, "value"), strings.TrimSpace(content(n))})
			}
		}
	}
	for c := range n.ChildNodes() {
		p.walk(c, form, text)
	}
}

func content(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	}
	return b.String()
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
