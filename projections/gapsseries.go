package projections

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/tidwall/btree"

	"tollbook/domain"
)

const maxNumber = math.MaxUint64

// How much is remembered of what happened to a source's numbers.
const (
	maxRepeats = 100 // the first ones
	maxClosed  = 100 // the last ones
)

// A series is the numbers of one source. Those that came are runs, each apart
// from the next, so that a million in order are one of them and n dropped ones
// at most n + 1; what lies between them is missing.
type series struct {
	seen    btree.Map[uint64, run]    // by their first number
	waivers btree.Map[uint64, waiver] // by the first number; they do not overlap
	parked  btree.Set[uint64]         // came in suspended records only

	numbers uint64 // seen, each once
	waived  uint64 // waived and still missing
	events  uint64 // booked with a number

	repeats      []repeat
	repeatsCount uint64
	closed       []closure
	closedCount  uint64

	// top is the last run, which nearly all numbers extend: it is in seen when no block
	// is being taken in.
	top struct {
		from uint64
		run  run
		is   bool // there is one
		new  bool // it is not in seen as it is here
	}

	// Of the block that is being taken in, until endBlock.
	arrived []arrival
	waiving []closure
}

// A span is a range of numbers, both ends in it.
type span struct{ from, to uint64 }

func (s span) String() string {
	if s.from == s.to {
		return fmt.Sprintf("number %d", s.from)
	}
	return fmt.Sprintf("numbers %d to %d", s.from, s.to)
}

func (s span) count() uint64 { return s.to - s.from + 1 }

// A run is numbers that came without a hole.
type run struct {
	to          uint64
	found       uint64         // position of the event that made the numbers before it missing
	first, last domain.Instant // times of the events with the numbers at its ends
}

type waiver struct {
	to         uint64
	position   uint64
	by, reason string
}

// A repeat is an event with a number that another one carries.
type repeat struct {
	n, position uint64
	id          string
}

type arrival struct{ n, position uint64 }

// A closure is a gap, or a part of one, that is no more.
type closure struct {
	span
	position uint64
	waived   bool // and not arrived
}

// A seriesImage is what a snapshot has of a series.
type seriesImage struct {
	Tenant, Source                                string
	Runs                                          []runImage
	Waivers                                       []waiverImage
	Parked                                        []uint64
	Numbers, Waived, Events, Repeated, ClosedEver uint64
	Repeats                                       []repeatImage
	Closed                                        []closureImage
}

type runImage struct {
	From, To, Found uint64
	First, Last     domain.Instant
}

type waiverImage struct {
	From, To, Position uint64
	By, Reason         string
}

type repeatImage struct {
	N, Position uint64
	ID          string
}

type closureImage struct {
	From, To, Position uint64
	Waived             bool
}

// copy is the series between two blocks, whatever comes later.
func (s *series) copy() series {
	c := *s
	c.seen, c.waivers, c.parked = *s.seen.Copy(), *s.waivers.Copy(), *s.parked.Copy()
	c.repeats, c.closed = slices.Clip(s.repeats), slices.Clone(s.closed)
	return c
}

func (s *series) image(img *seriesImage) {
	s.seen.Scan(func(from uint64, r run) bool {
		img.Runs = append(img.Runs, runImage{from, r.to, r.found, r.first, r.last})
		return true
	})
	s.waivers.Scan(func(from uint64, w waiver) bool {
		img.Waivers = append(img.Waivers, waiverImage{from, w.to, w.position, w.by, w.reason})
		return true
	})
	img.Parked = s.parked.Keys()
	img.Numbers, img.Waived, img.Events, img.Repeated, img.ClosedEver = s.numbers, s.waived, s.events, s.repeatsCount, s.closedCount
	for _, r := range s.repeats {
		img.Repeats = append(img.Repeats, repeatImage{r.n, r.position, r.id})
	}
	for _, c := range s.closed {
		img.Closed = append(img.Closed, closureImage{c.from, c.to, c.position, c.waived})
	}
}

// restore makes an empty series what was written.
func (s *series) restore(img *seriesImage) {
	for _, r := range img.Runs {
		s.seen.Set(r.From, run{r.To, r.Found, r.First, r.Last})
	}
	for _, w := range img.Waivers {
		s.waivers.Set(w.From, waiver{w.To, w.Position, w.By, w.Reason})
	}
	for _, n := range img.Parked {
		s.parked.Insert(n)
	}
	s.lookTop()
	s.numbers, s.waived, s.events, s.repeatsCount, s.closedCount = img.Numbers, img.Waived, img.Events, img.Repeated, img.ClosedEver
	for _, r := range img.Repeats {
		s.repeats = append(s.repeats, repeat{r.N, r.Position, r.ID})
	}
	for _, c := range img.Closed {
		s.closed = append(s.closed, closure{span{c.From, c.To}, c.Position, c.Waived})
	}
}

// floor is the entry with the greatest key that is not greater than n.
func floor[V any](m *btree.Map[uint64, V], n uint64) (key uint64, value V, ok bool) {
	m.Descend(n, func(k uint64, v V) bool {
		key, value, ok = k, v, true
		return false
	})
	return key, value, ok
}

// booked takes in an event of the book with a number.
func (s *series) booked(b *gapBlock, position, n uint64, at domain.Instant, id func() string) {
	s.events++
	switch {
	case s.add(b, n, position, at):
	case s.parked.Contains(n):
		// A record in suspense was taken up: it is the event that says when it was.
		s.parked.Delete(n)
		from, r, _ := floor(&s.seen, n)
		if n == from {
			r.first = at
		}
		if n == r.to {
			r.last = at
		}
		s.seen.Set(from, r)
		s.lookTop()
	default:
		if s.repeatsCount++; len(s.repeats) < maxRepeats {
			s.repeats = append(s.repeats, repeat{n, position, strings.Clone(id())})
		}
	}
}

// suspended takes in a record in suspense with a number.
func (s *series) suspended(b *gapBlock, n, position uint64, at domain.Instant) {
	if s.add(b, n, position, at) {
		s.parked.Insert(n)
	}
}

// add makes n one of the numbers seen, unless it is one.
func (s *series) add(b *gapBlock, n, position uint64, at domain.Instant) (isNew bool) {
	if top := &s.top; top.is && n > top.run.to {
		s.numbers++
		if n == top.run.to+1 {
			top.run.to, top.run.last = n, at
		} else {
			s.putTop()
			top.from, top.run = n, run{to: n, found: position, first: at, last: at}
		}
		if !top.new {
			top.new = true
			b.topped = append(b.topped, s)
		}
		return true
	}
	s.putTop()
	defer s.lookTop()
	leftFrom, left, hasLeft := floor(&s.seen, n)
	if hasLeft && n <= left.to {
		return false
	}
	var rightFrom uint64
	var right run
	hasRight := false
	s.seen.Ascend(n, func(k uint64, r run) bool {
		rightFrom, right, hasRight = k, r, true
		return false
	})
	s.numbers++
	if hasRight && n > 0 { // it was missing
		if _, w, ok := floor(&s.waivers, n); ok && n <= w.to {
			s.waived--
		}
		if right.found < b.first {
			s.touch(b)
			s.arrived = append(s.arrived, arrival{n, position})
		}
	}
	touchesLeft := hasLeft && left.to == n-1
	touchesRight := hasRight && rightFrom == n+1
	switch {
	case touchesLeft && touchesRight:
		left.to, left.last = right.to, right.last
		s.seen.Delete(rightFrom)
		s.seen.Set(leftFrom, left)
	case touchesLeft:
		left.to, left.last = n, at
		s.seen.Set(leftFrom, left)
	case touchesRight:
		right.first = at
		s.seen.Delete(rightFrom)
		s.seen.Set(n, right)
	default:
		r := run{to: n, found: position, first: at, last: at}
		if hasRight { // it divides a gap, which stays as old as it is
			r.found = right.found
		}
		s.seen.Set(n, r)
	}
	return true
}

// putTop has all runs in seen.
func (s *series) putTop() {
	if s.top.new {
		s.seen.Set(s.top.from, s.top.run)
		s.top.new = false
	}
}

// lookTop is called when seen has changed.
func (s *series) lookTop() { s.top.from, s.top.run, s.top.is = s.seen.Max() }

// waive takes in a waiver. Of its range it covers what is missing and not waived
// yet; the book takes only those that are it whole.
func (s *series) waive(b *gapBlock, position uint64, data *domain.GapWaived) {
	s.putTop()
	var covered []gap
	for gap := range s.missing(data.From, data.To) {
		if gap.waiver == nil {
			covered = append(covered, gap)
		}
	}
	for _, gap := range covered {
		s.waivers.Set(gap.from, waiver{to: gap.to, position: position, by: data.By, reason: data.Reason})
		s.waived += gap.count()
		if gap.found < b.first {
			s.touch(b)
			s.waiving = append(s.waiving, closure{gap.span, position, true})
		}
	}
}

func (s *series) touch(b *gapBlock) {
	if len(s.arrived)+len(s.waiving) == 0 {
		b.touched = append(b.touched, s)
	}
}

// endBlock notes what the block has closed: neighbours that it brought are one range.
func (s *series) endBlock() {
	closures := s.waiving
	slices.SortFunc(s.arrived, func(a, b arrival) int { return cmp.Compare(a.n, b.n) })
	for i, a := range s.arrived {
		if i > 0 && s.arrived[i-1].n == a.n-1 {
			last := &closures[len(closures)-1]
			last.to, last.position = a.n, max(last.position, a.position)
			continue
		}
		closures = append(closures, closure{span{a.n, a.n}, a.position, false})
	}
	slices.SortFunc(closures, func(a, b closure) int {
		return cmp.Or(cmp.Compare(a.position, b.position), cmp.Compare(a.from, b.from))
	})
	s.closedCount += uint64(len(closures))
	s.closed = append(s.closed, closures...)
	if over := len(s.closed) - maxClosed; over > 0 {
		s.closed = slices.Clone(s.closed[over:])
	}
	s.arrived, s.waiving = nil, nil
}

// A gap is a range of missing numbers with one fate: waived by one waiver, or by none.
type gap struct {
	span
	since, until domain.Instant // times of the events before and after; before the first number, until for both
	found        uint64
	beforeFirst  bool
	waiver       *waiver
}

// missing goes through the gaps from from to to, clipped to them.
func (s *series) missing(from, to uint64) iter.Seq[gap] {
	return func(yield func(gap) bool) {
		start, before, has := floor(&s.seen, from)
		s.seen.Ascend(start, func(k uint64, r run) bool {
			if has && k == start {
				return true
			}
			g := gap{since: before.last, until: r.first, found: r.found}
			if has {
				g.from = before.to + 1
			} else {
				g.from, g.since, g.beforeFirst = 1, r.first, true
			}
			has, before = true, r
			if k <= g.from { // the run begins at 0 or 1
				return true
			}
			g.from, g.to = max(g.from, from), min(k-1, to)
			return g.from <= g.to && s.byWaiver(g, yield)
		})
	}
}

// byWaiver divides a gap where waivers begin and end.
func (s *series) byWaiver(g gap, yield func(gap) bool) bool {
	start, first, ok := floor(&s.waivers, g.from)
	if !ok || first.to < g.from {
		start = g.from
	}
	rest, more := g, true
	s.waivers.Ascend(start, func(k uint64, w waiver) bool {
		if k > rest.to {
			return false
		}
		if k > rest.from {
			part := rest
			part.to = k - 1
			if more = yield(part); !more {
				return false
			}
			rest.from = k
		}
		part := rest
		part.to, part.waiver = min(w.to, rest.to), &w
		if more = yield(part); !more {
			return false
		}
		if part.to == rest.to {
			rest.from, rest.to = 1, 0 // nothing is left
			return false
		}
		rest.from = part.to + 1
		return true
	})
	if more && rest.from <= rest.to {
		more = yield(rest)
	}
	return more
}

// missingCount is how many numbers are missing, waived ones too. There is at
// least one seen, so that it fits 64 bits.
func (s *series) missingCount() uint64 {
	first, last := s.ends()
	if first == 0 {
		return last - (s.numbers - 1)
	}
	return last - s.numbers
}

// openCount is how many are missing and not waived.
func (s *series) openCount() uint64 { return s.missingCount() - s.waived }

// ends are the least and the greatest number seen.
func (s *series) ends() (first, last uint64) {
	first, _, _ = s.seen.Min()
	_, r, _ := s.seen.Max()
	return first, r.to
}
