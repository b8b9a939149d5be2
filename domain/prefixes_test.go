package domain

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestPrefixes compares the trie with a look at every prefix.
func TestPrefixes(t *testing.T) {
	digits := rapid.StringMatching(`[0-3]{1,7}|[0-9]{1,15}`)
	rapid.Check(t, func(t *rapid.T) {
		var rows []prefixRow
		naive := map[string]uint32{}
		for i, text := range rapid.SliceOfDistinct(digits, rapid.ID[string]).Draw(t, "prefixes") {
			rows = append(rows, prefixRow{rowPrefix(text), uint32(i)})
			naive[text] = uint32(i)
		}
		if rapid.Bool().Draw(t, "with a table of five digits") {
			for i := range uint32(bigDeck) { // all begin with 9, of which the others seldom do
				text := fmt.Sprintf("9%06d", i*19)
				if _, twice := naive[text]; !twice {
					rows = append(rows, prefixRow{rowPrefix(text), 1_000_000 + i})
					naive[text] = 1_000_000 + i
				}
			}
		}
		p := newPrefixes(rows)
		for range 30 {
			text := rapid.OneOf(digits, rapid.Custom(func(t *rapid.T) string {
				longer := rapid.SampledFrom(append([]prefixRow{{prefix: prefix{1, 1, false}}}, rows...)).Draw(t, "prefix").String() + rapid.StringMatching(`[0-9]{0,4}`).Draw(t, "tail")
				return longer[:min(len(longer), MaxDigits)]
			})).Draw(t, "number")
			key := rowPrefix(text)
			wantRow, want := uint32(0), false
			for l := len(text); l > 0 && !want; l-- {
				wantRow, want = naive[text[:l]]
			}
			row, ok := p.longest(Number{Digits: key.digits, Len: key.len, Plus: true})
			if ok != want || ok && row != wantRow {
				t.Fatalf("%s: got row %d %v, want %d %v of %v", text, row, ok, wantRow, want, naive)
			}
			if _, exact := naive[text]; p.has(key) != exact {
				t.Fatalf("%s: has is %v of %v", text, !exact, naive)
			}
		}
	})
}

// BenchmarkLongestPrefix is of a deck of 500,000 rows, shaped as real ones are:
// countries of few digits, and ever longer ranges in them.
func BenchmarkLongestPrefix(b *testing.B) {
	rows, numbers := manyPrefixes(500_000)
	p := newPrefixes(rows)
	b.ResetTimer()
	found := 0
	for i := range b.N {
		if _, ok := p.longest(numbers[i&(1<<16-1)]); ok {
			found++
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "M/s")
	b.ReportMetric(float64(len(p.nodes)*12+len(p.rows)*4+len(p.top)*8+len(p.few)*12)/float64(len(rows)), "B/prefix")
	if found == 0 {
		b.Fatal("no number has a prefix")
	}
}

func manyPrefixes(n int) (rows []prefixRow, numbers []Number) {
	seen := map[prefix]bool{}
	state := uint64(1)
	next := func(below uint64) uint64 { // splitmix64
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return (z ^ z>>31) % below
	}
	for len(rows) < n {
		// A range of an operator, and most of the digits after it.
		length := uint8(2 + next(6))
		p := prefix{digits: 1 + next(9), len: 1}
		for p.len < length {
			p.digits, p.len = p.digits*10+next(10), p.len+1
		}
		for digit := next(5); digit < 10 && len(rows) < n; digit++ {
			if one := (prefix{p.digits*10 + digit, p.len + 1, false}); !seen[one] {
				seen[one] = true
				rows = append(rows, prefixRow{one, uint32(len(rows))})
			}
		}
	}
	for range 1 << 16 {
		p := rows[next(uint64(len(rows)))].prefix
		for p.len < 12 {
			p.digits, p.len = p.digits*10+next(10), p.len+1
		}
		numbers = append(numbers, Number{Digits: p.digits, Len: p.len, Plus: true})
	}
	return rows, numbers
}
