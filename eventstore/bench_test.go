package eventstore_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"tollbook/eventstore"
	"tollbook/eventstore/sqlite"
)

// BenchmarkSubmit books calls in a log on disk, each batch durable before its
// sender sends the next.
func BenchmarkSubmit(b *testing.B) {
	for _, c := range []struct{ batch, senders int }{{1, 1}, {1, 256}, {1000, 1}, {1000, 4}} {
		b.Run(fmt.Sprintf("batch=%d/senders=%d", c.batch, c.senders), func(b *testing.B) {
			book, err := eventstore.Open(ctx, b.TempDir(), func(path string) (eventstore.Log, error) { return sqlite.Open(path) },
				eventstore.Options{Clock: ticking()})
			if err != nil {
				b.Fatal(err)
			}
			templates := calls(1, 1000)
			var last atomic.Int64
			var senders sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range c.senders {
				senders.Go(func() {
					list := make([]eventstore.Record, c.batch)
					for {
						n := int(last.Add(1))
						if n > b.N {
							return
						}
						for i := range list {
							id := n*c.batch + i
							list[i] = templates[id%len(templates)]
							list[i].Event.ID = strconv.Itoa(id)
						}
						if _, err := book.Submit(ctx, list); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			senders.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N*c.batch)/b.Elapsed().Seconds(), "calls/s")
			if head := book.Head(); head.Events != uint64(b.N*c.batch) {
				b.Errorf("%d events are booked of %d", head.Events, b.N*c.batch)
			}
			b.ReportMetric(float64(b.N*c.batch)/float64(book.Head().Block), "calls/block")
			if err := book.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}
