package domain

import (
	"cmp"
	"math"
	"slices"
)

// A MonthCall is a call of a month as it stands, and how it is placed and divided.
type MonthCall struct {
	At Instant
	Ref
	User       string
	Kind       string
	Called     Number
	BillableMS int64
	Amended    bool // it stands as a correction has it

	Class               Class
	Country, Plan, Pool string // of its pool; Pool is the user of a pool of one user
	Bucket              string // of a call in a bucket's class
	Line                *Line  // what the row of the deck says; nil: no row prices it
	Billed, Over        int64  // seconds
}

// MonthCalls reads the calls of a month by R7's order, in pieces: whoever shares
// the ledger with others need not keep it for as long as all of them take. It takes
// four bytes a call. It is of the events added when it was made, and must only be
// read while it holds.
type MonthCalls struct {
	tenant  string
	id      Month
	month   *month // nil: no calls
	changes uint64

	width  Instant // of a piece of time
	pieces []callPiece
	filed  uint32 // so many calls are in pieces
}

// A callPiece is the calls of a piece of time.
type callPiece struct {
	calls  []uint32
	sorted bool
}

// callsOfPiece is how many calls a piece has on average: sorting them takes about
// a millisecond.
const callsOfPiece = 4096

// MonthCalls begins to read a month.
func (l *Ledger) MonthCalls(tenant string, id Month) *MonthCalls {
	r := &MonthCalls{tenant: tenant, id: id}
	if r.month = l.monthNow(tenant, id); r.month != nil {
		r.changes = r.month.changes
		n := Instant(r.month.calls.n/callsOfPiece + 1)
		r.width = (r.month.end-r.month.start)/n + 1
		r.pieces = make([]callPiece, n)
	}
	return r
}

// monthNow is a month up to date; nil: it has no calls.
func (l *Ledger) monthNow(tenant string, id Month) *month {
	a := l.accounts[tenant]
	if a == nil {
		return nil
	}
	a.resolve()
	m := a.months[id]
	if m != nil {
		m.refresh()
	}
	return m
}

// Holds reports whether nothing of the month has been made anew since.
func (r *MonthCalls) Holds(l *Ledger) bool {
	m := l.monthNow(r.tenant, r.id)
	return m == r.month && (m == nil || m.changes == r.changes)
}

// File files at most n more of the calls by time; true: all are. Until then
// nothing can be read.
func (r *MonthCalls) File(n uint32) bool {
	m := r.month
	if m == nil {
		return true
	}
	to := min(m.calls.n-r.filed, n) + r.filed
	for ; r.filed < to; r.filed++ {
		if c := m.calls.at(r.filed); c.class() != gone {
			p := &r.pieces[(c.at-m.start)/r.width]
			p.calls = append(p.calls, r.filed)
		}
	}
	return r.filed == m.calls.n
}

// After are the calls after one, by R7's order, at most limit; nil: from the first
// on. more: there are others behind them.
func (r *MonthCalls) After(after *MonthCall, limit int) (calls []MonthCall, more bool) {
	m := r.month
	if m == nil {
		return nil, false
	}
	first := 0
	if after != nil {
		first = int(min(max(after.At-m.start, 0)/r.width, Instant(len(r.pieces))))
	}
	for i := first; i < len(r.pieces); i++ {
		p := &r.pieces[i]
		if !p.sorted {
			slices.SortFunc(p.calls, m.order)
			p.sorted = true
		}
		from := 0
		if i == first && after != nil {
			from, _ = slices.BinarySearchFunc(p.calls, after, func(index uint32, after *MonthCall) int {
				ref := m.refOf(index)
				by := cmp.Or(cmp.Compare(m.calls.at(index).at, after.At), cmp.Compare(ref.Source, after.Source), cmp.Compare(ref.ID, after.ID))
				return cmp.Or(by, -1) // the call itself is before what comes after it
			})
		}
		for _, index := range p.calls[from:] {
			if len(calls) == limit {
				return calls, true
			}
			calls = append(calls, m.monthCall(index))
		}
	}
	return calls, false
}

// monthCall is a call of a month that is up to date.
func (m *month) monthCall(index uint32) MonthCall {
	a, c := m.account, m.calls.at(index)
	call := MonthCall{
		At: c.at, Ref: m.refOf(index), User: a.users.names[m.calls.user(index)], Called: c.called(), BillableMS: c.billableMS(),
		Amended: c.has(flagAmended), Billed: c.billed(),
	}
	if c.kind != math.MaxUint16 { // that one has no name
		call.Kind = a.kinds.names[c.kind]
	}
	var p *pool
	switch c.class() {
	case free:
		call.Class = ClassFree
	case unlicensed:
		call.Class = ClassUnlicensed
	case unrated:
		call.Class = ClassUnrated
	case outside:
		p = m.poolOf(index)
		call.Class, call.Over = ClassOutside, c.billed()
	case pooled:
		p = m.poolOf(index)
		l := p.lanes[c.lane()]
		call.Class, call.Bucket = ClassInPool, p.plan.Buckets[l.buckets[c.bucket()]].Name
		if call.Over = l.overageOf(m, p, index); call.Over > 0 {
			call.Class = ClassOverage
		}
	}
	if p != nil {
		call.Country, call.Plan, call.Pool, call.Line = p.key.country, p.key.plan, p.key.user, m.lines[c.line]
	}
	return call
}
