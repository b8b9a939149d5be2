package domain

import (
	"cmp"
	"slices"
)

// A cell sums overage: of a line, or of the calls of a class.
type cell struct{ calls, seconds int64 }

func (c *cell) add(sign, seconds int64) {
	c.calls += sign
	c.seconds += sign * seconds
}

// A lane is the buckets of a pool that end together: all buckets of a linked
// pool, or one bucket of an unlinked one. So R7 has one form: once a call has
// brought any bucket of the lane to its end, every later call of the lane is
// overage.
//
// Calls are kept by slot of time, with their sums. Slots wholly before the end
// are in the pool, slots wholly after it are overage, and only the slot in
// which the pool ends needs its calls in order. A late call, or a licence that
// changes the grant, changes sums and perhaps moves the end by some slots.
type lane struct {
	buckets []int // of the plan, in its order
	slots   []slot

	// As of the last settle:
	settled bool
	granted []int64 // seconds, by position in buckets
	end     int32   // the slot in which the lane ends; fromStart, or never
	over    map[uint32]cell
	overBy  []int64 // overage of the slots after end, by bucket
	ending  draw

	usage *usage // of the pool; nil: nobody has asked
}

const (
	fromStart = int32(-1)
	never     = int32(1<<31 - 1)
)

type slot struct {
	n       int32
	calls   []uint32 // of the month
	seconds []int64  // billed, by bucket
}

// A draw is what the ending slot did, call by call.
type draw struct {
	used      []int64 // by bucket, the slots before included
	over      map[uint32]cell
	overBy    []int64
	calls     []overage // with overage, by R7's order
	firstOver Instant   // of the whole lane; 0: no overage
}

// An overage is that of a call of the month.
type overage struct {
	index   uint32
	seconds int64
}

func newLane(buckets []int) *lane {
	return &lane{buckets: buckets, granted: make([]int64, len(buckets)), end: never, over: map[uint32]cell{}, overBy: make([]int64, len(buckets))}
}

func (l *lane) slotAt(n int32) *slot {
	s := slotAt(&l.slots, n)
	if s.seconds == nil {
		s.seconds = make([]int64, len(l.buckets))
	}
	return s
}

// slotAt is the slot of a number, made if it is not there.
func slotAt(slots *[]slot, n int32) *slot {
	// Calls arrive roughly in order: look at the last slot first.
	if last := len(*slots) - 1; last >= 0 && (*slots)[last].n == n {
		return &(*slots)[last]
	}
	i, found := findSlot(*slots, n)
	if !found {
		*slots = slices.Insert(*slots, i, slot{n: n})
	}
	return &(*slots)[i]
}

func findSlot(slots []slot, n int32) (i int, found bool) {
	return slices.BinarySearchFunc(slots, n, func(s slot, n int32) int { return cmp.Compare(s.n, n) })
}

// drop takes a call out.
func (s *slot) drop(index uint32) {
	i := slices.Index(s.calls, index)
	s.calls[i] = s.calls[len(s.calls)-1]
	s.calls = s.calls[:len(s.calls)-1]
}

func (l *lane) add(m *month, p *pool, index uint32) {
	c := m.calls.at(index)
	s := l.slotAt(m.slot(p, c.at))
	s.calls = append(s.calls, index)
	s.seconds[c.bucket()] += c.billed()
	l.counted(m, s, index, 1)
}

// counted counts a call that was added to a slot, or with sign -1 taken out. What
// comes after the end, and after the first overage, changes neither.
func (l *lane) counted(m *month, s *slot, index uint32, sign int64) {
	c := m.calls.at(index)
	over := int64(0)
	if s.n > l.end {
		over = c.billed()
		l.overage(c, sign)
	}
	if s.n <= l.end || c.at <= l.ending.firstOver || l.ending.firstOver == 0 {
		l.settled = false
	}
	if l.usage != nil {
		l.usage.count(m, s.n, index, sign, sign*c.billed(), sign*over)
	}
}

// merge adds the calls of a slot that was summed apart, to a lane whose end is
// not known yet.
func (l *lane) merge(m *month, part *slot) {
	s := l.slotAt(part.n)
	if s.calls == nil {
		s.calls = part.calls
	} else {
		s.calls = append(s.calls, part.calls...)
	}
	for b, seconds := range part.seconds {
		s.seconds[b] += seconds
	}
	if s.n > l.end {
		for _, index := range part.calls {
			l.overage(m.calls.at(index), 1)
		}
	}
	l.settled = false
}

func (l *lane) remove(m *month, p *pool, index uint32) {
	c := m.calls.at(index)
	s := l.slotAt(m.slot(p, c.at))
	s.drop(index)
	s.seconds[c.bucket()] -= c.billed()
	l.counted(m, s, index, -1)
}

// overage counts a call wholly beyond the lane's end, or with sign -1 no longer.
func (l *lane) overage(c *call, sign int64) {
	sum := l.over[c.line]
	sum.add(sign, c.billed())
	if sum.calls == 0 {
		delete(l.over, c.line)
	} else {
		l.over[c.line] = sum
	}
	l.overBy[c.bucket()] += sign * c.billed()
}

func (l *lane) grant(granted []int64) {
	if !slices.Equal(l.granted, granted) {
		l.granted = granted
		l.settled = false
	}
}

// settle finds the lane's end and draws the slot it lies in.
func (l *lane) settle(m *month) {
	if l.settled {
		return
	}
	before := make([]int64, len(l.buckets))
	end, at := never, len(l.slots)
	if slices.Contains(l.granted, 0) {
		end, at = fromStart, 0
	}
search:
	for i := 0; i < at; i++ {
		for b, seconds := range l.slots[i].seconds {
			if before[b]+seconds >= l.granted[b] {
				end, at = l.slots[i].n, i
				break search
			}
		}
		for b, seconds := range l.slots[i].seconds {
			before[b] += seconds
		}
	}
	for i := range l.slots {
		s := &l.slots[i]
		sign := int64(0)
		switch {
		case s.n > end && s.n <= l.end:
			sign = 1
		case s.n > l.end && s.n <= end:
			sign = -1
		default:
			continue
		}
		for _, index := range s.calls {
			c := m.calls.at(index)
			l.overage(c, sign)
			if l.usage != nil {
				l.usage.count(m, s.n, index, 0, 0, sign*c.billed())
			}
		}
	}
	l.end = end
	l.ending = l.drawSlot(m, at, before)
	l.settled = true
}

// drawSlot takes the calls of the slot in which the lane ends one by one (R7).
func (l *lane) drawSlot(m *month, at int, used []int64) draw {
	d := draw{used: used, over: map[uint32]cell{}, overBy: make([]int64, len(l.buckets))}
	if l.end != fromStart && at < len(l.slots) {
		l.take(m, &l.slots[at], used, func(index uint32, over int64) bool {
			if c := m.calls.at(index); over > 0 {
				sum := d.over[c.line]
				sum.add(1, over)
				d.over[c.line] = sum
				d.overBy[c.bucket()] += over
				d.calls = append(d.calls, overage{index, over})
				if d.firstOver == 0 {
					d.firstOver = c.at
				}
			}
			return true
		})
		at++
	}
	for ; d.firstOver == 0 && at < len(l.slots); at++ {
		for _, index := range l.slots[at].calls {
			if t := m.calls.at(index).at; d.firstOver == 0 || t < d.firstOver {
				d.firstOver = t
			}
		}
	}
	return d
}

// take draws the calls of a slot one by one, in their order, on what its buckets
// have used before, and tells each of every call and its overage, until it
// returns false (R7). used is what they have used in the end.
func (l *lane) take(m *month, s *slot, used []int64, each func(index uint32, over int64) bool) {
	calls := slices.Clone(s.calls)
	slices.SortFunc(calls, m.order)
	ended := false
	for _, index := range calls {
		c := m.calls.at(index)
		var drawn int64
		if !ended {
			drawn = min(c.billed(), l.granted[c.bucket()]-used[c.bucket()])
			used[c.bucket()] += drawn
			ended = used[c.bucket()] >= l.granted[c.bucket()]
		}
		if !each(index, c.billed()-drawn) {
			return
		}
	}
}

// usedBefore is what the buckets have used before a slot that is not after the end.
func (l *lane) usedBefore(n int32) []int64 {
	used := make([]int64, len(l.buckets))
	for i := range l.slots {
		if l.slots[i].n >= n {
			break
		}
		for b, seconds := range l.slots[i].seconds {
			used[b] += seconds
		}
	}
	return used
}

// overIn tells each of every call of a slot that has overage, and how much. The
// lane is settled.
func (l *lane) overIn(m *month, s *slot, each func(index uint32, over int64)) {
	switch {
	case s.n > l.end:
		for _, index := range s.calls {
			each(index, m.calls.at(index).billed())
		}
	case s.n == l.end:
		for _, o := range l.ending.calls {
			each(o.index, o.seconds)
		}
	}
}

// overageOf is that of a call. The lane is settled.
func (l *lane) overageOf(m *month, p *pool, index uint32) int64 {
	c := m.calls.at(index)
	switch n := m.slot(p, c.at); {
	case n > l.end:
		return c.billed()
	case n < l.end:
		return 0
	}
	i, found := slices.BinarySearchFunc(l.ending.calls, index, func(o overage, index uint32) int { return m.order(o.index, index) })
	if !found {
		return 0
	}
	return l.ending.calls[i].seconds
}
