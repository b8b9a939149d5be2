package eventstore_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/sqlite"
)

// Environment of the test binary as a process that opens the book of a directory.
const (
	processDir   = "TOLLBOOK_TEST_BOOK"  // the directory
	processIDs   = "TOLLBOOK_TEST_FROM"  // the first call it books
	processLimit = "TOLLBOOK_TEST_LIMIT" // how long a file may get, in bytes
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(processDir); dir != "" {
		if err := bookProcess(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// bookProcess opens a book and says so; then it books calls, a block for each
// line that it reads, and says where they are once they are durable.
func bookProcess(dir string) error {
	var from int
	if _, err := fmt.Sscan(os.Getenv(processIDs), &from); err != nil {
		return err
	}
	book, err := eventstore.Open(ctx, dir, func(path string) (eventstore.Log, error) { return sqlite.Open(path) }, eventstore.Options{Clock: ticking()}.KeepRecent(4))
	if err != nil {
		return err
	}
	var limit uint64
	if text := os.Getenv(processLimit); text != "" {
		if _, err := fmt.Sscan(text, &limit); err != nil {
			return err
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
	}
	fmt.Println("open")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); from++ {
		results, err := book.Submit(ctx, processCalls(from))
		if err != nil {
			_ = book.Close()
			return err
		}
		fmt.Println("booked", results[0].Position)
	}
	return book.Close()
}

// processCalls are the calls of a block of a process.
func processCalls(id int) []eventstore.Record {
	var events []domain.Event
	for i := range 3 {
		e := call(faultTenant, fmt.Sprint("process/", i), id)
		c := *e.Data.(*domain.Call)
		c.User = faultUser(id)
		e.Data = &c
		events = append(events, e)
	}
	return records(events...)
}

// A bookkeeper is such a process, and a sender to it.
type bookkeeper struct {
	s     *site
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	next  int
	ended bool
}

// employ starts a process on the site's directory. It may be refused: say tells.
func (s *site) employ(from int, env ...string) *bookkeeper {
	s.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), processDir+"="+s.dir, fmt.Sprintf("%s=%d", processIDs, from)), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	s.fatal(err)
	out, err := cmd.StdoutPipe()
	s.fatal(err)
	s.fatal(cmd.Start())
	b := &bookkeeper{s: s, cmd: cmd, in: in, lines: bufio.NewScanner(out), next: from}
	s.t.Cleanup(func() { b.end(true) })
	return b
}

// say is the next line of the process; "" once it has ended.
func (b *bookkeeper) say() string {
	b.lines.Scan()
	return b.lines.Text()
}

// book has the process book a block, and returns what it says.
func (b *bookkeeper) book() string {
	list := b.order()
	said := b.say()
	var position uint64
	if _, err := fmt.Sscanf(said, "booked %d", &position); err != nil {
		b.s.unanswered = append(b.s.unanswered, list...)
		return said
	}
	for i := range list {
		b.s.told[position+uint64(i)] = list[i]
	}
	return said
}

// order is book without waiting for an answer.
func (b *bookkeeper) order() []eventstore.Record {
	list := processCalls(b.next)
	b.next++
	b.s.sent = append(b.s.sent, list...)
	_, _ = fmt.Fprintln(b.in) // it may have gone
	return list
}

// end kills the process, or has it close the book.
func (b *bookkeeper) end(kill bool) {
	if b.ended {
		return
	}
	b.ended = true
	if kill {
		_ = b.cmd.Process.Kill()
	}
	_ = b.in.Close()
	for b.lines.Scan() {
	}
	_ = b.cmd.Wait()
}

func newProcessSite(t *testing.T, count *report) *site {
	s := newSite(t, count)
	s.fatal(s.open())
	s.fatal(s.send(terms()))
	s.fatal(s.close())
	return s
}

// TestProcesses is of two processes that open one directory, of processes that
// are killed, and of one whose writes fail in their middle.
func TestProcesses(t *testing.T) {
	t.Parallel()
	seed, count := faultSeed(t), newReport()
	rounds := 2
	if everyFault {
		rounds = 30
	}
	t.Run("of", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *site, *rand.Rand){
			"a second one": secondProcess, "killed": killedProcess, "both at the first start": firstProcesses,
			"the lock is removed": lockRemoved, "writes fail within": writesFailWithin,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				for round := range rounds {
					s := newProcessSite(t, count)
					test(t, s, drawing(seed, t.Name(), round))
					s.judge(opens)
					s.none("round %d", round)
				}
			})
		}
	})
	count.log(t)
}

func wantSaid(t *testing.T, said string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(said, w) {
			t.Errorf("a process says %q; want %q", said, w)
		}
	}
}

// secondProcess is refused while the first goes on, and reads all the same.
func secondProcess(t *testing.T, s *site, _ *rand.Rand) {
	first := s.employ(1)
	wantSaid(t, first.say(), "open")
	wantSaid(t, first.book(), "booked")
	second := s.employ(1000)
	wantSaid(t, second.say(), "error the data directory is in use: process ", fmt.Sprint(first.cmd.Process.Pid), s.dir, "stop it")
	wantError(t, s.open(), eventstore.ErrLocked, fmt.Sprint(first.cmd.Process.Pid))
	if _, err := verify(s.dir, ""); err != nil {
		t.Errorf("verify beside a process: %v", err)
	}
	wantSaid(t, first.book(), "booked")
	first.end(false)
	s.count.add("processes refused", 2)
}

// killedProcess dies wherever it is; another has the directory at once.
func killedProcess(t *testing.T, s *site, r *rand.Rand) {
	for from := 1; from < 3000; from += 1000 {
		b := s.employ(from)
		wantSaid(t, b.say(), "open")
		for range r.IntN(4) {
			wantSaid(t, b.book(), "booked")
		}
		s.unanswered = append(s.unanswered, b.order()...)
		b.end(true)
		s.count.add("kills", 1)
	}
}

// firstProcesses begin the same book at once.
func firstProcesses(t *testing.T, s *site, _ *rand.Rand) {
	s.dir, s.senders = t.TempDir(), senders{told: map[uint64]eventstore.Record{}, said: map[uint64]string{}}
	var all []*bookkeeper
	for i := range 3 {
		all = append(all, s.employ(1+1000*i))
	}
	opened := 0
	for _, b := range all {
		if said := b.say(); said == "open" {
			opened++
			wantSaid(t, b.book(), "booked")
		} else {
			wantSaid(t, said, "error the data directory is in use: ")
			s.count.add("processes refused", 1)
		}
	}
	if opened != 1 {
		t.Errorf("%d processes have one book", opened)
	}
	for _, b := range all {
		b.end(false)
	}
	s.unanswered = append(s.unanswered, terms()...)
	s.sent = append(s.sent, terms()...)
}

// lockRemoved lets two processes write: one of them is told that it is not alone,
// and neither loses what it was told.
func lockRemoved(t *testing.T, s *site, r *rand.Rand) {
	first := s.employ(1)
	wantSaid(t, first.say(), "open")
	wantSaid(t, first.book(), "booked")
	s.fatal(os.Remove(s.dir + "/lock"))
	second := s.employ(1000)
	wantSaid(t, second.say(), "open")
	for range 1 + r.IntN(3) {
		wantSaid(t, second.book(), "booked")
	}
	wantSaid(t, first.book(), "error block 3: the log has moved on: another writer appended")
	wantSaid(t, second.book(), "booked")
	first.end(false)
	second.end(false)
	s.count.add("processes refused", 1)
}

// writesFailWithin has every file of a process end at a limit: what goes beyond
// fails, after the part before it was written.
func writesFailWithin(t *testing.T, s *site, r *rand.Rand) {
	b := s.employ(1, fmt.Sprintf("%s=%d", processLimit, 512+r.IntN(40_000)))
	wantSaid(t, b.say(), "open")
	said := ""
	for {
		if said = b.book(); !strings.HasPrefix(said, "booked ") {
			break
		}
	}
	wantSaid(t, said, "error ", "append failed and may or may not have happened", s.dir, "disk")
	b.end(false)
	s.count.add("failures", 1)
}
