package mcptest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// objectSchema takes any object; raw, so that the SDK compiles nothing for a call.
var objectSchema = json.RawMessage(`{"type":"object","properties":{"text":{"type":"string"},"count":{"type":"integer"}}}`)

// Echo is a server of n tools (echo, tool_0001, tool_0002, …) that return their text argument, count times if that is
// given, as cheap as the SDK allows: no validation, no state.
func Echo(n int, versions []string) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "echo-mcp", Version: "1.0.0"},
		&mcp.ServerOptions{PageSize: 1000, SupportedProtocolVersions: versions})
	for i := range n {
		name := "echo"
		if i > 0 {
			name = fmt.Sprintf("tool_%04d", i)
		}
		s.AddTool(&mcp.Tool{Name: name, Description: "Returns its text.", InputSchema: objectSchema, Annotations: reads}, echo)
	}
	return s
}

type probeArgs struct {
	Text  string `json:"text"`
	Count int    `json:"count"`
}

func echo(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	var args probeArgs
	if err := json.Unmarshal(req.Params.Arguments, &args); err != nil {
		return nil, err
	}
	return textResult(strings.Repeat(args.Text, max(args.Count, 1))), nil
}

// Probe is Echo plus the tools that tests of a proxy need: progress (count notifications, then the result), log
// (count log messages), wait (until cancelled or released), huge (count bytes), elicit (asks for a confirmation in the
// way of the request's era), and the prompt greet, the resource test://hello, the template test://items/{id}.
func Probe(n int, versions []string, released <-chan struct{}) *mcp.Server {
	s := Echo(n, versions)
	tool := func(name string, handle mcp.ToolHandler) {
		s.AddTool(&mcp.Tool{Name: name, Description: "Test tool " + name + ".", InputSchema: objectSchema}, handle)
	}
	tool("progress", withArgs(func(ctx context.Context, req *mcp.CallToolRequest, args probeArgs) (*mcp.CallToolResult, error) {
		for i := range args.Count {
			err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
				ProgressToken: req.Params.GetProgressToken(), Progress: float64(i + 1), Total: float64(args.Count)})
			if err != nil {
				return nil, err
			}
		}
		return textResult("done"), nil
	}))
	tool("log", withArgs(func(ctx context.Context, req *mcp.CallToolRequest, args probeArgs) (*mcp.CallToolResult, error) {
		for range args.Count {
			//lint:ignore SA1019 deprecated, but in the protocol that the gateway carries
			if err := req.Session.Log(ctx, &mcp.LoggingMessageParams{Level: "warning", Data: args.Text}); err != nil {
				return nil, err
			}
		}
		return textResult("done"), nil
	}))
	tool("wait", func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-released:
			return textResult("released"), nil
		}
	})
	tool("huge", withArgs(func(_ context.Context, _ *mcp.CallToolRequest, args probeArgs) (*mcp.CallToolResult, error) {
		return textResult(strings.Repeat("x", args.Count)), nil
	}))
	tool("elicit", elicit)

	s.AddPrompt(&mcp.Prompt{Name: "greet", Description: "Greets.", Arguments: []*mcp.PromptArgument{{Name: "who"}}},
		func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return promptResult("Hello " + req.Params.Arguments["who"]), nil
		})
	read := func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return textResource(req.Params.URI, "text/plain", "content of "+req.Params.URI), nil
	}
	s.AddResource(&mcp.Resource{URI: "test://hello", Name: "hello"}, read)
	s.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: "test://items/{id}", Name: "items"}, read)
	return s
}

func withArgs(handle func(context.Context, *mcp.CallToolRequest, probeArgs) (*mcp.CallToolResult, error)) mcp.ToolHandler {
	return func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		var args probeArgs
		if err := json.Unmarshal(req.Params.Arguments, &args); err != nil {
			return nil, err
		}
		return handle(ctx, req, args)
	}
}

var confirmSchema = json.RawMessage(`{"type":"object","properties":{"confirm":{"type":"boolean"}}}`)

// elicit asks a legacy client with a request inside the call, a modern one with an input_required result.
func elicit(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	question := &mcp.ElicitParams{Mode: "form", Message: "Really?", RequestedSchema: confirmSchema}
	if req.ProtocolVersion() == VersionModern {
		answer, ok := req.Params.InputResponses["confirm"]
		if !ok {
			return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"confirm": question}, RequestState: "asked"}, nil
		}
		result, ok := answer.(*mcp.ElicitResult)
		if !ok {
			return nil, errors.New("confirm was not answered by an elicitation result")
		}
		return textResult("answer: " + result.Action), nil
	}
	result, err := req.Session.Elicit(ctx, question)
	if err != nil {
		return nil, err
	}
	return textResult("answer: " + result.Action), nil
}
