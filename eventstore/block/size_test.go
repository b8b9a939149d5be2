package block

import (
	"fmt"
	"testing"

	"tollbook/domain"
)

// Size of a call on disk, UUID included, once the symbols of the users are
// known: what docs/FORMAT.md promises.
const maxBytesPerCall = 34

func TestBytesPerCall(t *testing.T) {
	const blocks, size = 63, 8000
	source := newTraffic(1, 50_000)
	var w Symbols
	var c chain
	var total, warm int
	sections := map[kind]int{}
	for i := range blocks {
		b := c.seal(source.calls(size))
		data, staged, err := w.Encode(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		staged.Commit()
		c.appended(b, data)
		total += len(data)
		if i >= blocks/2 {
			warm += len(data)
			r, err := NewReader(data)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range r.sections {
				sections[s.kind&0xFF00] += len(s.stored)
			}
		}
	}
	perCall := float64(total) / (blocks * size)
	t.Logf("%.2f B/call over %d calls, %.2f in the second half, %d symbols",
		perCall, blocks*size, float64(warm)/float64((blocks-blocks/2)*size), w.Len())
	for k := kind(0); k < 0x5000; k += 0x100 {
		if n := sections[k]; n > 0 {
			t.Logf("%v %6.2f B/call", k, float64(n)/float64((blocks-blocks/2)*size))
		}
	}
	if perCall > maxBytesPerCall {
		t.Errorf("%.2f B/call, more than %d", perCall, maxBytesPerCall)
	}
}

// reportCalls adds the benchmark's figures in calls.
func reportCalls(b *testing.B, blocks, size, bytes int) {
	b.ReportMetric(float64(blocks*size)/b.Elapsed().Seconds(), "calls/s")
	b.ReportMetric(float64(bytes)/float64(blocks*size), "B/call")
}

// benchmarkBlocks are blocks of one generation, and how they are made.
func benchmarkBlocks(b testing.TB, blocks, size int) (list []*Block, encoded [][]byte, w *Symbols) {
	source, c := newTraffic(1, 50_000), chain{}
	w = new(Symbols)
	for range blocks {
		block := c.seal(source.calls(size))
		data, staged, err := w.Encode(nil, block)
		if err != nil {
			b.Fatal(err)
		}
		staged.Commit()
		c.appended(block, data)
		list, encoded = append(list, block), append(encoded, data)
	}
	return list, encoded, w
}

func BenchmarkEncode(b *testing.B) {
	for _, size := range []int{1, 100, 8000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			source, c := newTraffic(1, 50_000), chain{}
			var w Symbols
			warm := c.seal(source.calls(40_000))
			data, staged, err := w.Encode(nil, warm)
			if err != nil {
				b.Fatal(err)
			}
			staged.Commit()
			c.appended(warm, data)
			block := c.seal(source.calls(size))
			b.ReportAllocs()
			n, bytes := 0, 0
			for b.Loop() {
				if data, _, err = w.Encode(data[:0], block); err != nil {
					b.Fatal(err)
				}
				n++
				bytes += len(data)
			}
			reportCalls(b, n, size, bytes)
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	_, encoded, w := benchmarkBlocks(b, 4, 8000)
	b.ReportAllocs()
	n, bytes := 0, 0
	for b.Loop() {
		data := encoded[n%len(encoded)]
		if _, err := Decode(data, w); err != nil {
			b.Fatal(err)
		}
		n++
		bytes += len(data)
	}
	reportCalls(b, n, 8000, bytes)
}

// BenchmarkReplay reads what rating a month needs.
func BenchmarkReplay(b *testing.B) {
	_, encoded, w := benchmarkBlocks(b, 4, 8000)
	need := FieldTenant | FieldUser | FieldKind | FieldCalled | FieldBillable | FieldAnswered
	b.ReportAllocs()
	n, bytes, seconds := 0, 0, int64(0)
	for b.Loop() {
		data := encoded[n%len(encoded)]
		r, err := NewReader(data)
		if err != nil {
			b.Fatal(err)
		}
		err = r.Calls(w, need, func(_ uint64, _ *domain.Event, c *domain.Call) error {
			seconds += c.BillableMS / 1000
			return nil
		})
		if err != nil || seconds == 0 {
			b.Fatal(err, seconds)
		}
		n++
		bytes += len(data)
	}
	reportCalls(b, n, 8000, bytes)
}
