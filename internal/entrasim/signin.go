package entrasim

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// SignIn does what a person does at the sign-in page: opens the address that the application sent the browser to, picks
// the account, and returns where the page sends the browser then, not followed. A page that stays, such as an error,
// is an error with its text. c carries the browser's cookies; nil is a fresh browser.
func SignIn(ctx context.Context, c *http.Client, authorizeURL, upn string) (*url.URL, error) {
	browser := http.Client{}
	if c != nil {
		browser = *c
	}
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req, err := http.NewRequestWithContext(ctx, "GET", authorizeURL, nil)
	if err != nil {
		return nil, fmt.Errorf("sign-in page: %w", err)
	}
	to, page, err := visit(&browser, req)
	if err != nil || to != nil {
		return to, err
	}
	if !strings.Contains(page, `<form method="post">`) {
		return nil, fmt.Errorf("sign-in page: %s", text(page))
	}
	form := url.Values{"account": {upn}}
	if upn == "" {
		form = url.Values{"cancel": {"1"}}
	}
	req, err = http.NewRequestWithContext(ctx, "POST", authorizeURL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("sign-in page: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	to, page, err = visit(&browser, req)
	if err == nil && to == nil {
		err = fmt.Errorf("sign-in page: %s", text(page))
	}
	return to, err
}

func visit(c *http.Client, req *http.Request) (to *url.URL, page string, err error) {
	res, err := c.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("sign-in page: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, "", fmt.Errorf("sign-in page: %w", err)
	}
	if res.StatusCode == http.StatusFound {
		to, err = res.Location()
		return to, "", err
	}
	if res.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("sign-in page: %s", res.Status)
	}
	return nil, string(body), nil
}

// text returns the words of a page's main part.
func text(page string) string {
	_, page, _ = strings.Cut(page, "<main>")
	var b strings.Builder
	tag := false
	for _, r := range page {
		switch {
		case r == '<':
			tag = true
			b.WriteByte(' ')
		case r == '>':
			tag = false
		case !tag:
			b.WriteRune(r)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
