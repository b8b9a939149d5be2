package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/consumers/jetstream"
)

// patience is how long a test waits for what has to happen before it fails. No
// test depends on anything happening sooner.
const patience = 30 * time.Second

// longAckWait is longer than any test may take: what is redelivered in a test
// with it was returned, and did not merely time out.
const longAckWait = 10 * time.Minute

const testStream = "RECORDS"

// startServer runs a nats-server with its store in dir on port, or on any free
// port for server.RANDOM_PORT.
func startServer(t testing.TB, dir string, port int) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port,
		JetStream: true, StoreDir: dir,
		NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(patience) {
		t.Fatal("nats-server did not start")
	}
	return srv
}

func stopServer(srv *server.Server) {
	srv.Shutdown()
	srv.WaitForShutdown()
}

func connect(t testing.TB, srv *server.Server) natsjs.JetStream {
	t.Helper()
	addr := srv.Addr().(*net.TCPAddr)
	conn, err := nats.Connect(fmt.Sprintf("nats://%s", addr), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := natsjs.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// newStream starts a server with the stream RECORDS on records.> and connects.
func newStream(t testing.TB) natsjs.JetStream {
	t.Helper()
	srv := startServer(t, t.TempDir(), server.RANDOM_PORT)
	t.Cleanup(func() { stopServer(srv) })
	js := connect(t, srv)
	createStream(t, js)
	return js
}

func createStream(t testing.TB, js natsjs.JetStream) {
	t.Helper()
	_, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: testStream, Subjects: []string{"records.>"}})
	if err != nil {
		t.Fatal(err)
	}
}

// newSubscriber subscribes with the durable "engine"; adjust may change the config.
func newSubscriber(t testing.TB, js natsjs.JetStream, adjust func(*jetstream.SubscriberConfig)) *jetstream.Subscriber {
	t.Helper()
	config := jetstream.SubscriberConfig{
		JetStream: js,
		Route:     jetstream.FixedRoute(jetstream.Route{Stream: testStream, Durable: "engine", Filters: []string{"records.>"}}),
		AckWait:   longAckWait,
	}
	if adjust != nil {
		adjust(&config)
	}
	sub, err := jetstream.NewSubscriber(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sub.Close() })
	return sub
}

func newPublisher(t testing.TB, js natsjs.JetStream) *jetstream.Publisher {
	t.Helper()
	pub, err := jetstream.NewPublisher(jetstream.PublisherConfig{JetStream: js})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pub.Close() })
	return pub
}

// publish stores n messages on records.a with the payloads from, from+1, ...
func publish(t testing.TB, js natsjs.JetStream, from, n int) {
	t.Helper()
	messages := make([]*message.Message, n)
	for i := range messages {
		messages[i] = message.NewMessage("", fmt.Appendf(nil, "%d", from+i))
	}
	if err := newPublisher(t, js).Publish("records.a", messages...); err != nil {
		t.Fatal(err)
	}
}

func subscribe(t testing.TB, ctx context.Context, sub *jetstream.Subscriber) <-chan *message.Message {
	t.Helper()
	messages, err := sub.Subscribe(ctx, "records")
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

func next(t testing.TB, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case msg, ok := <-messages:
		if !ok {
			t.Fatal("channel closed, want a message")
		}
		return msg
	case <-time.After(patience):
		t.Fatal("no message")
	}
	return nil
}

func consumerInfo(t testing.TB, js natsjs.JetStream) *natsjs.ConsumerInfo {
	t.Helper()
	consumer, err := js.Consumer(t.Context(), testStream, "engine")
	if err != nil {
		t.Fatal(err)
	}
	return consumer.CachedInfo()
}

// eventually waits until check returns nil.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// wantAllAcked waits until JetStream has an ack for every message of the stream.
func wantAllAcked(t testing.TB, js natsjs.JetStream) {
	t.Helper()
	eventually(t, func() error {
		info := consumerInfo(t, js)
		if info.NumAckPending != 0 || info.NumPending != 0 {
			return fmt.Errorf("%d messages unacked and %d undelivered, want none", info.NumAckPending, info.NumPending)
		}
		return nil
	})
}

// wantNoGoroutines fails if goroutines of this package or of a nats.go
// subscription outlive what started them.
func wantNoGoroutines(t testing.TB) {
	t.Helper()
	eventually(t, func() error {
		stacks := make([]byte, 16<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for _, stack := range strings.Split(string(stacks), "\n\n") {
			if strings.Contains(stack, "tollbook/consumers/jetstream.") || strings.Contains(stack, "jetstream.(*pullSubscription)") {
				return errors.New("goroutine left:\n" + stack)
			}
		}
		return nil
	})
}
