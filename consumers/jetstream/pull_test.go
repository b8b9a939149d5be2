package jetstream_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// TestForgedStatus: a message without payload whose headers look like what the
// server says of a pull request is a message like any other. None is passed over,
// and none ends the subscription.
func TestForgedStatus(t *testing.T) {
	js := newStream(t)
	want := map[string]bool{}
	forge := func(header nats.Header) {
		t.Helper()
		ack, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "records.a", Header: header})
		if err != nil {
			t.Fatal(err)
		}
		want[header.Get("Status")+" "+header.Get("Description")] = true
		if ack.Duplicate {
			t.Fatal("the stream took it for a repeat")
		}
	}
	for status, descriptions := range map[string][]string{
		"100": {"Idle Heartbeat", "FlowControl Request"},
		"400": {"Bad Request"},
		"404": {"No Messages"},
		"408": {"Request Timeout", "Interest Expired"},
		"409": {"Message Size Exceeds MaxBytes", "Batch Completed", "Consumer Deleted", "Leadership Change", "Server Shutdown", "x"},
		"423": {"Nats-Wrong-Pin-Id"},
		"503": {"No Responders"},
		"999": {"x"},
	} {
		for _, description := range descriptions {
			forge(nats.Header{"Status": {status}, "Description": {description}, "Nats-Pending-Messages": {"1000000000"}, "Nats-Pending-Bytes": {"1000000000"}})
			forge(nats.Header{"Status": {status}, "Description": {description + " bare"}})
		}
	}
	forge(nats.Header{"Nats-Pin-Id": {"x"}})

	messages := subscribe(t, t.Context(), newSubscriber(t, js, nil))
	got := map[string]bool{}
	for range want {
		msg := next(t, messages)
		got[msg.Metadata.Get("Status")+" "+msg.Metadata.Get("Description")] = true
		msg.Ack()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	publish(t, js, 0, 3000) // more than one pull request asks for
	for range 3000 {
		next(t, messages).Ack()
	}
	wantAllAcked(t, js)
}

// TestDomain: the consumer of a JetStream domain is asked where that domain
// listens, however the context was told of it.
func TestDomain(t *testing.T) {
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, JetStreamDomain: "hub", StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { stopServer(srv) })
	if !srv.ReadyForConnections(patience) {
		t.Fatal("nats-server did not start")
	}
	plain := connect(t, srv)
	createStream(t, plain)
	for name, open := range map[string]func() (natsjs.JetStream, error){
		"domain":               func() (natsjs.JetStream, error) { return natsjs.NewWithDomain(plain.Conn(), "hub") },
		"prefix":               func() (natsjs.JetStream, error) { return natsjs.NewWithAPIPrefix(plain.Conn(), "$JS.hub.API") },
		"prefix and full stop": func() (natsjs.JetStream, error) { return natsjs.NewWithAPIPrefix(plain.Conn(), "$JS.hub.API.") },
	} {
		js, err := open()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sub := newSubscriber(t, js, nil)
		messages := subscribe(t, t.Context(), sub)
		publish(t, plain, 0, 1)
		next(t, messages).Ack()
		wantAllAcked(t, plain)
		sub.Close()
	}
}
