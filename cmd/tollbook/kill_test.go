package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// A process is serve in a process of its own, to be killed.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	nats   string        // its address; "" if it ended before it was ready
	exited chan struct{} // closed when it has
	err    error         // of Wait; after exited
	stderr bytes.Buffer  // after exited
}

var readyLine = regexp.MustCompile(`is ready: .* NATS (nats://\S+),`)

// launch starts serve on a directory and does not wait for it.
func launch(t *testing.T, dir string) (p *process, ready func()) {
	t.Helper()
	p = &process{t: t, exited: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], "serve", "--data", dir, "--nats-listen", "127.0.0.1:0", "--http", "")
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() {
		lines := bufio.NewReader(stdout)
		line, _ := lines.ReadString('\n')
		said <- line
		_, _ = io.Copy(io.Discard, lines)
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(p.kill)
	return p, func() {
		if m := readyLine.FindStringSubmatch(<-said); m != nil {
			p.nats = m[1]
		}
	}
}

// serve starts serve and returns once it is ready.
func serve(t *testing.T, dir string) *process {
	t.Helper()
	p, ready := launch(t, dir)
	if ready(); p.nats == "" {
		<-p.exited
		t.Fatalf("serve did not start: %v\n%s", p.err, p.stderr.String())
	}
	return p
}

// kill ends the process at once, whatever it does.
func (p *process) kill() {
	p.t.Helper()
	select {
	case <-p.exited:
		return
	default:
	}
	_ = p.cmd.Process.Kill()
	p.killed()
}

// killed waits until the process is gone, and fails if it ended by itself or saw
// a data race.
func (p *process) killed() {
	p.t.Helper()
	<-p.exited
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		p.t.Errorf("serve ended before it was killed: %v\n%s", p.err, p.stderr.String())
	}
	if bytes.Contains(p.stderr.Bytes(), []byte("DATA RACE")) {
		p.t.Error(p.stderr.String())
	}
}

// whileItRuns is a context that ends with the process: what waits for an answer
// of it waits in vain.
func (p *process) whileItRuns() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-p.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

const (
	killRounds    = 20
	callsARound   = 2500 // by publish
	singlesARound = 100  // one message each, through JetStream
)

// TestKill kills serve with SIGKILL while it starts, books and acknowledges. A
// sender that publishes again what was not acknowledged finds each call booked
// once, and what was acknowledged is never missing.
func TestKill(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()

	setup := serve(t, dir)
	var events []domain.Event // all that were sent
	for _, tenant := range []string{"contoso"} {
		events = append(events, licensed(tenant)...)
	}
	if p := commandWith(t.Context(), "publish", writeFile(t, "setup.ndjson", ndjson(events)), "--nats", setup.nats); p.code != exitDone {
		t.Fatal(p.err)
	}
	setup.kill()

	acknowledged := map[string]bool{}
	cut := 0                       // rounds in which publish was cut off
	takes := 50 * time.Millisecond // for publish that is not
	for round := range killRounds {
		calls, singles := roundCalls(round, callsARound), roundCalls(killRounds+round, singlesARound)
		events = append(append(events, calls...), singles...)
		file := writeFile(t, "calls.ndjson", ndjson(calls))

		if round%4 == 3 {
			starting, ready := launch(t, dir)
			time.Sleep(time.Duration(random.Int64N(int64(100 * time.Millisecond))))
			starting.kill()
			ready()
		}
		first := serve(t, dir)
		ctx, done := first.whileItRuns()
		time.AfterFunc(time.Duration(random.Int64N(int64(takes))), func() { _ = first.cmd.Process.Kill() })
		var both sync.WaitGroup
		both.Go(func() {
			if p := commandWith(ctx, "publish", file, "--nats", first.nats); p.code != exitDone {
				cut++
			} else {
				acknowledge(acknowledged, calls)
			}
		})
		var kept []domain.Event
		both.Go(func() { kept = publishSingly(ctx, first.nats, singles) })
		both.Wait()
		first.killed()
		done()
		acknowledge(acknowledged, kept)

		second := serve(t, dir)
		ctx, done = second.whileItRuns()
		begun := time.Now()
		p := commandWith(ctx, "publish", file, "--nats", second.nats)
		takes = time.Since(begun)
		if p.code != exitDone || !strings.Contains(p.out, fmt.Sprintf("%s records: ", grouped(int64(len(calls))))) || !strings.Contains(p.out, " 0 suspended; ") {
			t.Fatalf("round %d, publishing again: exit status %d: %s%s", round, p.code, p.out, p.err)
		}
		acknowledge(acknowledged, calls)
		if kept = publishSingly(ctx, second.nats, singles[len(kept):]); len(kept) == 0 && ctx.Err() != nil {
			t.Fatalf("round %d: the engine has gone", round)
		}
		acknowledge(acknowledged, kept)
		done()
		second.kill() // what it has acknowledged must be there
	}
	t.Logf("publish was cut off in %d of %d rounds", cut, killRounds)
	if cut == 0 {
		t.Error("no publish was cut off: kill earlier")
	}
	for _, e := range events[3:] {
		if !acknowledged[e.Source+" "+e.ID] {
			t.Fatalf("%s %s was never acknowledged", e.Source, e.ID)
		}
	}

	r := startRig(t, dir)
	r.drained()
	in := r.intake("contoso")
	if in.Booked != uint64(len(events)) || in.Suspended != 0 || in.Received != in.Booked+in.Duplicate {
		t.Errorf("%d events were sent: %+v", len(events), in)
	}
	month := []string{"--tenant", "contoso", "--month", "2026-10", "--format", "json"}
	invoice := r.ask(append([]string{"invoice"}, month...)...)
	replay := done(t, append([]string{"replay", "--data", dir}, month...)...)
	if got, want := canonical(t, replay, "pools"), canonical(t, invoice); got != want {
		t.Errorf("replay %s\ninvoice %s", got, want)
	}
	r.stop()
	done(t, "verify", "--data", dir)

	sent := map[string]bool{}
	for i := range events {
		sent[string(cloudevents.Append(nil, &events[i]))] = true
	}
	inBook := booked(t, dir)
	for i := range inBook {
		text := string(cloudevents.Append(nil, &inBook[i]))
		if !sent[text] {
			t.Fatalf("the book has this twice, or it was never sent: %s", text)
		}
		delete(sent, text)
	}
	for text := range sent {
		t.Errorf("%d events are missing, such as %s", len(sent), text)
		break
	}
	// The month is what the events make of an empty book, without any crash.
	once := newRig(t)
	once.publishFile(writeFile(t, "all.ndjson", ndjson(events)))
	if got, want := canonical(t, invoice, "position", "head"), canonical(t, once.ask(append([]string{"invoice"}, month...)...), "position", "head"); got != want {
		t.Errorf("the invoice is %s\nwithout crashes %s", got, want)
	}
}

func roundCalls(round, n int) []domain.Event {
	calls := make([]domain.Event, n)
	for i := range calls {
		calls[i] = someCall("contoso", fmt.Sprintf("call-%d-%d", round, i), "user000@contoso.example", int64(1+(round+i)%600))
	}
	return calls
}

func acknowledge(acknowledged map[string]bool, events []domain.Event) {
	for _, e := range events {
		acknowledged[e.Source+" "+e.ID] = true
	}
}

// publishSingly publishes until the first event that JetStream does not
// acknowledge, and returns those before it.
func publishSingly(ctx context.Context, address string, events []domain.Event) (acknowledged []domain.Event) {
	nc, err := nats.Connect(address, nats.NoReconnect())
	if err != nil {
		return nil
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		return nil
	}
	for i := range events {
		if _, err := js.Publish(ctx, subjectOf(&events[i]), cloudevents.Append(nil, &events[i])); err != nil {
			return events[:i]
		}
	}
	return events
}

// TestTerminate: SIGTERM stops serve with exit status 0, and it starts again at
// the position where it was.
func TestTerminate(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		p := serve(t, dir)
		report := commandWith(t.Context(), "publish", writeFile(t, "setup.ndjson", ndjson(licensed("contoso"))), "--nats", p.nats)
		if report.code != exitDone || !strings.Contains(report.out, "the book is at position 3\n") {
			t.Errorf("exit status %d: %s%s", report.code, report.out, report.err)
		}
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-p.exited
		var failed *exec.ExitError
		if errors.As(p.err, &failed) || p.err != nil {
			t.Errorf("serve: %v\n%s", p.err, p.stderr.String())
		}
	}
}
