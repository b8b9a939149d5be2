package jetstream_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/consumers/jetstream"
)

var (
	rounds = flag.Int("rounds", 40, "subscribe and cancel rounds of TestStopUnderLoad")
	seed   = flag.Uint64("seed", 1, "seed of TestStopUnderLoad")
)

func TestManyInFlight(t *testing.T) {
	js := newStream(t)
	const n, window = 300, 100
	publish(t, js, 0, n)
	messages := subscribe(t, t.Context(), newSubscriber(t, js, func(c *jetstream.SubscriberConfig) { c.MaxInFlight = window }))

	inFlight := make([]*message.Message, window)
	for i := range inFlight {
		inFlight[i] = next(t, messages)
	}
	if got := consumerInfo(t, js).NumAckPending; got != window {
		t.Errorf("%d messages in flight, want %d", got, window)
	}
	for _, msg := range inFlight {
		msg.Ack()
	}
	for range n - window {
		next(t, messages).Ack()
	}
	wantAllAcked(t, js)
}

func TestBytesInFlightBounded(t *testing.T) {
	js := newStream(t)
	const n = 20
	large := make([]byte, 900<<10)
	pub := newPublisher(t, js)
	for range n {
		if err := pub.Publish("records.a", message.NewMessage("", large)); err != nil {
			t.Fatal(err)
		}
	}
	// Each message is larger than the budget: they come one at a time.
	messages := subscribe(t, t.Context(), newSubscriber(t, js, func(c *jetstream.SubscriberConfig) { c.MaxInFlightBytes = 1000 }))
	for range n {
		msg := next(t, messages)
		select {
		case <-messages:
			t.Fatal("a second message while the first fills the budget")
		default:
		}
		if len(msg.Payload) != len(large) {
			t.Fatalf("payload of %d bytes, want %d", len(msg.Payload), len(large))
		}
		msg.Ack()
	}
	wantAllAcked(t, js)
	if redelivered := consumerInfo(t, js).NumRedelivered; redelivered != 0 {
		t.Errorf("%d messages redelivered, want none", redelivered)
	}
}

func TestHeaders(t *testing.T) {
	js := newStream(t)
	raw := nats.NewMsg("records.acme.call")
	raw.Data = []byte("body")
	raw.Header = nats.Header{
		"ce-id":                  {"1", "2"},
		"Content-Type":           {"application/json"},
		"empty":                  {""},
		jetstream.SubjectKey:     {"records.victim"},
		jetstream.SequenceKey:    {"7", "8"},
		"Nats-Expected-Stream":   {testStream},
		jetstream.UUIDHeader:     {"uuid", "other"},
		strings.ToUpper("ce-id"): {"case kept"},
	}
	if _, err := js.PublishMsg(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	messages := subscribe(t, t.Context(), newSubscriber(t, js, nil))
	msg := next(t, messages)
	want := message.Metadata{
		"ce-id":                "1\n2",
		"CE-ID":                "case kept",
		"Content-Type":         "application/json",
		"empty":                "",
		"Nats-Expected-Stream": testStream,
		jetstream.SubjectKey:   "records.acme.call",
		jetstream.SequenceKey:  "1",
	}
	if diff := cmp.Diff(want, msg.Metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if msg.UUID != "uuid" || string(msg.Payload) != "body" {
		t.Errorf("got message %q with %q, want \"uuid\" with \"body\"", msg.UUID, msg.Payload)
	}
	if jetstream.Subject(msg) != "records.acme.call" || jetstream.Sequence(msg) != 1 {
		t.Errorf("got %q and %d from the reserved metadata", jetstream.Subject(msg), jetstream.Sequence(msg))
	}

	// Republished, it keeps every value of every header, but neither the
	// instructions to the server nor the reserved keys.
	if err := newPublisher(t, js).Publish("records.again", msg); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), testStream)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := stream.GetMsg(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	wantHeader := nats.Header{
		"ce-id":              {"1", "2"},
		"CE-ID":              {"case kept"},
		"Content-Type":       {"application/json"},
		"empty":              {""},
		jetstream.UUIDHeader: {"uuid"},
	}
	if diff := cmp.Diff(wantHeader, stored.Header); diff != "" {
		t.Errorf("republished header (-want +got):\n%s", diff)
	}
}

func TestMessageWithoutHeaders(t *testing.T) {
	js := newStream(t)
	if _, err := js.Publish(t.Context(), "records.a", nil); err != nil {
		t.Fatal(err)
	}
	msg := next(t, subscribe(t, t.Context(), newSubscriber(t, js, nil)))
	if msg.UUID != testStream+":1" || len(msg.Payload) != 0 {
		t.Errorf("got message %q with %q, want %q and no payload", msg.UUID, msg.Payload, testStream+":1")
	}
}

func TestNackRedelivers(t *testing.T) {
	js := newStream(t)
	publish(t, js, 0, 3)
	messages := subscribe(t, t.Context(), newSubscriber(t, js, nil))
	nacked := next(t, messages)
	nacked.Nack()
	seen := map[string]int{string(nacked.Payload): 1}
	for range 3 {
		msg := next(t, messages)
		seen[string(msg.Payload)]++
		msg.Ack()
	}
	if diff := cmp.Diff(map[string]int{"0": 2, "1": 1, "2": 1}, seen); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
	wantAllAcked(t, js)
}

func TestCancelRedeliversAtOnce(t *testing.T) {
	js := newStream(t)
	const n, taken = 500, 200
	publish(t, js, 0, n)
	sub := newSubscriber(t, js, nil)
	ctx, cancel := context.WithCancel(t.Context())
	messages := subscribe(t, ctx, sub)
	acked := make(map[string]bool)
	var held []*message.Message
	for i := range taken {
		msg := next(t, messages)
		if i%2 == 0 {
			acked[string(msg.Payload)] = true
			msg.Ack()
		} else {
			held = append(held, msg)
		}
	}
	cancel()
	eventually(t, func() error {
		select {
		case msg, ok := <-messages:
			if ok {
				held = append(held, msg)
				return errors.New("channel still open")
			}
			return nil
		default:
			return errors.New("channel neither closed nor ready")
		}
	})
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	for _, msg := range held {
		select {
		case <-msg.Context().Done():
		default:
			t.Fatal("message's context still live after Close")
		}
		msg.Ack() // too late: it went back to JetStream
	}

	// With AckWait at ten minutes, these come only because they were returned.
	again := subscribe(t, t.Context(), newSubscriber(t, js, nil))
	for range n - len(acked) {
		msg := next(t, again)
		if acked[string(msg.Payload)] {
			t.Errorf("message %s was acked and came again", msg.Payload)
		}
		msg.Ack()
	}
	wantAllAcked(t, js)
}

func TestLostAckRedelivers(t *testing.T) {
	srv := startServer(t, t.TempDir(), server.RANDOM_PORT)
	t.Cleanup(func() { stopServer(srv) })
	js := connect(t, srv)
	createStream(t, js)
	publish(t, js, 0, 1)

	doomed := connect(t, srv)
	sub := newSubscriber(t, doomed, func(c *jetstream.SubscriberConfig) { c.AckWait = time.Second })
	messages := subscribe(t, t.Context(), sub)
	msg := next(t, messages)
	doomed.Conn().Close()
	msg.Ack()
	if _, ok := <-messages; ok {
		t.Fatal("message on a closed connection")
	}

	again := next(t, subscribe(t, t.Context(), newSubscriber(t, js, func(c *jetstream.SubscriberConfig) { c.AckWait = time.Second })))
	if string(again.Payload) != "0" {
		t.Errorf("got %q again, want \"0\"", again.Payload)
	}
	again.Ack()
	wantAllAcked(t, js)
}

func TestSettleTimeoutTakesLateAcks(t *testing.T) {
	js := newStream(t)
	publish(t, js, 0, 10)
	sub := newSubscriber(t, js, func(c *jetstream.SubscriberConfig) {
		c.SettleTimeout = longAckWait
		c.MaxInFlight = 10
	})
	ctx, cancel := context.WithCancel(t.Context())
	messages := subscribe(t, ctx, sub)
	held := make([]*message.Message, 10)
	for i := range held {
		held[i] = next(t, messages)
	}
	cancel()
	if _, ok := <-messages; ok {
		t.Fatal("message after cancel")
	}
	time.Sleep(200 * time.Millisecond) // a subscription that did not wait would return them now
	for _, msg := range held {
		msg.Ack()
	}
	sub.Close()
	info := consumerInfo(t, js)
	if info.NumAckPending != 0 || info.NumRedelivered != 0 {
		t.Errorf("%d unacked and %d redelivered, want none", info.NumAckPending, info.NumRedelivered)
	}
}

func TestSlowHandlerIsNotOvertaken(t *testing.T) {
	js := newStream(t)
	const n = 50
	publish(t, js, 0, n)
	const ackWait = 2 * time.Second
	messages := subscribe(t, t.Context(), newSubscriber(t, js, func(c *jetstream.SubscriberConfig) { c.AckWait = ackWait }))
	// One is being handled and the others have not even been handed out.
	slow := next(t, messages)
	time.Sleep(2*ackWait + ackWait/2)
	slow.Ack()
	for range n - 1 {
		next(t, messages).Ack()
	}
	wantAllAcked(t, js)
	if info := consumerInfo(t, js); info.Delivered.Consumer != n {
		t.Errorf("%d deliveries of %d messages, want each once", info.Delivered.Consumer, n)
	}
}

// TestStopUnderLoad subscribes and stops over and over while messages come in
// and handlers ack, nack and forget them, and checks that each is acked in the
// end and nothing is left behind.
func TestStopUnderLoad(t *testing.T) {
	t.Logf("-rounds=%d -seed=%d", *rounds, *seed)
	js := newStream(t)
	n := 100 * *rounds
	var publishing sync.WaitGroup
	publishing.Go(func() {
		pub := newPublisher(t, js)
		for i := range n {
			if err := pub.Publish("records.a", message.NewMessage("", fmt.Appendf(nil, "%d", i))); err != nil {
				t.Error(err)
				return
			}
		}
	})

	var mu sync.Mutex
	acked := make(map[string]bool)
	random := rand.New(rand.NewPCG(*seed, 0))
	handle := func(messages <-chan *message.Message, chance *rand.Rand) {
		for msg := range messages {
			switch chance.IntN(10) {
			case 0:
				msg.Nack()
			case 1: // forgotten
			default:
				mu.Lock()
				acked[string(msg.Payload)] = true
				mu.Unlock()
				msg.Ack()
			}
		}
	}
	for range *rounds {
		sub := newSubscriber(t, js, func(c *jetstream.SubscriberConfig) { c.MaxInFlight = 500; c.NackDelay = time.Millisecond })
		ctx, cancel := context.WithCancel(t.Context())
		var handlers sync.WaitGroup
		for range 2 {
			messages := subscribe(t, ctx, sub)
			chance := rand.New(rand.NewPCG(random.Uint64(), 0))
			for range 2 {
				own := rand.New(rand.NewPCG(chance.Uint64(), 0))
				handlers.Go(func() { handle(messages, own) })
			}
		}
		time.Sleep(time.Duration(random.IntN(5)) * time.Millisecond)
		if random.IntN(2) == 0 {
			cancel()
		}
		sub.Close()
		handlers.Wait()
		cancel()
	}
	publishing.Wait()
	wantNoGoroutines(t)

	sub := newSubscriber(t, js, func(c *jetstream.SubscriberConfig) { c.MaxInFlight = 500 })
	messages := subscribe(t, t.Context(), sub)
	var last sync.WaitGroup
	last.Go(func() {
		for msg := range messages {
			acked[string(msg.Payload)] = true
			msg.Ack()
		}
	})
	wantAllAcked(t, js)
	sub.Close()
	last.Wait()
	if len(acked) != n {
		t.Errorf("%d messages reached a handler that acked, want %d", len(acked), n)
	}
	wantNoGoroutines(t)
}

func TestServerRestart(t *testing.T) {
	dir := t.TempDir()
	srv := startServer(t, dir, server.RANDOM_PORT)
	js := connect(t, srv)
	createStream(t, js)
	messages := subscribe(t, t.Context(), newSubscriber(t, js, func(c *jetstream.SubscriberConfig) { c.AckWait = time.Second }))

	seen := make(map[string]bool)
	collect := func(want int) {
		for len(seen) < want {
			msg := next(t, messages)
			seen[string(msg.Payload)] = true
			msg.Ack()
		}
	}
	publish(t, js, 0, 1000)
	collect(500)
	port := srv.Addr().(*net.TCPAddr).Port
	stopServer(srv)
	srv = startServer(t, dir, port)
	t.Cleanup(func() { stopServer(srv) })
	publish(t, connect(t, srv), 1000, 1000)
	collect(2000)
	go func() { // acks that were lost with the server have their messages delivered again
		for msg := range messages {
			msg.Ack()
		}
	}()
	wantAllAcked(t, js)
}

func TestConsumerDeleted(t *testing.T) {
	js := newStream(t)
	messages := subscribe(t, t.Context(), newSubscriber(t, js, nil))
	publish(t, js, 0, 1)
	old := next(t, messages)
	if err := js.DeleteConsumer(t.Context(), testStream, "engine"); err != nil {
		t.Fatal(err)
	}
	// The new consumer starts over: at least once, also here.
	again := next(t, messages)
	old.Ack()
	if string(again.Payload) != "0" {
		t.Errorf("got %q, want \"0\" again", again.Payload)
	}
	publish(t, js, 1, 1)
	if msg := next(t, messages); string(msg.Payload) != "1" {
		t.Errorf("got %q, want \"1\"", msg.Payload)
	}
}

// TestStreamReplaced acks a message of a deleted stream while a message of the
// same sequence of its successor is in flight: the ack must not hit the latter.
func TestStreamReplaced(t *testing.T) {
	js := newStream(t)
	sub := newSubscriber(t, js, nil)
	messages := subscribe(t, t.Context(), sub)
	publish(t, js, 0, 1)
	old := next(t, messages)
	if err := js.DeleteStream(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	createStream(t, js)
	publish(t, js, 1, 1)
	if msg := next(t, messages); string(msg.Payload) != "1" {
		t.Fatalf("got %q, want \"1\"", msg.Payload)
	}
	old.Ack()
	<-old.Context().Done()
	sub.Close()
	if msg := next(t, subscribe(t, t.Context(), newSubscriber(t, js, nil))); string(msg.Payload) != "1" {
		t.Errorf("got %q, want the unacked \"1\"", msg.Payload)
	}
}

func TestSubscribeErrors(t *testing.T) {
	js := newStream(t)
	missing := newSubscriber(t, js, func(c *jetstream.SubscriberConfig) {
		c.Route = jetstream.FixedRoute(jetstream.Route{Stream: "ABSENT", Durable: "engine"})
	})
	if _, err := missing.Subscribe(t.Context(), "records"); !errors.Is(err, natsjs.ErrStreamNotFound) {
		t.Errorf("without stream: got %v, want ErrStreamNotFound", err)
	}
	unnamed := newSubscriber(t, js, func(c *jetstream.SubscriberConfig) { c.Route = jetstream.FixedRoute(jetstream.Route{}) })
	if _, err := unnamed.Subscribe(t.Context(), "records"); err == nil {
		t.Error("with an empty route: no error")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newSubscriber(t, js, nil).Subscribe(cancelled, "records"); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: got %v, want context.Canceled", err)
	}
	closed := newSubscriber(t, js, nil)
	closed.Close()
	closed.Close()
	if _, err := closed.Subscribe(t.Context(), "records"); !errors.Is(err, jetstream.ErrClosed) {
		t.Errorf("after Close: got %v, want ErrClosed", err)
	}
	if err := closed.SubscribeInitialize("records"); !errors.Is(err, jetstream.ErrClosed) {
		t.Errorf("SubscribeInitialize after Close: got %v, want ErrClosed", err)
	}
	wantNoGoroutines(t)
}

func TestSubscriberConfigChecked(t *testing.T) {
	js := newStream(t)
	good := jetstream.SubscriberConfig{JetStream: js, Route: jetstream.FixedRoute(jetstream.Route{Stream: "s", Durable: "d"})}
	if _, err := jetstream.NewSubscriber(good); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*jetstream.SubscriberConfig){
		"JetStream":        func(c *jetstream.SubscriberConfig) { c.JetStream = nil },
		"Route":            func(c *jetstream.SubscriberConfig) { c.Route = nil },
		"MaxInFlight":      func(c *jetstream.SubscriberConfig) { c.MaxInFlight = jetstream.MaxMaxInFlight + 1 },
		"MaxInFlightBytes": func(c *jetstream.SubscriberConfig) { c.MaxInFlightBytes = -1 },
		"AckWait":          func(c *jetstream.SubscriberConfig) { c.AckWait = jetstream.MinAckWait - 1 },
		"NackDelay":        func(c *jetstream.SubscriberConfig) { c.NackDelay = -1 },
		"SettleTimeout":    func(c *jetstream.SubscriberConfig) { c.SettleTimeout = -1 },
	} {
		bad := good
		spoil(&bad)
		if _, err := jetstream.NewSubscriber(bad); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("bad %s: got error %v", field, err)
		}
	}
}
