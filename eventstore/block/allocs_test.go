package block

import "testing"

// TestAllocations: the columns of a block are decoded without an allocation for
// each of its calls, whatever the machine.
func TestAllocations(t *testing.T) {
	const calls = 8000
	_, encoded, _ := benchmarkBlocks(t, 1, calls)
	n := testing.AllocsPerRun(10, func() {
		r, err := NewReader(encoded[0])
		if err != nil {
			t.Fatal(err)
		}
		var s Symbols
		ready, err := r.Ready(&s)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := ready.CallRows(FieldSequence)
		if err != nil {
			t.Fatal(err)
		}
		if err := rows.Each(func(*CallRow) error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
	if each := n / calls; each > 0.1 {
		t.Errorf("a call allocates %v times", each)
	}
	t.Logf("%v allocations for a block of %d calls", n, calls)
}
