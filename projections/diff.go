package projections

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
)

// A DiffDocument says what of a month is different between two positions of the
// book, and which events made it so. What is the same is left out.
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
	Calls        []CallChange `json:"calls"`         // the first, by R7's order
	EventsFound  int64        `json:"events_found"`
	Events       []DiffEvent  `json:"events"` // the first of those that can touch the month, by position
}

// StateOf is one of the two states.
type StateOf struct {
	Status   string  `json:"status"`
	Number   *string `json:"number"`
	Position uint64  `json:"position"`
	Head     string  `json:"head"`
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

// CallChange is a call that came, went, or is divided otherwise.
type CallChange struct {
	Ref
	Before *CallState `json:"before"` // null: it was not in the month
	After  *CallState `json:"after"`
	// The last event between the two positions that is about this very call; null:
	// it was moved by others.
	By *uint64 `json:"by"`
}

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
// closed, and an error for one that is not; after 0 is the end of the book.
func Diff(ctx context.Context, walk eventstore.Walk, tenant string, month domain.Month, before, after uint64, limits DiffLimits, progress func(events uint64)) (DiffDocument, error) {
	d := differ{ledger: domain.NewLedger(), tenant: tenant, month: month, before: before, after: after, limits: limits, about: map[domain.Ref]uint64{}}
	if before != 0 && after != 0 && before > after {
		return DiffDocument{}, fmt.Errorf("position %d is after %d: name the earlier one first", before, after)
	}
	if after != 0 {
		walk.Until = after + 1 // it may say that the month was closed there
	}
	_, err := walk.Run(ctx, func(b *block.Block, head eventstore.Head, _ int) error {
		if progress != nil {
			progress(head.Events)
		}
		return d.take(b, head)
	})
	if err != nil {
		return DiffDocument{}, err
	}
	return d.document()
}

// A differ folds the book and remembers the month where the first position is.
type differ struct {
	ledger        *domain.Ledger
	tenant        string
	month         domain.Month
	before, after uint64
	limits        DiffLimits

	head     eventstore.Head // of the last event taken
	was      *Statement
	snapshot *domain.Snapshot
	now      *Statement            // where the month was closed at the second position
	about    map[domain.Ref]uint64 // events between the positions by the call they are about
	events   []notedEvent
	calls    int // of events
	uncalled int64
}

// A notedEvent is one that can touch the month; an amendment of another month's
// call does if it was this month's before.
type notedEvent struct {
	DiffEvent
	amends *domain.Ref
}

func (d *differ) take(b *block.Block, head eventstore.Head) error {
	for i := range b.Events {
		e := &b.Events[i]
		position := b.First + uint64(i)
		if closed, ok := e.Data.(*domain.MonthClosed); ok && e.Tenant == d.tenant && closed.Month == d.month {
			issue, err := issued(d.ledger, d.tenant, closed, d.head)
			if err != nil {
				return err
			}
			switch {
			case d.was == nil && (d.before == 0 || d.before == d.head.Events):
				d.before, d.was, d.snapshot = d.head.Events, &issue.Replayed, d.ledger.Snapshot(d.tenant, d.month)
			case d.after == d.head.Events:
				d.now = &issue.Replayed
			}
		}
		if d.after != 0 && position > d.after {
			return nil
		}
		if d.was == nil && d.before != 0 && position > d.before {
			d.remember()
		}
		if e.Tenant == d.tenant || e.Tenant == domain.CatalogTenant {
			d.ledger.Add(e)
			if d.was != nil {
				d.note(position, e, b.SealedAt)
			}
		}
		d.head = eventstore.Head{Block: head.Block, Hash: head.Hash, Events: position}
	}
	return nil
}

func (d *differ) remember() {
	s := statement(d.ledger.Draft(d.tenant, d.month), d.head)
	d.was, d.snapshot = &s, d.ledger.Snapshot(d.tenant, d.month)
}

// note keeps an event if it can touch the month.
func (d *differ) note(position uint64, e *domain.Event, sealed domain.Instant) {
	from, to := d.ledger.Bounds(d.tenant, d.month)
	within := func(c *domain.Call) bool {
		at := c.At(e.Time)
		return from <= at && at < to
	}
	ref := domain.Ref{Source: e.Source, ID: e.ID}
	about, touches := "", false
	var amends *domain.Ref
	switch data := e.Data.(type) {
	case *domain.Call:
		d.about[ref] = position
		touches = within(data)
		about = fmt.Sprintf("call of %s to %s, %s", data.User, data.Called, data.At(e.Time))
	case *domain.Correction:
		d.about[data.Ref] = position
		touches = true
		if !within(&data.Call) {
			amends = &data.Ref
		}
		about = fmt.Sprintf("corrects %s %s: %s", data.Ref.Source, data.Ref.ID, data.Reason)
	case *domain.Void:
		d.about[data.Ref] = position
		touches, amends = true, &data.Ref
		about = fmt.Sprintf("voids %s %s: %s", data.Ref.Source, data.Ref.ID, data.Reason)
	case *domain.Assignment:
		touches = data.EffectiveAt < to
		about = fmt.Sprintf("%s has %s in %s from %s", data.User, data.Plan, data.Country, data.EffectiveAt)
	case *domain.Removal:
		touches = data.EffectiveAt < to
		about = fmt.Sprintf("%s has %s no longer from %s", data.User, data.Plan, data.EffectiveAt)
	case *domain.Plan:
		touches = data.EffectiveFrom <= d.month.FirstDay()
		about = fmt.Sprintf("plan %s from %s", data.Plan, data.EffectiveFrom)
	case *domain.Deck:
		touches = data.EffectiveFrom < to
		about = fmt.Sprintf("deck %s %s from %s, part %d of %d", data.Deck, data.Version, data.EffectiveFrom, data.Part, data.Parts)
	case *domain.TenantConfig:
		touches = data.EffectiveFrom <= (d.month + 1).FirstDay()
		about = fmt.Sprintf("time zone %s, decks and currency from %s", data.TimeZone, data.EffectiveFrom)
	case *domain.MonthClosed:
		touches = data.Month <= d.month
		about = fmt.Sprintf("%s was issued as %s", data.Month, data.Number)
	}
	if !touches {
		return
	}
	if e.Data.Type() == domain.TypeCall { // of which there may be millions
		if d.calls == d.limits.Events {
			d.uncalled++
			return
		}
		d.calls++
	}
	d.events = append(d.events, notedEvent{DiffEvent{position, e.Data.Type(), Ref(ref), e.Tenant, sealed.String(), about}, amends})
}

func (d *differ) document() (DiffDocument, error) {
	if max(d.before, d.after) > d.head.Events {
		return DiffDocument{}, fmt.Errorf("position %d is beyond the end of the book: it has %d events", max(d.before, d.after), d.head.Events)
	}
	if d.was == nil {
		if d.before == 0 {
			return DiffDocument{}, fmt.Errorf("month %s of %s is not closed: name the position to compare with, --at POSITION", d.month, d.tenant)
		}
		d.remember() // the first position is the end
	}
	now := d.now
	if now == nil {
		s := statement(d.ledger.Draft(d.tenant, d.month), d.head)
		now = &s
	}
	doc := DiffDocument{
		Tenant: d.tenant, Month: d.month.String(), Before: stateOf(d.was), After: stateOf(now),
		Totals: []TotalChange{}, Lines: []LineChange{}, Pools: []PoolChange{}, Exceptions: []ExceptionChange{}, Calls: []CallChange{},
		EventsFound: d.uncalled, Events: []DiffEvent{},
	}
	doc.compare(d.was, now)
	changes := d.ledger.Since(d.snapshot)
	changed := make(map[domain.Ref]bool, len(changes))
	for i := range changes {
		changed[changes[i].Ref] = true
	}
	for _, e := range d.events {
		if e.amends != nil && !changed[*e.amends] {
			continue
		}
		if doc.EventsFound++; len(doc.Events) < d.limits.Events {
			doc.Events = append(doc.Events, e.DiffEvent)
		}
	}
	doc.CallsChanged = int64(len(changes))
	for _, c := range changes[:min(len(changes), d.limits.Calls)] {
		change := CallChange{Ref: Ref(c.Ref), Before: callState(c.Before), After: callState(c.After)}
		if by, own := d.about[c.Ref]; own {
			change.By = &by
		}
		doc.Calls = append(doc.Calls, change)
	}
	return doc, nil
}

func stateOf(s *Statement) StateOf { return StateOf{s.Status, s.Number, s.Position, s.Head, s.Counts} }

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
