package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/consumers/jetstream"
)

// More batches than may be on the wire together, from more callers than there
// are slots.
func TestPublishStoresAll(t *testing.T) {
	js := newStream(t)
	pub := newPublisher(t, js)
	const callers, each = 20, 600
	var calls sync.WaitGroup
	for caller := range callers {
		calls.Go(func() {
			messages := make([]*message.Message, each)
			for i := range messages {
				messages[i] = message.NewMessage("", fmt.Appendf(nil, "%d/%d", caller, i))
			}
			if err := pub.Publish("records.a", messages...); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	stream, err := js.Stream(t.Context(), testStream)
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().State.Msgs; got != callers*each {
		t.Errorf("stream holds %d messages, want %d", got, callers*each)
	}
}

func TestPublishErrors(t *testing.T) {
	js := newStream(t)
	pub := newPublisher(t, js)
	body := func() *message.Message { return message.NewMessage("id", []byte("x")) }

	if err := pub.Publish("unheard.of", body()); !errors.Is(err, natsjs.ErrNoStreamResponse) {
		t.Errorf("without a stream: got %v, want ErrNoStreamResponse", err)
	}
	for _, key := range []string{"", "a:b", "a b", "a\r\nNats-Rollup", "é"} {
		msg := body()
		msg.Metadata.Set(key, "v")
		if err := pub.Publish("records.a", msg); err == nil {
			t.Errorf("metadata key %q: no error", key)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	msg := body()
	msg.SetContext(ctx)
	if err := pub.Publish("records.a", msg); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: got %v, want context.Canceled", err)
	}
	pub.Close()
	pub.Close()
	if err := pub.Publish("records.a", body()); !errors.Is(err, jetstream.ErrClosed) {
		t.Errorf("after Close: got %v, want ErrClosed", err)
	}
	stream, err := js.Stream(t.Context(), testStream)
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().State.Msgs; got != 0 {
		t.Errorf("stream holds %d messages, want none", got)
	}
}

// A repeated Nats-Msg-Id would make JetStream drop the second message.
func TestPublishLeavesOutServerInstructions(t *testing.T) {
	js := newStream(t)
	pub := newPublisher(t, js)
	for range 2 {
		msg := message.NewMessage("", []byte("x"))
		msg.Metadata.Set("Nats-Msg-Id", "same")
		msg.Metadata.Set("nats-rollup", "all")
		if err := pub.Publish("records.a", msg); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := js.Stream(t.Context(), testStream)
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().State.Msgs; got != 2 {
		t.Errorf("stream holds %d messages, want 2", got)
	}
}

func TestPublisherConfigChecked(t *testing.T) {
	if _, err := jetstream.NewPublisher(jetstream.PublisherConfig{}); err == nil {
		t.Error("without JetStream: no error")
	}
	if _, err := jetstream.NewPublisher(jetstream.PublisherConfig{JetStream: newStream(t), AckTimeout: -1}); err == nil {
		t.Error("with a negative AckTimeout: no error")
	}
}
