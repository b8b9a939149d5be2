package domain

import "testing"

// TestAllocations: what the live month and a replay allocate for each call,
// whatever the machine: their share of what grows, and nothing of their own.
func TestAllocations(t *testing.T) {
	const calls = 100_000
	feed := NewLedger().Feed("contoso")
	source, kind := feed.Source("switch/mil-1"), feed.Kind(KindUser)
	users := [16]uint32{}
	for i := range users {
		users[i] = feed.User(string(rune('a' + i)))
	}
	at := int64(MinInstant)
	n := testing.AllocsPerRun(1, func() {
		for i := range uint64(calls) {
			at += 1_000_000
			row := CallRow{
				Source: source, User: users[i%16], Kind: kind, Disposition: Answered, BillableMS: 61_000, Time: Instant(at + 61_000_000_000), AnsweredAt: Instant(at),
				Called: Number{Digits: 390_000_000 + i, Len: 9, Plus: true}, ID: CallID{UUID: [16]byte{byte(i), byte(i >> 8), byte(i >> 16)}},
			}
			feed.Add(&row)
		}
	})
	if each := n / calls; each > 0.001 {
		t.Errorf("a call allocates %v times", each)
	}

	rows, numbers := manyPrefixes(10_000)
	prefixes := newPrefixes(rows)
	if n := testing.AllocsPerRun(1000, func() {
		for i := range 16 {
			prefixes.longest(numbers[i])
		}
	}); n > 0 {
		t.Errorf("a look-up allocates %v times", n/16)
	}
}
