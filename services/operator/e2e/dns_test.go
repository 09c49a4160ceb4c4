package e2e

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// outside are the names of the world, which here end at the node.
var outside = map[string]string{"login.microsoftonline.com.": nodeIP, "mcp.example.com.": nodeIP, "ghcr.io.": nodeIP, "registry.test.": nodeIP, "registry.example.com.": nodeIP, "remote.example.com.": nodeIP}

// dns serves the names of Services, as a cluster does.
func (n *node) dns(t *testing.T) {
	t.Helper()
	conn, err := net.ListenPacket("udp", nodeIP+":53")
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:size]) != nil || len(m.Questions) != 1 {
				continue
			}
			go func() {
				q := m.Questions[0]
				addresses, known := n.resolve(strings.ToLower(q.Name.String()))
				answer := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionDesired: m.RecursionDesired, RecursionAvailable: true}, Questions: m.Questions}
				if !known {
					answer.RCode = dnsmessage.RCodeNameError
				}
				for _, a := range addresses {
					if ip, err := netip.ParseAddr(a); err == nil && q.Type == dnsmessage.TypeA {
						answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 5}, Body: &dnsmessage.AResource{A: ip.As4()}})
					}
				}
				if text, err := answer.Pack(); err == nil {
					conn.WriteTo(text, from)
				}
			}()
		}
	}()
}

func (n *node) resolve(name string) (addresses []string, known bool) {
	if ip, ok := outside[name]; ok {
		return []string{ip}, true
	}
	parts := strings.Split(strings.TrimSuffix(name, ".svc.cluster.local."), ".")
	if !strings.HasSuffix(name, ".svc.cluster.local.") || len(parts) != 2 {
		return nil, false
	}
	var s corev1.Service
	if err := n.client.Get(context.Background(), client.ObjectKey{Namespace: parts[1], Name: parts[0]}, &s); err != nil {
		return nil, false
	}
	if s.Spec.ClusterIP != corev1.ClusterIPNone {
		return []string{s.Spec.ClusterIP}, true
	}
	var slices discovery.EndpointSliceList
	if n.client.List(context.Background(), &slices, client.InNamespace(parts[1]), client.MatchingLabels{discovery.LabelServiceName: parts[0]}) != nil {
		return nil, true
	}
	for _, slice := range slices.Items {
		for _, e := range slice.Endpoints {
			if s.Spec.PublishNotReadyAddresses || e.Conditions.Ready == nil || *e.Conditions.Ready {
				addresses = append(addresses, e.Addresses...)
			}
		}
	}
	return addresses, true
}
