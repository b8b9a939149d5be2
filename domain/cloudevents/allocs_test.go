package cloudevents_test

import (
	"testing"

	"tollbook/domain/cloudevents"
)

// TestAllocations: what intake allocates for each call, whatever the machine. A
// decoded call is its data and its texts (6, and some more under the race detector).
func TestAllocations(t *testing.T) {
	raw := []byte(benchCall)
	e := mustDecode(t, benchCall[:len(benchCall)-1]+`,"tenant":"contoso"}`)
	dst := cloudevents.Append(nil, &e)
	for name, c := range map[string]struct {
		most float64
		do   func()
	}{
		"decode": {10, func() {
			if _, err := cloudevents.Decode(raw, "contoso"); err != nil {
				t.Fatal(err)
			}
		}},
		"append": {0, func() { dst = cloudevents.Append(dst[:0], &e) }},
	} {
		if n := testing.AllocsPerRun(1000, c.do); n > c.most {
			t.Errorf("%s: %v allocations a call, more than %v", name, n, c.most)
		}
	}
}
