package domain

import (
	"maps"
	"slices"
)

// A PoolKey names a pool of a month. Country is "" of a plan with one pool for all
// countries, User of all but pools of one user.
type PoolKey struct{ Country, Plan, User string }

func (k PoolKey) key() poolKey { return poolKey{k.Country, k.Plan, k.User} }

// A PoolCurve is a pool, and how calls drew on it over its month.
type PoolCurve struct {
	PoolRating
	Linked         bool
	From, To       Instant // the month, [From, To)
	Slots          []CurveSlot
	OutsideCalls   int64 // priced by the pool's licences, but in no bucket (R6.5)
	OutsideSeconds int64
	Held           []HeldStep // how many licences are held, from the month's first instant on
}

// A CurveSlot is a slot in which calls drew on a pool. Over all slots the seconds
// add up to what the pool's [BucketRating] says.
type CurveSlot struct {
	CourseSlot
	Over []int64 // of the billed seconds, by bucket
}

// A HeldStep is from when on so many licences of a pool are held.
type HeldStep struct {
	From     Instant
	Licences int64
}

// held are the steps of how many licences are held over the month.
func (p *pool) held(m *month) []HeldStep {
	changes := map[Instant]int64{m.start: 0}
	for _, list := range p.holders {
		for _, h := range list {
			changes[h.from]++
			if h.to < m.end {
				changes[h.to]--
			}
		}
	}
	steps := make([]HeldStep, 0, len(changes))
	held := int64(0)
	for _, at := range slices.Sorted(maps.Keys(changes)) {
		if held += changes[at]; len(steps) == 0 || changes[at] != 0 {
			steps = append(steps, HeldStep{at, held})
		}
	}
	return steps
}

// PoolCurve is a pool as of the events added so far; false: the month has no such
// pool. It costs as much as the month has slots and the pool licences, not calls.
func (l *Ledger) PoolCurve(tenant string, id Month, key PoolKey) (PoolCurve, bool) {
	m, p := l.poolNow(tenant, id, key)
	if p == nil {
		return PoolCurve{}, false
	}
	c := PoolCurve{PoolRating: p.rating(m), Linked: p.plan.Linked, From: m.start, To: m.end, Held: p.held(m)}
	for _, s := range l.Course(tenant, id, key.Country, key.Plan, key.User) {
		c.Slots = append(c.Slots, CurveSlot{s, make([]int64, len(p.plan.Buckets))})
	}
	for _, lane := range p.lanes {
		i := 0
		for j := range lane.slots {
			s := &lane.slots[j]
			if s.n < lane.end {
				continue
			}
			for m.slot(p, c.Slots[i].From) < s.n {
				i++
			}
			over := s.seconds
			if s.n == lane.end {
				over = lane.ending.overBy
			}
			for b, bucket := range lane.buckets {
				c.Slots[i].Over[bucket] = over[b]
			}
		}
	}
	for _, sum := range p.outside {
		c.OutsideCalls += sum.calls
		c.OutsideSeconds += sum.seconds
	}
	return c, true
}

// poolNow is a pool of a month up to date, be there calls in the month or not; nil:
// there is no such pool.
func (l *Ledger) poolNow(tenant string, id Month, key PoolKey) (*month, *pool) {
	m := l.monthNow(tenant, id)
	if m == nil {
		a := l.accounts[tenant]
		if a == nil {
			return nil, nil
		}
		m = a.newMonth(id)
		m.refresh()
	}
	return m, m.pools[key.key()]
}

// HasPool reports whether a month has a pool.
func (l *Ledger) HasPool(tenant string, id Month, key PoolKey) bool {
	_, p := l.poolNow(tenant, id, key)
	return p != nil
}

// Overflow are the calls of a pool with overage, by R7's order, at most limit of
// those after one; nil: from the first on. more: there are others behind them. It
// costs as much as the slots that the page is of. The division of a call does not
// depend on what comes after it, so that pages may be read while such calls come.
func (l *Ledger) Overflow(tenant string, id Month, key PoolKey, after *Share, limit int) (calls []MonthCall, more bool) {
	m, p := l.poolNow(tenant, id, key)
	if p == nil {
		return nil, false
	}
	over, more := m.charged([]*pool{p}, charged{after: after, limit: limit})
	for _, o := range over {
		calls = append(calls, m.monthCall(o.index))
	}
	return calls, more
}

// charged is which calls that cost something are wanted.
type charged struct {
	line    *Line // nil: any
	outside bool  // those outside the buckets too
	after   *Share
	limit   int
}

// charged are calls of some pools of one plan that cost something, by R7's order. It
// looks at the slots that hold them, in their order, until it has enough.
func (m *month) charged(pools []*pool, q charged) (calls []overage, more bool) {
	numbers := map[int32]struct{}{}
	for _, p := range pools {
		from := fromStart
		if q.after != nil {
			from = m.slot(p, q.after.At)
		}
		for _, l := range p.lanes {
			first, _ := findSlot(l.slots, max(l.end, from))
			for i := range l.slots[first:] {
				numbers[l.slots[first+i].n] = struct{}{}
			}
		}
		if q.outside {
			first, _ := findSlot(p.beyond, from)
			for i := range p.beyond[first:] {
				numbers[p.beyond[first+i].n] = struct{}{}
			}
		}
	}
	lines := linesLike{m: m, line: q.line}
	for _, n := range slices.Sorted(maps.Keys(numbers)) {
		first := topOf[overage]{n: q.limit + 1 - len(calls), order: func(a, b *overage) int { return m.order(a.index, b.index) }}
		take := func(index uint32, seconds int64) {
			if lines.has(m.calls.at(index).line) && (q.after == nil || m.calls.compareTo(m.account.sources.names, index, q.after) > 0) {
				first.add(overage{index, seconds})
			}
		}
		for _, p := range pools {
			for _, l := range p.lanes {
				if i, found := findSlot(l.slots, n); found {
					l.overIn(m, &l.slots[i], take)
				}
			}
			if i, found := findSlot(p.beyond, n); q.outside && found {
				for _, index := range p.beyond[i].calls {
					take(index, m.calls.at(index).billed())
				}
			}
		}
		if calls = append(calls, first.sorted()...); len(calls) > q.limit {
			return calls[:q.limit], true
		}
	}
	return calls, false
}

// linesLike finds the lines of a month that say the same as one.
type linesLike struct {
	m    *month
	line *Line  // nil: all do
	are  []int8 // by line: 0 not known yet, 1 it does, -1 it does not
}

func (l *linesLike) has(line uint32) bool {
	if l.line == nil {
		return true
	}
	if l.are == nil {
		l.are = make([]int8, len(l.m.lines))
	}
	if l.are[line] == 0 {
		l.are[line] = -1
		if *l.m.lines[line] == *l.line {
			l.are[line] = 1
		}
	}
	return l.are[line] > 0
}
