package mcptest

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Main is the main function of a server program: it serves on stdin and stdout, or with --http ADDRESS on that
// address in the era of --era (dual, legacy, modern). With --record FILE it appends the name of each called tool, one
// per line, before the tool runs. newServer is called after the flags are read.
func Main(newServer func(versions []string) *mcp.Server) {
	address := flag.String("http", "", "serve Streamable HTTP on this `address` instead of stdio")
	eraName := flag.String("era", "dual", "protocol era of --http: dual, legacy or modern")
	record := flag.String("record", "", "append the names of called tools to this `file`")
	flag.Parse()
	if err := run(*address, *eraName, *record, newServer); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, eraName, record string, newServer func(versions []string) *mcp.Server) error {
	era, ok := map[string]Era{"dual": Dual, "legacy": Legacy, "modern": Modern}[eraName]
	if !ok {
		return fmt.Errorf("--era %q: want dual, legacy or modern", eraName)
	}
	if record != "" {
		file, err := os.OpenFile(record, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("opening the record of calls: %w", err)
		}
		defer file.Close()
		plain := newServer
		newServer = func(versions []string) *mcp.Server {
			server := plain(versions)
			server.AddReceivingMiddleware(recordCalls(file))
			return server
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if address == "" {
		return newServer(nil).Run(ctx, &mcp.StdioTransport{})
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: Handler(era, true, newServer)}
	context.AfterFunc(ctx, func() { server.Close() })
	fmt.Fprintf(os.Stderr, "listening on http://%s\n", listener.Addr())
	if err := server.Serve(listener); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// recordCalls writes one line for each tools/call; O_APPEND keeps lines of several processes whole.
func recordCalls(file *os.File) mcp.Middleware {
	var mu sync.Mutex
	return func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if call, ok := req.(*mcp.CallToolRequest); ok {
				mu.Lock()
				_, err := fmt.Fprintln(file, call.Params.Name)
				mu.Unlock()
				if err != nil {
					return nil, fmt.Errorf("recording the call: %w", err)
				}
			}
			return next(ctx, method, req)
		}
	}
}

// Annotations for tools that only read, that add or change something, and that destroy something.
var (
	reads    = &mcp.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true, OpenWorldHint: new(false)}
	writes   = &mcp.ToolAnnotations{DestructiveHint: new(false), OpenWorldHint: new(false)}
	destroys = &mcp.ToolAnnotations{DestructiveHint: new(true), OpenWorldHint: new(false)}
)

// add registers a tool whose arguments are the struct In (schema inferred, arguments validated) and whose result is
// the text that handle returns. An error becomes a tool error, not a protocol error.
func add[In any](s *mcp.Server, name, description string, hints *mcp.ToolAnnotations, handle func(In) (any, error)) {
	mcp.AddTool(s, &mcp.Tool{Name: name, Description: description, Annotations: hints},
		func(_ context.Context, _ *mcp.CallToolRequest, in In) (*mcp.CallToolResult, any, error) {
			out, err := handle(in)
			if err != nil {
				return nil, nil, err
			}
			return textResult(out), nil, nil
		})
}

// textResult is a result of one text item: strings as they are, everything else as JSON.
func textResult(v any) *mcp.CallToolResult {
	text, ok := v.(string)
	if !ok {
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			panic(err) // only our own plain data comes here
		}
		text = string(b)
	}
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
}
