package domain

import (
	"cmp"
	"slices"
)

// A Split is how one call of a month is placed and divided.
type Split struct {
	At                  Instant
	User                string
	Called              Number
	Class               Class
	Country, Plan, Pool string // of its pool; Pool is the user of a pool of one user
	Bucket              string // of a call in a bucket's class
	Line                *Line  // of overage and outside calls
	Billed, Over        int64  // seconds
}

// A Change is a call whose split differs between two positions of the book.
type Change struct {
	Ref           Ref
	Before, After *Split // nil: the month did not have the call, or has it no longer
}

// A Snapshot remembers how the calls of a month are split, so that what changes
// later can be named. It takes 40 bytes a call.
type Snapshot struct {
	tenant string
	id     Month
	month  *month
	calls  []splitCall
}

// splitCall is a call of the month by its index: what may change of it.
type splitCall struct {
	pool         *pool
	line         *Line
	billed, over int32
	bucket       uint8 // of the plan
	class        class
}

// Snapshot is of the month as of the events added so far.
func (l *Ledger) Snapshot(tenant string, id Month) *Snapshot {
	s := &Snapshot{tenant: tenant, id: id}
	if a := l.accounts[tenant]; a != nil {
		a.resolve()
		if s.month = a.months[id]; s.month != nil {
			s.month.refresh()
			s.calls = s.month.splits()
		}
	}
	return s
}

// splits are how the calls are split, by index.
func (m *month) splits() []splitCall {
	calls := make([]splitCall, m.calls.n)
	for i := range m.calls.n {
		c, s := m.calls.at(i), &calls[i]
		s.class, s.billed = c.class(), int32(c.billed())
		if s.class == pooled || s.class == outside {
			s.pool, s.line = m.poolOf(i), m.lines[c.line]
		}
		switch s.class {
		case outside:
			s.over = s.billed
		case pooled:
			s.bucket = uint8(s.pool.lanes[c.lane()].buckets[c.bucket()])
		}
	}
	for _, p := range m.pools {
		for _, l := range p.lanes {
			l.overages(m, func(index uint32, over int64) { calls[index].over = int32(over) })
		}
	}
	return calls
}

func (s *splitCall) split(m *month, index int) *Split {
	c := m.calls.at(uint32(index))
	out := &Split{
		At: c.at, User: m.account.users.names[m.calls.user(uint32(index))], Called: c.called(), Billed: int64(s.billed), Over: int64(s.over),
	}
	switch s.class {
	case free:
		out.Class = ClassFree
	case unlicensed:
		out.Class = ClassUnlicensed
	case unrated:
		out.Class = ClassUnrated
	case outside:
		out.Class, out.Line = ClassOutside, s.line
	case pooled:
		out.Class, out.Bucket = ClassInPool, s.pool.plan.Buckets[s.bucket].Name
		if s.over > 0 {
			out.Class, out.Line = ClassOverage, s.line
		}
	}
	if s.pool != nil {
		out.Country, out.Plan, out.Pool = s.pool.key.country, s.pool.key.plan, s.pool.key.user
	}
	return out
}

// same reports whether a call is split in the same way, whatever was built anew meanwhile.
func (s *splitCall) same(o *splitCall) bool {
	if s.class != o.class || s.billed != o.billed || s.over != o.over || (s.pool == nil) != (o.pool == nil) {
		return false
	}
	if s.pool == nil {
		return true
	}
	if s.pool.key != o.pool.key || s.class == pooled && s.pool.plan.Buckets[s.bucket].Name != o.pool.plan.Buckets[o.bucket].Name {
		return false
	}
	return s.over == 0 || *s.line == *o.line
}

// Since are the calls of the month that are split otherwise than they were at a
// snapshot of this ledger, by R7's order.
func (l *Ledger) Since(s *Snapshot) []Change {
	now := l.Snapshot(s.tenant, s.id)
	type call struct {
		m     *month
		index int
		split *splitCall
	}
	was, is := map[Ref]call{}, map[Ref]call{}
	add := func(to map[Ref]call, s *Snapshot, i int) {
		if s.calls[i].class != gone {
			to[s.month.refOf(uint32(i))] = call{s.month, i, &s.calls[i]}
		}
	}
	from := 0
	if s.month == now.month { // calls are where they were
		from = len(s.calls)
		for i := range s.calls {
			if !s.calls[i].same(&now.calls[i]) {
				add(was, s, i)
				add(is, now, i)
			}
		}
	} else {
		for i := range s.calls {
			add(was, s, i)
		}
	}
	for i := from; i < len(now.calls); i++ {
		add(is, now, i)
	}
	var changes []Change
	for ref, before := range was {
		c := Change{Ref: ref, Before: before.split.split(before.m, before.index)}
		if after, still := is[ref]; still {
			delete(is, ref)
			c.After = after.split.split(after.m, after.index)
			if before.split.same(after.split) && c.Before.At == c.After.At && c.Before.User == c.After.User && c.Before.Called == c.After.Called {
				continue
			}
		}
		changes = append(changes, c)
	}
	for ref, after := range is {
		changes = append(changes, Change{Ref: ref, After: after.split.split(after.m, after.index)})
	}
	at := func(c *Change) Instant {
		if c.After != nil {
			return c.After.At
		}
		return c.Before.At
	}
	slices.SortFunc(changes, func(x, y Change) int {
		return cmp.Or(cmp.Compare(at(&x), at(&y)), cmp.Compare(x.Ref.Source, y.Ref.Source), cmp.Compare(x.Ref.ID, y.Ref.ID))
	})
	return changes
}

// Unchanged reports whether nothing of a closed month has been made anew since it
// was closed, so that what it is now is what it was then.
func (l *Ledger) Unchanged(tenant string, id Month) bool {
	a := l.accounts[tenant]
	if a == nil {
		return false
	}
	a.resolve()
	m := a.months[id]
	was, closed := a.closedAt[id]
	if m == nil || !closed {
		return false
	}
	m.refresh()
	return was.month == m && was.changes == m.changes
}
