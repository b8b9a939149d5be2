package traffic

import (
	"reflect"
	"testing"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// TestSeed: the same seed is the same month, another one another; each event can
// be booked, every number of a switch is there once, and some come late and twice.
func TestSeed(t *testing.T) {
	const calls = 20_000
	read := func(seed uint64) []domain.Event {
		var events []domain.Event
		for e := range Month(seed, 500, calls).Events() {
			events = append(events, e)
		}
		return events
	}
	first := read(1)
	if !reflect.DeepEqual(first, read(1)) || reflect.DeepEqual(first, read(2)) {
		t.Fatal("the seed does not decide the month")
	}
	seen := map[domain.Ref]bool{}
	numbers := map[string]uint64{}
	repeated, late := 0, 0
	var last domain.Instant
	for i := range first {
		e := &first[i]
		if again, err := cloudevents.Decode(cloudevents.Append(nil, e), ""); err != nil || !reflect.DeepEqual(again, *e) {
			t.Fatalf("%+v: %v", e, err)
		}
		ref := domain.Ref{Source: e.Source, ID: e.ID}
		if seen[ref] {
			repeated++
			continue
		}
		seen[ref] = true
		numbers[e.Source] = max(numbers[e.Source], e.N)
		if e.Time < last-domain.Instant(3600e9) {
			late++
		}
		last = max(last, e.Time)
	}
	total := uint64(0)
	for _, n := range numbers {
		total += n
	}
	if len(seen) != calls || total != calls || len(numbers) != 4 || repeated < calls/400 || late < calls/200 {
		t.Fatalf("%d calls, %d numbers of %d switches, %d repeated, %d late", len(seen), total, len(numbers), repeated, late)
	}
}

func TestTerms(t *testing.T) {
	holders := map[[2]string]int{}
	for _, e := range Month(1, 500, 0).Terms() {
		if a, ok := e.Data.(*domain.Assignment); ok {
			holders[[2]string{a.Country, a.Plan}]++
		}
	}
	if len(holders) != len(Countries)*len(Plans) {
		t.Errorf("pools: %v", holders)
	}
}
