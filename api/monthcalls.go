package api

import (
	"context"
	"slices"
	"sync"

	"github.com/nats-io/nats.go/micro"

	"tollbook/domain"
	"tollbook/projections"
)

// A StatementRequest asks for a month with its pools.
type StatementRequest struct {
	Tenant string `json:"tenant"`
	Month  string `json:"month"`
	At     uint64 `json:"at,omitzero"` // see AsOf
}

// A CallsRequest asks for a page of the calls of a month. Who wants all of them asks
// for the pages after the first one as of its position.
type CallsRequest struct {
	Tenant string             `json:"tenant"`
	Month  string             `json:"month"`
	At     uint64             `json:"at,omitzero"`    // see AsOf
	After  *projections.After `json:"after,omitzero"` // the Next of the page before
	Limit  int                `json:"limit,omitzero"` // at most projections.MaxPage
}

// Statement is a month as of a position.
func (x *Explainer) Statement(ctx context.Context, q StatementRequest) (s projections.Statement, err error) {
	month, err := monthOf(q.Tenant, q.Month)
	if err != nil {
		return s, err
	}
	err = x.view(ctx, q.Tenant, month, q.At, func(v *projections.View, live bool) (err error) {
		if live {
			x.live.mark(v, q.Tenant, month) // for who goes on to its calls
		}
		s, err = v.Statement(q.Tenant, month)
		return err
	})
	return s, err
}

// Calls is a page of the calls of a month. The first page of a live month is looked
// for in it, whatever comes. The others are read from it for as long as nothing
// changes there; once something does, those that are left are read from a view as of
// their position.
func (x *Explainer) Calls(ctx context.Context, q CallsRequest) (projections.CallsDocument, error) {
	month, err := monthOf(q.Tenant, q.Month)
	if err != nil {
		return projections.CallsDocument{}, err
	}
	if q.At == 0 && q.After == nil {
		if page, live, err := x.firstCalls(ctx, q.Tenant, month, pageOf(q.Limit)); live || err != nil {
			return page, err
		}
	}
	var page projections.CallPage
	for ready := false; !ready; {
		read := func(r *projections.CallsReading) (err error) {
			q.At = r.Position // whatever is booked before this page is ready
			page, ready, err = r.Page(q.After, pageOf(q.Limit))
			return asWrong(err)
		}
		kept := false
		if q.At != 0 && x.live.has(q.Tenant, month, q.At) {
			_, err = x.from.Live(ctx, q.Tenant, 0, func(v *projections.View) error {
				r := x.live.at(v, q.Tenant, month, q.At)
				if kept = r != nil; kept {
					return read(r)
				}
				return nil
			})
		}
		if !kept && err == nil {
			err = x.view(ctx, q.Tenant, month, q.At, func(v *projections.View, live bool) error {
				if live {
					return read(x.live.mark(v, q.Tenant, month))
				}
				return read(v.Reading(q.Tenant, month))
			})
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return projections.CallsDocument{}, err
		}
	}
	return page.Document(), nil
}

// firstCalls is the first page of the calls of a month as it is now; live is false
// for one that is issued.
func (x *Explainer) firstCalls(ctx context.Context, tenant string, month domain.Month, limit int) (doc projections.CallsDocument, live bool, err error) {
	for {
		var search *domain.CallSearch
		issuedAt, err := x.from.Live(ctx, tenant, month, func(v *projections.View) error {
			search = v.FirstCalls(tenant, month)
			return nil
		})
		if err != nil || issuedAt != 0 {
			return doc, false, err
		}
		found := search.Find(domain.Wanted{Any: true, First: true, Calls: min(max(limit, 1), projections.MaxPage)})
		var page projections.CallPage
		ready := false
		issuedAt, err = x.from.Live(ctx, tenant, month, func(v *projections.View) error {
			if page, ready = v.FirstPage(tenant, month, found); ready {
				x.live.mark(v, tenant, month) // for who goes on
			}
			return nil
		})
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || issuedAt != 0 {
			return doc, false, err
		}
		if ready {
			return page.Document(), true, nil
		}
	}
}

// view calls ask with the view of a month as of a position; 0: an open month as it
// is now, a closed one as it was issued. live: others wait for the view.
func (x *Explainer) view(ctx context.Context, tenant string, month domain.Month, at uint64, ask func(v *projections.View, live bool) error) error {
	if at == 0 {
		issuedAt, err := x.from.Live(ctx, tenant, month, func(v *projections.View) error { return ask(v, true) })
		if err != nil || issuedAt == 0 {
			return err
		}
		at = issuedAt
	}
	return x.past.ask(ctx, tenant, at, x.from.Fold, func(v *projections.View) error { return ask(v, false) })
}

// liveReadings are months that somebody reads page by page, as they were at some
// position of the live book: the last few.
type liveReadings struct {
	mu   sync.Mutex
	kept []liveReading // at most readingsKept, the last used at the end
}

type liveReading struct {
	tenant string
	month  domain.Month
	*projections.CallsReading
}

// readingsKept bounds the memory of readings: four bytes a call each.
const readingsKept = 4

// mark is the reading of a month as the view has it now.
func (l *liveReadings) mark(v *projections.View, tenant string, month domain.Month) *projections.CallsReading {
	now := v.Reading(tenant, month)
	if r := l.at(v, tenant, month, now.Position); r != nil && r.Status == now.Status {
		return r
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) == readingsKept {
		l.kept = slices.Delete(l.kept, 0, 1)
	}
	l.kept = append(l.kept, liveReading{tenant, month, now})
	return now
}

// has reports whether there may be a reading.
func (l *liveReadings) has(tenant string, month domain.Month, position uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.find(tenant, month, position) >= 0
}

// at is the reading of a position, if the live view's month still is what it was.
// One that is not is dropped.
func (l *liveReadings) at(v *projections.View, tenant string, month domain.Month, position uint64) *projections.CallsReading {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.find(tenant, month, position)
	if i < 0 {
		return nil
	}
	r := l.kept[i]
	l.kept = slices.Delete(l.kept, i, i+1)
	if !r.Holds(v) {
		return nil
	}
	l.kept = append(l.kept, r)
	return r.CallsReading
}

func (l *liveReadings) find(tenant string, month domain.Month, position uint64) int {
	return slices.IndexFunc(l.kept, func(r liveReading) bool {
		return r.tenant == tenant && r.month == month && r.Position == position
	})
}

func (s *Service) statement(ctx context.Context, r micro.Request) (any, error) {
	var q StatementRequest
	if err := asked(r, &q, `{"tenant":"contoso","month":"2026-10"}`); err != nil {
		return nil, err
	}
	return s.Explainer.Statement(ctx, q)
}

func (s *Service) calls(ctx context.Context, r micro.Request) (any, error) {
	var q CallsRequest
	if err := asked(r, &q, `{"tenant":"contoso","month":"2026-10"}`); err != nil {
		return nil, err
	}
	return s.Explainer.Calls(ctx, q)
}

// Statement is a month with its pools.
func (c *Client) Statement(ctx context.Context, q StatementRequest) (projections.Statement, error) {
	var s projections.Statement
	err := c.askJSON(ctx, "statement", q, &s)
	return s, err
}

// Calls is a page of the calls of a month.
func (c *Client) Calls(ctx context.Context, q CallsRequest) (projections.CallsDocument, error) {
	var d projections.CallsDocument
	err := c.askJSON(ctx, "calls", q, &d)
	return d, err
}
