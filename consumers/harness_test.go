package consumers_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
	"tollbook/eventstore/memlog"
	"tollbook/eventstore/sqlite"
)

// patience is how long a test waits for what has to happen before it fails. No
// test depends on anything happening sooner.
const patience = time.Minute

var (
	rounds = flag.Int("rounds", 20, "serve and cancel rounds of TestServeCancelledUnderLoad")
	seed   = flag.Uint64("seed", 1, "seed of the tests with random times")
)

// asServer makes the test binary a NATS server on the directory and address that
// follow: for tests that kill it.
const asServer = "TOLLBOOK_TEST_AS_SERVER"

func TestMain(m *testing.M) {
	if where := os.Getenv(asServer); where != "" {
		dir, listen, _ := strings.Cut(where, "|")
		srv, err := consumers.StartServer(consumers.ServerConfig{Dir: dir, Listen: listen})
		if err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		fmt.Println(srv.ClientURL())
		select {}
	}
	if err := flag.Set("rapid.nofailfile", "true"); err != nil { // its seed is printed
		panic(err)
	}
	os.Exit(m.Run())
}

// A broker is the product's NATS server in this process, on one directory and port.
type broker struct {
	t      testing.TB
	dir    string
	listen string
	srv    *server.Server
}

func startBroker(t testing.TB) *broker {
	t.Helper()
	b := &broker{t: t, dir: t.TempDir(), listen: "127.0.0.1:0"}
	b.start()
	b.listen = b.srv.Addr().(*net.TCPAddr).String()
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start() {
	b.t.Helper()
	var err error
	b.srv, err = consumers.StartServer(consumers.ServerConfig{Dir: b.dir, Listen: b.listen, SyncInterval: time.Minute})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) stop() {
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
}

func (b *broker) url() string { return "nats://" + b.listen }

// A process is the product's NATS server in a process of its own, to be killed.
type process struct {
	t      testing.TB
	dir    string
	listen string
	cmd    *exec.Cmd
}

func startProcess(t testing.TB) *process {
	t.Helper()
	p := &process{t: t, dir: t.TempDir(), listen: "127.0.0.1:0"}
	p.listen = strings.TrimPrefix(p.start(), "nats://")
	t.Cleanup(p.kill)
	return p
}

// start returns once it listens.
func (p *process) start() (url string) {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), asServer+"="+p.dir+"|"+p.listen)
	p.cmd.Stderr = os.Stderr
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	said, err := bufio.NewReader(stdout).ReadString('\n')
	if url = strings.TrimSpace(said); err != nil || !strings.HasPrefix(url, "nats://") {
		p.t.Fatalf("no server: %q, %v", said, err)
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	return url
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *process) url() string { return "nats://" + p.listen }

func connect(t testing.TB, url string, options ...nats.Option) (*nats.Conn, natsjs.JetStream) {
	t.Helper()
	nc, err := nats.Connect(url, append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // it would print what is expected
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// A tally is what the book came to hold, told to a follower of it.
type tally struct {
	mu         sync.Mutex
	booked     map[string]int // by source and id
	suspended  []domain.Suspended
	duplicates int
	after      func() // if not nil, called once a block is durable and before its senders know
}

func (a *tally) follow(u eventstore.Update) {
	a.mu.Lock()
	for i := range u.Events {
		switch data := u.Events[i].Data.(type) {
		case *domain.Suspended:
			a.suspended = append(a.suspended, *data)
		default:
			a.booked[u.Events[i].Source+" "+u.Events[i].ID]++
		}
	}
	for _, d := range u.Duplicates {
		a.duplicates += int(d.N)
	}
	after := a.after
	a.mu.Unlock()
	if after != nil {
		after()
	}
}

// received is the sum of what became of records.
func (a *tally) received() (booked, duplicates, suspended int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.booked), a.duplicates, len(a.suspended)
}

// An engine is the intake on a book: what consumers.Serve needs, and what it did.
type engine struct {
	*tally
	t      testing.TB
	book   *eventstore.Book
	intake *consumers.Intake
	nc     *nats.Conn
	js     natsjs.JetStream
	ops    natsjs.JetStream // asks NATS, on a connection of its own

	cancel context.CancelFunc
	served chan error
}

// openMemlog opens a book in memory; before is called by each append.
func openMemlog(t testing.TB, before func()) func(string) (eventstore.Log, error) {
	return func(string) (eventstore.Log, error) {
		log := memlog.New(t)
		if before != nil {
			log.Before = func(uint64) { before() }
		}
		return log, nil
	}
}

func openSQLite(path string) (eventstore.Log, error) { return sqlite.Open(path) }

// newEngine opens the book and connects; serve begins to book.
func newEngine(t testing.TB, url string, openLog func(string) (eventstore.Log, error), events ...domain.Event) *engine {
	t.Helper()
	e := &engine{t: t, tally: &tally{booked: map[string]int{}}}
	switches := consumers.NewSwitches()
	clock := func() domain.Instant { return domain.MinInstant }
	book, err := eventstore.Open(t.Context(), t.TempDir(), openLog, eventstore.Options{
		Clock: clock, Resume: []eventstore.Resumer{switches}, Follow: []eventstore.Follower{e.follow},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := book.Close(); err != nil {
			t.Error(err)
		}
	})
	e.book, e.intake = book, consumers.NewIntake(book, switches, clock)
	for i := range events {
		if _, err := book.Submit(t.Context(), []eventstore.Record{{Event: events[i]}}); err != nil {
			t.Fatal(err)
		}
	}
	e.booked = map[string]int{}
	e.nc, e.js = connect(t, url)
	_, e.ops = connect(t, url)
	return e
}

// serve starts consumers.Serve.
func (e *engine) serve() {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel, e.served = cancel, make(chan error, 1)
	served := e.served
	go func() {
		served <- consumers.Serve(ctx, e.js, e.intake, watermill.NewSlogLogger(slog.New(slog.DiscardHandler)))
	}()
	e.t.Cleanup(e.stop)
}

// serving waits until the engine asks for messages.
func (e *engine) serving() {
	e.t.Helper()
	e.eventually(func() error {
		info, err := e.consumer()
		if err == nil && info.NumWaiting == 0 {
			err = errors.New("nobody asks for messages")
		}
		return err
	})
}

// stop ends serve and fails if it ended with an error.
func (e *engine) stop() {
	e.t.Helper()
	if e.cancel == nil {
		return
	}
	e.cancel()
	if err := <-e.served; err != nil {
		e.t.Errorf("Serve: %v", err)
	}
	e.cancel = nil
}

// drained waits until nothing is left in the stream.
func (e *engine) drained() {
	e.t.Helper()
	e.eventually(func() error {
		select {
		case err := <-e.served:
			e.served <- err
			e.t.Fatalf("Serve ended: %v", err)
		default:
		}
		stream, err := e.ops.Stream(e.t.Context(), consumers.StreamName)
		if err != nil {
			return err
		}
		if n := stream.CachedInfo().State.Msgs; n > 0 {
			return fmt.Errorf("%d messages in the stream", n)
		}
		return nil
	})
}

func (e *engine) consumer() (*natsjs.ConsumerInfo, error) {
	c, err := e.ops.Consumer(e.t.Context(), consumers.StreamName, consumers.ConsumerName)
	if err != nil {
		return nil, err
	}
	return c.CachedInfo(), nil
}

// eventually waits until check returns nil.
func (e *engine) eventually(check func() error) {
	e.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			booked, duplicates, suspended := e.received()
			e.t.Fatalf("%v; %d booked, %d duplicate, %d suspended", err, booked, duplicates, suspended)
		}
	}
}

// wantOnce fails unless exactly the calls named are booked, each once.
func (e *engine) wantOnce(ids []string) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	want := map[string]bool{}
	for _, id := range ids {
		key := callSource + " " + id
		if want[key] = true; e.booked[key] == 0 {
			e.t.Errorf("%s is lost", id)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(e.booked)) {
		if n := e.booked[key]; n > 1 {
			e.t.Errorf("%s is booked %d times", key, n)
		} else if !want[key] {
			e.t.Errorf("%s was not sent", key)
		}
	}
}

const (
	callSource  = "switch/mil-1"
	callSubject = "tollbook.contoso.call.completed"
)

// call is a call as JSON.
func call(id string) []byte {
	answered := domain.InstantOf(time.Date(2026, 10, 5, 9, 0, 0, 0, time.UTC))
	e := domain.Event{
		Tenant: "contoso", Source: callSource, ID: id, Time: answered + domain.Instant(time.Minute),
		Data: &domain.Call{
			User: "ada@contoso.example", Kind: domain.KindUser, Calling: number("+390281234567"), Called: number("+390612345678"),
			AnsweredAt: answered, BillableMS: 60_000,
		},
	}
	return cloudevents.Append(nil, &e)
}

func number(s string) domain.Number {
	n, err := domain.ParseNumber(s)
	if err != nil {
		panic(err)
	}
	return n
}

// publishCalls publishes calls of these ids, one message each, and returns once
// JetStream has them.
func publishCalls(t testing.TB, js natsjs.JetStream, ids []string) {
	t.Helper()
	var acks []natsjs.PubAckFuture
	wait := func() {
		for i, ack := range acks {
			select {
			case <-ack.Ok():
			case err := <-ack.Err():
				t.Fatalf("message %d: %v", i, err)
			}
		}
		acks = acks[:0]
	}
	for _, id := range ids {
		ack, err := js.PublishAsync(callSubject, call(id))
		if err != nil {
			t.Fatal(err)
		}
		if acks = append(acks, ack); len(acks) == 1000 {
			wait()
		}
	}
	wait()
}

// callIDs are n ids that begin with prefix.
func callIDs(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return ids
}

// wantNoGoroutines fails if goroutines of the intake or of Watermill outlive what
// started them.
func wantNoGoroutines(t testing.TB) {
	t.Helper()
	parts := []string{"tollbook/consumers.", "tollbook/consumers/jetstream.", "watermill/message."}
	var left error
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		stacks := make([]byte, 16<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		left = nil
		for stack := range strings.SplitSeq(string(stacks), "\n\n") {
			if slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(stack, part) }) {
				left = errors.New(stack)
			}
		}
		if left == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutine left:\n%v", left)
		}
	}
}
