package envoyproc

import (
	"fmt"
	"slices"
	"strings"
)

// compare appends "path=value of got" for every place where two decoded YAML documents differ.
func compare(path string, got, want any, diff *[]string) {
	g, gok := got.(map[string]any)
	w, wok := want.(map[string]any)
	if gok && wok {
		for key := range g {
			compare(path+"/"+key, g[key], w[key], diff)
		}
		for key := range w {
			if _, ok := g[key]; !ok {
				*diff = append(*diff, path+"/"+key+"=<nil>")
			}
		}
		return
	}
	gs, gok := got.([]any)
	ws, wok := want.([]any)
	if gok && wok && len(gs) == len(ws) {
		for i := range gs {
			compare(fmt.Sprintf("%s/%d", path, i), gs[i], ws[i], diff)
		}
		return
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		*diff = append(*diff, fmt.Sprintf("%s=%v", path, got))
	}
}

func setDiff(got, want []string) string {
	var out []string
	for _, w := range want {
		if !slices.Contains(got, w) {
			out = append(out, "-"+w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			out = append(out, "+"+g)
		}
	}
	return strings.Join(out, "\n")
}
