//go:build faults

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"tollbook/api"
)

// A disk is an ext4 on a loop device, whose blocks are a file of another ext4 on
// a loop device. That other one, once it is frozen, keeps every write from the
// disk's blocks while whoever writes to the disk goes on: the blocks are then
// what the disk has been given up to one moment, and can be copied at leisure.
type disk struct {
	t      *testing.T
	dir    string // where it is mounted
	blocks string // the file that is the disk
	below  string // where the file system of that file is mounted
}

const (
	diskMiB  = 64
	belowMiB = 160
)

func newDisk(t *testing.T) *disk {
	t.Helper()
	base := t.TempDir()
	d := &disk{t: t, below: mounted(t, formatted(t, filepath.Join(base, "below.img"), belowMiB))}
	d.blocks = formatted(t, filepath.Join(d.below, "disk.img"), diskMiB)
	d.dir = mounted(t, d.blocks)
	return d
}

// formatted makes an image of an ext4 without reserved blocks.
func formatted(t *testing.T, image string, mib int64) string {
	t.Helper()
	file, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Truncate(mib << 20); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", image)
	return image
}

// mounted mounts an image until the test ends. ext4 recovers from its journal
// what a power cut left.
func mounted(t *testing.T, image string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if out, err := exec.Command("mount", "-t", "ext4", "-o", "loop,noatime", image, dir).CombinedOutput(); err != nil {
		t.Fatalf("mount -o loop %s: %v: %s: this needs root with CAP_SYS_ADMIN, ext4 and loop devices in the kernel (modprobe loop ext4) and /dev/loop-control; in a container, run it with --privileged", image, err, out)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

func unmount(t *testing.T, dir string) {
	var out []byte
	var err error
	for range 100 { // a process that was killed may take a moment to let go
		if out, err = exec.Command("umount", dir).CombinedOutput(); err == nil || strings.Contains(string(out), "not mounted") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("umount %s: %v: %s", dir, err, out)
	_ = exec.Command("umount", "--lazy", dir).Run()
}

// cut is a power cut: it copies what the disk has been given up to one moment, in
// whatever order the kernel gave it, and without what only the kernel's memory
// has. What it proves: who was told before has to find it in the copy, so it was
// on the disk by then. What it does not: the disk itself keeps all that it was
// given, as one whose own cache survives or is written through.
func (d *disk) cut() (image string) { return d.copied(d.below) }

// freeze has the kernel give the disk all it has and let nobody write, and copies
// the disk then. It proves that a copy of a live file system, taken between any two
// system calls, is a whole book: what a snapshot of a volume is, and the state in
// which a kill leaves the files.
func (d *disk) freeze() (image string) { return d.copied(d.dir) }

func (d *disk) copied(frozen string) string {
	d.t.Helper()
	image := filepath.Join(d.t.TempDir(), "copy.img")
	run(d.t, "fsfreeze", "--freeze", frozen)
	out, err := exec.Command("cp", "--sparse=always", d.blocks, image).CombinedOutput()
	same := exec.Command("cmp", d.blocks, image).Run() // nothing was written meanwhile
	run(d.t, "fsfreeze", "--unfreeze", frozen)
	if err != nil || same != nil {
		d.t.Fatalf("copying the frozen disk: %v: %s; compared with it: %v", err, out, same)
	}
	return image
}

// A snapshot is a disk's copy, and what senders had been told when it was begun.
type snapshot struct {
	image string
	told  map[string]bool
}

// snap tells first and copies then.
func snap(s *senders, copied func() string) snapshot {
	told := s.told()
	return snapshot{copied(), told}
}

// recover mounts a snapshot and audits the directory in it.
func (r *realFaults) recover(t *testing.T, s *senders, one snapshot, dir string) {
	t.Helper()
	at := mounted(t, one.image)
	r.audit(t, s, filepath.Join(at, dir), one.told)
	unmount(t, at)
	if err := os.Remove(one.image); err != nil {
		t.Error(err)
	}
}

// data is the directory on a disk.
const data = "data"

func (d *disk) data() string { return filepath.Join(d.dir, data) }

// busy copies a disk several times, at moments that are drawn, while senders talk
// to the engine on it. Then the engine is killed.
func (d *disk) busy(s *senders, p *process, random *rand.Rand, times int, copied func() string) (snapshots []snapshot) {
	ctx, done := p.whileItRuns()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.together(ctx, p, 1, 20_000) // more than there is time for
	}()
	for range times {
		time.Sleep(time.Duration(random.Int64N(int64(150 * time.Millisecond))))
		snapshots = append(snapshots, snap(s, copied))
	}
	done()
	<-ended
	p.kill()
	return snapshots
}

// powerCuts cuts the power, and freezes the disk, while senders are busy.
func (r *realFaults) powerCuts(t *testing.T) {
	for _, kind := range []struct {
		name  string
		times int
		copy  func(*disk) string
	}{{"power cuts", 8, (*disk).cut}, {"frozen copies", 4, (*disk).freeze}} {
		times := kind.times
		if everyFault {
			times *= 8
		}
		d, s := newDisk(t), newSenders()
		p := serve(t, d.data())
		if err := s.singly(t.Context(), p.nats, licensed("contoso")); err != nil {
			t.Fatal(err)
		}
		for _, one := range d.busy(s, p, r.drawing(kind.name), times, func() string { return kind.copy(d) }) {
			r.recover(t, s, one, data)
		}
		r.add(kind.name, times)
	}
}

// control takes fsync away, which then does nothing and says that it did: the
// same cuts must lose what was acknowledged, and the same audit must say so.
func (r *realFaults) control(t *testing.T) {
	const cuts = 4
	d, s := newDisk(t), newSenders()
	before := serve(t, d.data())
	if err := s.singly(t.Context(), before.nats, licensed("contoso")); err != nil {
		t.Fatal(err)
	}
	before.kill()
	run(t, "sync", "--file-system", d.dir) // so that there is a book in any case
	l := newTracing(nil, "fsync,fdatasync:retval=0")
	p := serve(t, d.data(), l.arrange(t))
	lost := 0
	for _, one := range d.busy(s, p, r.drawing(t.Name()), cuts, d.cut) {
		at := mounted(t, one.image)
		failures := failuresOf(t, func(t tester) { s.audit(t, filepath.Join(at, data), one.told) })
		unmount(t, at)
		t.Logf("without fsync, a cut after %d acknowledgements: %.300s", len(one.told), orNone(strings.Join(failures, "; ")))
		if s.found.lost > 0 {
			lost++
		}
		s.found = findings{}
	}
	if hits := l.hits(); hits == 0 || lost == 0 {
		t.Errorf("%d fsyncs did nothing, and the audit finds nothing lost after %d power cuts", hits, cuts)
	}
	r.add("controls without fsync", cuts)
	r.add("controls that lost as they should", lost)
}

// diskFull lets the disk run full, with more or less room to go, so that another
// write is the first that fails. The engine stops with one line that says so, or
// refuses; with room again it carries on.
func (r *realFaults) diskFull(t *testing.T) {
	random := r.drawing(t.Name())
	d, times := newDisk(t), 2
	if everyFault {
		times = 20
	}
	for range times {
		for _, c := range []struct {
			name   string
			before int   // calls that each sender books before the disk is full; −1: there is no book yet
			room   int64 // at most, in bytes
		}{
			{"at the first start", -1, 256 << 10},
			{"a new book", 0, 256 << 10},
			{"some blocks", 0, 4 << 20},
			{"a WAL that begins anew", 400, 1 << 20},
			{"a WAL with room", 400, 0},
		} {
			r.full(t, d, c.before, c.room*random.Int64N(1024)/1024, c.name)
		}
	}
}

func (r *realFaults) full(t *testing.T, d *disk, before int, room int64, name string) {
	t.Helper()
	s := newSenders()
	var p *process
	if before >= 0 {
		p = serve(t, d.data())
		if err := s.singly(t.Context(), p.nats, licensed("contoso")); err != nil {
			t.Fatal(err)
		}
		if err := s.together(t.Context(), p, 0, before); err != nil {
			t.Fatal(err)
		}
	}
	d.fill(room)
	if p == nil {
		var ready func()
		p, ready = launch(t, d.data())
		ready()
	}
	var refused error
	if p.nats != "" {
		ctx, done := p.whileItRuns()
		refused = s.together(ctx, p, 1, 5000)
		done()
	}
	said := p.end(t, d.data(), refused)
	if refused == nil && said == "" {
		t.Errorf("%s: with %d bytes of room nothing failed", name, room)
	}
	t.Logf("%s, %d bytes of room: %d acknowledged; senders: %v; serve: %s", name, room, len(s.told()), refused, orNone(said))
	d.free()
	s.send(licensed("contoso"))
	r.audit(t, s, d.data(), s.told())
	switch {
	case p.nats == "":
		r.add("disks full at a start", 1)
	case errors.Is(refused, context.DeadlineExceeded): // JetStream does not answer then
		r.add("disks full for the stream first", 1)
	default:
		r.add("disks full for the book first", 1)
	}
	if err := os.RemoveAll(d.data()); err != nil {
		t.Fatal(err)
	}
}

// together has three senders talk to an engine at once, until each has sent its
// calls of the round or the first was refused.
func (s *senders) together(ctx context.Context, p *process, round, calls int) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range 3 {
		group.Go(func() error { return s.singly(ctx, p.nats, roundCalls(3*round+i, calls)) })
	}
	return group.Wait()
}

// says is what the one line of an engine that stops over its disk has. NATS keeps
// to itself why it can't make the store of a stream.
var says = regexp.MustCompile(`disk is full|disk reports an error|no space left|input/output error|error creating store`)

// end ends a process that a fault may have ended, and returns what it said then:
// one line that says what is wrong with the disk. What its senders were refused
// with tells whether it has to end without being asked.
func (p *process) end(t *testing.T, dir string, refused error) (said string) {
	t.Helper()
	if !errors.Is(refused, api.ErrStopping) { // else it ends by itself
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.exited
		t.Fatalf("serve on %s does not stop:\n%s", dir, p.stderr.String())
	}
	if p.cmd.ProcessState.ExitCode() == exitDone {
		return ""
	}
	var lines []string
	for line := range strings.Lines(p.stderr.String()) {
		if strings.HasPrefix(line, "tollbook: ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	said = strings.Join(lines, "\n")
	if p.cmd.ProcessState.ExitCode() != exitFailed || len(lines) != 1 || !says.MatchString(said) {
		t.Errorf("serve on %s ended with %v:\n%s", dir, p.err, p.stderr.String())
	}
	return said
}

const ballast = "ballast"

// fill leaves room bytes of the disk, about: a file takes the rest.
func (d *disk) fill(room int64) {
	d.t.Helper()
	file, err := os.Create(filepath.Join(d.dir, ballast))
	if err != nil {
		d.t.Fatal(err)
	}
	var free syscall.Statfs_t
	if err := syscall.Fstatfs(int(file.Fd()), &free); err != nil {
		d.t.Fatal(err)
	}
	if err := syscall.Fallocate(int(file.Fd()), 0, 0, int64(free.Bavail)*free.Bsize-room); err != nil && !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatalf("a ballast: %v", err)
	}
	if err := file.Close(); err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) free() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.dir, ballast)); err != nil {
		d.t.Fatal(err)
	}
}
