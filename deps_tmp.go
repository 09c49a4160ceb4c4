package deps
import (
 _ "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
 _ "google.golang.org/grpc"
 _ "google.golang.org/protobuf/proto"
 _ "github.com/cedar-policy/cedar-go"
 _ "github.com/cedar-policy/cedar-go/types"
 _ "github.com/coreos/go-oidc/v3/oidc"
 _ "go.uber.org/zap"
 _ "github.com/modelcontextprotocol/go-sdk/mcp"
 _ "github.com/go-json-experiment/json/jsontext"
 _ "go.yaml.in/yaml/v3"
 _ "github.com/google/go-cmp/cmp"
 _ "github.com/go-jose/go-jose/v4/jwt"
 _ "golang.org/x/sync/errgroup"
 _ "golang.org/x/tools/txtar"
 _ "github.com/prometheus/client_golang/prometheus/promhttp"
)
