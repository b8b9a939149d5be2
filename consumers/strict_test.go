package consumers_test

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/consumers"
)

func TestStrict(t *testing.T) {
	for _, lax := range []bool{false, true} {
		srv, err := server.NewServer(&server.Options{
			Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoJetStreamStrict: lax, NoLog: true, NoSigs: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		srv.Start()
		t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
		if !srv.ReadyForConnections(patience) {
			t.Fatal("the NATS server did not start")
		}
		nc, err := nats.Connect(srv.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := natsjs.New(nc)
		if err == nil {
			err = consumers.EnsureStream(t.Context(), js)
		}
		if err != nil {
			t.Fatal(err)
		}
		if strict, err := consumers.Strict(t.Context(), js); err != nil || strict == lax {
			t.Errorf("NoJetStreamStrict %v: strict %v, %v", lax, strict, err)
		}
	}
}
