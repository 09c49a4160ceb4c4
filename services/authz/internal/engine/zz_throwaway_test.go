package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"runtime"

	"github.com/yosida95/uritemplate/v3"
)

func TestZZTemplate(t *testing.T) {
	for _, tpl := range []string{"{a:9999}", "{a:999}{b:999}{c:999}", "{+a}{+b}{+c}", "{a*}{b*}{c*}{d*}", "{?a*,b*,c*}", strings.Repeat("{+a}", 200), strings.Repeat("{a:9999}", 20), "x{a,b,c,d,e,f,g,h,i,j}y", "{&x*}", "{#a}"} {
		var m0, m1 runtime.MemStats
		runtime.GC(); runtime.ReadMemStats(&m0)
		begin := time.Now()
		tt, err := uritemplate.New(tpl)
		if err != nil { fmt.Println(tpl, err); continue }
		tt.Match("x")
		comp := time.Since(begin)
		runtime.GC(); runtime.ReadMemStats(&m1)
		begin = time.Now()
		tt.Match("x"+strings.Repeat("a", 8000))
		short := tpl; if len(short) > 30 { short = short[:30] }
		fmt.Printf("%-32s compile %v mem %d KiB match %v\n", short, comp, (int64(m1.HeapAlloc)-int64(m0.HeapAlloc))>>10, time.Since(begin))
		runtime.KeepAlive(tt)
	}
}

func FuzzZZ(f *testing.F) {
	f.Add("http://x/{a}{+b}", "http://x/1/2")
	f.Add("{?a*,b:3}", "?a=1&b=2")
	f.Add("{;x,y}{.z*}{/p:2}", ";x=1;y=%41.z/pp")
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > 200 || strings.Contains(a, ":") && len(a) > 60 { return }
		tt, err := uritemplate.New(a)
		if err != nil { return }
		tt.Match(b)
	})
}
