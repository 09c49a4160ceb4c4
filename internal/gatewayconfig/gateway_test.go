package gatewayconfig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"vmcp/internal/secret"
)

// However a gateway is printed, what was secret in the documents is not shown (T39).
func TestSecretsAreNotShown(t *testing.T) {
	const canary = "hunter2"
	server := AuthServer{SigningKeys: []secret.Value{canary}, HMACKeys: []secret.Value{canary}, Upstreams: []Upstream{{ClientSecret: canary}}}
	all := Gateway{AuthServer: &server, Aggregator: Aggregator{Backends: []Backend{{
		Env:     map[string]secret.Value{"TOKEN": canary},
		Headers: map[string]secret.Value{"Authorization": "Bearer " + canary},
	}}}}
	var out bytes.Buffer
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&out), zap.InfoLevel))
	for _, v := range []any{all, server} {
		log.Info("", zap.Any("any", v), zap.Reflect("reflected", v))
		fmt.Fprintf(&out, "%v %+v %#v\n", v, v, v)
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(out.String(), canary) {
		t.Errorf("a secret is in:\n%s", out.String())
	}
	if !strings.Contains(out.String(), "TOKEN:redacted") {
		t.Errorf("nothing was printed in its place:\n%s", out.String())
	}
}
