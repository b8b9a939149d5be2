package eventstore_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

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

// BenchmarkOpen opens a book of a million calls: with its index, after the index
// was lost, and with a follower that has no snapshot.
func BenchmarkOpen(b *testing.B) {
	const events = 1_000_000
	dir := b.TempDir()
	open := func(follow ...eventstore.Follower) *eventstore.Book {
		book, err := eventstore.Open(ctx, dir, func(path string) (eventstore.Log, error) { return sqlite.Open(path) },
			eventstore.Options{Clock: ticking(), Follow: follow})
		if err != nil {
			b.Fatal(err)
		}
		return book
	}
	closed := func(book *eventstore.Book) {
		if err := book.Close(); err != nil {
			b.Fatal(err)
		}
	}
	book := open()
	templates := calls(1, 1000)
	for n := 0; n < events; n += 8000 {
		list := make([]eventstore.Record, 8000)
		for i := range list {
			list[i] = templates[i%len(templates)]
			list[i].Event.ID = uuid.NewHash(sha256.New(), uuid.Nil, []byte(strconv.Itoa(n+i)), 4).String()
		}
		if _, err := book.Submit(ctx, list); err != nil {
			b.Fatal(err)
		}
	}
	closed(book)
	for _, c := range []struct {
		name   string
		lose   bool
		follow []eventstore.Follower
	}{
		{"indexed", false, nil},
		{"told", false, []eventstore.Follower{func(eventstore.Update) {}}},
		{"index lost", true, nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			var bytes, inRuns uint64
			b.StopTimer()
			for range b.N {
				if c.lose {
					if err := os.RemoveAll(eventstore.IndexPath(dir)); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				book := open(c.follow...)
				b.StopTimer()
				if head := book.Head(); head.Events != events {
					b.Fatalf("%d events", head.Events)
				}
				bytes, inRuns = book.IndexMemory()
				closed(book)
			}
			b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds()/1e6, "Mevents/s")
			b.ReportMetric(float64(bytes)/float64(inRuns), "B/event")
		})
	}
}
