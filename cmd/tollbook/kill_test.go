package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// A process is serve in a process of its own, to be killed.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	nats   string        // its address; "" if it ended before it was ready
	http   string        // its page's; none without
	exited chan struct{} // closed when it has
	err    error         // of Wait; after exited
	stderr bytes.Buffer  // after exited
}

var readyLine = regexp.MustCompile(`is ready: .* NATS (nats://\S+), page ([^;\s]+)`)

// launch starts serve on a directory, with its command changed as arrange says,
// and does not wait for it.
func launch(t *testing.T, dir string, arrange ...func(*exec.Cmd)) (p *process, ready func()) {
	t.Helper()
	p = &process{t: t, exited: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], "serve", "--data", dir, "--nats-listen", "127.0.0.1:0", "--http", "")
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	p.cmd.Stderr = &p.stderr
	for _, change := range arrange {
		change(p.cmd)
	}
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
			p.nats, p.http = m[1], m[2]
		}
	}
}

// serve starts serve and returns once it is ready.
func serve(t *testing.T, dir string, arrange ...func(*exec.Cmd)) *process {
	t.Helper()
	p, ready := launch(t, dir, arrange...)
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

// senders are those who publish calls of contoso to the engine of one directory,
// and remember what they were told.
type senders struct {
	mu           sync.Mutex
	sent         map[string]domain.Event // by nameOf
	acknowledged map[string]bool
	found        findings
}

// findings are how often a directory failed its senders.
type findings struct{ lost, doubled, undetected int }

func newSenders() *senders {
	return &senders{sent: map[string]domain.Event{}, acknowledged: map[string]bool{}}
}

func nameOf(e *domain.Event) string { return e.Source + " " + e.ID }

// send notes that events are about to be sent.
func (s *senders) send(events []domain.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range events {
		s.sent[nameOf(&events[i])] = events[i]
	}
}

func (s *senders) acknowledge(events ...domain.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range events {
		s.acknowledged[nameOf(&events[i])] = true
	}
}

// told is what was acknowledged up to now.
func (s *senders) told() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.acknowledged)
}

// unanswered are those of the events that were not acknowledged.
func (s *senders) unanswered(events []domain.Event) (rest []domain.Event) {
	told := s.told()
	for i := range events {
		if !told[nameOf(&events[i])] {
			rest = append(rest, events[i])
		}
	}
	return rest
}

// publish sends events as a file, which is acknowledged as a whole.
func (s *senders) publish(ctx context.Context, t *testing.T, address string, events []domain.Event) printed {
	t.Helper()
	s.send(events)
	p := commandWith(ctx, "publish", writeFile(t, "events.ndjson", ndjson(events)), "--nats", address)
	if p.code == exitDone {
		s.acknowledge(events...)
	}
	return p
}

// answerTimeout is how long a sender of single events waits for one answer.
const answerTimeout = 5 * time.Second

// singly sends events one by one, by turns through JetStream and as requests,
// until the first that is not acknowledged.
func (s *senders) singly(ctx context.Context, address string, events []domain.Event) error {
	nc, err := nats.Connect(address, nats.NoReconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		return err
	}
	client := api.NewClient(nc)
	for i := range events {
		s.send(events[i : i+1])
		once, cancel := context.WithTimeout(ctx, answerTimeout)
		subject, payload := subjectOf(&events[i]), cloudevents.Append(nil, &events[i])
		if i%2 == 0 {
			_, err = js.Publish(once, subject, payload)
		} else {
			_, err = client.Publish(once, subject, payload)
		}
		cancel()
		if err != nil {
			return err
		}
		s.acknowledge(events[i])
	}
	return nil
}

// publishSingly is singly for those who don't ask afterwards.
func publishSingly(ctx context.Context, address string, events []domain.Event) {
	_ = newSenders().singly(ctx, address, events)
}

// audit starts an engine on a directory that something happened to: it must have
// all that was told, and nothing twice. Then senders send everything again, and
// the engine must have that, count it, and make the month that a replay makes.
// Acknowledgements that an engine before this one did not get through make
// repeats: audit returns how many there were.
func (s *senders) audit(t tester, dir string, told map[string]bool) (repeats uint64) {
	t.Helper()
	r := startRig(t, dir)
	defer r.stop()
	r.drained()
	repeats = s.check(r, told)

	s.mu.Lock()
	all := slices.Collect(maps.Values(s.sent))
	s.mu.Unlock()
	everything := map[string]bool{}
	for events := range slices.Chunk(all, 2000) {
		receipt := r.request(consumers.SubjectPrefix+"-.events", ndjson(events))
		if receipt.Booked+receipt.Duplicate != len(events) {
			t.Errorf("of %d events %d are booked and %d repeats", len(events), receipt.Booked, receipt.Duplicate)
		}
		for i := range events {
			everything[nameOf(&events[i])] = true
		}
	}
	s.check(r, everything)
	month := []string{"--tenant", "contoso", "--month", "2026-10", "--format", "json"}
	live := r.ask(append([]string{"invoice"}, month...)...)
	r.stop()

	s.found.undetected++ // unless what follows holds
	done(t, "verify", "--data", dir)
	replay := done(t, append([]string{"replay", "--data", dir}, month...)...)
	if got, want := canonical(t, replay, "pools"), canonical(t, live); got != want {
		t.Fatalf("replay %s\ninvoice %s", got, want)
	}
	s.found.undetected--
	return repeats
}

// check compares the book of an engine with what was sent and told.
func (s *senders) check(r *rig, told map[string]bool) (repeats uint64) {
	r.t.Helper()
	inBook := map[string]bool{}
	for _, e := range booked(r.t, r.dir) {
		name := nameOf(&e)
		if sent, ok := s.sent[name]; !ok || !bytes.Equal(cloudevents.Append(nil, &e), cloudevents.Append(nil, &sent)) {
			r.t.Errorf("the book has what was never sent: %s", cloudevents.Append(nil, &e))
		}
		if inBook[name] {
			s.found.doubled++
			r.t.Errorf("the book has this twice: %s", name)
		}
		inBook[name] = true
	}
	lost := 0
	for name := range told {
		if !inBook[name] {
			lost++
			if lost == 1 {
				r.t.Errorf("%s was acknowledged and is lost", name)
			}
		}
	}
	if lost > 0 {
		r.t.Errorf("%d of %d acknowledged events are lost", lost, len(told))
	}
	s.found.lost += lost
	in := r.intake("contoso")
	if in.Received != in.Booked+in.Duplicate+in.Suspended || in.Booked != uint64(len(inBook)) || in.Suspended != 0 {
		r.t.Errorf("the book has %d events: %+v", len(inBook), in)
	}
	return in.Duplicate
}

const (
	callsARound   = 2500 // by publish
	singlesARound = 100  // one message each
)

// everyFault is FAULTS=full: more rounds, and faults at every place instead of
// some that the seed chooses, for a nightly run.
var everyFault = os.Getenv("FAULTS") == "full"

// TestKill kills serve with SIGKILL while it starts, books and acknowledges. A
// sender that publishes again what was not acknowledged finds each call booked
// once, and what was acknowledged is never missing.
func TestKill(t *testing.T) {
	random := rand.New(rand.NewPCG(flipSeed(t), 0))
	dir, s, rounds := t.TempDir(), newSenders(), 20
	switch {
	case everyFault:
		rounds = 100
	case raceDetector:
		rounds = 8
	}

	setup := serve(t, dir)
	if p := s.publish(t.Context(), t, setup.nats, licensed("contoso")); p.code != exitDone {
		t.Fatal(p.err)
	}
	setup.kill()

	cut := 0                       // rounds in which publish was cut off
	takes := 50 * time.Millisecond // for publish that is not
	for round := range rounds {
		calls, singles := roundCalls(round, callsARound), roundCalls(rounds+round, singlesARound)

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
			if p := s.publish(ctx, t, first.nats, calls); p.code != exitDone {
				cut++
			}
		})
		both.Go(func() { _ = s.singly(ctx, first.nats, singles) })
		both.Wait()
		first.killed()
		done()

		second := serve(t, dir)
		ctx, done = second.whileItRuns()
		begun := time.Now()
		p := s.publish(ctx, t, second.nats, calls)
		takes = time.Since(begun)
		if p.code != exitDone || !strings.Contains(p.out, fmt.Sprintf("%s records: ", grouped(int64(len(calls))))) || !strings.Contains(p.out, " 0 suspended; ") {
			t.Fatalf("round %d, publishing again: exit status %d: %s%s", round, p.code, p.out, p.err)
		}
		s.send(singles)
		if err := s.singly(ctx, second.nats, s.unanswered(singles)); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		done()
		second.kill() // what it has acknowledged must be there
	}
	if cut == 0 {
		t.Error("no publish was cut off: kill earlier")
	}
	told := s.told()
	if len(told) != len(s.sent) {
		t.Errorf("of %d events %d were acknowledged", len(s.sent), len(told))
	}
	repeats := s.audit(t, dir, told)
	t.Logf("%d kills; publish was cut off in %d of %d rounds; %d events came again; lost %d, doubled %d, undetected %d",
		rounds+rounds/4+rounds+1, cut, rounds, repeats, s.found.lost, s.found.doubled, s.found.undetected)

	// The month is what the events make of an empty book, without any crash.
	month := []string{"--tenant", "contoso", "--month", "2026-10", "--format", "json"}
	once := newRig(t)
	once.publishFile(writeFile(t, "all.ndjson", ndjson(slices.Collect(maps.Values(s.sent)))))
	got, want := done(t, append([]string{"replay", "--data", dir}, month...)...), once.ask(append([]string{"invoice"}, month...)...)
	if got, want := canonical(t, got, "pools", "position", "head"), canonical(t, want, "position", "head"); got != want {
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
