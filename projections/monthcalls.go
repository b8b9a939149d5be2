package projections

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"tollbook/domain"
	"tollbook/eventstore"
)

// A CallsDocument is a page of the calls of a month.
type CallsDocument struct {
	AsOf
	Calls []MonthCall `json:"calls"` // by R7's order
	Next  *After      `json:"next"`  // where the next page begins; null: this is the last
}

// A MonthCall is a call of a month as it stands, and how it is placed and divided.
// What does not apply to its class is "".
type MonthCall struct {
	At string `json:"at"`
	Ref
	User        string `json:"user"`
	Kind        string `json:"kind"`
	Called      string `json:"called"`
	BillableMS  int64  `json:"billable_ms"`
	Amended     bool   `json:"amended"`
	Class       string `json:"class"`
	PoolCountry string `json:"pool_country"`
	PoolPlan    string `json:"pool_plan"`
	PoolUser    string `json:"pool_user"`
	Bucket      string `json:"bucket"`
	Billed      int64  `json:"billed_seconds"`
	Pool        int64  `json:"pool_seconds"`    // of the billed ones of a call in a pool or over it
	Overage     int64  `json:"overage_seconds"` // the others
	Deck        string `json:"deck"`
	DeckVersion string `json:"deck_version"`
	Country     string `json:"destination_country"`
	Destination string `json:"destination"`
	Type        string `json:"type"`
	Price       string `json:"price"`
	ConnectFee  string `json:"connect_fee"`
	Currency    string `json:"currency"`
	Exact       string `json:"exact"` // the call's share of its line; those of all calls of a line add up to it
}

// MonthCallOf is c in words.
func MonthCallOf(c *domain.MonthCall) MonthCall {
	call := MonthCall{
		At: c.At.String(), Ref: Ref(c.Ref), User: c.User, Kind: c.Kind, Called: c.Called.String(), BillableMS: c.BillableMS, Amended: c.Amended,
		Class: string(c.Class), PoolCountry: c.Country, PoolPlan: c.Plan, PoolUser: c.Pool, Bucket: c.Bucket, Billed: c.Billed, Overage: c.Over,
	}
	if c.Class == domain.ClassInPool || c.Class == domain.ClassOverage {
		call.Pool = c.Billed - c.Over
	}
	if l := c.Line; l != nil {
		call.Deck, call.DeckVersion, call.Country, call.Destination, call.Type = l.Deck, l.Version, l.Country, l.Name, l.RowType
		call.Price, call.ConnectFee, call.Currency = l.Price.String(), l.Fee.String(), string(l.Currency)
		if c.Over > 0 {
			call.Exact = domain.ExactCharge(l.Price, l.Fee, 1, c.Over).RatString()
		}
	}
	return call
}

// call is the call behind which a page begins.
func (a *After) call() (domain.MonthCall, error) {
	at, err := time.Parse(time.RFC3339Nano, a.At)
	if err != nil {
		return domain.MonthCall{}, fmt.Errorf("after.at %.40q: must be the time that the page before ended with", a.At)
	}
	return domain.MonthCall{At: domain.InstantOf(at), Ref: domain.Ref(a.Ref)}, nil
}

// A CallsReading reads the calls of a month as of one position, page by page. It
// may be kept after the view it was made of, and like that must not be used by two
// goroutines at once.
type CallsReading struct {
	AsOf
	calls *domain.MonthCalls
}

// Reading reads a month of the view.
func (v *View) Reading(tenant string, month domain.Month) *CallsReading {
	key := monthKey{tenant, month}
	r := v.readings[key]
	if r == nil {
		if v.readings == nil {
			v.readings = map[monthKey]*CallsReading{}
		}
		r = &CallsReading{v.asOf(tenant, month), v.Ledger.MonthCalls(tenant, month)}
		v.readings[key] = r
	}
	return r
}

// Holds reports whether the view's month still is what is read.
func (r *CallsReading) Holds(v *View) bool { return r.calls.Holds(v.Ledger) }

// FirstCalls begins to look for the first calls of a month of the view, without
// holding it up.
func (v *View) FirstCalls(tenant string, month domain.Month) *domain.CallSearch {
	return v.Ledger.CallSearch(tenant, month)
}

// FirstPage is the page that begins a month, of what [View.FirstCalls] found; ready is
// false where the month has become another meanwhile, and it is to be looked for again.
func (v *View) FirstPage(tenant string, month domain.Month, found *domain.FoundCalls) (page CallPage, ready bool) {
	page.asOf = v.asOf(tenant, month)
	page.calls, page.more, ready = found.Calls(v.Ledger)
	return page, ready
}

// filedAtOnce is how many calls are filed by their time before others may ask the
// view again: a few milliseconds.
const filedAtOnce = 1 << 18

// Page is the calls after one; nil: from the first on. Where more work is to be done
// before, it is done in part, and ready is false.
func (r *CallsReading) Page(after *After, limit int) (page CallPage, ready bool, err error) {
	var from *domain.MonthCall
	if after != nil {
		call, err := after.call()
		if err != nil {
			return page, false, err
		}
		from = &call
	}
	if !r.calls.File(filedAtOnce) {
		return page, false, nil
	}
	page.asOf = r.AsOf
	page.calls, page.more = r.calls.After(from, min(max(limit, 1), MaxPage))
	return page, true, nil
}

// A CallPage is a page that was read and can be put into words when the view is
// somebody else's again.
type CallPage struct {
	asOf  AsOf
	calls []domain.MonthCall
	more  bool
}

// Document is the page in words.
func (p *CallPage) Document() CallsDocument {
	d := CallsDocument{AsOf: p.asOf, Calls: make([]MonthCall, len(p.calls))}
	for i := range p.calls {
		d.Calls[i] = MonthCallOf(&p.calls[i])
	}
	if p.more {
		last := &d.Calls[len(d.Calls)-1]
		d.Next = &After{last.At, last.Ref}
	}
	return d
}

// Statement is a month of the view: as it was issued, if the view has it so.
func (v *View) Statement(tenant string, month domain.Month) (Statement, error) {
	if v.closed == nil || v.closed.Month != month {
		return statement(v.Ledger.Draft(tenant, month), v.Head), nil
	}
	if Digest(v.closed.Document) != v.closed.Digest {
		return Statement{}, fmt.Errorf("%w: document %s is not the one whose digest was booked; see 'tollbook replay --check'", eventstore.ErrCorrupt, v.closed.Number)
	}
	s := statement(v.Ledger.Rating(tenant, month), v.Head) // for its pools
	s.InvoiceDocument = InvoiceDocument{}
	if err := json.Unmarshal(v.closed.Document, &s.InvoiceDocument); err != nil {
		return s, fmt.Errorf("document %s can't be read: %w", v.closed.Number, err)
	}
	return s, nil
}
