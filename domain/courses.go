package domain

import (
	"iter"
	"time"
)

// A PoolCourse is a pool while [Ledger.Courses] visits it: what is known of how its
// calls came without looking at them one by one.
type PoolCourse struct {
	PoolKey
	Licences int64         // that make the grant
	Lanes    [][]int       // buckets that end together: all of a linked pool, or each
	Width    time.Duration // of a slot; the first one begins with the month

	m *month
	p *pool
}

// Courses visits the pools of a month, in no order. What is visited is good until
// the next one is.
func (l *Ledger) Courses(tenant string, id Month) iter.Seq[*PoolCourse] {
	return func(yield func(*PoolCourse) bool) {
		m := l.monthNow(tenant, id)
		if m == nil {
			return
		}
		var c PoolCourse
		for _, p := range m.pools {
			c = PoolCourse{PoolKey: PoolKey{p.key.country, p.key.plan, p.key.user}, Licences: p.count, Lanes: c.Lanes[:0], Width: time.Hour, m: m, p: p}
			if p.plan.Scope == ScopeUser {
				c.Width *= 24 // as month.slot has it
			}
			for _, lane := range p.lanes {
				c.Lanes = append(c.Lanes, lane.buckets)
			}
			if !yield(&c) {
				return
			}
		}
	}
}

// Held is from when until when there is a licence in the pool, within the month.
func (c *PoolCourse) Held() (from, to Instant) {
	from, to = c.m.end, c.m.start
	for _, list := range c.p.holders {
		for _, h := range list {
			from, to = min(from, h.from), max(to, h.to)
		}
	}
	return from, to
}

// Slots tells each of the seconds billed by slot and bucket of the plan, lane by
// lane and in order of time, be they in the pool or over it.
func (c *PoolCourse) Slots(each func(slot, bucket int, seconds int64)) {
	for _, lane := range c.p.lanes {
		for i := range lane.slots {
			for j, bucket := range lane.buckets {
				each(int(lane.slots[i].n), bucket, lane.slots[i].seconds[j])
			}
		}
	}
}

// EndedAt is when the first call came that a lane had not enough left for. Of a lane
// that is used up to the second, with no such call yet, it is the end of the slot in
// which that came; 0: something is left, or there was nothing from the start.
func (c *PoolCourse) EndedAt(lane int) Instant {
	l := c.p.lanes[lane]
	if l.ending.firstOver != 0 || l.end == never || l.end == fromStart {
		return l.ending.firstOver
	}
	return min(c.m.start+Instant(l.end+1)*Instant(c.Width), c.m.end)
}

// Over tells each of the overage of a lane by line, in no order. A line may come
// twice.
func (c *PoolCourse) Over(lane int, each func(line *Line, calls, seconds int64)) {
	l := c.p.lanes[lane]
	for _, cells := range []map[uint32]cell{l.over, l.ending.over} {
		for line, sum := range cells {
			each(c.m.lines[line], sum.calls, sum.seconds)
		}
	}
}

// Outside tells each of the calls outside the buckets by line, in no order.
func (c *PoolCourse) Outside(each func(line *Line, calls, seconds int64)) {
	for line, sum := range c.p.outside {
		each(c.m.lines[line], sum.calls, sum.seconds)
	}
}

// Latest tells each of the calls of a lane's last slots, whole ones and as many as
// hold n calls, by the line that prices each when it is overage, in no order.
func (c *PoolCourse) Latest(lane, n int, each func(line *Line, seconds int64)) {
	slots := c.p.lanes[lane].slots
	for i := len(slots) - 1; i >= 0 && n > 0; i-- {
		n -= len(slots[i].calls)
		for _, index := range slots[i].calls {
			call := c.m.calls.at(index)
			each(c.m.lines[call.line], call.billed())
		}
	}
}

// A MonthState is equal to another of the same ledger only if nothing of the month
// has changed in between.
type MonthState struct {
	month   *month
	changes uint64
}

// StateOf is a month's, brought up to date.
func (l *Ledger) StateOf(tenant string, id Month) MonthState {
	if m := l.monthNow(tenant, id); m != nil {
		return MonthState{m, m.changes}
	}
	return MonthState{}
}
