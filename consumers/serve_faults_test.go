package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/consumers"
)

// A gate holds up a slow disk until it is opened.
type gate struct {
	once sync.Once
	open chan struct{}
}

func newGate(t testing.TB) *gate {
	g := &gate{open: make(chan struct{})}
	t.Cleanup(g.release) // before the book is closed, whose committer may wait here
	return g
}

func (g *gate) wait()    { <-g.open }
func (g *gate) release() { g.once.Do(func() { close(g.open) }) }

// TestRedeliveryStorm has every message returned nine times while the book is busy
// with it: of ten deliveries one is booked and nine are repeats, and they add up.
func TestRedeliveryStorm(t *testing.T) {
	const n, returned = 300, 9
	b := startBroker(t)
	disk := newGate(t)
	e := newEngine(t, b.url(), openMemlog(t, disk.wait))
	t.Cleanup(disk.release)

	// Who has the reply subject of a delivery can return it in the engine's place.
	eve, js := connect(t, b.url())
	var deliveries atomic.Int64
	_, err := eve.Subscribe("_INBOX.>", func(m *nats.Msg) {
		if meta, err := m.Metadata(); err == nil && meta.Consumer == consumers.ConsumerName {
			deliveries.Add(1)
			if meta.NumDelivered <= returned {
				_ = eve.Publish(m.Reply, []byte("-NAK"))
			}
		}
	})
	if err != nil || eve.Flush() != nil {
		t.Fatal(err)
	}
	e.serve()
	ids := callIDs("call", n)
	e.serving()
	publishCalls(t, js, ids)
	e.eventually(func() error {
		if got := deliveries.Load(); got != n*(1+returned) {
			return fmt.Errorf("%d deliveries", got)
		}
		return nil
	})
	disk.release()
	e.drained()
	e.eventually(func() error {
		booked, duplicates, suspended := e.received()
		if booked+duplicates+suspended != n*(1+returned) {
			return fmt.Errorf("of %d deliveries something is missing", deliveries.Load())
		}
		return nil
	})
	if booked, duplicates, suspended := e.received(); booked != n || duplicates != n*returned || suspended != 0 {
		t.Errorf("%d booked, %d duplicate, %d suspended; want %d, %d, 0", booked, duplicates, suspended, n, n*returned)
	}
	e.wantOnce(ids)
	t.Logf("%d messages, %d redelivered", n, deliveries.Load()-n)
}

// TestAckWaitShorterThanCommit: where somebody has set the consumer's ack wait
// below what a commit takes, messages come again and again, but only until the
// commit is through, and each delivery is accounted for.
func TestAckWaitShorterThanCommit(t *testing.T) {
	const n = 200
	b := startBroker(t)
	disk := newGate(t)
	e := newEngine(t, b.url(), openMemlog(t, disk.wait))
	t.Cleanup(disk.release)
	e.serve()
	e.setAckWait(100 * time.Millisecond)
	_, js := connect(t, b.url())
	ids := callIDs("call", n)
	publishCalls(t, js, ids)
	e.eventually(func() error {
		info, err := e.consumer()
		if err == nil && info.Delivered.Consumer < 4*n {
			err = fmt.Errorf("%d deliveries", info.Delivered.Consumer)
		}
		return err
	})
	disk.release()
	e.drained()
	var info *natsjs.ConsumerInfo
	e.eventually(func() (err error) {
		if info, err = e.consumer(); err != nil {
			return err
		}
		booked, duplicates, suspended := e.received()
		if info.NumAckPending != 0 || uint64(booked+duplicates+suspended) != info.Delivered.Consumer {
			return fmt.Errorf("of %d deliveries %d are unacknowledged", info.Delivered.Consumer, info.NumAckPending)
		}
		return nil
	})
	e.wantOnce(ids)
	t.Logf("%d messages, %d redelivered", n, info.Delivered.Consumer-n)
}

// setAckWait changes the consumer as an operator can.
func (e *engine) setAckWait(wait time.Duration) {
	e.t.Helper()
	e.serving()
	e.eventually(func() error {
		info, err := e.consumer()
		if err != nil {
			return err
		}
		config := info.Config
		config.AckWait = wait
		_, err = e.ops.UpdateConsumer(e.t.Context(), consumers.StreamName, config)
		return err
	})
}

// TestAckLostAfterAppend: the connection dies with the acknowledgements of what is
// booked and durable. The messages come again and are repeats.
func TestAckLostAfterAppend(t *testing.T) {
	const n = 500
	b := startBroker(t)
	line := startLine(t, b.listen)
	e := newEngine(t, "nats://"+line.address(), openMemlog(t, nil))
	_, js := connect(t, b.url())
	e.ops = js
	e.serve()
	e.setAckWait(500 * time.Millisecond)
	e.mu.Lock()
	e.after = func() { line.deaf.Store(true) } // durable, and nobody knows yet
	e.mu.Unlock()
	ids := callIDs("call", n)
	publishCalls(t, js, ids)
	e.eventually(func() error {
		if booked, _, _ := e.received(); booked < n {
			return errors.New("not all are booked")
		}
		return nil
	})
	if info, err := e.consumer(); err != nil || info.NumAckPending != n {
		t.Fatalf("%d messages should be unacknowledged: %+v, %v", n, info, err)
	}
	e.mu.Lock()
	e.after = nil
	e.mu.Unlock()
	line.cut()
	e.drained()
	ids = append(ids, callIDs("later", 100)...)
	publishCalls(t, js, ids[n:])
	e.drained()
	e.wantOnce(ids)
	booked, duplicates, suspended := e.received()
	if duplicates == 0 || duplicates > n || suspended != 0 { // some were still to be sent, and were on the next connection
		t.Errorf("%d booked, %d duplicate, %d suspended; want some repeats", booked, duplicates, suspended)
	}
	t.Logf("%d acknowledgements sent, %d lost and redelivered", n, duplicates)
}

// A line is what is between two ends of a TCP connection.
type line struct {
	t        testing.TB
	listener net.Listener
	to       string
	deaf     atomic.Bool // what comes from who dialled is lost

	mu    sync.Mutex
	conns []net.Conn
}

func startLine(t testing.TB, to string) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{t: t, listener: listener, to: to}
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", l.to)
			if err != nil {
				_ = near.Close()
				continue
			}
			l.mu.Lock()
			l.conns = append(l.conns, near, far)
			l.mu.Unlock()
			go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
			go func() { _, _ = io.Copy(mayBeDeaf{far, &l.deaf}, near); _ = far.Close() }()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); l.cut() })
	return l
}

type mayBeDeaf struct {
	io.Writer
	deaf *atomic.Bool
}

func (w mayBeDeaf) Write(p []byte) (int, error) {
	if w.deaf.Load() {
		return len(p), nil
	}
	return w.Writer.Write(p)
}

func (l *line) address() string { return l.listener.Addr().String() }

// cut ends all connections; the next ones hear.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		_ = conn.Close()
	}
	l.conns = nil
	l.deaf.Store(false)
}

// TestClosedConnectionEndsServe: a connection that is closed for good ends Serve
// with an error, and what was booked but not acknowledged on it is a repeat for
// the next engine.
func TestClosedConnectionEndsServe(t *testing.T) {
	const n = 200
	b := startBroker(t)
	e := newEngine(t, b.url(), openMemlog(t, nil))
	_, js := connect(t, b.url())
	if err := consumers.EnsureStream(t.Context(), js); err != nil {
		t.Fatal(err)
	}
	ids := callIDs("call", n)
	publishCalls(t, js, ids)
	e.after = e.nc.Close // with the first block durable
	e.serve()
	err := <-e.served
	if err == nil || !strings.Contains(err.Error(), "connection was closed") || !strings.Contains(err.Error(), "restart") {
		t.Fatalf("Serve on a closed connection: %v", err)
	}
	e.cancel = nil

	booked, _, _ := e.received()
	e.after = nil
	e.nc, e.js = connect(t, b.url())
	e.serve()
	e.drained()
	e.wantOnce(ids)
	if _, duplicates, suspended := e.received(); duplicates != booked || suspended != 0 {
		t.Errorf("%d were booked on the closed connection, and %d are repeats (%d suspended)", booked, duplicates, suspended)
	}
}

// TestServerRestartsUnderLoad stops and kills the NATS server while calls are
// published: what it has acknowledged is in the book in the end, once, and the
// engine gets over it by itself.
func TestServerRestartsUnderLoad(t *testing.T) {
	t.Logf("-seed=%d", *seed)
	t.Run("stopped", func(t *testing.T) {
		b := startBroker(t)
		restartUnderLoad(t, b.url(), func() { b.stop(); b.start() })
	})
	t.Run("killed", func(t *testing.T) {
		p := startProcess(t)
		restartUnderLoad(t, p.url(), func() { p.kill(); p.start() })
	})
}

func restartUnderLoad(t *testing.T, url string, restart func()) {
	const senders, each, restarts = 4, 400, 4
	e := newEngine(t, url, openSQLite)
	e.serve()
	e.serving()

	var sent, again atomic.Int64
	var sending sync.WaitGroup
	var ids []string
	for sender := range senders {
		own := callIDs(fmt.Sprint("call-", sender), each)
		ids = append(ids, own...)
		_, js := connect(t, url)
		sending.Go(func() {
			for _, id := range own {
				for {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					_, err := js.Publish(ctx, callSubject, call(id))
					cancel()
					if err == nil {
						break
					}
					again.Add(1)
					time.Sleep(5 * time.Millisecond)
				}
				sent.Add(1)
			}
		})
	}
	random := rand.New(rand.NewPCG(*seed, 0))
	for i := range restarts {
		// In each quarter of the load, somewhere.
		from := int64(senders * each * i / restarts)
		for at := from + random.Int64N(senders*each/restarts); sent.Load() < at; {
			time.Sleep(time.Millisecond)
		}
		restart()
	}
	sending.Wait()
	e.eventually(func() error {
		if booked, _, _ := e.received(); booked < len(ids) {
			return fmt.Errorf("%d calls are not booked", len(ids)-booked)
		}
		return nil
	})
	// A server that stops between taking an acknowledgement and removing the message
	// has it in the stream for good. The next start of an engine sees to that.
	e.stop()
	e.serve()
	e.drained()
	e.wantOnce(ids)
	_, duplicates, suspended := e.received()
	if suspended != 0 {
		t.Errorf("%d suspended", suspended)
	}
	t.Logf("%d restarts, %d messages, %d sent again, %d duplicates", restarts, senders*each, again.Load(), duplicates)
}

// TestServeCancelledUnderLoad serves and stops over and over while calls come in:
// none is lost or doubled, and nothing is left behind.
func TestServeCancelledUnderLoad(t *testing.T) {
	t.Logf("-rounds=%d -seed=%d", *rounds, *seed)
	b := startBroker(t)
	e := newEngine(t, b.url(), openSQLite)
	_, js := connect(t, b.url())
	if err := consumers.EnsureStream(t.Context(), js); err != nil {
		t.Fatal(err)
	}
	if _, err := e.js.Stream(t.Context(), consumers.StreamName); err != nil {
		t.Fatal(err)
	}
	before := e.nc.NumSubscriptions()
	var ids []string
	var over atomic.Bool
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for !over.Load() {
			// A load, but none that piles up where the machine is slow.
			if booked, _, _ := e.received(); len(ids)-booked > 5000 {
				time.Sleep(time.Millisecond)
				continue
			}
			some := callIDs(fmt.Sprint("call-", len(ids)), 20)
			publishCalls(t, js, some)
			ids = append(ids, some...)
		}
	})
	random := rand.New(rand.NewPCG(*seed, 0))
	for range *rounds {
		e.serve()
		if random.IntN(4) > 0 {
			e.serving()
		}
		time.Sleep(time.Duration(random.IntN(5)) * time.Millisecond)
		e.stop()
	}
	over.Store(true)
	publishing.Wait()
	e.serve()
	e.drained()
	e.stop()
	wantNoGoroutines(t)
	e.wantOnce(ids)
	if after := e.nc.NumSubscriptions(); after != before {
		t.Errorf("%d subscriptions are left", after-before)
	}
	booked, duplicates, suspended := e.received()
	t.Logf("%d booked, %d duplicate, %d suspended", booked, duplicates, suspended)
}

// TestSlowDisk: while the disk holds up the book, no more than so many messages
// and bytes are taken from NATS, which keeps the rest; nothing is lost.
func TestSlowDisk(t *testing.T) {
	const (
		many  = 20_000
		large = 60
		size  = 2 << 20
		// What a subscription holds (64 MiB), and what it may have asked for besides.
		maxBytes = 64<<20 + 2*consumers.MaxPayload
	)
	stuck := func(t *testing.T) (*engine, natsjs.JetStream, *gate) {
		b := startBroker(t)
		disk := newGate(t)
		e := newEngine(t, b.url(), openMemlog(t, disk.wait))
		t.Cleanup(disk.release)
		_, js := connect(t, b.url())
		if err := consumers.EnsureStream(t.Context(), js); err != nil {
			t.Fatal(err)
		}
		return e, js, disk
	}
	// watch sees at least enough delivered, and never more than most.
	watch := func(e *engine, enough, most uint64) {
		full := 0
		e.eventually(func() error {
			info, err := e.consumer()
			if err != nil {
				return err
			}
			if n := info.Delivered.Consumer; n > most {
				e.t.Fatalf("%d messages taken, more than %d", n, most)
			} else if n >= enough {
				full++
			}
			if full < 50 {
				return fmt.Errorf("%d messages taken", info.Delivered.Consumer)
			}
			return nil
		})
	}
	t.Run("messages", func(t *testing.T) {
		e, js, disk := stuck(t)
		ids := callIDs("call", many)
		publishCalls(t, js, ids)
		e.serve()
		const inFlight = 4096
		watch(e, inFlight, inFlight)
		disk.release()
		e.drained()
		e.wantOnce(ids)
	})
	t.Run("bytes", func(t *testing.T) {
		e, js, disk := stuck(t)
		ids := callIDs("call", large)
		for _, id := range ids {
			text := call(id)
			padded := append(append(text[:len(text)-1:len(text)-1], strings.Repeat(" ", size-len(text))...), '}')
			if _, err := js.Publish(t.Context(), callSubject, padded); err != nil {
				t.Fatal(err)
			}
		}
		e.serve()
		watch(e, 64<<20/size-1, maxBytes/size)
		disk.release()
		e.drained()
		e.wantOnce(ids)
	})
}
