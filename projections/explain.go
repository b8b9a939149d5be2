package projections

import (
	"errors"
	"fmt"
	"math/big"
	"strings"

	"tollbook/domain"
	"tollbook/eventstore"
)

// A Ref names an event in documents.
type Ref struct {
	Source string `json:"source"`
	ID     string `json:"id"`
}

// AsOf says of which state of a month a document is.
type AsOf struct {
	Tenant   string  `json:"tenant"`
	Month    string  `json:"month"`
	Status   string  `json:"status"` // draft or issued
	Number   *string `json:"number"` // of the issued document
	Position uint64  `json:"position"`
	Head     string  `json:"head"`
}

// A View is a ledger as of a position of the book, to ask why its months are what
// they are. It must not be used by two goroutines at once.
type View struct {
	Ledger *domain.Ledger
	Head   eventstore.Head
	closed *domain.MonthClosed // the month that the view has as it was issued; nil: none

	readings map[monthKey]*CallsReading
}

// Document is the one whose month the view has as it was issued, and the position
// it knows the events up to; "": none.
func (v *View) Document() (number string, position uint64) {
	if v.closed == nil {
		return "", 0
	}
	return v.closed.Number, v.closed.Position
}

func (v *View) asOf(tenant string, month domain.Month) AsOf {
	a := AsOf{Tenant: tenant, Month: month.String(), Status: StatusDraft, Position: v.Head.Events, Head: v.Head.String()}
	if v.closed != nil && v.closed.Month == month {
		a.Status, a.Number, a.Position, a.Head = StatusIssued, &v.closed.Number, v.closed.Position, v.closed.Head
	}
	return a
}

// Issued is the view of a month as it was issued: of a month that is open, the
// view itself; of one in which something has changed since it was closed, none,
// but the position as of which it was issued, where [Fold] makes that view.
func (v View) Issued(tenant string, month domain.Month) (issued *View, at uint64) {
	for _, closed := range v.Ledger.Closings(tenant) {
		if closed.Month != month {
			continue
		}
		if !v.Ledger.Unchanged(tenant, month) {
			return nil, closed.Position
		}
		v.closed = closed
		break
	}
	return &v, 0
}

// A CallDocument says of one call what it costs and why.
type CallDocument struct {
	AsOf
	Ref       Ref          `json:"ref"` // of the call
	AmendedBy *Ref         `json:"amended_by,omitzero"`
	Late      string       `json:"late_for,omitzero"` // the month's issued document, which does not know yet what was asked about
	At        string       `json:"at"`                // decides its month (R1)
	Stands    *Stands      `json:"stands,omitzero"`   // what counts of the call; none if voided
	Class     string       `json:"class"`
	Rule      string       `json:"rule"`
	Licence   *LicenceUsed `json:"licence,omitzero"`
	Deck      *DeckUsed    `json:"deck,omitzero"`
	Rows      []DeckRow    `json:"rows,omitzero"` // the first one prices the call, the others are shorter and lost
	Billing   Billing      `json:"billing,omitzero"`
	Pool      *PoolUsed    `json:"pool,omitzero"`
	Cost      *Cost        `json:"cost,omitzero"`
}

// Stands is what a call says, or its latest correction.
type Stands struct {
	User        string `json:"user"`
	Direction   string `json:"direction"`
	Kind        string `json:"kind,omitzero"`
	Called      string `json:"called"`
	Disposition string `json:"disposition"`
}

// LicenceUsed is the interval that holds the call (R3).
type LicenceUsed struct {
	Plan    string  `json:"plan"`
	Country string  `json:"country"`
	From    string  `json:"from"`
	To      *string `json:"to"` // not in it; null: not within the month, whatever comes later
	By      Ref     `json:"by"`
	EndedBy *Ref    `json:"ended_by,omitzero"`
}

// DeckUsed is the version in force at the call.
type DeckUsed struct {
	Deck          string `json:"deck"`
	Version       string `json:"version"`
	EffectiveFrom string `json:"effective_from"`
	Currency      string `json:"currency"`
}

// DeckRow is a row whose prefix the called number has.
type DeckRow struct {
	Prefix     string `json:"prefix"`
	Country    string `json:"country"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	Price      string `json:"price"`
	ConnectFee string `json:"connect_fee"`
	Increment  string `json:"increment"`
}

// Billing is R2.
type Billing struct {
	BillableMS int64  `json:"billable_ms"`
	Seconds    int64  `json:"seconds"` // billable_ms, rounded up
	Increment  string `json:"increment"`
	Billed     int64  `json:"billed_seconds"`
}

// PoolUsed is what the call drew of its pool (R7), in seconds.
type PoolUsed struct {
	Country        string `json:"country"`
	Plan           string `json:"plan"`
	User           string `json:"user,omitzero"`
	Bucket         string `json:"bucket"`
	Linked         bool   `json:"linked"`
	Granted        int64  `json:"granted_seconds"`
	Before         int64  `json:"before_seconds"`
	After          int64  `json:"after_seconds"`
	Drawn          int64  `json:"drawn_seconds"`
	Overage        int64  `json:"overage_seconds"`
	EndedBy        *Ref   `json:"ended_by,omitzero"` // the call that had used the rest before
	GrantedNothing bool   `json:"granted_nothing,omitzero"`
}

// Cost is the call's share of its invoice line. Fractions are of the currency's
// unit, such as 61/480.
type Cost struct {
	Seconds int64       `json:"seconds"`
	Exact   string      `json:"exact"`
	Line    LineOfMonth `json:"line"`
}

// LineOfMonth is an invoice line, with the one rounding it has (R9).
type LineOfMonth struct {
	Country  string `json:"country"`
	Plan     string `json:"plan"`
	Currency string `json:"currency"`
	Line
	Exact    string `json:"exact"`
	Rounding string `json:"rounding"` // amount − exact
}

func lineOfMonth(country, plan string, l domain.InvoiceLine) LineOfMonth {
	exact := domain.ExactCharge(l.Price, l.Fee, l.Calls, l.Seconds)
	amount, _ := new(big.Rat).SetString(l.Amount.String())
	return LineOfMonth{
		Country: country, Plan: plan, Currency: string(l.Currency), Line: line(l),
		Exact: exact.RatString(), Rounding: new(big.Rat).Sub(amount, exact).RatString(),
	}
}

// ErrNoCall is of an event that no month has as a call.
var ErrNoCall = errors.New("no month has this call")

// Call explains the call that an event reported: e is that event, a call.
func (v *View) Call(e *domain.Event) (CallDocument, error) {
	data, ok := e.Data.(*domain.Call)
	if !ok {
		return CallDocument{}, ErrNoCall
	}
	p, ok := v.Ledger.Explain(e.Tenant, domain.Ref{Source: e.Source, ID: e.ID}, e.Time, data)
	if !ok {
		return CallDocument{}, ErrNoCall
	}
	d := CallDocument{
		AsOf: v.asOf(e.Tenant, p.Month), Ref: Ref(p.Ref), AmendedBy: refOf(p.Amended),
		At: p.At.String(), Class: string(p.Class), Rule: p.Rule,
	}
	if p.Call == nil {
		return d, nil
	}
	d.Stands = &Stands{p.Call.User, p.Call.Direction.String(), p.Call.Kind, p.Call.Called.String(), p.Call.Disposition.String()}
	d.Billing = Billing{p.Call.BillableMS, p.Seconds, p.Increment.String(), p.Billed}
	if l := p.Licence; l != nil {
		d.Licence = &LicenceUsed{Plan: l.Plan, Country: l.Country, From: l.From.String(), By: Ref(l.By)}
		// A licence that ends after a month was issued is no part of what was.
		if _, end := v.Ledger.Bounds(e.Tenant, p.Month); l.To < end {
			to := l.To.String()
			d.Licence.To, d.Licence.EndedBy = &to, refOf(l.EndedBy)
		}
	}
	if k := p.Deck; k != nil {
		d.Deck = &DeckUsed{k.Deck, k.Version, k.From.String(), string(k.Currency)}
	}
	for _, r := range p.Rows {
		d.Rows = append(d.Rows, DeckRow{
			r.Prefix, r.Line.Country, r.Line.Name, r.Line.RowType, r.Line.Price.String(), r.Line.Fee.String(), r.Increment.String(),
		})
	}
	if u := p.Pool; u != nil {
		d.Pool = &PoolUsed{
			u.Country, u.Plan, u.User, u.Bucket, u.Linked, u.Granted, u.Before, u.After, u.Drawn, u.Over, refOf(u.Ended), u.EmptyFromStart,
		}
	}
	if c := p.Cost; c != nil {
		d.Cost = &Cost{c.Seconds, c.Exact.RatString(), lineOfMonth(c.Country, c.Plan, c.Line)}
	}
	return d, nil
}

func refOf(r *domain.Ref) *Ref {
	if r == nil {
		return nil
	}
	ref := Ref(*r)
	return &ref
}

// MonthOf is the month that the call an event reported is in.
func (v *View) MonthOf(e *domain.Event) (domain.Month, error) {
	if data, ok := e.Data.(*domain.Call); ok {
		if p, ok := v.Ledger.Explain(e.Tenant, domain.Ref{Source: e.Source, ID: e.ID}, e.Time, data); ok {
			return p.Month, nil
		}
	}
	return 0, ErrNoCall
}

// A LineQuery picks lines of a month's invoices; what is empty picks any.
type LineQuery struct {
	Country            string `json:"country,omitzero"` // of the pool
	Plan               string `json:"plan,omitzero"`
	Currency           string `json:"currency,omitzero"`
	DestinationCountry string `json:"destination_country,omitzero"`
	Destination        string `json:"destination,omitzero"`
	Type               string `json:"type,omitzero"`
	Price              string `json:"price,omitzero"`
	ConnectFee         string `json:"connect_fee,omitzero"`
	Deck               string `json:"deck,omitzero"`
	DeckVersion        string `json:"deck_version,omitzero"`
}

func (q *LineQuery) picks(i *domain.Invoice, l *domain.InvoiceLine) bool {
	for _, pair := range [][2]string{
		{q.Country, i.Country}, {q.Plan, i.Plan}, {q.Currency, string(i.Currency)}, {q.DestinationCountry, l.Country}, {q.Destination, l.Name},
		{q.Type, l.RowType}, {q.Price, l.Price.String()}, {q.ConnectFee, l.Fee.String()}, {q.Deck, l.Deck}, {q.DeckVersion, l.Version},
	} {
		if pair[0] != "" && pair[0] != pair[1] {
			return false
		}
	}
	return true
}

// A LineDocument is an invoice line and a page of its calls.
type LineDocument struct {
	AsOf
	Line  LineOfMonth `json:"line"`
	Calls []LineCall  `json:"calls"` // by R7's order
	Next  *After      `json:"next"`  // where the next page begins; null: this is the last
}

// A LineCall is what one call adds to a line.
type LineCall struct {
	Ref
	At      string `json:"at"`
	User    string `json:"user"`
	Called  string `json:"called"`
	Billed  int64  `json:"billed_seconds"`
	Overage int64  `json:"overage_seconds"`
	Outside bool   `json:"outside,omitzero"`
	Exact   string `json:"exact"` // those of all calls add up to that of the line
}

// After is a call behind which a page begins.
type After struct {
	At string `json:"at"`
	Ref
}

// MaxPage is how many calls a page may have.
const MaxPage = 10_000

// Line is the one line that q picks, with the calls after one; nil: from the
// first. Where q picks none or several, the error says which there are.
func (v *View) Line(tenant string, month domain.Month, q LineQuery, after *domain.Share, limit int) (r LineReading, err error) {
	invoices := v.Ledger.Rating(tenant, month).Invoices
	var invoice *domain.Invoice
	var line *domain.InvoiceLine
	picked := 0
	var names []string
	for i := range invoices {
		for j := range invoices[i].Lines {
			if l := &invoices[i].Lines[j]; q.picks(&invoices[i], l) {
				invoice, line = &invoices[i], l
				if picked++; picked <= linesNamed {
					names = append(names, fmt.Sprintf("%s %s: %s %s %s at %s + %s, %s %s",
						invoice.Country, invoice.Plan, l.Country, l.Name, l.RowType, l.Price, l.Fee, l.Deck, l.Version))
				}
			}
		}
	}
	switch {
	case picked == 0:
		return r, fmt.Errorf("no line of %s is so; see 'tollbook invoice --tenant %s --month %s'", month, tenant, month)
	case picked > 1:
		more := ""
		if picked > linesNamed {
			more = fmt.Sprintf("; and %d more", picked-linesNamed)
		}
		return r, fmt.Errorf("%d lines are so, name one: %s%s", picked, strings.Join(names, "; "), more)
	}
	r.asOf, r.line = v.asOf(tenant, month), lineOfMonth(invoice.Country, invoice.Plan, *line)
	r.calls, r.more = v.Ledger.LineCalls(tenant, month, invoice.Country, invoice.Plan, line.Line, after, min(max(limit, 1), MaxPage))
	return r, nil
}

// A LineReading is a page of a line, to be put into words when the view is somebody
// else's again.
type LineReading struct {
	asOf  AsOf
	line  LineOfMonth
	calls []domain.Share
	more  bool
}

// Document is the page in words.
func (r *LineReading) Document() LineDocument {
	d := LineDocument{AsOf: r.asOf, Line: r.line, Calls: make([]LineCall, len(r.calls))}
	for i := range r.calls {
		d.Calls[i] = lineCall(&r.calls[i])
	}
	if r.more {
		last := &d.Calls[len(d.Calls)-1]
		d.Next = &After{last.At, last.Ref}
	}
	return d
}

// linesNamed is how many lines an error names.
const linesNamed = 5

// A GrantDocument says how licences make a pool's minutes (R5).
type GrantDocument struct {
	AsOf
	Country   string          `json:"country"`
	Plan      string          `json:"plan"`
	User      string          `json:"user,omitzero"`
	Grant     string          `json:"grant"` // the plan's rule
	From      string          `json:"from"`  // of the month
	To        string          `json:"to"`
	Licences  int64           `json:"licences"`
	Buckets   []GrantedBucket `json:"buckets"`
	Intervals []GrantInterval `json:"intervals"` // by user and time
	Next      int             `json:"next"`      // of the intervals, where the next page begins; 0: this is the last
}

// A GrantedBucket is what a bucket is granted.
type GrantedBucket struct {
	Name    string  `json:"name"`
	Granted int64   `json:"granted_seconds"`
	At      *string `json:"at"` // the instant whose licences make it; null: the rule knows none
}

// A GrantInterval is one licence within the month and what it adds.
type GrantInterval struct {
	User    string   `json:"user"`
	Country string   `json:"country"`
	From    string   `json:"from"`
	To      string   `json:"to"`
	By      Ref      `json:"by"`
	Minutes []int64  `json:"minutes"` // by bucket, of such a licence
	Seconds []string `json:"seconds"` // by bucket, that it adds; those of all add up to the grant, rounded down
}

// pool is the one pool of a plan that has the country and the user, if they are
// named.
func (v *View) pool(tenant string, month domain.Month, country, plan, user string) (string, string, error) {
	if v.Ledger.HasPool(tenant, month, domain.PoolKey{Country: country, Plan: plan, User: user}) {
		return country, user, nil
	}
	var one domain.PoolRating
	picked := 0
	for p := range v.Ledger.Pools(tenant, month) {
		if p.Plan == plan && (country == "" || p.Country == country) && (user == "" || p.User == user) {
			one = p
			picked++
		}
	}
	switch picked {
	case 0:
		return "", "", noPool(tenant, month)
	case 1:
		return one.Country, one.User, nil
	}
	return "", "", fmt.Errorf("%s has %d such pools, name one by its country, or user; see 'tollbook pools --tenant %s --month %s'", month, picked, tenant, month)
}

func noPool(tenant string, month domain.Month) error {
	return fmt.Errorf("%s has no such pool; see 'tollbook pools --tenant %s --month %s'", month, tenant, month)
}

// A GrantReading is the grant of a pool, to be explained when the view is somebody
// else's again.
type GrantReading struct {
	asOf  AsOf
	grant domain.GrantPassport
}

// Grant reads the grant of a pool. country and user may be left out where the plan
// has one pool.
func (v *View) Grant(tenant string, month domain.Month, country, plan, user string) (r GrantReading, err error) {
	if country, user, err = v.pool(tenant, month, country, plan, user); err != nil {
		return r, err
	}
	var ok bool
	if r.grant, ok = v.Ledger.ExplainGrant(tenant, month, country, plan, user); !ok {
		return r, noPool(tenant, month)
	}
	r.asOf = v.asOf(tenant, month)
	return r, nil
}

// Document explains the grant, with the intervals from a number on. It is called once.
func (r *GrantReading) Document(from, limit int) GrantDocument {
	g := &r.grant
	g.Share()
	d := GrantDocument{
		AsOf: r.asOf, Country: g.Country, Plan: g.Plan, User: g.User, Grant: g.Rule.String(),
		From: g.From.String(), To: g.To.String(), Licences: g.Licences, Intervals: []GrantInterval{},
	}
	for _, b := range g.Buckets {
		bucket := GrantedBucket{Name: b.Name, Granted: b.Seconds}
		if b.At != 0 {
			at := b.At.String()
			bucket.At = &at
		}
		d.Buckets = append(d.Buckets, bucket)
	}
	from = min(max(from, 0), len(g.Intervals))
	to := min(from+min(max(limit, 1), MaxPage), len(g.Intervals))
	for _, s := range g.Intervals[from:to] {
		i := GrantInterval{User: s.User, Country: s.Country, From: s.From.String(), To: s.To.String(), By: Ref(s.By), Minutes: s.Minutes}
		for _, seconds := range s.Seconds {
			i.Seconds = append(i.Seconds, seconds.RatString())
		}
		d.Intervals = append(d.Intervals, i)
	}
	if to < len(g.Intervals) {
		d.Next = to
	}
	return d
}

// View calls ask with the live months, by [View.Issued]: where the month no longer
// is what was issued, ask is not called, and the position is returned as of which
// it was. ask must not keep the view.
func (m *Months) View(tenant string, month domain.Month, ask func(*View) error) (issuedAt uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, issuedAt := View{Ledger: m.ledger, Head: m.head}.Issued(tenant, month)
	if v == nil {
		return issuedAt, nil
	}
	return 0, ask(v)
}
