package jetstream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// BenchmarkSubscribe handles messages the way the book does: those waiting are
// committed together, which takes one pause, and then acked.
func BenchmarkSubscribe(b *testing.B) {
	for _, commit := range []time.Duration{0, 2 * time.Millisecond} {
		b.Run(fmt.Sprintf("commit=%s", commit), func(b *testing.B) { benchmarkSubscribe(b, commit) })
	}
}

func benchmarkSubscribe(b *testing.B, commit time.Duration) {
	js := newStream(b)
	messages := make([]*message.Message, b.N)
	for i := range messages {
		messages[i] = message.NewMessage("", make([]byte, 400))
	}
	if err := newPublisher(b, js).Publish("records.a", messages...); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	incoming := subscribe(b, b.Context(), newSubscriber(b, js, nil))
	for done := 0; done < b.N; {
		batch := []*message.Message{next(b, incoming)}
	fill:
		for commit > 0 {
			select {
			case msg := <-incoming:
				batch = append(batch, msg)
			case <-time.After(50 * time.Microsecond):
				break fill
			}
		}
		if commit > 0 {
			time.Sleep(commit)
		}
		for _, msg := range batch {
			msg.Ack()
		}
		done += len(batch)
	}
	wantAllAcked(b, js)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
