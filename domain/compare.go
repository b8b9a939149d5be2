package domain

import (
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

// Changes are the calls of a month whose splits differ between two positions.
type Changes struct {
	All   int64
	Moves map[Move]int64 // how many of them went from where to where
	First []Change       // by R7's order
}

// A Move is what a call's class was and is; "": the month did not have it, or has
// it no longer.
type Move struct{ Before, After Class }

// A Snapshot remembers how the calls of a month are split, so that what changes
// later can be named. It takes 32 bytes a call.
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
			for i := range l.slots {
				l.overIn(m, &l.slots[i], func(index uint32, over int64) { calls[index].over = int32(over) })
			}
		}
	}
	return calls
}

func (s *splitCall) classOf() Class {
	switch s.class {
	case free:
		return ClassFree
	case unlicensed:
		return ClassUnlicensed
	case unrated:
		return ClassUnrated
	case outside:
		return ClassOutside
	case pooled:
		if s.over > 0 {
			return ClassOverage
		}
		return ClassInPool
	}
	return ""
}

// split is the call of a snapshot at an index; nil: none.
func (s *Snapshot) split(index int32) *Split {
	if index < 0 {
		return nil
	}
	one, c := &s.calls[index], s.month.calls.at(uint32(index))
	out := &Split{
		At: c.at, User: s.month.account.users.names[s.month.calls.user(uint32(index))], Called: c.called(), Class: one.classOf(),
		Billed: int64(one.billed), Over: int64(one.over),
	}
	if p := one.pool; p != nil {
		out.Country, out.Plan, out.Pool = p.key.country, p.key.plan, p.key.user
		if one.class == pooled {
			out.Bucket = p.plan.Buckets[one.bucket].Name
		}
	}
	if one.over > 0 {
		out.Line = one.line
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
// snapshot of this ledger: all are counted, and the first limit listed. Those of
// asked that are among them are set to true.
func (l *Ledger) Since(was *Snapshot, limit int, asked map[Ref]bool) Changes {
	c := comparison{was: was, is: l.Snapshot(was.tenant, was.id), limit: limit, asked: asked, moves: map[Move]int64{}}
	// What was said of a call anew is kept as another one, and so is each when
	// months were made anew: those are found by what they are called.
	left := map[Ref]int32{}
	here := 0
	if was.month == c.is.month { // calls are where they were
		here = len(was.calls)
	}
	for i := range was.calls {
		switch {
		case was.calls[i].class == gone:
		case i >= here || c.is.calls[i].class == gone:
			left[was.month.refOf(uint32(i))] = int32(i)
		case !was.calls[i].same(&c.is.calls[i]):
			c.add(int32(i), int32(i))
		}
	}
	for i := here; i < len(c.is.calls); i++ {
		if c.is.calls[i].class == gone {
			continue
		}
		before := int32(-1)
		if len(left) > 0 {
			ref := c.is.month.refOf(uint32(i))
			if old, known := left[ref]; known {
				delete(left, ref)
				if before = old; c.unchanged(old, int32(i)) {
					continue
				}
			}
		}
		c.add(before, int32(i))
	}
	for _, i := range left {
		c.add(i, -1)
	}
	c.trim()
	changes := Changes{All: c.all, Moves: c.moves}
	for _, m := range c.first {
		changes.First = append(changes.First, Change{c.ref(m), was.split(m.was), c.is.split(m.is)})
	}
	return changes
}

// A comparison gathers what two snapshots have different.
type comparison struct {
	was, is *Snapshot
	limit   int
	asked   map[Ref]bool

	all   int64
	moves map[Move]int64
	first []moved
}

// moved is a call by its indices in the snapshots; -1: it is in one only.
type moved struct{ was, is int32 }

func (c *comparison) add(was, is int32) {
	m := moved{was, is}
	c.all++
	var move Move
	if was >= 0 {
		move.Before = c.was.calls[was].classOf()
	}
	if is >= 0 {
		move.After = c.is.calls[is].classOf()
	}
	c.moves[move]++
	if len(c.asked) > 0 {
		ref := c.ref(m)
		if _, asked := c.asked[ref]; asked {
			c.asked[ref] = true
		}
	}
	// Twice what is wanted is kept, so that many changes take no more memory than few.
	if c.first = append(c.first, m); len(c.first) >= 2*c.limit+8 {
		c.trim()
	}
}

// trim keeps the first of what was gathered, by R7's order.
func (c *comparison) trim() {
	slices.SortFunc(c.first, func(x, y moved) int {
		m, i := c.where(x)
		n, j := c.where(y)
		return compareCalls(m, i, n, j)
	})
	c.first = c.first[:min(len(c.first), c.limit)]
}

// where is the call as it is, or as it was when it is no more.
func (c *comparison) where(x moved) (*month, uint32) {
	if x.is >= 0 {
		return c.is.month, uint32(x.is)
	}
	return c.was.month, uint32(x.was)
}

func (c *comparison) ref(x moved) Ref {
	m, index := c.where(x)
	return m.refOf(index)
}

// unchanged reports whether a call that is kept elsewhere is what it was.
func (c *comparison) unchanged(was, is int32) bool {
	m, n := c.was.month, c.is.month
	a, b := m.calls.at(uint32(was)), n.calls.at(uint32(is))
	return c.was.calls[was].same(&c.is.calls[is]) && a.at == b.at && a.called() == b.called() &&
		m.calls.user(uint32(was)) == n.calls.user(uint32(is))
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
