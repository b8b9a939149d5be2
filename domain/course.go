package domain

import (
	"slices"
	"time"
)

// A CourseSlot is a slot of time of a pool in which calls drew on it.
type CourseSlot struct {
	From, To Instant
	Billed   []int64 // seconds, by bucket of the plan, be they in the pool or over it
}

// Course is how a pool's calls came over a month, by slots of R7's sums: hours, or
// days of a pool of one user. Slots without calls are left out; none: there is no
// such pool.
func (l *Ledger) Course(tenant string, id Month, country, plan, user string) (course []CourseSlot) {
	m := l.monthNow(tenant, id)
	if m == nil {
		return nil
	}
	p := m.pools[poolKey{country, plan, user}]
	if p == nil {
		return nil
	}
	width := Instant(time.Hour) // as month.slot has it
	if p.plan.Scope == ScopeUser {
		width *= 24
	}
	for _, lane := range p.lanes {
		for i := range lane.slots {
			s := &lane.slots[i]
			from := m.start + Instant(s.n)*width
			at, found := slices.BinarySearchFunc(course, from, func(c CourseSlot, from Instant) int { return int((c.From - from) / width) })
			if !found {
				course = slices.Insert(course, at, CourseSlot{from, min(from+width, m.end), make([]int64, len(p.plan.Buckets))})
			}
			for j, bucket := range lane.buckets {
				course[at].Billed[bucket] += s.seconds[j]
			}
		}
	}
	return course
}
