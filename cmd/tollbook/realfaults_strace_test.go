//go:build faults

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tollbook/consumers"
	"tollbook/eventstore"
)

// A tracing is strace around an engine: it fails, delays or interrupts system
// calls, and keeps strace's log of them.
//
// strace counts the calls of each thread for itself, and Go moves from thread to
// thread: "the third fsync" is the third of some thread. What has to be counted
// through is stepped through instead.
type tracing struct {
	paths  []string // of the files whose calls count; none: all
	inject string   // see strace(1)

	write   *os.File      // strace's end of the log
	seen    chan struct{} // closed when strace, and what it traced, have ended
	stops   atomic.Bool   // a call was interrupted
	resumed chan struct{} // a token for each time that it went on

	mu    sync.Mutex
	lines []string
}

func newTracing(paths []string, inject string) *tracing {
	return &tracing{paths: paths, inject: inject, seen: make(chan struct{}), resumed: make(chan struct{}, 1<<16)}
}

// arrange puts strace before a command. strace detaches itself, so that the
// process that is started is the engine's own.
func (l *tracing) arrange(t *testing.T) func(*exec.Cmd) {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l.write = write
	go l.listen(read)
	calls, _, _ := strings.Cut(l.inject, ":")
	args := []string{path, "-D", "-f", "-qq", "-y", "-s", "0", "-o", "/dev/fd/3", "-e", "signal=SIGSTOP,SIGCONT", "-e", "trace=" + calls, "-e", "inject=" + l.inject}
	if !strings.Contains(l.inject, ":signal=") { // which a filter in the kernel can't raise
		args = append(args, "--seccomp-bpf")
	}
	for _, path := range l.paths {
		args = append(args, "-P", path)
	}
	return func(cmd *exec.Cmd) {
		cmd.Args = append(append(args, cmd.Path), cmd.Args[1:]...)
		cmd.Path = path
		cmd.ExtraFiles = []*os.File{write}
	}
}

func (l *tracing) listen(read *os.File) {
	defer close(l.seen)
	defer func() { _ = read.Close() }()
	for lines := bufio.NewScanner(read); lines.Scan(); {
		line := lines.Text()
		switch {
		case strings.Contains(line, "--- SIGCONT "):
			l.resumed <- struct{}{}
		case strings.Contains(line, "--- SIGSTOP "):
			l.stops.Store(true)
		}
		l.mu.Lock()
		l.lines = append(l.lines, line)
		l.mu.Unlock()
	}
}

// log is what strace has said, once the process has ended.
func (l *tracing) log() []string {
	_ = l.write.Close()
	<-l.seen
	return l.lines
}

// hits is how often something was injected into a call.
func (l *tracing) hits() (n int) {
	for _, line := range l.log() {
		if strings.Contains(line, "(INJECTED)") || strings.Contains(line, "(DELAYED)") {
			n++
		}
	}
	return n
}

// bookFiles are what the book of a directory writes.
func bookFiles(dir string) []string {
	log := eventstore.LogPath(dir)
	paths := []string{dir, log, log + "-journal", log + "-wal", log + "-shm"}
	for _, path := range []string{eventstore.AnchorPath(dir), eventstore.SigningKeyPath(dir), eventstore.PublicKeyPath(dir)} {
		paths = append(paths, path, path+".new")
	}
	return paths
}

// streamFiles are where NATS has messages until they are booked, and what was
// acknowledged of them.
func streamFiles(dir string) []string {
	stream := filepath.Join(dir, "nats", "jetstream", "$G", "streams", consumers.StreamName)
	return []string{filepath.Join(stream, "msgs", "1.blk"), filepath.Join(stream, "obs", consumers.ConsumerName, "o.dat.tmp")}
}

// writing are the calls that change a file.
const writing = "openat,write,pwrite64,fsync,fdatasync,ftruncate,renameat,unlink,unlinkat"

// stepping interrupts an engine after each call that changes a file.
func stepping(dir string) *tracing {
	return newTracing(append(bookFiles(dir), streamFiles(dir)...), writing+":signal=SIGSTOP")
}

// steps calls at, with its number from 1, each time that the engine stands still
// after a call, and returns the number of the last once it has ended.
func (l *tracing) steps(p *process, at func(n int)) (last int) {
	for l.still(p) {
		last++
		at(last)
		for going := false; !going; {
			_ = p.cmd.Process.Signal(syscall.SIGCONT)
			select {
			case <-l.resumed:
				going = true
			case <-p.exited:
				going = true
			case <-time.After(10 * time.Millisecond): // a thread that was about to stop took it back
			}
		}
	}
	return last
}

// still returns once each thread has stopped; false when they have ended.
func (l *tracing) still(p *process) bool {
	for {
		select {
		case <-p.exited:
			return false
		default:
		}
		if l.stops.Load() && stopped(p.cmd.Process.Pid) {
			return true
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func stopped(pid int) bool {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || len(tasks) == 0 {
		return false
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, task.Name()))
		if err != nil {
			return false
		}
		// PID (NAME) STATE …
		state := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
		if !strings.HasPrefix(state, " t") && !strings.HasPrefix(state, " T") {
			return false
		}
	}
	return true
}

// stepped runs the scenario on a directory, and then ends serve. At each step it
// calls at, while everything stands still, and returns how many there were.
func stepped(t *testing.T, s *senders, dir string, at func(p *process, n int)) (steps int) {
	t.Helper()
	l := stepping(dir)
	p, ready := launch(t, dir, l.arrange(t))
	go func() {
		if ready(); p.nats != "" {
			ctx, done := p.whileItRuns()
			_ = s.singly(ctx, p.nats, scenario(4))
			done()
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
		}
	}()
	steps = l.steps(p, func(n int) { at(p, n) })
	l.log()
	return steps
}

// killPoints kills serve after each call that changes a file of a new directory,
// from its making to its end.
func (r *realFaults) killPoints(t *testing.T) {
	killed := 0
	for point, over := 1, false; !over; point++ {
		dir, s := t.TempDir(), newSenders()
		told := map[string]bool{}
		steps := stepped(t, s, dir, func(p *process, n int) {
			if n == point {
				told = s.told()
				_ = p.cmd.Process.Kill()
			}
		})
		if over = steps < point; !over {
			killed++
		}
		s.send(scenario(4))
		r.audit(t, s, dir, told)
	}
	if killed < 50 {
		t.Errorf("a book was begun, written and closed in %d calls", killed)
	}
	r.add("kills at a call", killed)
}

// powerPoints cuts the power after each such call: one run, a copy of the disk at
// each step.
func (r *realFaults) powerPoints(t *testing.T) {
	d, s := newDisk(t), newSenders()
	var snapshots []snapshot
	stepped(t, s, d.data(), func(*process, int) { snapshots = append(snapshots, snap(s, d.cut)) })
	s.send(scenario(4))
	for _, one := range snapshots {
		r.recover(t, s, one, data)
	}
	r.add("power cuts at a call", len(snapshots))
}

// some are n of 1 to all, or all with everyFault.
func (r *realFaults) some(name string, all, n int) []int {
	points := r.drawing(name).Perm(all)
	for i := range points {
		points[i]++
	}
	if !everyFault {
		points = points[:min(n, all)]
	}
	return points
}

// A callFault is an error of a call on some files of a directory.
type callFault struct {
	counted string // as what
	call    string
	errno   string
	files   func(dir string) []string
	most    int // the highest number, within a thread, at which it is tried
	tries   int // how many of those, unless everyFault
}

var callFaults = []callFault{
	{"write errors", "pwrite64", "EIO", bookFiles, 24, 5},
	{"write errors", "pwrite64", "ENOSPC", bookFiles, 24, 5},
	{"fsync errors", "fsync", "EIO", bookFiles, 16, 8},
	{"fsync errors", "fsync", "ENOSPC", bookFiles, 16, 2},
	{"write errors", "write", "ENOSPC", bookFiles, 3, 1},
	{"write errors", "ftruncate", "EIO", bookFiles, 2, 1},
	{"write errors", "renameat", "EIO", bookFiles, 2, 1},
	{"write errors", "unlink", "EIO", bookFiles, 3, 1},
	{"write errors", "openat", "ENOSPC", bookFiles, 8, 2},
	{"write errors", "write", "EIO", streamFiles, 4, 1},
	{"write errors", "pwrite64", "ENOSPC", streamFiles, 8, 3},
	{"fsync errors", "fsync", "EIO", streamFiles, 8, 3},
}

// errors fails calls on a disk, once or from then on. When the engine has ended,
// which most of them make it do, the power goes too: what was acknowledged has to
// be on the disk although a write or an fsync failed.
func (r *realFaults) errors(t *testing.T) {
	t.Run("of", func(t *testing.T) {
		for i, f := range callFaults {
			t.Run(fmt.Sprint(f.call, " ", f.errno, " ", i), func(t *testing.T) {
				t.Parallel()
				d, random := newDisk(t), r.drawing(t.Name())
				for _, n := range r.some(t.Name(), f.most, f.tries) {
					when := fmt.Sprint(n)
					if random.IntN(2) == 0 {
						when += "+"
					}
					r.fail(t, d, f, when, n <= f.most/2 && random.IntN(2) == 0)
				}
			})
		}
	})
	if !t.Failed() && (r.count("write errors") == 0 || r.count("fsync errors") == 0) {
		t.Errorf("strace has failed no write or no fsync: %v", r)
	}
}

// fail runs the scenario with a fault, on a new directory or on one of an engine
// that was killed. Each has its own name: what is removed may be on the disk still.
func (r *realFaults) fail(t *testing.T, d *disk, f callFault, when string, old bool) {
	t.Helper()
	name := "when" + when
	s, dir := newSenders(), filepath.Join(d.dir, name)
	if old {
		p := serve(t, dir)
		if err := s.singly(t.Context(), p.nats, scenario(4)); err != nil {
			t.Fatal(err)
		}
		p.kill()
	}
	l := newTracing(f.files(dir), fmt.Sprintf("%s:error=%s:when=%s", f.call, f.errno, when))
	p, ready := launch(t, dir, l.arrange(t))
	var refused error
	if ready(); p.nats != "" {
		ctx, done := p.whileItRuns()
		refused = s.singly(ctx, p.nats, append(licensed("contoso"), roundCalls(1, 8)...))
		done()
	}
	said := p.end(t, dir, refused)
	hits := l.hits()
	t.Logf("%s, old %t: %d hits, %d acknowledged; senders: %v; serve: %s", l.inject, old, hits, len(s.told()), refused, orNone(said))
	r.add(f.counted, hits)
	one := snap(s, d.cut)
	s.send(scenario(4))
	r.recover(t, s, one, name)
	r.audit(t, s, dir, one.told)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

var peakMemory = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// slowDisk makes each write and fsync of the book slow, while NATS takes messages
// as fast as ever: they wait there, and a kill in their midst loses none.
func (r *realFaults) slowDisk(t *testing.T) {
	dir, s := t.TempDir(), newSenders()
	l := newTracing(bookFiles(dir), "pwrite64,fsync:delay_enter=20000")
	p := serve(t, dir, l.arrange(t))
	if err := s.singly(t.Context(), p.nats, licensed("contoso")); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			if err := s.singly(t.Context(), p.nats, roundCalls(i+1, 60)); err != nil {
				t.Errorf("a slow disk refuses: %v", err)
			}
		})
	}
	all.Wait()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if peak := peakMemory.FindSubmatch(status); peak != nil {
		t.Logf("a slow disk: %s kB of memory at most", peak[1])
	}
	p.kill()
	r.add("slow calls", l.hits())
	r.add("kills", 1)
	r.audit(t, s, dir, s.told())
}

// stuckStream fails a write of the stream while nobody publishes: the NATS server
// never stores a message again, and the engine has to end for one to start that does.
func (r *realFaults) stuckStream(t *testing.T) {
	dir := t.TempDir()
	var blocks []string
	for n := range 8 { // a message that is booked leaves its block empty, and the next gets a new one
		blocks = append(blocks, filepath.Join(filepath.Dir(streamFiles(dir)[0]), fmt.Sprintf("%d.blk", n+2)))
	}
	l := newTracing(blocks, "write,pwrite64,fsync,fdatasync:error=EIO:when=2")
	p, ready := launch(t, dir, l.arrange(t))
	ready()
	select {
	case <-p.exited:
	case <-time.After(5 * time.Minute):
		t.Fatal("the engine goes on although NATS stores nothing")
	}
	if says := p.stderr.String(); !strings.Contains(says, "tollbook: NATS stores no messages any more") || p.err == nil {
		t.Errorf("the engine ended with %v, and said\n%s", p.err, says)
	}
	r.add("stuck streams", min(1, l.hits()))
}
