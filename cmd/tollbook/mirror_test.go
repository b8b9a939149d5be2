package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/api"
	"tollbook/eventstore"
	"tollbook/eventstore/memlog"
)

// startMirrored is startRig with a mirror.
func startMirrored(t *testing.T, dir, mirror string) *rig {
	t.Helper()
	engine, err := StartEngine(context.Background(), mirroredConfig(dir, mirror))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, Engine: engine}
	if r.nc, err = nats.Connect(engine.NATSAddress); err != nil {
		t.Fatal(err)
	}
	if r.js, err = natsjs.New(r.nc); err != nil {
		t.Fatal(err)
	}
	r.client = api.NewClient(r.nc)
	t.Cleanup(r.stop)
	return r
}

func mirroredConfig(dir, mirror string) EngineConfig {
	return EngineConfig{
		Dir: dir, NATSListen: "127.0.0.1:0", NATSSync: time.Minute, Mirror: mirror, Clock: clock, Log: slog.New(slog.DiscardHandler),
	}
}

// TestMirror: a mirror has what the book has soon after, all of it after a stop,
// and takes the book's place when that is gone.
func TestMirror(t *testing.T) {
	dir, mirror := t.TempDir(), filepath.Join(t.TempDir(), "mirror")
	for round := range 3 {
		r := startMirrored(t, dir, mirror)
		if round == 0 {
			r.book(licensed("contoso")...)
		}
		r.book(roundCalls(round, 20)...)
		r.until("the mirror has caught up", func() bool {
			s := r.status()
			return s.Mirror != nil && s.Mirror.Behind == 0 && s.Mirror.Block == s.Block
		})
		if text := r.ask("status"); !strings.Contains(text, fmt.Sprintf("mirror %s: block %d, 0 behind\n", mirror, r.Book.Head().Block)) {
			t.Error(text)
		}
		refused(t, exitFailed, "is in use", "backup", "--data", dir, "--to", mirror)
		r.book(roundCalls(10+round, 20)...)
		r.stop()
		if diff := cmp.Diff(blocksOf(t, dir), blocksOf(t, mirror)); diff != "" {
			t.Errorf("round %d: %s", round, diff)
		}
		done(t, "verify", "--data", mirror)
	}
	r := startRig(t, dir)
	if r.status().Mirror != nil {
		t.Error("an engine without a mirror tells of one")
	}
	r.stop()

	month := []string{"--tenant", "contoso", "--month", "2026-10", "--format", "json"}
	want := done(t, append([]string{"replay", "--data", dir}, month...)...)
	for _, name := range []string{"book.db", "anchor"} {
		remove(t, filepath.Join(dir, name))
	}
	_, err := StartEngine(context.Background(), mirroredConfig(dir, mirror))
	if command := "tollbook restore --data " + dir + " --from " + mirror; !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), command) {
		t.Fatalf("%v does not say %q", err, command)
	}
	done(t, "restore", "--data", dir, "--from", mirror)
	if got := done(t, append([]string{"replay", "--data", dir}, month...)...); got != want {
		t.Errorf("after the restore %s\nbefore %s", got, want)
	}
	startMirrored(t, dir, mirror).stop()
}

// TestMirrorRefused: serve does not start beside a mirror that is not the
// beginning of its book, and changes neither.
func TestMirrorRefused(t *testing.T) {
	for name, test := range map[string]struct {
		mirror func(dir string) string
		say    []string
	}{
		"differs at block 3": {func(dir string) string {
			m := filepath.Join(t.TempDir(), "m")
			backup(t, "--data", dir, "--to", m)
			addBlocks(t, m, "b", 4)
			addBlocks(t, dir, "a", 5)
			return m
		}, []string{"block 3 has hash", "different books", "tollbook restore"}},
		"ahead": {func(dir string) string {
			m := filepath.Join(t.TempDir(), "m")
			backup(t, "--data", dir, "--to", m)
			addBlocks(t, m, "b", 4)
			return m
		}, []string{"ends at block 2", "goes on to block 6", "tollbook restore --data "}},
		"damaged": {func(dir string) string {
			m := filepath.Join(t.TempDir(), "m")
			backup(t, "--data", dir, "--to", m)
			change(t, m, "DELETE FROM blocks WHERE n = 1")
			return m
		}, []string{"block 1 is missing", "move it away"}},
		"the directory itself":   {func(dir string) string { return dir }, []string{"is in the data directory"}},
		"within the directory":   {func(dir string) string { return filepath.Join(dir, "m") }, []string{"is in the data directory"}},
		"a file of another kind": {func(string) string { return writeFile(t, "m", []byte("x")) }, []string{"--mirror"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := aBook(t, "a", 2)
			mirror := test.mirror(dir)
			blocks := blocksOf(t, dir)
			_, err := StartEngine(context.Background(), mirroredConfig(dir, mirror))
			if err == nil {
				t.Fatal("it started")
			}
			for _, say := range test.say {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("%q does not say %q", err, say)
				}
			}
			if diff := cmp.Diff(blocks, blocksOf(t, dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestMirrorFallsBehind: a mirror whose disk fails does not hold up the book,
// says so once, and catches up when the disk is back.
func TestMirrorFallsBehind(t *testing.T) {
	dir, to := t.TempDir(), t.TempDir()
	var mu sync.Mutex
	broken := false
	log := memlog.New(t)
	var said bytes.Buffer // written to by one goroutine, read after its end
	m := newMirroring(to, dir, slog.New(slog.NewTextHandler(&said, nil)))
	m.retry = time.Millisecond
	m.openLog = func(string) (eventstore.Log, error) {
		mu.Lock()
		defer mu.Unlock()
		if broken {
			return nil, errors.New("the disk has gone")
		}
		log = log.Reopen()
		return log, nil
	}
	set := func(gone bool) {
		mu.Lock()
		defer mu.Unlock()
		broken = gone
	}
	book, err := eventstore.Open(context.Background(), dir, openLog, eventstore.Options{Clock: clock, Follow: []eventstore.Follower{m.follow}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.start(context.Background(), book); err != nil {
		t.Fatal(err)
	}
	submit := func(round int) {
		for _, e := range roundCalls(round, 3) {
			if _, err := book.Submit(context.Background(), []eventstore.Record{{Event: e}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	until := func(what string, holds func(s api.MirrorStatus) bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !holds(m.status()); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within %v: %s; %+v", patience, what, m.status())
			}
		}
	}
	caughtUp := func(s api.MirrorStatus) bool {
		return s.Error == "" && s.Behind == 0 && s.Block == book.Head().Block
	}
	submit(0)
	until("caught up at first", caughtUp)
	for round, persisted := range []bool{false, true} {
		log.FailAppend(book.Head().Block+2, persisted)
		set(true)
		submit(1 + 2*round)
		until("the disk has gone", func(s api.MirrorStatus) bool { return strings.Contains(s.Error, "the disk has gone") && s.Behind >= 1 })
		submit(2 + 2*round)
		if s := m.status(); s.Behind < 3 {
			t.Errorf("%+v", s)
		}
		set(false)
		until("caught up again", caughtUp)
	}
	m.stop()
	var blocks [][]byte
	if err := book.Blocks(context.Background(), 1, func(_ uint64, data []byte) error {
		blocks = append(blocks, bytes.Clone(data))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(blocks, log.Blocks()); diff != "" {
		t.Error(diff)
	}
	if err := book.Close(); err != nil {
		t.Error(err)
	}
	// The append that failed, then the disk that had gone; not every try.
	if falls, again := strings.Count(said.String(), "level=WARN"), strings.Count(said.String(), "caught up"); falls != 4 || again != 2 {
		t.Errorf("%d warnings, %d times caught up:\n%s", falls, again, said.String())
	}
}

// TestMirrorHangs: a mirror whose disk never answers holds up neither booking nor the stop.
func TestMirrorHangs(t *testing.T) {
	dir, to := aBook(t, "a", 1), t.TempDir()
	m := newMirroring(to, dir, slog.New(slog.DiscardHandler))
	m.last = time.Millisecond
	log := memlog.New(t)
	hangs, answer := make(chan struct{}), make(chan struct{})
	log.Before = func(n uint64) {
		if n == 2 {
			close(hangs)
			<-answer
		}
	}
	m.openLog = func(string) (eventstore.Log, error) { return log, nil }
	book, err := eventstore.Open(context.Background(), dir, openLog, eventstore.Options{Clock: clock, Follow: []eventstore.Follower{m.follow}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.start(context.Background(), book); err != nil {
		t.Fatal(err)
	}
	for i, e := range roundCalls(1, 4) {
		if _, err := book.Submit(context.Background(), []eventstore.Record{{Event: e}}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			<-hangs
		}
	}
	if s := m.status(); s.Block != 1 || s.Behind != 4 {
		t.Errorf("%+v", s)
	}
	m.stop()
	if err := book.Close(); err != nil {
		t.Error(err)
	}
	close(answer)
	<-m.done
	if diff := cmp.Diff(blocksOf(t, dir)[:2], log.Blocks()); diff != "" {
		t.Error(diff)
	}
}

// TestMirrorGone: a mirror that is emptied under the engine, as by a disk that
// is not mounted any more, is not begun anew.
func TestMirrorGone(t *testing.T) {
	dir, to := aBook(t, "a", 3), t.TempDir()
	m := newMirroring(to, dir, slog.New(slog.DiscardHandler))
	m.retry = time.Millisecond
	log := memlog.New(t)
	m.openLog = func(string) (eventstore.Log, error) { log = log.Reopen(); return log, nil }
	book, err := eventstore.Open(context.Background(), dir, openLog, eventstore.Options{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.start(context.Background(), book); err != nil {
		t.Fatal(err)
	}
	m.stop()
	m.block = 3
	remove(t, eventstore.AnchorPath(to))
	log = memlog.New(t)
	if err := m.catchUp(context.Background()); err == nil || !strings.Contains(err.Error(), "went to block 3 and ends at block 0 now") {
		t.Error(err)
	}
	if err := book.Close(); err != nil {
		t.Error(err)
	}
}

// serveMirrored starts serve in a process of its own, with a mirror.
func serveMirrored(t *testing.T, dir, mirror string) *process {
	t.Helper()
	p := &process{t: t, exited: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], "serve", "--data", dir, "--mirror", mirror, "--nats-listen", "127.0.0.1:0", "--http", "")
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	lines := bufio.NewReader(stdout)
	line, _ := lines.ReadString('\n')
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	ready := readyLine.FindStringSubmatch(line)
	if ready == nil {
		<-p.exited
		t.Fatalf("serve did not start: %v\n%s", p.err, p.stderr.String())
	}
	p.nats = ready[1]
	return p
}

// TestMirrorKilled kills a mirrored serve while it books. The mirror is then a
// beginning of the book, catches up at the next start, and restores the same month.
func TestMirrorKilled(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir, mirror := t.TempDir(), t.TempDir()
	calls := 0
	for round := range 6 {
		p := serveMirrored(t, dir, mirror)
		ctx, done := p.whileItRuns()
		if round == 0 {
			if p := commandWith(ctx, "publish", writeFile(t, "setup.ndjson", ndjson(licensed("contoso"))), "--nats", p.nats); p.code != exitDone {
				t.Fatal(p.err)
			}
		}
		time.AfterFunc(time.Duration(random.Int64N(int64(200*time.Millisecond))), func() { _ = p.cmd.Process.Kill() })
		for ctx.Err() == nil {
			calls++
			publishSingly(ctx, p.nats, roundCalls(calls, 20))
		}
		p.killed()
		done()
		var ours, theirs = blocksOf(t, dir), blocksOf(t, mirror)
		if len(theirs) > len(ours) {
			t.Fatalf("the mirror has %d blocks, the book %d", len(theirs), len(ours))
		}
		if diff := cmp.Diff(ours[:len(theirs)], theirs); diff != "" {
			t.Fatal(diff)
		}
		t.Logf("round %d: the mirror has %d of %d blocks", round, len(theirs), len(ours))
	}
	r := startMirrored(t, dir, mirror)
	r.drained()
	r.until("the mirror has caught up", func() bool { s := r.status(); return s.Mirror.Behind == 0 && s.Mirror.Block == s.Block })
	r.stop()
	month := []string{"--tenant", "contoso", "--month", "2026-10", "--format", "json"}
	want := done(t, append([]string{"replay", "--data", dir}, month...)...)
	for _, name := range []string{"book.db", "anchor"} {
		remove(t, filepath.Join(dir, name))
	}
	done(t, "restore", "--data", dir, "--from", mirror)
	if got := done(t, append([]string{"replay", "--data", dir}, month...)...); got != want {
		t.Errorf("restored %s\nbefore %s", got, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "nats")); err != nil {
		t.Error(err)
	}
}
