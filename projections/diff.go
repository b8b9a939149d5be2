package projections

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
)

// A DiffDocument says what of a month is different between two positions of the
// book, and which events made it so. What is the same is left out. Of adjustments
// there are the lines; what made them is in the document of the month they adjust.
type DiffDocument struct {
	Tenant     string            `json:"tenant"`
	Month      string            `json:"month"`
	Before     StateOf           `json:"before"`
	After      StateOf           `json:"after"`
	Totals     []TotalChange     `json:"totals"`
	Lines      []LineChange      `json:"lines"`
	Pools      []PoolChange      `json:"pools"`
	Exceptions []ExceptionChange `json:"exceptions"`

	CallsChanged int64        `json:"calls_changed"` // all of them
	Moves        []CallMove   `json:"moves"`         // how many of them went from where to where
	Calls        []CallChange `json:"calls"`         // the first, by R7's order
	EventsFound  int64        `json:"events_found"`
	Events       []DiffEvent  `json:"events"` // the first of those that can touch the month, by position
}

// Adjusted are the months of which there are other adjustments.
func (d *DiffDocument) Adjusted() []string {
	var months []string
	for i := range d.Lines {
		if m := d.Lines[i].Adjusts; m != "" && !slices.Contains(months, m) {
			months = append(months, m)
		}
	}
	slices.Sort(months)
	return months
}

// StateOf is one of the two states. A closed month's at a later position than its
// own is what it is rated as then, with the adjustments it was issued with: those
// are earlier months', and change no more.
type StateOf struct {
	Status   string  `json:"status"`
	Number   *string `json:"number"`
	Position uint64  `json:"position"`
	Head     string  `json:"head"`
	SealedAt string  `json:"sealed_at"` // of the block that holds the position: when it was known
	Counts   Counts  `json:"counts"`
}

// TotalChange is an invoice; null: it was not there, or is no more.
type TotalChange struct {
	Country  string  `json:"country"`
	Plan     string  `json:"plan"`
	Currency string  `json:"currency"`
	Before   *string `json:"before"`
	After    *string `json:"after"`
}

// LineChange is a line, or with Adjusts an adjustment of an earlier month.
type LineChange struct {
	Country            string     `json:"country"`
	Plan               string     `json:"plan"`
	Currency           string     `json:"currency"`
	Adjusts            string     `json:"adjusts,omitzero"`
	Deck               string     `json:"deck"`
	DeckVersion        string     `json:"deck_version"`
	DestinationCountry string     `json:"destination_country"`
	Destination        string     `json:"destination"`
	Type               string     `json:"type"`
	Price              string     `json:"price"`
	ConnectFee         string     `json:"connect_fee"`
	Before             *LineState `json:"before"`
	After              *LineState `json:"after"`
}

// LineState is what a line comes to.
type LineState struct {
	Calls   int64  `json:"calls"`
	Seconds int64  `json:"seconds"`
	Amount  string `json:"amount"`
}

// PoolChange is a bucket of a pool.
type PoolChange struct {
	Country string     `json:"country"`
	Plan    string     `json:"plan"`
	User    string     `json:"user,omitzero"`
	Bucket  string     `json:"bucket"`
	Before  *PoolState `json:"before"`
	After   *PoolState `json:"after"`
}

// PoolState is what a bucket was granted and what drew on it, in seconds.
type PoolState struct {
	Licences int64 `json:"licences"`
	Granted  int64 `json:"granted_seconds"`
	Used     int64 `json:"used_seconds"`
	Overage  int64 `json:"overage_seconds"`
}

// ExceptionChange is the exceptions of one reason.
type ExceptionChange struct {
	Reason string          `json:"reason"`
	Before *ExceptionState `json:"before"`
	After  *ExceptionState `json:"after"`
}

// ExceptionState counts them.
type ExceptionState struct {
	Count   int64 `json:"count"`
	Seconds int64 `json:"seconds"`
}

// CallMove counts the calls of one class that are of another now, or of the same
// but divided otherwise; null: the month did not have them, or has them no longer.
type CallMove struct {
	Before *string `json:"before"`
	After  *string `json:"after"`
	Calls  int64   `json:"calls"`
}

// CallChange is a call that came, went, or is divided otherwise.
type CallChange struct {
	Ref
	Before *CallState `json:"before"` // null: it was not in the month
	After  *CallState `json:"after"`
	Why    string     `json:"why"`
	By     []uint64   `json:"by"` // positions, between the two, of the events about this very call
}

// Why a call changed.
const (
	WhyItself = "itself" // it came, or was corrected or voided
	WhyPool   = "pool"   // the pool's minutes, or the calls before it, did
	WhyTerms  = "terms"  // licences, plans, decks or the tenant's configuration did
)

// maxAbout is how many events about one call are named.
const maxAbout = 100

// CallState is how a call is placed and divided.
type CallState struct {
	At       string `json:"at"`
	User     string `json:"user"`
	Called   string `json:"called"`
	Class    string `json:"class"`
	Country  string `json:"country,omitzero"` // of its pool
	Plan     string `json:"plan,omitzero"`
	Bucket   string `json:"bucket,omitzero"`
	Billed   int64  `json:"billed_seconds"`
	Overage  int64  `json:"overage_seconds"`
	Exact    string `json:"exact"` // of the currency's unit; 0 where nothing is charged
	Currency string `json:"currency,omitzero"`
}

// DiffEvent is an event between the two positions.
type DiffEvent struct {
	Position uint64      `json:"position"`
	Type     domain.Type `json:"type"`
	Ref
	Tenant   string `json:"tenant"`
	SealedAt string `json:"sealed_at"` // of its block: when it was known
	About    string `json:"about"`     // one line
}

// DiffLimits are how many calls and events a document may list.
type DiffLimits struct{ Calls, Events int }

// Diff compares a month as of two positions. before 0 is where the month was
// closed, and an error for one that is not; after 0 is the end of the book. The
// book is read twice, so that what lies between is judged by what it came to;
// progress is told of the events read both times.
func Diff(ctx context.Context, walk eventstore.Walk, tenant string, month domain.Month, before, after uint64, limits DiffLimits, progress func(events uint64)) (DiffDocument, error) {
	if before != 0 && after != 0 && before > after {
		return DiffDocument{}, fmt.Errorf("position %d is after %d: name the earlier one first", before, after)
	}
	d := differ{ledger: domain.NewLedger(), tenant: tenant, month: month, before: before, after: after, amended: map[domain.Ref]bool{}}
	if after != 0 {
		walk.Until = after + 1 // it may say that the month was closed there
	}
	read := uint64(0)
	run := func(take func(b *block.Block, head eventstore.Head) error) error {
		already := read
		_, err := walk.Run(ctx, func(b *block.Block, head eventstore.Head, _ int) error {
			if read = already + head.Events; progress != nil {
				progress(read)
			}
			return take(b, head)
		})
		return err
	}
	if err := run(d.take); err != nil {
		return DiffDocument{}, err
	}
	doc, err := d.document(limits)
	if err != nil {
		return doc, err
	}
	walk.Until = d.head.Events
	err = run(func(b *block.Block, _ eventstore.Head) error {
		d.explain(&doc, b, limits)
		return nil
	})
	return doc, err
}

// A differ folds the book and remembers the month where the first position is.
type differ struct {
	ledger        *domain.Ledger
	tenant        string
	month         domain.Month
	before, after uint64

	head     eventstore.Head // of the last event taken
	sealed   domain.Instant  // its block
	issued   *domain.Rating  // as it was closed; nil: it was not
	was, now *state          // now: where the month was closed at the second position
	snapshot *domain.Snapshot
	amended  map[domain.Ref]bool // calls that were corrected or voided; true: they have changed

	// For the second reading:
	listed map[domain.Ref]*CallChange
	// The month's bounds have moved, or it has corrections without their calls (R10).
	// Then events about an amended call count though the call has not changed: those
	// that cancel each other are not to be told apart.
	entangled bool
}

// A state is the month as of a position.
type state struct {
	Statement
	sealed   domain.Instant
	from, to domain.Instant // the month's
}

func (d *differ) take(b *block.Block, head eventstore.Head) error {
	for i := range b.Events {
		e := &b.Events[i]
		position := b.First + uint64(i)
		if closed, ok := e.Data.(*domain.MonthClosed); ok && e.Tenant == d.tenant && closed.Month == d.month && d.issued == nil {
			if err := d.close(closed); err != nil {
				return err
			}
		}
		if d.after != 0 && position > d.after {
			return nil
		}
		if d.was == nil && d.before != 0 && position > d.before {
			d.remember(d.state(statement(d.rating(), d.head)))
		}
		if e.Tenant == d.tenant || e.Tenant == domain.CatalogTenant {
			d.ledger.Add(e)
		}
		if ref, ok := amends(e); ok && e.Tenant == d.tenant {
			d.amended[ref] = false
		}
		d.head, d.sealed = eventstore.Head{Block: head.Block, Hash: head.Hash, Events: position}, b.SealedAt
	}
	return nil
}

// close takes in where the month was closed, which may be one of the positions.
func (d *differ) close(closed *domain.MonthClosed) error {
	issue, err := issued(d.ledger, d.tenant, closed, d.head)
	if err != nil {
		return err
	}
	s := d.state(issue.Replayed)
	if d.was == nil && (d.before == 0 || d.before == d.head.Events) {
		d.before = d.head.Events
		d.remember(s)
	}
	if d.after == d.head.Events {
		d.now = s
	}
	r := d.ledger.Draft(d.tenant, d.month)
	d.issued = &r
	return nil
}

// rating is the month now. A closed one keeps the adjustments it was issued with.
func (d *differ) rating() domain.Rating {
	r := d.ledger.Draft(d.tenant, d.month)
	if d.issued == nil {
		return r
	}
	for _, from := range d.issued.Invoices {
		if len(from.Adjustments) == 0 {
			continue
		}
		i := slices.IndexFunc(r.Invoices, func(v domain.Invoice) bool {
			return v.Country == from.Country && v.Plan == from.Plan && v.Currency == from.Currency
		})
		if i < 0 {
			i = len(r.Invoices)
			r.Invoices = append(r.Invoices, domain.Invoice{
				Country: from.Country, Plan: from.Plan, Currency: from.Currency, Total: domain.Amount{Digits: from.Total.Digits},
			})
		}
		r.Invoices[i].Adjustments = from.Adjustments
		for _, a := range from.Adjustments {
			r.Invoices[i].Total.Add(a.Amount)
		}
	}
	return r
}

func (d *differ) state(s Statement) *state {
	from, to := d.ledger.Bounds(d.tenant, d.month)
	return &state{s, d.sealed, from, to}
}

func (d *differ) remember(s *state) {
	d.was, d.snapshot = s, d.ledger.Snapshot(d.tenant, d.month)
}

// document says what is different; what made it so is for the second reading.
func (d *differ) document(limits DiffLimits) (DiffDocument, error) {
	if max(d.before, d.after) > d.head.Events {
		return DiffDocument{}, fmt.Errorf("position %d is beyond the end of the book: it has %d events", max(d.before, d.after), d.head.Events)
	}
	if d.was == nil && d.before == 0 {
		return DiffDocument{}, fmt.Errorf("month %s of %s is not closed: name a position or a time to compare with, --at or --as-of", d.month, d.tenant)
	}
	if d.now == nil {
		d.now = d.state(statement(d.rating(), d.head))
	}
	if d.was == nil { // the first position is the end
		d.remember(d.now)
	}
	doc := DiffDocument{
		Tenant: d.tenant, Month: d.month.String(), Before: stateOf(d.was), After: stateOf(d.now),
		Totals: []TotalChange{}, Lines: []LineChange{}, Pools: []PoolChange{}, Exceptions: []ExceptionChange{},
		Moves: []CallMove{}, Calls: []CallChange{}, Events: []DiffEvent{},
	}
	doc.compare(&d.was.Statement, &d.now.Statement)
	changes := d.ledger.Since(d.snapshot, limits.Calls, d.amended)
	doc.CallsChanged = changes.All
	for _, move := range slices.SortedFunc(maps.Keys(changes.Moves), func(a, b domain.Move) int {
		return cmp.Or(cmp.Compare(a.Before, b.Before), cmp.Compare(a.After, b.After))
	}) {
		doc.Moves = append(doc.Moves, CallMove{nameOf(move.Before), nameOf(move.After), changes.Moves[move]})
	}
	for _, c := range changes.First {
		doc.Calls = append(doc.Calls, CallChange{Ref: Ref(c.Ref), Before: callState(c.Before), After: callState(c.After), Why: why(c), By: []uint64{}})
	}
	d.listed = map[domain.Ref]*CallChange{}
	for i := range doc.Calls {
		d.listed[domain.Ref(doc.Calls[i].Ref)] = &doc.Calls[i]
	}
	dangles := func(e Exception) bool { return e.Reason == domain.Dangling }
	d.entangled = d.was.from != d.now.from || d.was.to != d.now.to ||
		slices.ContainsFunc(d.was.Exceptions, dangles) || slices.ContainsFunc(d.now.Exceptions, dangles)
	return doc, nil
}

// explain adds the events of a block that lie between the positions and can touch the month.
func (d *differ) explain(doc *DiffDocument, b *block.Block, limits DiffLimits) {
	for i := range b.Events {
		e := &b.Events[i]
		position := b.First + uint64(i)
		if position <= d.before || position > d.head.Events {
			continue
		}
		if d.touches(e) {
			if doc.EventsFound++; len(doc.Events) < limits.Events {
				doc.Events = append(doc.Events, DiffEvent{position, e.Data.Type(), Ref{e.Source, e.ID}, e.Tenant, b.SealedAt.String(), about(e)})
			}
		}
		ref, ok := callOf(e)
		if c := d.listed[ref]; ok && c != nil && e.Tenant == d.tenant {
			if c.Why = WhyItself; len(c.By) < maxAbout {
				c.By = append(c.By, position)
			}
		}
	}
}

// within reports whether the month held an instant, or holds it.
func (d *differ) within(at domain.Instant) bool {
	return d.was.from <= at && at < d.was.to || d.now.from <= at && at < d.now.to
}

// touches reports whether an event can change the month.
func (d *differ) touches(e *domain.Event) bool {
	switch e.Data.(type) {
	case *domain.Plan, *domain.Deck:
		// Later ones too: the tenant's first takes the place of the catalogue's (R6.3), a
		// part that contradicts others undoes its version, a plan's first names its family.
		return e.Tenant == d.tenant || e.Tenant == domain.CatalogTenant
	}
	if e.Tenant != d.tenant {
		return false
	}
	end := max(d.was.to, d.now.to)
	switch data := e.Data.(type) {
	case *domain.Call:
		ref := domain.Ref{Source: e.Source, ID: e.ID}
		if changed, amended := d.amended[ref]; amended {
			return changed || d.entangled
		}
		return d.within(data.At(e.Time))
	case *domain.Correction, *domain.Void:
		ref, _ := amends(e)
		return d.amended[ref] || d.entangled
	case *domain.Assignment:
		return data.EffectiveAt < end
	case *domain.Removal:
		return data.EffectiveAt < end
	case *domain.TenantConfig: // where the month ends is as the next one's says
		return data.EffectiveFrom <= (d.month + 1).FirstDay()
	case *domain.MonthClosed: // one that it adjusts from then on
		return data.Month < d.month
	}
	return false
}

// amends is the call that an event corrects or voids.
func amends(e *domain.Event) (domain.Ref, bool) {
	switch data := e.Data.(type) {
	case *domain.Correction:
		return data.Ref, true
	case *domain.Void:
		return data.Ref, true
	}
	return domain.Ref{}, false
}

// about is an event in one line.
func about(e *domain.Event) string {
	switch data := e.Data.(type) {
	case *domain.Call:
		return fmt.Sprintf("%s called %s at %s", data.User, data.Called, data.At(e.Time))
	case *domain.Correction:
		return fmt.Sprintf("corrects %s %s: %s", data.Ref.Source, data.Ref.ID, data.Reason)
	case *domain.Void:
		return fmt.Sprintf("voids %s %s: %s", data.Ref.Source, data.Ref.ID, data.Reason)
	case *domain.Assignment:
		return fmt.Sprintf("%s has %s in %s from %s", data.User, data.Plan, data.Country, data.EffectiveAt)
	case *domain.Removal:
		return fmt.Sprintf("%s no longer has %s from %s", data.User, data.Plan, data.EffectiveAt)
	case *domain.Plan:
		return fmt.Sprintf("plan %s from %s", data.Plan, data.EffectiveFrom)
	case *domain.Deck:
		return fmt.Sprintf("deck %s %s from %s, part %d of %d", data.Deck, data.Version, data.EffectiveFrom, data.Part, data.Parts)
	case *domain.TenantConfig:
		return fmt.Sprintf("time zone %s, currency %s from %s", data.TimeZone, data.Currency, data.EffectiveFrom)
	case *domain.MonthClosed:
		return fmt.Sprintf("issued %s as %s", data.Month, data.Number)
	}
	return ""
}

// why a call changed, unless events are about itself.
func why(c domain.Change) string {
	b, a := c.Before, c.After
	if b == nil || a == nil || b.Bucket == "" || b.Country != a.Country || b.Plan != a.Plan || b.Pool != a.Pool || b.Bucket != a.Bucket || b.Billed != a.Billed ||
		b.Line != nil && a.Line != nil && *b.Line != *a.Line {
		return WhyTerms
	}
	return WhyPool
}

// nameOf is a class; nil: none.
func nameOf(c domain.Class) *string {
	if c == "" {
		return nil
	}
	s := string(c)
	return &s
}

func stateOf(s *state) StateOf {
	return StateOf{s.Status, s.Number, s.Position, s.Head, s.sealed.String(), s.Counts}
}

func callState(s *domain.Split) *CallState {
	if s == nil {
		return nil
	}
	state := &CallState{
		At: s.At.String(), User: s.User, Called: s.Called.String(), Class: string(s.Class), Country: s.Country, Plan: s.Plan,
		Bucket: s.Bucket, Billed: s.Billed, Overage: s.Over, Exact: "0",
	}
	if s.Line != nil {
		state.Exact, state.Currency = domain.ExactCharge(s.Line.Price, s.Line.Fee, 1, s.Over).RatString(), string(s.Line.Currency)
	}
	return state
}

// compare lists what two statements of a month have different.
func (d *DiffDocument) compare(was, now *Statement) {
	type invoice struct{ country, plan, currency string }
	totals := func(s *Statement) map[invoice]string {
		m := map[invoice]string{}
		for _, i := range s.Invoices {
			m[invoice{i.Country, i.Plan, i.Currency}] = i.Total
		}
		return m
	}
	changed(totals(was), totals(now), func(k invoice, before, after *string) {
		d.Totals = append(d.Totals, TotalChange{k.country, k.plan, k.currency, before, after})
	})
	slices.SortFunc(d.Totals, func(a, b TotalChange) int {
		return cmp.Or(cmp.Compare(a.Country, b.Country), cmp.Compare(a.Plan, b.Plan), cmp.Compare(a.Currency, b.Currency))
	})

	lines := func(s *Statement) map[LineChange]LineState {
		m := map[LineChange]LineState{}
		for _, i := range s.Invoices {
			add := func(adjusts string, l Line) {
				m[LineChange{
					Country: i.Country, Plan: i.Plan, Currency: i.Currency, Adjusts: adjusts, Deck: l.Deck, DeckVersion: l.DeckVersion,
					DestinationCountry: l.DestinationCountry, Destination: l.Destination, Type: l.Type, Price: l.Price, ConnectFee: l.ConnectFee,
				}] = LineState{l.Calls, l.Seconds, l.Amount}
			}
			for _, l := range i.Lines {
				add("", l)
			}
			for _, a := range i.Adjustments {
				add(a.Month, a.Line)
			}
		}
		return m
	}
	changed(lines(was), lines(now), func(k LineChange, before, after *LineState) {
		k.Before, k.After = before, after
		d.Lines = append(d.Lines, k)
	})
	slices.SortFunc(d.Lines, func(a, b LineChange) int {
		return cmp.Or(
			cmp.Compare(a.Country, b.Country), cmp.Compare(a.Plan, b.Plan), cmp.Compare(a.Currency, b.Currency), cmp.Compare(a.Adjusts, b.Adjusts),
			cmp.Compare(a.DestinationCountry, b.DestinationCountry), cmp.Compare(a.Destination, b.Destination), cmp.Compare(a.Type, b.Type),
			cmp.Compare(a.Deck, b.Deck), cmp.Compare(a.DeckVersion, b.DeckVersion), cmp.Compare(a.Price, b.Price), cmp.Compare(a.ConnectFee, b.ConnectFee))
	})

	pools := func(s *Statement) map[PoolChange]PoolState {
		m := map[PoolChange]PoolState{}
		for _, p := range s.Pools {
			for _, b := range p.Buckets {
				m[PoolChange{Country: p.Country, Plan: p.Plan, User: p.User, Bucket: b.Name}] = PoolState{p.Licences, b.Granted, b.Used, b.Overage}
			}
		}
		return m
	}
	changed(pools(was), pools(now), func(k PoolChange, before, after *PoolState) {
		k.Before, k.After = before, after
		d.Pools = append(d.Pools, k)
	})
	slices.SortFunc(d.Pools, func(a, b PoolChange) int {
		return cmp.Or(cmp.Compare(a.Country, b.Country), cmp.Compare(a.Plan, b.Plan), cmp.Compare(a.User, b.User), cmp.Compare(a.Bucket, b.Bucket))
	})

	exceptions := func(s *Statement) map[string]ExceptionState {
		m := map[string]ExceptionState{}
		for _, e := range s.Exceptions {
			m[e.Reason] = ExceptionState{e.Count, e.Seconds}
		}
		return m
	}
	changed(exceptions(was), exceptions(now), func(reason string, before, after *ExceptionState) {
		d.Exceptions = append(d.Exceptions, ExceptionChange{reason, before, after})
	})
	slices.SortFunc(d.Exceptions, func(a, b ExceptionChange) int { return cmp.Compare(a.Reason, b.Reason) })
}

// changed calls each with what two maps have different; nil: it has none.
func changed[K, V comparable](was, now map[K]V, each func(k K, before, after *V)) {
	for k, before := range was {
		if after, still := now[k]; !still {
			each(k, &before, nil)
		} else if before != after {
			each(k, &before, &after)
		}
	}
	for k, after := range now {
		if _, before := was[k]; !before {
			each(k, nil, &after)
		}
	}
}
