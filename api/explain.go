package api

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
	"tollbook/projections"
)

// AsOf is which state of the book is explained. Nothing: an open month as it is
// now, a closed one as it was issued.
type AsOf struct {
	At  uint64 `json:"at,omitzero"`  // this position
	Now bool   `json:"now,omitzero"` // the end, whatever was issued
}

// ExplainRequest names an event.
type ExplainRequest struct {
	Tenant string `json:"tenant"`
	Source string `json:"source"`
	ID     string `json:"id"`
	AsOf
}

// ExplainLineRequest asks for a line of a month's invoices and a page of its calls.
type ExplainLineRequest struct {
	Tenant string `json:"tenant"`
	Month  string `json:"month"`
	AsOf
	projections.LineQuery
	After *projections.After `json:"after,omitzero"` // the Next of the page before
	Limit int                `json:"limit,omitzero"` // calls of a page; at most projections.MaxPage
}

// ExplainPoolRequest asks how the licences of a pool make its minutes.
type ExplainPoolRequest struct {
	Tenant string `json:"tenant"`
	Month  string `json:"month"`
	AsOf
	Plan    string `json:"plan"`
	Country string `json:"country,omitzero"`
	User    string `json:"user,omitzero"`
	From    int    `json:"from,omitzero"` // the Next of the page before
	Limit   int    `json:"limit,omitzero"`
}

// An ExplainSource is the book that is explained.
type ExplainSource struct {
	// Live calls ask with the months at the end of the book, by
	// [projections.View.Issued]; of month 0, as they are.
	Live func(ctx context.Context, tenant string, month domain.Month, ask func(*projections.View) error) (issuedAt uint64, err error)
	// Fold makes the view as of a position.
	Fold func(ctx context.Context, tenant string, position uint64) (*projections.View, error)
	// Find is where the event of an identity is; nil: nowhere.
	Find func(ctx context.Context, tenant string, ref domain.Ref) (*eventstore.Place, error)
}

// An Explainer says why a month is what it is. It may be used by many at once.
type Explainer struct {
	from ExplainSource
	past pastViews
	live liveReadings
}

// NewExplainer explains from a book.
func NewExplainer(from ExplainSource) *Explainer { return &Explainer{from: from} }

// ExplainBook explains from the book of an engine and its live months.
func ExplainBook(book *eventstore.Book, months *projections.Months) *Explainer {
	return NewExplainer(ExplainSource{
		Live: func(_ context.Context, tenant string, month domain.Month, ask func(*projections.View) error) (uint64, error) {
			return months.View(tenant, month, ask)
		},
		Fold: func(ctx context.Context, tenant string, position uint64) (*projections.View, error) {
			if events := book.Head().Events; position > events {
				return nil, wrong{projections.BeyondEnd(position, events)}
			}
			return projections.Fold(ctx, book.Walk(), tenant, position, nil)
		},
		Find: func(ctx context.Context, tenant string, ref domain.Ref) (*eventstore.Place, error) {
			position, ok := book.Find(tenant, ref.Source, ref.ID)
			if !ok {
				return nil, nil
			}
			place, err := book.Place(ctx, position)
			return &place, err
		},
	})
}

// ask calls ask with the view of a month that q is about.
func (x *Explainer) ask(ctx context.Context, tenant string, month domain.Month, q AsOf, ask func(*projections.View) error) error {
	at := q.At
	switch {
	case q.Now && at != 0:
		return wrong{errors.New("at and now: only one of them")}
	case q.Now:
		_, err := x.from.Live(ctx, tenant, 0, ask)
		return err
	case at == 0:
		issuedAt, err := x.from.Live(ctx, tenant, month, ask)
		if err != nil || issuedAt == 0 {
			return err
		}
		at = issuedAt
	}
	return x.past.ask(ctx, tenant, at, x.from.Fold, ask)
}

// Line explains a line.
func (x *Explainer) Line(ctx context.Context, q ExplainLineRequest) (d projections.LineDocument, err error) {
	month, err := monthOf(q.Tenant, q.Month)
	if err != nil {
		return d, err
	}
	var after *domain.Share
	if q.After != nil {
		at, err := time.Parse(time.RFC3339Nano, q.After.At)
		if err != nil {
			return d, wrong{fmt.Errorf("after.at %.40q: must be the time that the page before ended with", q.After.At)}
		}
		after = &domain.Share{At: domain.InstantOf(at), Ref: domain.Ref(q.After.Ref)}
	}
	var r projections.LineReading
	err = x.ask(ctx, q.Tenant, month, q.AsOf, func(v *projections.View) (err error) {
		r, err = v.Line(q.Tenant, month, q.LineQuery, after, pageOf(q.Limit))
		return asWrong(err)
	})
	if err != nil {
		return d, err
	}
	return r.Document(), nil
}

// Pool explains the grant of a pool.
func (x *Explainer) Pool(ctx context.Context, q ExplainPoolRequest) (d projections.GrantDocument, err error) {
	month, err := monthOf(q.Tenant, q.Month)
	if err != nil {
		return d, err
	}
	var r projections.GrantReading
	err = x.ask(ctx, q.Tenant, month, q.AsOf, func(v *projections.View) (err error) {
		r, err = v.Grant(q.Tenant, month, q.Country, q.Plan, q.User)
		return asWrong(err)
	})
	if err != nil {
		return d, err
	}
	return r.Document(q.From, pageOf(q.Limit)), nil
}

func pageOf(limit int) int {
	if limit == 0 {
		return projections.MaxPage
	}
	return limit
}

// IsWrong reports whether an error is one of the request, not of the engine.
func IsWrong(err error) bool {
	_, ok := errors.AsType[wrong](err)
	return ok
}

func asWrong(err error) error {
	if err != nil {
		return wrong{err}
	}
	return nil
}

// Add adds to doc what the call costs that an event is, or is about: of other
// events nothing.
func (x *Explainer) Add(ctx context.Context, doc *ExplainDocument, place *eventstore.Place, q AsOf) error {
	var ref domain.Ref
	switch data := place.Event.Data.(type) {
	case *domain.Call:
	case *domain.Correction:
		ref = data.Ref
	case *domain.Void:
		ref = data.Ref
	default:
		if q != (AsOf{}) {
			return wrong{errors.New("as of a position only calls are explained, with what corrects and voids them")}
		}
		return nil
	}
	if ref != (domain.Ref{}) {
		call, err := x.from.Find(ctx, place.Event.Tenant, ref)
		if err != nil {
			return err
		}
		is := false
		if call != nil {
			_, is = call.Event.Data.(*domain.Call)
		}
		if !is {
			doc.Dangling = &projections.Ref{Source: ref.Source, ID: ref.ID}
			return nil
		}
		doc.Said = cloudevents.Append(nil, &call.Event)
		place = call
	}
	d, err := x.call(ctx, place, doc.Position, q)
	doc.Call = &d
	return err
}

// call explains the call at a place, for who asks about the event at a position:
// the call, or what amends it. Where that came after the month was closed, the
// call is explained as it is now, as the document does not know of it.
func (x *Explainer) call(ctx context.Context, place *eventstore.Place, asked uint64, q AsOf) (d projections.CallDocument, err error) {
	e := &place.Event
	if known := max(place.Position, asked); q.At != 0 && q.At < known {
		return d, wrong{fmt.Errorf("position %d is before position %d, where the event or its call is", q.At, known)}
	}
	var month domain.Month
	if q == (AsOf{}) {
		if _, err := x.from.Live(ctx, e.Tenant, 0, func(v *projections.View) (err error) {
			month, err = v.MonthOf(e)
			return err
		}); err != nil {
			return d, err
		}
	}
	ask := func(v *projections.View) (err error) {
		d, err = v.Call(e)
		return err
	}
	late := ""
	err = x.ask(ctx, e.Tenant, month, q, func(v *projections.View) error {
		number, position := v.Document()
		if q == (AsOf{}) && number != "" && position < max(place.Position, asked) {
			late = number
			return nil
		}
		return ask(v)
	})
	if late != "" {
		_, err = x.from.Live(ctx, e.Tenant, 0, ask)
		d.Late = late
	}
	return d, err
}

// pastViewsKept bounds the memory of views as of older positions: each is a ledger
// of all of a tenant's calls.
const pastViewsKept = 2

// pastViews makes views as of older positions, and keeps the last ones. Those who
// want the same one share it, also while it is made; it is given up once nobody
// waits for it.
type pastViews struct {
	mu      sync.Mutex
	views   []*pastView   // at most pastViewsKept, the last used at the end
	changed chan struct{} // closed when somebody has done with one
}

type pastView struct {
	tenant   string
	position uint64
	users    int // who wait for it or ask it
	give     context.CancelFunc

	made chan struct{} // closed once view or err is there
	view *projections.View
	err  error

	asking sync.Mutex // a view answers one at a time
}

func (p *pastViews) ask(ctx context.Context, tenant string, position uint64, fold func(context.Context, string, uint64) (*projections.View, error), ask func(*projections.View) error) error {
	v, err := p.take(ctx, tenant, position, fold)
	if err != nil {
		return err
	}
	defer p.release(v)
	select {
	case <-v.made:
	case <-ctx.Done():
		return ctx.Err()
	}
	if v.err != nil {
		return v.err
	}
	v.asking.Lock()
	defer v.asking.Unlock()
	return ask(v.view)
}

func (p *pastViews) take(ctx context.Context, tenant string, position uint64, fold func(context.Context, string, uint64) (*projections.View, error)) (*pastView, error) {
	for {
		p.mu.Lock()
		if v := p.find(tenant, position); v != nil {
			v.users++
			p.mu.Unlock()
			return v, nil
		}
		if p.room() {
			folding, give := context.WithCancel(context.WithoutCancel(ctx))
			v := &pastView{tenant: tenant, position: position, users: 1, give: give, made: make(chan struct{})}
			p.views = append(p.views, v)
			p.mu.Unlock()
			go func() {
				v.view, v.err = fold(folding, tenant, position)
				close(v.made)
			}()
			return v, nil
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// find is the view of a position, which becomes the last used.
func (p *pastViews) find(tenant string, position uint64) *pastView {
	for i, v := range p.views {
		if v.tenant == tenant && v.position == position {
			p.views = append(append(p.views[:i:i], p.views[i+1:]...), v)
			return v
		}
	}
	return nil
}

// room drops the view that was not used for longest, if it must; false: all are
// in use.
func (p *pastViews) room() bool {
	if len(p.views) < pastViewsKept {
		return true
	}
	for i, v := range p.views {
		if v.users == 0 {
			p.views = append(p.views[:i:i], p.views[i+1:]...)
			return true
		}
	}
	return false
}

// release is what everyone does who has taken a view. One that is not made yet,
// or could not be, goes with the last of them.
func (p *pastViews) release(v *pastView) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.users--; v.users > 0 {
		return
	}
	made := false
	select {
	case <-v.made:
		made = v.err == nil
	default:
	}
	if !made {
		v.give()
		for i := range p.views {
			if p.views[i] == v {
				p.views = append(p.views[:i:i], p.views[i+1:]...)
				break
			}
		}
	}
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func (s *Service) explain(ctx context.Context, r micro.Request) (any, error) {
	var q ExplainRequest
	if err := asked(r, &q, `{"tenant":"contoso","source":"switch/mil-1","id":"c-1"}`); err != nil {
		return nil, err
	}
	return s.Explainer.Event(ctx, s.Book, s.Key, q)
}

// Event is what the book has of an event, with a proof, and what a call costs.
func (x *Explainer) Event(ctx context.Context, book *eventstore.Book, key *eventstore.SigningKey, q ExplainRequest) (doc ExplainDocument, err error) {
	position, ok := book.Find(q.Tenant, q.Source, q.ID)
	if !ok {
		return doc, wrong{NotBooked(q)}
	}
	place, err := book.Place(ctx, position)
	if err != nil {
		return doc, err
	}
	doc, err = Explain(book.Prover(ctx), &place, key)
	if err == nil {
		err = x.Add(ctx, &doc, &place, q.AsOf)
	}
	return doc, err
}

func (s *Service) explainLine(ctx context.Context, r micro.Request) (any, error) {
	var q ExplainLineRequest
	if err := asked(r, &q, `{"tenant":"contoso","month":"2026-10","type":"mobile"}`); err != nil {
		return nil, err
	}
	return s.Explainer.Line(ctx, q)
}

func (s *Service) explainPool(ctx context.Context, r micro.Request) (any, error) {
	var q ExplainPoolRequest
	if err := asked(r, &q, `{"tenant":"contoso","month":"2026-10","plan":"DOMESTIC_120","country":"IT"}`); err != nil {
		return nil, err
	}
	return s.Explainer.Pool(ctx, q)
}

// Explain is what the book has of an event, and of a call what it costs and why.
func (c *Client) Explain(ctx context.Context, q ExplainRequest) (ExplainDocument, error) {
	var d ExplainDocument
	err := c.askJSON(ctx, "explain", q, &d)
	if err == nil && d.Proof == nil {
		err = errors.New("the engine's answer has no proof: it is of another version")
	}
	return d, err
}

// ExplainLine is a line and a page of its calls.
func (c *Client) ExplainLine(ctx context.Context, q ExplainLineRequest) (projections.LineDocument, error) {
	var d projections.LineDocument
	err := c.askJSON(ctx, "explain.line", q, &d)
	return d, err
}

// ExplainPool is how the licences of a pool make its minutes.
func (c *Client) ExplainPool(ctx context.Context, q ExplainPoolRequest) (projections.GrantDocument, error) {
	var d projections.GrantDocument
	err := c.askJSON(ctx, "explain.pool", q, &d)
	return d, err
}
