package domain

import (
	"cmp"
	"math/big"
	"slices"
)

// Class is what R6 and R7 make of a call.
type Class string

// Classes.
const (
	ClassVoided     Class = "voided" // by a void, or of a correction that left nothing to say
	ClassFree       Class = "free"
	ClassUnlicensed Class = "unlicensed"
	ClassUnrated    Class = "unrated"
	ClassInPool     Class = "in_pool"
	ClassOverage    Class = "overage"
	ClassOutside    Class = "outside"
)

// A Passport says of one call what the events added so far make of it, and why.
// What does not apply to its class is nil.
type Passport struct {
	Ref     Ref   // of the call
	Call    *Call // as it stands; nil: voided
	Amended *Ref  // the correction or void that stands; nil: none
	At      Instant
	Month   Month
	Class   Class
	Rule    string // that decided the class, such as R6.4

	Licence *LicenceUsed // R3
	Plan    *Plan        // the version of the month (R1)
	Deck    *DeckUsed
	Rows    []RowMatch // the row that prices the number, then the shorter prefixes that lost

	Seconds   int64     // ⌈billable_ms ÷ 1000⌉
	Increment Increment // of the plan; outside every bucket, of the row
	Billed    int64     // seconds, by R2

	Pool *PoolUsed
	Cost *Cost
}

// A LicenceUsed is the interval of R3 that holds the call.
type LicenceUsed struct {
	Plan, Country string
	From, To      Instant // half-open; To is [Forever] while nothing ends it
	By            Ref     // the assignment
	EndedBy       *Ref    // nil: nothing has
}

// Forever is the end of a licence that nothing ended.
const Forever = forever

// A DeckUsed is the version in force at the call.
type DeckUsed struct {
	Deck, Version string
	From          Instant
	Currency      Currency
}

// A RowMatch is a row of a deck whose prefix a number has.
type RowMatch struct {
	Prefix    string
	Line      Line // what it says
	Increment Increment
}

// A PoolUsed is what a call drew of its pool (R7).
type PoolUsed struct {
	Country, Plan, User string
	Bucket              string
	Linked              bool
	Granted             int64 // seconds of the bucket
	Before, After       int64 // of them used
	Drawn, Over         int64 // of the call
	Ended               *Ref  // the call that had brought the pool, or the bucket, to its end before this one
	EmptyFromStart      bool  // a bucket it depends on is granted nothing
}

// A Cost is a call's share of its invoice line (R8).
type Cost struct {
	Seconds       int64 // overage
	Fee           bool  // the connect fee is in it
	Exact         *big.Rat
	Country, Plan string // of the invoice
	Line          InvoiceLine
	LineExact     *big.Rat // the line before it was rounded
}

// ExactCharge is R8 of a call or a line before any rounding, in units of the currency.
func ExactCharge(price, fee Micros, calls, seconds int64) *big.Rat {
	num := new(big.Int).Mul(big.NewInt(seconds), big.NewInt(int64(price)))
	num.Add(num, new(big.Int).Mul(big.NewInt(60*calls), big.NewInt(int64(fee))))
	return new(big.Rat).SetFrac(num, big.NewInt(60_000_000))
}

// Explain is the passport of the call that an event reported; said is the event's
// time and data its call, by which it is found. false: the ledger has no such call.
func (l *Ledger) Explain(tenant string, ref Ref, said Instant, data *Call) (Passport, bool) {
	a := l.accounts[tenant]
	if a == nil {
		return Passport{}, false
	}
	a.resolve()
	p := Passport{Ref: ref, Call: data}
	if am := a.amended[ref]; am != nil && am.found {
		p.Amended = &Ref{am.latest.source, am.latest.id}
		if p.Call = am.call; p.Call == nil {
			p.Class, p.Rule = ClassVoided, "the latest correction or void stands"
			p.At = data.At(said)
			p.Month = a.monthOf(p.At)
			return p, true
		}
		said = am.said
	}
	p.At = p.Call.At(said)
	p.Month = a.monthOf(p.At)
	m := a.months[p.Month]
	if m == nil {
		return p, false
	}
	m.refresh()
	index, ok := m.find(p.Call.User, ref)
	if !ok {
		return p, false
	}
	m.explain(&p, index)
	return p, true
}

// find is the standing call of a user with an identity.
func (m *month) find(user string, ref Ref) (uint32, bool) {
	u, known := m.account.users.index[user]
	if !known {
		return 0, false
	}
	index := uint32(0)
	for _, chunk := range m.calls.users.chunks {
		for _, user := range chunk {
			if user == u && m.calls.at(index).class() != gone && m.refOf(index) == ref {
				return index, true
			}
			index++
		}
	}
	return 0, false
}

func (m *month) explain(p *Passport, index uint32) {
	a, c := m.account, m.calls.at(index)
	p.Seconds = (c.billableMS() + 999) / 1000
	p.Billed = c.billed()
	p.Licence = a.licenceAt(m.calls.user(index), c.kind, c.at)
	if !c.has(flagCosts) {
		p.Class, p.Rule = ClassFree, "R6.1"
		p.Increment, p.Licence = DefaultIncrement, nil
		return
	}
	lic := m.licence(m.calls.user(index), c.kind, c.at)
	if lic == nil {
		p.Class, p.Rule, p.Increment = ClassUnlicensed, "R6.2", DefaultIncrement
		if c.class() == free {
			p.Class = ClassFree
		}
		return
	}
	plan := lic.pool.plan
	p.Plan, p.Increment = plan, plan.Increment
	if v := lic.tariff.at(c.at); v != nil {
		deck := v.deck
		p.Rows = deck.matches(c.called())
		p.Deck = &DeckUsed{Version: deck.version, From: deck.from, Currency: deck.currency, Deck: deck.name}
	}
	switch c.class() {
	case free:
		p.Class, p.Rule = ClassFree, "R6.4"
		if len(p.Rows) == 0 {
			p.Rule = "R6.3"
		}
	case unrated:
		p.Class, p.Rule = ClassUnrated, "R6.3"
	case outside:
		p.Class, p.Rule, p.Increment = ClassOutside, "R6.5", p.Rows[0].Increment
		m.cost(p, lic.pool, m.lines[c.line], p.Billed)
	case pooled:
		l := lic.pool.lanes[c.lane()]
		p.Pool = l.used(m, lic.pool, index)
		p.Class, p.Rule = ClassInPool, "R7"
		if p.Pool.Over > 0 {
			p.Class = ClassOverage
			m.cost(p, lic.pool, m.lines[c.line], p.Pool.Over)
		}
	}
}

// licenceAt is the interval that holds a call, whether it grants anything or not.
func (a *account) licenceAt(user uint32, kind uint16, at Instant) *LicenceUsed {
	history := &a.licences[user]
	ref := func(event int32) Ref { return Ref{history.events[event].source, history.events[event].id} }
	for _, held := range a.licencesOf(user)[a.family(kind)] {
		if held.from <= at && at < held.to {
			used := &LicenceUsed{Plan: held.plan, Country: held.country, From: held.from, To: held.to, By: ref(held.by)}
			if held.to != forever {
				by := ref(held.endedBy)
				used.EndedBy = &by
			}
			return used
		}
	}
	return nil
}

// used is what a call of the lane drew.
func (l *lane) used(m *month, p *pool, index uint32) *PoolUsed {
	c := m.calls.at(index)
	u := &PoolUsed{
		Country: p.key.country, Plan: p.key.plan, User: p.key.user, Linked: p.plan.Linked,
		Bucket: p.plan.Buckets[l.buckets[c.bucket()]].Name, Granted: l.granted[c.bucket()],
	}
	n := m.slot(p, c.at)
	if n > l.end { // after the end
		u.Before, u.After, u.Over = l.ending.used[c.bucket()], l.ending.used[c.bucket()], c.billed()
		if l.end == fromStart {
			u.EmptyFromStart = true
		} else {
			u.Ended = l.endedBy(m)
		}
		return u
	}
	used := l.usedBefore(n)
	u.Before = used[c.bucket()]
	var ended *Ref
	l.take(m, l.slotAt(n), used, func(i uint32, over int64) bool {
		if i == index {
			u.Over, u.Drawn = over, c.billed()-over
			u.After = u.Before + u.Drawn
			return false
		}
		u.Before = used[c.bucket()]
		if b := m.calls.at(i).bucket(); ended == nil && used[b] >= l.granted[b] {
			ref := m.refOf(i)
			ended = &ref
		}
		return true
	})
	u.Ended = ended
	return u
}

// endedBy is the call that brought the lane to its end.
func (l *lane) endedBy(m *month) (by *Ref) {
	used := l.usedBefore(l.end)
	l.take(m, l.slotAt(l.end), used, func(i uint32, _ int64) bool {
		if b := m.calls.at(i).bucket(); used[b] >= l.granted[b] {
			ref := m.refOf(i)
			by = &ref
		}
		return by == nil
	})
	return by
}

func (m *month) cost(p *Passport, pool *pool, line *Line, over int64) {
	sum := m.billed()[billedLine{pool.key.country, pool.key.plan, *line}]
	p.Cost = &Cost{
		Seconds: over, Fee: line.Fee > 0, Exact: ExactCharge(line.Price, line.Fee, 1, over),
		Country: pool.key.country, Plan: pool.key.plan,
		Line: InvoiceLine{
			Line: *line, Calls: sum.calls, Seconds: sum.seconds,
			Amount: Charge(line.Price, line.Fee, sum.calls, sum.seconds, line.Currency.Digits()),
		},
		LineExact: ExactCharge(line.Price, line.Fee, sum.calls, sum.seconds),
	}
}

// A Share is what one call adds to an invoice line.
type Share struct {
	At Instant
	Ref
	User    string
	Called  Number
	Billed  int64 // seconds
	Over    int64 // of them overage
	Outside bool
	Exact   *big.Rat
}

// before is R7's order.
func (s *Share) before(o *Share) int {
	return cmp.Or(cmp.Compare(s.At, o.At), cmp.Compare(s.Source, o.Source), cmp.Compare(s.ID, o.ID))
}

// LineCalls are the calls of one line of the month's invoices, by R7's order, at
// most limit of those after a call; nil: from the first on. more: there are others
// behind them. Their exact amounts add up to the line before it is rounded.
func (l *Ledger) LineCalls(tenant string, id Month, country, plan string, line Line, after *Share, limit int) (shares []Share, more bool) {
	a := l.accounts[tenant]
	if a == nil {
		return nil, false
	}
	a.resolve()
	m := a.months[id]
	if m == nil {
		return nil, false
	}
	m.refresh()
	trim := func(n int) {
		slices.SortFunc(shares, func(x, y Share) int { return x.before(&y) })
		if len(shares) > n {
			shares, more = shares[:n], true
		}
	}
	take := func(index uint32, over int64, outside bool) {
		c := m.calls.at(index)
		if *m.lines[c.line] != line || after != nil && c.at < after.At {
			return
		}
		s := Share{
			At: c.at, Ref: m.refOf(index), User: a.users.names[m.calls.user(index)], Called: c.called(), Billed: c.billed(), Over: over, Outside: outside,
		}
		if after != nil && s.before(after) <= 0 {
			return
		}
		// Twice what is wanted is kept, so that a long line takes no more memory than a page.
		if shares = append(shares, s); len(shares) >= 2*limit+64 {
			trim(limit)
		}
	}
	anyOutside := false
	for key, p := range m.pools {
		if key.country != country || key.plan != plan {
			continue
		}
		anyOutside = anyOutside || len(p.outside) > 0
		for _, lane := range p.lanes {
			lane.overages(m, func(index uint32, over int64) { take(index, over, false) })
		}
	}
	for i := range m.calls.n {
		if c := m.calls.at(i); anyOutside && c.class() == outside {
			if key := m.poolOf(i).key; key.country == country && key.plan == plan {
				take(i, c.billed(), true)
			}
		}
	}
	trim(limit)
	for i := range shares {
		shares[i].Exact = ExactCharge(line.Price, line.Fee, 1, shares[i].Over)
	}
	return shares, more
}
