package inventory

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/gatewayconfig"
	"vmcp/services/aggregator/internal/backend"
)

// TestInterval: a remote backend is asked again by itself, a child only when there is a reason.
func TestInterval(t *testing.T) {
	inBubble(t, "", zap.NewNop(), func() []*server {
		return []*server{newServer("a", false, "x"), newServer("b", true, "y")}
	}, func(t *testing.T, inv *Inventory, s []*server) {
		time.Sleep(time.Hour)
		if got := s[0].count(); got < 80 || got > 240 {
			t.Errorf("the remote one was asked %d times in an hour, want one in 15 to 45 s", got)
		}
		if got := s[1].count(); got != 1 {
			t.Errorf("the child was asked %d times, want 1", got)
		}
		s[1].offer("y", "z")
		s[1].announce()
		time.Sleep(time.Second)
		expect(t, inv, "a_x b_y b_z", "a listed, b listed")
	})
}

// TestDebounce: many changes in a row are one listing, and none is lost, even one while a listing runs.
func TestDebounce(t *testing.T) {
	inBubble(t, "", zap.NewNop(), func() []*server { return []*server{newServer("b", true, "x")} },
		func(t *testing.T, inv *Inventory, s []*server) {
			for range 20 {
				s[0].announce()
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(time.Second)
			if got := s[0].count(); got != 2 {
				t.Errorf("listed %d times, want 2", got)
			}
			s[0].set(func() { s[0].takes = time.Second })
			s[0].announce()
			time.Sleep(500 * time.Millisecond) // now it runs, and answers with what it offers at its end
			s[0].announce()
			time.Sleep(time.Second)
			s[0].offer("late")
			time.Sleep(3 * time.Second)
			if got := s[0].count(); got != 4 {
				t.Errorf("listed %d times, want 4", got)
			}
			expect(t, inv, "b_late", "b listed")
		})
}

// TestParallel: not all backends are asked at one time.
func TestParallel(t *testing.T) {
	inBubble(t, "", zap.NewNop(), func() []*server {
		var all []*server
		for i := range 2*parallel + 5 {
			s := newServer(fmt.Sprintf("b%02d", i), true, "x")
			s.takes = time.Second
			all = append(all, s)
		}
		return all
	}, func(t *testing.T, inv *Inventory, s []*server) {
		for _, want := range []int{parallel, 2 * parallel, 2*parallel + 5} {
			asked := 0
			for _, one := range s {
				asked += one.count()
			}
			if asked != want {
				t.Errorf("%d asked, want %d", asked, want)
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
	})
}

// TestAnnouncedWithoutEnd: a backend that says all the time that its lists changed is not listed all the time.
func TestAnnouncedWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listed := 0
		again := make(chan struct{}, 1)
		list := func(context.Context) (*backend.Listing, error) {
			listed++
			select {
			case again <- struct{}{}:
			default:
			}
			return &backend.Listing{}, nil
		}
		inv := New(&gatewayconfig.Aggregator{}, []Source{{Name: "noisy", Stdio: true, List: list, Changed: again}}, "", zap.NewNop())
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		inv.Run(ctx)
		if listed > freeBurst+10+20 {
			t.Errorf("listed %d times in 10 minutes, want about one in %s after the first", listed, longestPause)
		}
		if listed < freeBurst {
			t.Errorf("listed %d times, want the first %d at once", listed, freeBurst)
		}
	})
}

// TestNewServerStarts: a server that is new and not there yet is found within two seconds of its start; one that was there
// and goes is asked ever more seldom, and so is a new one that does not come.
func TestNewServerStarts(t *testing.T) {
	away := errors.New("connection refused")
	absent := func() []*server {
		s := newServer("a", false, "x")
		s.err = away
		return []*server{s}
	}
	for _, start := range []time.Duration{6, 9, 12, 15, 18, 21, 24, 27} {
		inBubble(t, "", zap.NewNop(), absent, func(t *testing.T, inv *Inventory, s []*server) {
			time.Sleep(start * time.Second)
			s[0].fail(nil)
			time.Sleep(2 * time.Second)
			expect(t, inv, "a_x", "a listed")
			s[0].fail(away)
			time.Sleep(2 * time.Minute)
			before := s[0].count()
			time.Sleep(time.Minute)
			if got := s[0].count() - before; got > 5 {
				t.Errorf("one that went was asked %d times in a minute", got)
			}
		})
	}
	inBubble(t, "", zap.NewNop(), absent, func(t *testing.T, _ *Inventory, s []*server) {
		time.Sleep(5 * time.Minute)
		before := s[0].count()
		time.Sleep(5 * time.Minute)
		if got := s[0].count() - before; got > 25 {
			t.Errorf("one that does not come was asked %d times in five minutes", got)
		}
	})
}
