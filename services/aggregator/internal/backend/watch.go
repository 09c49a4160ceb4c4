package backend

import (
	"context"
	"strings"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
)

// Several Sessions may share what is open at the backend, and each watches resources for itself: the backend is told of a
// URI while anybody watches it.

// Watchable says whether the backend tells of changes of single resources, as far as that is known.
func (b *Backend) Watchable() bool {
	l := b.lister.current()
	if l == nil {
		return true
	}
	raw := l.hello().capabilities.Raw("resources")
	o, err := mcpwire.ParseObject(raw, 0, len(raw))
	return err == nil && string(o.Raw("subscribe")) == "true"
}

// Watch has OnUpdated called for changes of a resource, until Unwatch or Close. Where the backend cannot be reached now,
// it is told as soon as it can.
func (s *Session) Watch(ctx context.Context, uri string) error {
	c := s.conn
	ctx, clock := newClock(ctx, c.b.cfg.Timeout, c.b.cfg.LongestCall)
	defer clock.end()
	c.begin(clock)
	defer c.end(clock)
	l, err := c.open(ctx)
	if fresh := c.watch(s, uri); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if fresh && !c.closed && ctx.Err() == nil {
			c.revive(opened{})
		}
		return err
	}
	if l.era() == mcpwire.EraModern {
		c.startListening(l)
		return nil
	}
	s.Listen()
	_, err = c.b.query(ctx, l, c.mint(), "resources/subscribe", object([]mcpwire.Field{{Name: "uri", Value: mcpwire.Quote(uri)}}))
	if err != nil {
		c.unwatch(s, uri)
		c.heed(classify(err, l.era()), l)
	}
	return c.b.fail(ctx, err, false)
}

// forget ends all that s watches. The backend hears of it later, or never: it does no harm to be told too much.
func (c *conn) forget(s *Session) {
	c.mu.Lock()
	var last []string
	for _, uri := range c.wants.uris() {
		if all := c.wants.watched[uri]; all[s] {
			if delete(all, s); len(all) == 0 {
				delete(c.wants.watched, uri)
				last = append(last, uri)
			}
		}
	}
	l, closed := c.up.link, c.closed
	c.mu.Unlock()
	if len(last) == 0 || l == nil || closed {
		return
	}
	if l.era() == mcpwire.EraModern {
		c.startListening(l)
		return
	}
	c.b.inBackground(func() {
		ctx, cancel := context.WithTimeout(c.b.ctx, partingTimeout)
		defer cancel()
		for _, uri := range last {
			params := object([]mcpwire.Field{{Name: "uri", Value: mcpwire.Quote(uri)}})
			if _, err := c.b.query(ctx, l, c.mint(), "resources/unsubscribe", params); err != nil {
				c.b.log.Debug("a watch that ended", zap.Error(err))
			}
		}
	})
}

// updated hands on that a resource changed: to the session's own client, or where several share it to whoever watches
// the resource or one above it.
func (c *conn) updated(l link, r mcpwire.Reply) {
	if l.era() == mcpwire.EraModern {
		r = withoutReserved(r)
	}
	if c.opts.OnMessage != nil {
		c.opts.OnMessage(r, Origin{link: l})
		return
	}
	params, _ := r.Params()
	changed, _ := params.String("uri")
	var told []*Session
	c.mu.Lock()
	for uri, all := range c.wants.watched {
		if strings.HasPrefix(changed, uri) {
			for s := range all {
				told = append(told, s)
			}
		}
	}
	c.mu.Unlock()
	for _, s := range told {
		if s.onUpdated != nil {
			s.onUpdated(r)
		}
	}
}

// withoutReserved takes the hop's fields out of a notification, which a modern backend writes and no client is to see.
func withoutReserved(r mcpwire.Reply) mcpwire.Reply {
	params, _ := r.Params()
	at, ok := params.Find("_meta")
	if !ok {
		return r
	}
	meta, err := mcpwire.ParseObject(r.Body.Text, at.Start, at.End)
	if err != nil {
		return r
	}
	clean, err := mcpwire.ParseReply(mcpwire.Splice(r.Body.Text, meta.Change(reserved)...))
	if err != nil {
		return r
	}
	return clean
}

// subscribes carries out resources/subscribe and unsubscribe as far as the backend need not, or cannot, be asked. False:
// the request goes to the backend.
func (c *call) subscribes(l link) (done bool, err error) {
	s, uri, modern := c.s, c.req.Name, l.era() == mcpwire.EraModern
	switch c.req.Message.Method {
	case "resources/subscribe":
		c.watching = s.conn.watch(s, uri)
		if !modern {
			return false, nil
		}
	case "resources/unsubscribe":
		if last := s.conn.unwatch(s, uri); last && !modern {
			return false, nil
		}
	default:
		return false, nil
	}
	if modern {
		s.conn.startListening(l)
	}
	return true, c.answer(mcpwire.AppendResult(nil, c.req.Message.ID, []byte("{}")))
}

// settle ends the watch of a subscription that the backend refused.
func (c *call) settle(err error) {
	if c.watching && (err != nil || c.refused) {
		c.s.conn.unwatch(c.s, c.req.Name)
	}
	c.watching = false
}
