package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestRedacted(t *testing.T) {
	const plain = "hunter2"
	s := Value(plain)
	var log bytes.Buffer
	logger := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&log), zap.InfoLevel))
	in := struct {
		S *Value
		M map[string]Value
	}{&s, map[string]Value{"k": s}}
	logger.Info("x", zap.Any("a", s), zap.Any("p", &s), zap.Reflect("r", in), zap.Stringer("s", s), zap.Any("in", in), zap.Any("list", []Value{s}))
	j, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("%v %+v %#v %s %q %x %X %d %v %#v", s, s, s, s, s, s, s, s, in, in) + fmt.Sprint(s, &s, []Value{s}) + fmt.Errorf("with %v", s).Error() + string(j) + log.String()
	if strings.Contains(out, plain) || strings.Contains(out, fmt.Sprintf("%x", plain)) {
		t.Errorf("the secret is in %s", out)
	}
	if string(s) != plain {
		t.Error("the secret is not usable")
	}
}
