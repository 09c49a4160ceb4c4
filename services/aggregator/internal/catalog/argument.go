package catalog

import (
	"slices"

	gatewayv1 "vmcp/proto/gateway/v1"
)

// said is nil for what says nothing. A property of which nothing is said counts beside what is said of additional ones.
func said(a *gatewayv1.Argument) *gatewayv1.Argument {
	if a.Additional == nil {
		a.Properties = slices.DeleteFunc(a.Properties, func(p *gatewayv1.Argument) bool { return !says(p) })
	}
	if !says(a) {
		return nil
	}
	return a
}

func says(a *gatewayv1.Argument) bool {
	return len(a.Types) > 0 || len(a.Properties) > 0 || a.Additional != nil || a.Items != nil
}

func called(name string, a *gatewayv1.Argument) *gatewayv1.Argument {
	return &gatewayv1.Argument{Name: name, Types: a.GetTypes(), Properties: a.GetProperties(), Additional: a.GetAdditional(), Items: a.GetItems()}
}

// joined are the properties that either schema names; a schema says of one that it does not name what it says of any other.
func joined(a, b *gatewayv1.Argument, join func(p, q *gatewayv1.Argument) *gatewayv1.Argument) (all []*gatewayv1.Argument) {
	find := func(in *gatewayv1.Argument, name string) int {
		return slices.IndexFunc(in.Properties, func(p *gatewayv1.Argument) bool { return p.Name == name })
	}
	for _, p := range a.Properties {
		q := b.Additional
		if i := find(b, p.Name); i >= 0 {
			q = b.Properties[i]
		}
		all = append(all, called(p.Name, join(p, q)))
	}
	for _, q := range b.Properties {
		if find(a, q.Name) < 0 {
			all = append(all, called(q.Name, join(a.Additional, q)))
		}
	}
	return all
}

// both is what two schemas allow that hold at once, or more: of types, what the first says.
func both(a, b *gatewayv1.Argument) *gatewayv1.Argument {
	if a == nil || b == nil {
		if a == nil {
			return b
		}
		return a
	}
	c := &gatewayv1.Argument{Types: a.Types, Additional: both(a.Additional, b.Additional), Items: both(a.Items, b.Items)}
	if len(a.Types) == 0 {
		c.Types = b.Types
	}
	c.Properties = joined(a, b, both)
	return c
}

// either is what one of two schemas allows. One that allows no objects says nothing of members, and so on.
func either(a, b *gatewayv1.Argument) *gatewayv1.Argument {
	if a == nil || b == nil {
		return nil
	}
	c := &gatewayv1.Argument{}
	if len(a.Types) > 0 && len(b.Types) > 0 {
		c.Types = slices.Clone(a.Types)
		for _, t := range b.Types {
			if !slices.Contains(c.Types, t) {
				c.Types = append(c.Types, t)
			}
		}
	}
	switch {
	case !allows(b, "array"):
		c.Items = a.Items
	case !allows(a, "array"):
		c.Items = b.Items
	default:
		c.Items = either(a.Items, b.Items)
	}
	switch {
	case !allows(b, "object"):
		c.Properties, c.Additional = a.Properties, a.Additional
	case !allows(a, "object"):
		c.Properties, c.Additional = b.Properties, b.Additional
	default:
		c.Additional = either(a.Additional, b.Additional)
		c.Properties = joined(a, b, either)
	}
	return said(c)
}

func allows(a *gatewayv1.Argument, kind string) bool {
	return len(a.Types) == 0 || slices.Contains(a.Types, kind)
}
