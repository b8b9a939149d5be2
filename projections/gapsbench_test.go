package projections_test

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"tollbook/projections"
)

// BenchmarkGaps takes in a million numbers of one source, as they come, and says
// what its gaps take to keep.
func BenchmarkGaps(b *testing.B) {
	for _, c := range []struct {
		name string
		list func(r *rand.Rand, list []uint64) []uint64
	}{
		{"in order", func(_ *rand.Rand, list []uint64) []uint64 { return list }},
		{"nearly in order", func(r *rand.Rand, list []uint64) []uint64 { swapNear(r, list); return list }},
		{"1 % dropped", func(r *rand.Rand, list []uint64) []uint64 {
			kept := list[:0]
			for _, n := range list {
				if r.IntN(100) > 0 {
					kept = append(kept, n)
				}
			}
			return kept
		}},
		{"every other dropped", func(_ *rand.Rand, list []uint64) []uint64 {
			for i := range list[:million/2] {
				list[i] = list[2*i]
			}
			return list[:million/2]
		}},
		{"any order", func(r *rand.Rand, list []uint64) []uint64 {
			r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			return list
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			list := make([]uint64, million)
			for i := range list {
				list[i] = uint64(i) + 1
			}
			list = c.list(rand.New(rand.NewPCG(1, 1)), list)
			updates := updatesOf(list)
			var gaps *projections.Gaps
			before := heap()
			for b.Loop() {
				gaps = projections.NewGaps()
				for _, u := range updates {
					gaps.Follow(u)
				}
			}
			b.ReportMetric(float64(heap()-before), "B/source")
			b.ReportMetric(float64(len(list))*float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(0, "ns/op")
			runtime.KeepAlive(gaps)
			runtime.KeepAlive(updates)
		})
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
