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
	p, m, index, ok := l.stands(tenant, ref, said, data)
	if ok && m != nil {
		m.explain(&p, index)
	}
	return p, ok
}

// CallOf is the call that an event reported as its month has it, found as by
// Explain; false: it was voided, or the ledger has no such call.
func (l *Ledger) CallOf(tenant string, ref Ref, said Instant, data *Call) (MonthCall, bool) {
	_, m, index, ok := l.stands(tenant, ref, said, data)
	if !ok || m == nil {
		return MonthCall{}, false
	}
	return m.monthCall(index), true
}

// stands finds what stands of the call that an event reported: where it is in a
// month; or, of a call that was voided, in none.
func (l *Ledger) stands(tenant string, ref Ref, said Instant, data *Call) (p Passport, m *month, index uint32, ok bool) {
	a := l.accounts[tenant]
	if a == nil {
		return p, nil, 0, false
	}
	a.resolve()
	p = Passport{Ref: ref, Call: data}
	if am := a.amended[ref]; am != nil && am.found {
		p.Amended = &Ref{am.latest.source, am.latest.id}
		if p.Call = am.call; p.Call == nil {
			p.Class, p.Rule = ClassVoided, "the latest correction or void stands"
			p.At = data.At(said)
			p.Month = a.monthOf(p.At)
			return p, nil, 0, true
		}
		said = am.said
	}
	p.At = p.Call.At(said)
	p.Month = a.monthOf(p.At)
	if m = a.months[p.Month]; m == nil {
		return p, nil, 0, false
	}
	m.refresh()
	index, ok = m.find(p.Call, ref, p.At)
	return p, m, index, ok
}

// find is the standing call with an identity, made at an instant. It looks where
// what draws on a pool is; where all that doesn't, at the calls of the user.
func (m *month) find(data *Call, ref Ref, at Instant) (uint32, bool) {
	a := m.account
	user, known := a.users.index[data.User]
	if !known {
		return 0, false
	}
	is := func(index uint32) bool {
		c := m.calls.at(index)
		return c.at == at && m.calls.user(index) == user && c.class() != gone && m.refOf(index) == ref
	}
	if kind, known := a.kinds.index[data.Kind]; known && kind < manyKinds {
		if lic := m.licence(user, uint16(kind), at); lic != nil {
			n := m.slot(lic.pool, at)
			for _, l := range lic.pool.lanes {
				if index, found := findIn(l.slots, n, is); found {
					return index, true
				}
			}
			if index, found := findIn(lic.pool.beyond, n, is); found {
				return index, true
			}
		}
	}
	index := uint32(0)
	for _, chunk := range m.calls.users.chunks {
		for _, u := range chunk {
			if u == user && is(index) {
				return index, true
			}
			index++
		}
	}
	return 0, false
}

// findIn is the call of a slot that is the one wanted.
func findIn(slots []slot, n int32, is func(uint32) bool) (uint32, bool) {
	if i, found := findSlot(slots, n); found {
		calls := slots[i].calls
		if i := slices.IndexFunc(calls, is); i >= 0 {
			return calls[i], true
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
	var pools []*pool
	for key, p := range m.pools {
		if key.country == country && key.plan == plan {
			pools = append(pools, p)
		}
	}
	calls, more := m.charged(pools, charged{line: &line, outside: true, after: after, limit: limit})
	for _, o := range calls {
		c := m.calls.at(o.index)
		shares = append(shares, Share{
			At: c.at, Ref: m.refOf(o.index), User: a.users.names[m.calls.user(o.index)], Called: c.called(), Billed: c.billed(),
			Over: o.seconds, Outside: c.class() == outside, Exact: ExactCharge(line.Price, line.Fee, 1, o.seconds),
		})
	}
	return shares, more
}
