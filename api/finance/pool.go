package finance

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"tollbook/api"
	"tollbook/projections"
)

// Of a page, where nothing is said of it.
const (
	defaultTop  = 10
	defaultPage = 100
)

// A PoolQuery names a pool of a month, and how many of its users and destinations
// are wanted.
type PoolQuery = api.PoolViewRequest

// An OverflowQuery names a pool of a month, and a page of its calls with overage.
type OverflowQuery = api.OverflowRequest

// Pool is how a pool is used: its course by hours, its top users and destinations
// (q.Top 0: ten), how many licences are held, and its first calls with overage. All
// of it is of one position, and adds up there to the month's statement.
//
// The first question about a pool has its calls counted, about ten million a second, in
// short parts between which others are answered; the engine keeps the sums up to date
// from then on. Who asks meanwhile waits for a tenth of a second and is told what is
// known without them. Errors: 400, also where there is no such pool.
func (d *Desk) Pool(ctx context.Context, q PoolQuery) (projections.PoolView, error) {
	q.Top = cmp.Or(q.Top, defaultTop)
	view, err := d.Explainer.PoolView(ctx, q, patience())
	if err == nil && !view.Counted {
		d.counts.goOn(fmt.Sprintf("pool %+v", q), func(ctx context.Context) {
			_, _ = d.Explainer.PoolView(ctx, q, nil) // who asks next is told of errors
		})
	}
	return tell(view, err)
}

// patience is until when a question waits for calls to be counted.
func patience() func() bool {
	began := time.Now()
	return func() bool { return time.Since(began) < 100*time.Millisecond }
}

// counts are what is counted while nobody waits for it.
type counts struct {
	mu    sync.Mutex
	going map[string]struct{} // at most countsAtOnce
}

const countsAtOnce = 2

// goOn counts on, unless it is done already or others are; then the next question does.
func (c *counts) goOn(what string, count func(context.Context)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, is := c.going[what]; is || len(c.going) == countsAtOnce {
		return
	}
	if c.going == nil {
		c.going = map[string]struct{}{}
	}
	c.going[what] = struct{}{}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		count(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.going, what)
	}()
}

// Overflow is a page of the calls of a pool that have overage, by R7's order (q.Limit
// 0: a hundred calls). Of an open month each page is of its own position; see
// [projections.View.Overflow]. Who wants all pages of one position gives q.At, for
// which the month is made again from the book. Errors: 400, also where there is no such pool.
func (d *Desk) Overflow(ctx context.Context, q OverflowQuery) (projections.OverflowPage, error) {
	q.Limit = cmp.Or(q.Limit, defaultPage)
	return tell(d.Explainer.Overflow(ctx, q))
}
