package api_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tollbook/api"
	"tollbook/domain"
	"tollbook/projections"
)

// gated is a book of empty views that are made once the test lets them.
type gated struct {
	made    atomic.Int64
	given   atomic.Int64 // up by those nobody waited for
	started chan uint64
	let     chan struct{}
}

func (g *gated) explainer() *api.Explainer {
	return api.NewExplainer(api.ExplainSource{
		Fold: func(ctx context.Context, _ string, position uint64) (*projections.View, error) {
			g.started <- position
			select {
			case <-g.let:
				g.made.Add(1)
				return &projections.View{Ledger: domain.NewLedger()}, nil
			case <-ctx.Done():
				g.given.Add(1)
				return nil, ctx.Err()
			}
		},
	})
}

func explainAt(ctx context.Context, x *api.Explainer, position uint64) error {
	_, err := x.Pool(ctx, api.ExplainPoolRequest{Tenant: "contoso", Month: "2026-10", Plan: "DOMESTIC_120", AsOf: api.AsOf{At: position}})
	if err != nil && strings.Contains(err.Error(), "no such pool") {
		return nil // the empty view was asked
	}
	return err
}

// TestExplainersShare: those who ask as of one position at once wait for one fold,
// the last two are kept, and a third takes the place of the older one.
func TestExplainersShare(t *testing.T) {
	g := &gated{started: make(chan uint64, 100), let: make(chan struct{})}
	x := g.explainer()
	var asking sync.WaitGroup
	ask := func(position uint64) {
		asking.Go(func() {
			if err := explainAt(t.Context(), x, position); err != nil {
				t.Errorf("position %d: %v", position, err)
			}
		})
	}
	for range 20 {
		ask(1)
		ask(2)
	}
	<-g.started
	<-g.started
	ask(3) // waits for room
	close(g.let)
	asking.Wait()
	if n := g.made.Load(); n < 3 || n > 5 {
		// 1 or 2 may be asked for again by who comes after the third.
		t.Errorf("%d views were made", n)
	}
	made := g.made.Load()
	for range 3 {
		ask(7)
		asking.Wait()
		ask(8)
		asking.Wait()
	}
	if n := g.made.Load() - made; n != 2 {
		t.Errorf("7 and 8 were made %d times", n)
	}
	ask(9)
	asking.Wait()
	ask(8)
	asking.Wait()
	if n := g.made.Load() - made; n != 3 {
		t.Errorf("the view that was used last was dropped: %d were made", n)
	}
}

// TestExplainerGivesUp: nobody waits longer than they want, and what nobody waits
// for is not made.
func TestExplainerGivesUp(t *testing.T) {
	g := &gated{started: make(chan uint64, 100), let: make(chan struct{})}
	x := g.explainer()
	errs := make(chan error, 2)
	first, leave := context.WithCancel(t.Context())
	second, leaveToo := context.WithCancel(t.Context())
	go func() { errs <- explainAt(first, x, 1) }()
	<-g.started
	go func() { errs <- explainAt(second, x, 1) }()
	leave()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("who left got %v", err)
	}
	leaveToo()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("who left last got %v", err)
	}
	// A new one begins, and is not hindered by those given up.
	close(g.let)
	for position := range uint64(5) {
		if err := explainAt(t.Context(), x, position+1); err != nil {
			t.Errorf("position %d: %v", position+1, err)
		}
	}
}
