package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"time"
)

// ChangedTool is a tool that is not as it was approved (annotation vmcp/pin). The names in JSON stay.
type ChangedTool struct {
	Backend  string          `json:"backend"`
	Tool     string          `json:"tool"`
	Approved json.RawMessage `json:"approved"`
	Offered  json.RawMessage `json:"offered"`
}

// ChangedTools asks the gateway that runs on a state directory, about one backend or all. With an error there may be some.
func ChangedTools(ctx context.Context, dir, backend string) ([]ChangedTool, error) {
	var got struct {
		Changes []ChangedTool
		Problem string
	}
	err := askAggregator(ctx, dir, http.MethodGet, "/tools/changed?backend="+url.QueryEscape(backend), nil, &got)
	if err == nil && got.Problem != "" {
		err = errors.New(got.Problem)
	}
	return got.Changes, err
}

// ApproveTools approves tools of a backend as they are now, all where none is named, and returns which.
func ApproveTools(ctx context.Context, dir, backend string, tools []string) ([]string, error) {
	body, err := json.Marshal(map[string]any{"backend": backend, "tools": tools})
	if err != nil {
		return nil, err
	}
	var got struct {
		Approved []string
		Problem  string
	}
	err = askAggregator(ctx, dir, http.MethodPost, "/tools/approved", body, &got)
	if err == nil && got.Problem != "" {
		err = errors.New(got.Problem)
	}
	return got.Approved, err
}

func askAggregator(ctx context.Context, dir, method, path string, body []byte, into any) error {
	r, err := runningOn(dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client := Client(filepath.Join(r.Sockets, "aggregator-admin.sock"))
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the aggregator does not answer: %w", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("the aggregator answers with status %d: %w", resp.StatusCode, err)
	}
	return nil
}
