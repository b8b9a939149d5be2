package domain

import "slices"

// A licence is one interval of R3: a user holds a plan in a country from an
// instant until another.
type licence struct {
	from, to Instant // half-open
	plan     string
	country  string
	by       int32 // which of the user's events made it
	endedBy  int32 // and which ended it; while to is forever: none
}

// forever ends a licence that nothing ended.
const forever = Instant(1<<63 - 1)

// licenceEvent is an assignment, or with country "" a removal.
type licenceEvent struct {
	stamp
	plan, country string
}

// intervals applies a user's licence events in turn. familyOf says the family
// of a plan; the result is by family, each in order of time.
func intervals(events []licenceEvent, familyOf func(plan string) Family) (held [families][]licence) {
	for i := range events {
		e := &events[i]
		at := Instant(e.effective)
		list := &held[familyOf(e.plan)]
		holds := len(*list) > 0 && (*list)[len(*list)-1].to == forever
		removal := e.country == ""
		if removal && !(holds && (*list)[len(*list)-1].plan == e.plan) {
			continue
		}
		if holds {
			last := &(*list)[len(*list)-1]
			last.to, last.endedBy = at, int32(i)
			if last.from == last.to { // an empty interval vanishes
				*list = (*list)[:len(*list)-1]
			}
		}
		if !removal {
			*list = append(*list, licence{from: at, to: forever, plan: e.plan, country: e.country, by: int32(i)})
		}
	}
	return held
}

// insertLicence keeps a user's events in the order of R3.
func insertLicence(events []licenceEvent, e licenceEvent) []licenceEvent {
	i, _ := slices.BinarySearchFunc(events, e.stamp, func(a licenceEvent, s stamp) int { return a.stamp.compare(s) })
	return slices.Insert(events, i, e)
}
