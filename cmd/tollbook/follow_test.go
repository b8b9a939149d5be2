package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tollbook/api"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// A watched is what one command line of follow is given, with the state it keeps.
type watched struct {
	from, sw string
	row      func(i int) string // a record with its end of line
	header   string
	configs  []domain.Event // of the switch
}

// asLines are events, one a line.
func asLines() watched {
	return watched{from: cloudEvents, sw: "mil-1", row: func(i int) string {
		return string(ndjson([]domain.Event{someCall("contoso", fmt.Sprint(i), "user000@contoso.example", int64(60+i%7))}))
	}}
}

// asTable is a table with a header, whose texts have quotes and ends of lines in them.
func asTable(t *testing.T) watched {
	t.Helper()
	text, err := os.ReadFile("../../consumers/cdr/testdata/mapping/pbx.json")
	if err != nil {
		t.Fatal(err)
	}
	config, err := cloudevents.Decode(text, "contoso")
	if err != nil {
		t.Fatal(err)
	}
	return watched{
		from: "csv", sw: "pbx-1", configs: []domain.Event{config},
		header: "\xef\xbb\xbf" + `"Nr";"Start";"Datum";"Beginn";"Datum bis";"Ende";"Dauer";"Richtung";"Art";"Von";"Nach";"Nebenstelle";"Ergebnis";"Code";"Name"` + "\r\n",
		row: func(i int) string {
			name := []string{`"Jörg"`, `"Müller; Jörg"`, `"O""Brien"`, "\"two\nlines\""}[i%4]
			return fmt.Sprintf(`%d;"b1";"22.11.2026";"10:00:00";"22.11.2026";"10:01:05,5";60250;"abgehend";"";"030 5552 0000";"0176 12345678";"201";"OK";200;%s`+"\r\n", i, name)
		},
	}
}

func (w watched) args(state string, more ...string) []string {
	return append([]string{"follow", "--from", w.from, "--tenant", "contoso", "--switch", w.sw, "--state", state,
		"--settle", "300ms", "--poll", "50ms", "--search", "2s", "--format", "json"}, more...)
}

// A scribe is a switch that writes records to a file, and whoever rotates it.
type scribe struct {
	t    *testing.T
	w    watched
	path string
	next int // number of the next record
	rand *rand.Rand
	file *os.File
	// append: each write goes to the end of the file, wherever that is by then.
	append bool
}

func newScribe(t *testing.T, w watched, path string) *scribe {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := &scribe{t: t, w: w, path: path, next: 1, rand: rand.New(rand.NewPCG(seed, 0)), append: true}
	t.Cleanup(func() {
		if s.file != nil {
			_ = s.file.Close()
		}
	})
	return s
}

func (s *scribe) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// open opens the file anew, as after a rotation, and writes the header to a new one.
func (s *scribe) open() {
	s.t.Helper()
	if s.file != nil {
		s.must(s.file.Close())
	}
	flags := os.O_WRONLY | os.O_CREATE
	if s.append {
		flags |= os.O_APPEND
	}
	var err error
	s.file, err = os.OpenFile(s.path, flags, 0o644)
	s.must(err)
	if end, err := s.file.Seek(0, io.SeekEnd); err == nil && end == 0 {
		s.text(s.w.header)
	}
}

func (s *scribe) text(text string) {
	s.t.Helper()
	_, err := s.file.WriteString(text)
	s.must(err)
}

// write writes n records, in pieces that end anywhere.
func (s *scribe) write(n int) {
	s.t.Helper()
	if s.file == nil {
		s.open()
	}
	var text strings.Builder
	for range n {
		text.WriteString(s.w.row(s.next))
		s.next++
	}
	for rest := text.String(); rest != ""; {
		cut := min(len(rest), 1+s.rand.IntN(400))
		s.text(rest[:cut])
		rest = rest[cut:]
	}
}

// open record: its beginning is written and returned is the rest.
func (s *scribe) begin() (rest string) {
	s.t.Helper()
	row := s.w.row(s.next)
	s.next++
	cut := 1 + s.rand.IntN(len(row)-2)
	s.text(row[:cut])
	return row[cut:]
}

func (s *scribe) rename(from, to string) {
	s.t.Helper()
	s.must(os.Rename(from, to))
}

// shift renames path.1 to path.2 and so on, and the path to path.1.
func (s *scribe) shift() {
	s.t.Helper()
	for n := 30; n >= 1; n-- {
		for _, ext := range []string{"", ".gz"} {
			from := fmt.Sprintf("%s.%d%s", s.path, n, ext)
			if _, err := os.Stat(from); err == nil {
				s.rename(from, fmt.Sprintf("%s.%d%s", s.path, n+1, ext))
			}
		}
	}
	s.rename(s.path, s.path+".1")
}

func (s *scribe) compress(path string) {
	s.t.Helper()
	data, err := os.ReadFile(path)
	s.must(err)
	info, err := os.Stat(path)
	s.must(err)
	out, err := os.Create(path + ".gz")
	s.must(err)
	z := gzip.NewWriter(out)
	_, err = z.Write(data)
	s.must(err)
	s.must(z.Close())
	s.must(out.Close())
	s.must(os.Chtimes(path+".gz", info.ModTime(), info.ModTime())) // as gzip and logrotate do
	s.must(os.Remove(path))
}

// copyTruncate copies the file and cuts it to nothing, below its writer.
func (s *scribe) copyTruncate(to string) {
	s.t.Helper()
	data, err := os.ReadFile(s.path)
	s.must(err)
	s.must(os.WriteFile(to, data, 0o644))
	s.must(os.Truncate(s.path, 0))
}

// A following is follow in this process, which can be stopped and started.
type following struct {
	t    *testing.T
	r    *rig
	args []string
	stop func() printed
	errs string // of all runs
}

func (f *following) start() {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan printed, 1)
	go func() { done <- commandWith(ctx, append(f.args, "--nats", f.r.NATSAddress)...) }()
	f.stop = func() printed {
		if f.stop == nil {
			return printed{}
		}
		cancel()
		p := <-done
		f.stop = nil
		f.errs += p.err
		if p.code != exitDone {
			f.t.Errorf("follow: exit status %d: %s", p.code, p.err)
		}
		return p
	}
}

// settled reports whether a state says that its file is read to its end, and so
// are those that had its name.
func settled(t *testing.T, state, path string) bool {
	t.Helper()
	text, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(text), "\n")
	read := false
	for _, p := range decoded[struct {
		Positions []struct {
			Rotated bool  `json:"rotated"`
			Done    bool  `json:"done"`
			Offset  int64 `json:"offset"`
		} `json:"positions"`
	}](t, body).Positions {
		if p.Rotated && !p.Done {
			return false
		}
		read = read || !p.Rotated && p.Offset == info.Size()
	}
	return read
}

// checkOnce looks into the book for each record exactly once, and nothing else.
func checkOnce(t *testing.T, dir, sw string, numbers []int) {
	t.Helper()
	want := map[string]int{}
	for _, n := range numbers {
		want[fmt.Sprint(n)] = 0
	}
	for _, e := range booked(t, dir) {
		switch e.Data.(type) {
		case *domain.Call:
			n, known := want[e.ID]
			if !known || n > 0 || !strings.HasPrefix(e.Source, "switch/"+sw) {
				t.Errorf("the book has %s %s; known %v, %d times before", e.Source, e.ID, known, n)
			}
			want[e.ID]++
		case *domain.Suspended:
			t.Errorf("suspended: %+v", e.Data)
		}
	}
	missing := 0
	for id, n := range want {
		if n == 0 {
			if missing++; missing < 10 {
				t.Errorf("record %s is not in the book", id)
			}
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d records are missing", missing, len(want))
	}
}

func upTo(next int) (numbers []int) {
	for n := 1; n < next; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

// TestRotation: however a file is rotated, while follow runs and while it does not,
// each of its records is in the book exactly once. Where the operator loses records
// that nobody could have read, it is said.
func TestRotation(t *testing.T) {
	const warning = "records may be missing"
	for name, c := range map[string]struct {
		write     func(s *scribe, away, back, told func()) // away, back: of a follow that does not run meanwhile; told: all is booked
		first     func(s *scribe)                          // nil: writes a record
		warns     bool                                     // also where follow runs all the time
		warnsAway bool
	}{
		"no rotation": {write: func(s *scribe, away, back, told func()) {
			s.write(300)
			away()
			s.write(300)
			back()
			s.write(300)
		}},
		"renamed and made anew": {write: func(s *scribe, away, back, told func()) {
			s.write(200)
			away()
			s.write(50)
			s.shift()
			s.open()
			s.write(200)
			back()
			s.write(20)
		}},
		"renamed, and its writer takes a while": {write: func(s *scribe, away, back, told func()) {
			s.write(200)
			away()
			s.shift()
			s.write(150)
			s.must(os.WriteFile(s.path, []byte(s.w.header), 0o644))
			s.write(150)
			back()
			s.open()
			s.write(100)
		}},
		"renamed with a date": {write: func(s *scribe, away, back, told func()) {
			s.write(200)
			away()
			s.write(50)
			s.rename(s.path, strings.TrimSuffix(s.path, ".csv")+"-20261122.csv")
			s.open()
			s.write(200)
			back()
		}},
		"compressed at once": {write: func(s *scribe, away, back, told func()) {
			s.write(200)
			away()
			s.write(50)
			s.shift()
			s.open()
			s.write(100)
			s.compress(s.path + ".1")
			back()
			s.write(20)
		}},
		"rotated many times": {write: func(s *scribe, away, back, told func()) {
			s.write(100)
			away()
			for i := range 12 {
				s.write(30)
				s.shift()
				s.open()
				if i > 0 {
					s.compress(s.path + ".2")
				}
				s.write(30)
			}
			back()
			s.write(20)
		}},
		"copied and truncated": {write: func(s *scribe, away, back, told func()) {
			s.write(300)
			away()
			s.write(200)
			s.copyTruncate(s.path + ".1")
			s.text(s.w.header)
			s.write(30)
			back()
			s.write(500) // more than was there
		}},
		"copied and truncated, without another header": {write: func(s *scribe, away, back, told func()) {
			s.write(100)
			away()
			s.copyTruncate(s.path + ".1")
			s.write(200)
			back()
			s.write(20)
		}},
		"copied and truncated below a writer that does not append": {write: func(s *scribe, away, back, told func()) {
			s.append = false
			s.open()
			s.write(300)
			away()
			s.copyTruncate(s.path + ".1")
			s.write(100)
			back()
			s.write(20)
		}},
		"copied and truncated twice, compressed": {write: func(s *scribe, away, back, told func()) {
			s.write(300)
			away()
			s.copyTruncate(s.path + ".1")
			s.text(s.w.header)
			s.write(100)
			s.rename(s.path+".1", s.path+".2")
			s.compress(s.path + ".2")
			s.copyTruncate(s.path + ".1")
			s.text(s.w.header)
			s.write(50)
			back()
			s.write(20)
		}},
		"truncated": {warns: true, write: func(s *scribe, away, back, told func()) {
			s.write(300)
			told()
			away()
			s.must(os.Truncate(s.path, 0))
			s.text(s.w.header)
			s.write(400)
			back()
			s.write(20)
		}},
		"deleted and made anew": {write: func(s *scribe, away, back, told func()) {
			s.write(300)
			s.must(os.Remove(s.path))
			s.write(100) // its writer still has it
			told()
			s.open()
			s.write(200)
		}},
		"deleted and made anew while nobody looked": {warnsAway: true, write: func(s *scribe, away, back, told func()) {
			s.write(300)
			told()
			away()
			s.must(os.Remove(s.path))
			s.open()
			s.write(400)
			back()
			s.write(20)
		}},
		"exchanged in one step": {write: func(s *scribe, away, back, told func()) {
			s.write(300)
			told()
			s.path += ".next"
			s.open()
			s.write(200)
			s.rename(s.path, strings.TrimSuffix(s.path, ".next"))
			s.path = strings.TrimSuffix(s.path, ".next")
			s.write(50)
		}},
		"a last line without its end": {write: func(s *scribe, away, back, told func()) {
			s.write(100)
			away()
			s.write(50)
			s.text(strings.TrimRight(s.w.row(s.next), "\r\n"))
			s.next++
			s.shift()
			s.open()
			s.write(100)
			back()
		}},
		"lines in pieces": {write: func(s *scribe, away, back, told func()) {
			s.write(100)
			for i := range 6 {
				rest := s.begin()
				if i == 3 {
					away()
				}
				for rest != "" {
					n := 1 + s.rand.IntN(len(rest))
					time.Sleep(60 * time.Millisecond) // so that it is looked at between
					s.text(rest[:n])
					rest = rest[n:]
				}
				if i == 3 {
					back()
				}
			}
		}},
		"a link to another file": {
			first: func(s *scribe) {
				s.must(os.Symlink("Master.csv.day-0", s.path))
				s.write(10)
			},
			write: func(s *scribe, away, back, told func()) {
				link := s.path
				for i := range 4 {
					s.path = fmt.Sprintf("%s.day-%d", link, i)
					s.open()
					s.write(100)
					s.must(os.Symlink(s.path, link+".new"))
					s.rename(link+".new", link)
					s.write(30)
					if i == 1 {
						away()
					}
				}
				back()
				s.write(20)
				s.path = link
			},
		},
		"a file and a folder that come later": {
			first: func(s *scribe) {},
			write: func(s *scribe, away, back, told func()) {
				away()
				back()
				s.must(os.MkdirAll(filepath.Dir(s.path), 0o755))
				s.write(100)
				told()
				s.shift()
				s.open()
				s.write(100)
			},
		},
	} {
		for _, w := range []watched{asLines(), asTable(t)} {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/restart=%v", name, w.from, restart), func(t *testing.T) {
					t.Parallel()
					r := newRig(t)
					if len(w.configs) > 0 {
						r.book(w.configs...)
					}
					dir := t.TempDir()
					s := newScribe(t, w, filepath.Join(dir, "cdr", "Master.csv"))
					if name != "a file and a folder that come later" {
						s.must(os.MkdirAll(filepath.Dir(s.path), 0o755))
					}
					f := &following{t: t, r: r, args: w.args(filepath.Join(dir, "state"), s.path)}
					told := func() {
						r.until("all is booked", func() bool {
							return r.intake("contoso").Booked >= uint64(s.next-1+len(w.configs))
						})
					}
					away, back := func() {}, func() {}
					if restart {
						away, back = func() { f.stop() }, f.start
					}
					f.start()
					defer func() {
						if t.Failed() && f.stop != nil {
							f.stop()
							t.Log(f.errs)
						}
					}()
					if c.first == nil {
						s.write(1)
					} else {
						c.first(s)
					}
					told() // what is rotated before anybody ever looked is not follow's
					c.write(s, away, back, told)
					told()
					r.until("the rotated files are read to their end", func() bool { return settled(t, filepath.Join(dir, "state"), s.path) })
					p := f.stop()
					// What is left to do needs no new record; then there is nothing more.
					for range 2 {
						p = commandWith(t.Context(), append(f.args, "--once", "--nats", r.NATSAddress)...)
						f.errs += p.err
						if p.code != exitDone {
							t.Errorf("follow --once: exit status %d: %s", p.code, p.err)
						}
					}
					if last := decoded[publishReport](t, p.out); last.Received != 0 {
						t.Errorf("at the end %d records were sent again", last.Received)
					}
					r.stop()
					checkOnce(t, r.dir, w.sw, upTo(s.next))
					if want := c.warns || restart && c.warnsAway; strings.Contains(f.errs, warning) != want || strings.Contains(f.errs, "level=ERROR") {
						t.Errorf("warned, want %v:\n%s", want, f.errs)
					}
				})
			}
		}
	}
}

// followProcess starts follow in a process of its own.
func followProcess(t *testing.T, args ...string) (kill func(), stderr *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	stderr = &bytes.Buffer{}
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Errorf("follow ended before it was killed: %v\n%s", err, stderr)
		}
		if bytes.Contains(stderr.Bytes(), []byte("DATA RACE")) {
			t.Error(stderr.String())
		}
	}, stderr
}

// TestFollowKilled: follow is killed again and again while its file is written and
// rotated in all ways that lose nothing.
func TestFollowKilled(t *testing.T) {
	for _, w := range []watched{asLines(), asTable(t)} {
		t.Run(w.from, func(t *testing.T) {
			r := newRig(t)
			if len(w.configs) > 0 {
				r.book(w.configs...)
			}
			dir := t.TempDir()
			s := newScribe(t, w, filepath.Join(dir, "Master.csv"))
			args := append(w.args(filepath.Join(t.TempDir(), "state"), s.path), "--nats", r.NATSAddress)
			s.write(1)
			done(t, append(args, "--once")...) // what is rotated before anybody ever looked is not follow's
			stop, rotations := make(chan struct{}), 0
			var writing sync.WaitGroup
			writing.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					s.write(1 + s.rand.IntN(60))
					time.Sleep(time.Duration(s.rand.IntN(8)) * time.Millisecond)
					if s.rand.IntN(12) > 0 || rotations == 25 {
						continue
					}
					rotations++
					if s.rand.IntN(3) == 0 {
						for n := 30; n >= 1; n-- { // as logrotate makes room
							if _, err := os.Stat(fmt.Sprintf("%s.%d", s.path, n)); err == nil {
								s.rename(fmt.Sprintf("%s.%d", s.path, n), fmt.Sprintf("%s.%d", s.path, n+1))
							}
						}
						s.copyTruncate(s.path + ".1")
						if s.rand.IntN(2) == 0 {
							s.text(s.w.header)
						}
						continue
					}
					s.shift()
					s.write(s.rand.IntN(20))
					s.open()
				}
			})
			seed := rand.Uint64()
			t.Logf("kill seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			const kills = 15
			var said string
			for range kills {
				kill, stderr := followProcess(t, args...)
				time.Sleep(time.Duration(50+random.IntN(400)) * time.Millisecond)
				kill()
				said += stderr.String()
			}
			close(stop)
			writing.Wait()
			p := command(t, append(args, "--once")...)
			if p.code != exitDone || strings.Contains(said+p.err, "may be missing") {
				t.Errorf("exit status %d: %s%s", p.code, said, p.err)
			}
			duplicates := r.intake("contoso").Duplicate
			r.stop()
			checkOnce(t, r.dir, w.sw, upTo(s.next))
			t.Logf("%d records, %d rotations, %d kills, %d duplicates", s.next-1, rotations, kills, duplicates)
			if rotations == 0 {
				t.Error("the file was never rotated: write longer")
			}
		})
	}
}

// TestFollowOutlivesTheEngine: the engine and its NATS server are killed and come
// back; follow waits, says so once each time, and nothing is lost.
func TestFollowOutlivesTheEngine(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	data, w := t.TempDir(), asLines()
	s := newScribe(t, w, filepath.Join(t.TempDir(), "calls.jsonl"))
	s.write(100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan printed, 1)
	defer func() {
		if t.Failed() {
			cancel()
			t.Log((<-ended).err)
		}
	}()
	go func() { // before there is an engine
		ended <- commandWith(ctx, append(w.args(filepath.Join(t.TempDir(), "state"), s.path), "--nats", "nats://"+address)...)
	}()
	begin := func() *process {
		return serve(t, data, func(cmd *exec.Cmd) { cmd.Args[slices.Index(cmd.Args, "127.0.0.1:0")] = address })
	}
	all := func() {
		t.Helper()
		asked := []string{"status", "--format", "json", "--nats", "nats://" + address}
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			at := decoded[api.Status](t, done(t, asked...)).Position
			if at == uint64(s.next-1) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the book is at position %d of %d", at, s.next-1)
			}
		}
	}
	const restarts = 3
	for range restarts {
		p := begin()
		s.write(200)
		all()
		p.kill()
		s.write(50)
		time.Sleep(200 * time.Millisecond) // it is noticed, or not
	}
	p := begin()
	all()
	cancel()
	report := <-ended
	p.kill()
	if report.code != exitDone {
		t.Errorf("follow: exit status %d: %s", report.code, report.err)
	}
	away, back := strings.Count(report.err, "the engine does not answer"), strings.Count(report.err, "the engine answers again")
	if away < 2 || away > restarts+1 || away != back {
		t.Errorf("said %d times that there is no answer, and %d times that there is again:\n%s", away, back, report.err)
	}
	checkOnce(t, data, w.sw, upTo(s.next))
}
