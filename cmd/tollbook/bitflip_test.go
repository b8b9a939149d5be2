package main

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// everyBit is FAULTS=full: all eight bits of every byte, for a nightly run.
var everyBit = os.Getenv("FAULTS") == "full"

// flipSeed begins all that is drawn; FAULTS_SEED repeats a run that printed it.
func flipSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("FAULTS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("FAULTS_SEED: %v", err)
		}
	}
	t.Logf("FAULTS_SEED=%d", seed)
	return seed
}

// A finishedMonth is the data directory of a small month: as an engine that was
// killed leaves it, and as one leaves it that was stopped.
type finishedMonth struct {
	killed, stopped string
	documents       string // invoice and pools of every tenant, replayed
	live            string // the same of an engine
	key             string // the public one
}

const finishedTenant, finishedMonthName = "contoso", "2026-10"

func finish(t *testing.T) finishedMonth {
	t.Helper()
	m := finishedMonth{killed: t.TempDir(), stopped: t.TempDir()}
	r := startRig(t, m.stopped)
	r.book(licensed(finishedTenant)...)
	for i := range 3 {
		r.book(someCall(finishedTenant, fmt.Sprint("long-", i), "user000@contoso.example", 3000), someCall(finishedTenant, fmt.Sprint("short-", i), "user000@contoso.example", 60))
	}
	receipt := r.request(consumers.SubjectPrefix+finishedTenant+".call.completed", []byte(`{"specversion":"1.0"}`))
	if receipt.Suspended != 1 {
		t.Fatalf("not suspended: %+v", receipt)
	}
	m.live = string(mustCanonical(t, r.Months.Statement(finishedTenant, mustMonth())))
	copyTree(t, m.stopped, m.killed)
	r.stop()
	m.key = publicKey(t, m.stopped)
	var err error
	if m.documents, err = assess(m.stopped); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.documents, `"total":"0.53"`) || m.documents != m.live {
		t.Fatalf("not the month expected: %s\nlive: %s", m.documents, m.live)
	}
	if documents, err := assess(m.killed); documents != m.documents {
		t.Fatalf("the killed engine's: %v %s", err, documents)
	}
	return m
}

func mustMonth() domain.Month {
	m, err := domain.ParseMonth(finishedMonthName)
	if err != nil {
		panic(err)
	}
	return m
}

func mustCanonical(t tester, v any) []byte {
	t.Helper()
	data, err := projections.Canonical(v)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return data
}

func copyTree(t tester, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o600)
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// assess is verify and then replay of a directory: an error of either, or the
// documents of the month. It gives up after a while, and a panic is an error.
func assess(dir string) (documents string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("PANIC: %v\n%s", p, debug.Stack())
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	walk, closeLog, err := openBook(ctx, dir, "")
	if err != nil {
		return "", err
	}
	defer closeLog()
	walk.Leaves = true
	if _, err := walkBlocks(ctx, walk, func(int, uint64) {}); err != nil {
		return "", eventstore.Damaged(dir, err)
	}
	walk.Leaves = false
	statement, err := projections.Replay(ctx, walk, finishedTenant, mustMonth(), 0, nil)
	if err != nil {
		return "", fmt.Errorf("verified, but not replayed: %w", err)
	}
	data, err := projections.Canonical(statement)
	return string(data), err
}

// A flip is one bit of a file.
type flip struct {
	file string
	at   int64
	bit  int
}

// A tally counts, for each file, what became of flips in it.
type tally struct {
	mu     sync.Mutex
	counts map[string]map[string]int
}

func (c *tally) add(file, outcome string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts[file] == nil {
		c.counts[file] = map[string]int{}
	}
	c.counts[file][outcome]++
}

func (c *tally) log(t *testing.T) {
	t.Helper()
	for _, file := range slices.Sorted(maps.Keys(c.counts)) {
		outcomes := c.counts[file]
		var words []string
		for _, outcome := range slices.Sorted(maps.Keys(outcomes)) {
			words = append(words, fmt.Sprintf("%d %s", outcomes[outcome], outcome))
		}
		t.Logf("%s: %s", file, strings.Join(words, ", "))
	}
}

var (
	saysWhere = regexp.MustCompile(`block \d+|book\.db|anchor`)
	saysWhat  = regexp.MustCompile(`tollbook restore|put back|name another|newer tollbook|check owner|put the data directory`)
)

func clearRefusal(err error) bool {
	text := err.Error()
	return saysWhere.MatchString(text) && saysWhat.MatchString(text) && !strings.Contains(text, "\n") && !strings.Contains(text, "PANIC")
}

// flipsOf are the flips of a directory's own files: of one in every so many bytes
// of each, a bit that the seed chooses, or all bits of all bytes. The index of a
// WAL is made anew by whoever opens it, so that some of its 32 KiB do.
func flipsOf(t *testing.T, dir string, every int64, random *rand.Rand) (all []flip) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			continue // NATS, which TestFlippedNATS is about
		}
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		step := every
		if strings.HasSuffix(entry.Name(), "-shm") {
			step = 64
		}
		if everyBit {
			for at := range info.Size() {
				for bit := range 8 {
					all = append(all, flip{entry.Name(), at, bit})
				}
			}
			continue
		}
		for at := random.Int64N(step); at < info.Size(); at += step {
			all = append(all, flip{entry.Name(), at, random.IntN(8)})
		}
	}
	return all
}

// A flipper flips bits in a directory of its own.
type flipper struct {
	t     *testing.T
	month finishedMonth
	from  string
	dir   string
	files map[string][]byte
	tally *tally
	name  string
}

func newFlipper(t *testing.T, month finishedMonth, name, from string, tally *tally) *flipper {
	t.Helper()
	f := &flipper{t: t, month: month, from: from, dir: t.TempDir(), files: map[string][]byte{}, tally: tally, name: name}
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		if f.files[entry.Name()], err = os.ReadFile(filepath.Join(from, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	f.restore()
	return f
}

func (f *flipper) restore() {
	for name, data := range f.files {
		if err := os.WriteFile(filepath.Join(f.dir, name), data, 0o600); err != nil {
			f.t.Error(err)
		}
	}
}

func (f *flipper) write(name string, at int64, b byte) {
	file, err := os.OpenFile(filepath.Join(f.dir, name), os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteAt([]byte{b}, at)
	}
	if err != nil {
		f.t.Error(err)
		return
	}
	_ = file.Close()
}

// flip flips a bit, sees what verify and replay make of it, and flips it back.
func (f *flipper) flip(one flip, starts bool) {
	was := f.files[one.file][one.at]
	f.write(one.file, one.at, was^1<<one.bit)
	where := fmt.Sprintf("%s: bit %d of byte %d of %s", f.name, one.bit, one.at, one.file)
	documents, err := assess(f.dir)
	switch {
	case err != nil && !clearRefusal(err):
		f.t.Errorf("%s: %v", where, err)
	case err != nil:
		f.tally.add(f.name+" "+one.file, "refused")
	case documents != f.month.documents:
		f.t.Errorf("%s: another invoice:\n%s\nwant\n%s", where, documents, f.month.documents)
	default:
		f.tally.add(f.name+" "+one.file, "without effect")
	}
	if starts {
		if ofBook(one.file) {
			f.start(where, one)
		} else {
			f.tally.add(f.name+" "+one.file, startOn(f.t, where, f.dir, f.month))
		}
		f.restore()
		return
	}
	f.write(one.file, one.at, was)
}

// ofBook says whether a file is one that opening a book looks at; the others are
// looked at by an engine that starts.
func ofBook(file string) bool {
	return strings.HasPrefix(file, "book.db") || file == "anchor" || file == "lock"
}

// start opens the directory for writing: it is refused, or the month is what it
// was, and goes on as it would have.
func (f *flipper) start(where string, one flip) {
	defer func() {
		if p := recover(); p != nil {
			f.t.Errorf("%s: starting: PANIC: %v\n%s", where, p, debug.Stack())
		}
	}()
	months := projections.NewMonths()
	book, err := eventstore.Open(context.Background(), f.dir, openLog, eventstore.Options{Clock: clock, Follow: []eventstore.Follower{months.Follow}})
	if err != nil {
		if !clearRefusal(err) {
			f.t.Errorf("%s: starting: %v", where, err)
		}
		f.tally.add(f.name+" "+one.file, "refused at start")
		return
	}
	if live := string(mustCanonical(f.t, months.Statement(finishedTenant, mustMonth()))); live != f.month.live {
		f.t.Errorf("%s: starting: another invoice:\n%s\nwant\n%s", where, live, f.month.live)
	}
	e := someCall(finishedTenant, "after", "user000@contoso.example", 60)
	_, err = book.Submit(context.Background(), []eventstore.Record{{Event: e}})
	if closeErr := book.Close(); err != nil || closeErr != nil {
		f.t.Errorf("%s: going on: %v, %v", where, err, closeErr)
	}
	live := string(mustCanonical(f.t, months.Statement(finishedTenant, mustMonth())))
	if documents, err := assess(f.dir); err != nil || documents != live {
		f.t.Errorf("%s: after going on: %v, %s\nlive: %s", where, err, documents, live)
	}
	f.tally.add(f.name+" "+one.file, "started")
}

// TestFlippedBits flips a bit of every fourth byte, from a random one on, of each
// file of a finished month, and of some of what a killed engine left. Verify names
// what is wrong, or there is no difference; the same holds for starting on it.
func TestFlippedBits(t *testing.T) {
	seed, month := flipSeed(t), finish(t)
	random := rand.New(rand.NewPCG(seed, 0))
	counts := &tally{counts: map[string]map[string]int{}}
	for _, state := range []struct {
		name, dir string
		every     int64
	}{{"stopped", month.stopped, 4}, {"killed", month.killed, 32}} {
		if raceDetector {
			state.every *= 8 // a race in it would be one for every byte
		}
		all := flipsOf(t, state.dir, state.every, random)
		// Which of them are started on, too: a part, for that takes its time, but all of
		// what SQLite says of a page at its beginning, as writing relies on it.
		started := make([]bool, len(all))
		for i, one := range all {
			started[i] = random.IntN(64) == 0 || one.file == "book.db" && one.at%4096 < 16 || !ofBook(one.file) && random.IntN(8) == 0
		}
		var workers sync.WaitGroup
		const chunk = 64
		next := make(chan int)
		for range runtime.GOMAXPROCS(0) {
			f := newFlipper(t, month, state.name, state.dir, counts)
			workers.Go(func() {
				for from := range next {
					for i := from; i < min(from+chunk, len(all)); i++ {
						f.flip(all[i], started[i])
					}
				}
			})
		}
		for from := 0; from < len(all) && !t.Failed(); from += chunk {
			next <- from
		}
		close(next)
		workers.Wait()
	}
	counts.log(t)
}

// TestFlippedNATS flips bits of what the embedded NATS server keeps. An engine
// starts on it, or refuses; the invoice is of the book, which has not changed.
func TestFlippedNATS(t *testing.T) {
	flips := 60
	if everyBit {
		flips = 2000
	}
	seed, month := flipSeed(t), finish(t)
	random := rand.New(rand.NewPCG(seed, 1))
	var all []flip
	err := filepath.WalkDir(filepath.Join(month.stopped, "nats"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		for at := range info.Size() {
			all = append(all, flip{strings.TrimPrefix(path, month.stopped+"/"), at, random.IntN(8)})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	counts := &tally{counts: map[string]map[string]int{}}
	next := make(chan flip)
	var workers sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for one := range next {
				flipNATS(t, month, one, counts)
			}
		})
	}
	for _, one := range all[:min(flips, len(all))] {
		next <- one
	}
	close(next)
	workers.Wait()
	counts.log(t)
}

func flipNATS(t *testing.T, month finishedMonth, one flip, counts *tally) {
	where := fmt.Sprintf("bit %d of byte %d of %s", one.bit, one.at, one.file)
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Error(err)
		return
	}
	copyTree(t, month.stopped, dir)
	path := filepath.Join(dir, one.file)
	data, err := os.ReadFile(path)
	if err == nil {
		data[one.at] ^= 1 << one.bit
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Error(err)
		return
	}
	counts.add(one.file, startOn(t, where, dir, month))
}

// startOn starts an engine on a directory: it refuses in a line, or has the
// invoice that was there and the key that signed.
func startOn(t *testing.T, where, dir string, month finishedMonth) (outcome string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	engine, err := StartEngine(ctx, EngineConfig{Dir: dir, NATSListen: "127.0.0.1:0", NATSSync: time.Minute, Clock: clock, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		if ctx.Err() != nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", where, err)
		}
		t.Logf("%s: refused: %v", where, err)
		return "refused at start"
	}
	live := string(mustCanonical(t, engine.Months.Statement(finishedTenant, mustMonth())))
	if err := engine.Stop(); err != nil {
		t.Errorf("%s: stopping: %v", where, err)
	}
	documents, err := assess(dir)
	if err != nil || live != month.live || documents != month.documents {
		t.Errorf("%s: %v: another invoice:\n%s\n%s\nwant\n%s", where, err, live, documents, month.documents)
	}
	if key := publicKey(t, dir); key != month.key {
		t.Errorf("%s: another key: %s; want %s", where, key, month.key)
	}
	return "started"
}

// publicKey is the one of the key that signs the book's anchors.
func publicKey(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(eventstore.PublicKeyPath(dir))
	if err != nil {
		t.Error(err)
	}
	first, _, _ := strings.Cut(string(data), "\n")
	return first
}
