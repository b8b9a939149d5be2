package sqlite_test

import (
	"testing"

	"tollbook/eventstore"
)

const benchBytes = 128 << 10

// BenchmarkAppend is what one writer makes durable, each block for itself.
func BenchmarkAppend(b *testing.B) {
	l := openLog(b, eventstore.LogPath(b.TempDir()))
	defer closeLog(b, l)
	data, n := block(1, benchBytes), uint64(0)
	b.SetBytes(benchBytes)
	for b.Loop() {
		n++
		if err := l.Append(ctx, n, data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}

// BenchmarkRead is one pass over a log of 64 MiB.
func BenchmarkRead(b *testing.B) {
	const blocks = 512
	l := openLog(b, eventstore.LogPath(b.TempDir()))
	defer closeLog(b, l)
	for n := range uint64(blocks) {
		if err := l.Append(ctx, n+1, block(n+1, benchBytes)); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(blocks * benchBytes)
	b.ReportAllocs()
	for b.Loop() {
		read := 0
		err := l.Read(ctx, 1, func(uint64, []byte) error { read++; return nil })
		if read != blocks || err != nil {
			b.Fatalf("read %d blocks, %v", read, err)
		}
	}
	b.ReportMetric(blocks*float64(b.N)/b.Elapsed().Seconds(), "blocks/s")
}
