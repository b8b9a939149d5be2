package eventstore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tollbook/eventstore"
)

// A fault is one thing that happens to one write of a book.
type fault struct {
	write, what string
	want        verdict
	strike      func(s *site, r *rand.Rand) // leaves a directory that nobody has open
}

// faults are every write of a book: of the log, the anchor, both at the first
// start, the index and snapshots, and those of closing.
var faults = []fault{
	{"append", "fails and did not happen", opens, failAppend(false)},
	{"append", "fails but had happened", opens, failAppend(true)},
	{"append", "the process dies before", opens, dies(func(s *site, dead func()) {
		s.hooks.append = func(_ uint64, block []byte, write func([]byte) error) error { dead(); return write(block) }
	})},
	{"append", "the process dies after", opens, dies(func(s *site, dead func()) {
		s.hooks.append = func(_ uint64, block []byte, write func([]byte) error) error {
			err := write(block)
			dead()
			return err
		}
	})},
	{"append", "the process dies within", opens, tornAppend(cutOff)},
	{"append", "the power goes within", opens, tornAppend(anySectors)},
	{"append", "a bit flips in it", refuses, flippedAppend},

	{"anchor", "fails and did not happen", opens, failAnchor},
	{"anchor", "fails but had happened", opens, func(s *site, r *rand.Rand) {
		failAnchor(s, r)
		twin := newSite(s.t, s.count)
		twin.dir = copyDir(s.t, s.dir)
		s.fatal(twin.open()) // writes it
		s.fatal(twin.close())
		s.put(twin.dir, "anchor")
	}},
	{"anchor", "the process dies before", opens, dies(func(s *site, dead func()) {
		s.hooks.append = func(_ uint64, block []byte, write func([]byte) error) error {
			err := write(block)
			dead()
			return err
		}
	})},
	{"anchor", "the process dies after", opens, dies(func(s *site, dead func()) { s.hooks.told = dead })},
	{"anchor", "the process dies within", opens, tornAnchor},
	{"anchor", "a bit flips in it", opens, func(s *site, r *rand.Rand) {
		s.stop(r)
		s.flip(eventstore.AnchorPath(s.dir), r)
	}},
	{"anchor", "the file is an old copy", opens, func(s *site, r *rand.Rand) {
		old := copyDir(s.t, s.dir)
		s.fatal(s.send(s.draw(r)))
		s.fatal(s.send(s.draw(r)))
		s.stop(r)
		s.put(old, "anchor")
	}},
	{"anchor", "the file is of another book", refuses, func(s *site, r *rand.Rand) {
		other := newSite(s.t, s.count)
		other.fresh = 1000
		other.begin(r)
		s.stop(r)
		for range 8 { // at least as far as this one
			s.fatal(other.send(other.draw(r)))
		}
		s.fatal(other.close())
		s.put(other.dir, "anchor")
	}},

	{"first start", "the process dies before the log is made", opens, firstStart(func(s *site, dead func()) { dead(); s.fatal(s.open()) })},
	{"first start", "the process dies within the log's making", opens, firstStart(func(s *site, dead func()) {
		s.fatal(os.WriteFile(eventstore.LogPath(s.dir), nil, 0o644))
		dead()
		s.fatal(s.open())
	})},
	{"first start", "the process dies before the anchor is made", opens, firstStart(func(s *site, dead func()) {
		s.fatal(s.openWith(&hooks{made: dead}))
	})},
	{"first start", "the process dies within the anchor's making", opens, firstStart(func(s *site, dead func()) {
		s.fatal(s.openWith(&hooks{made: func() {
			s.fatal(os.WriteFile(eventstore.AnchorPath(s.dir)+".new", []byte("tollbook"), 0o644))
			dead()
		}}))
	})},
	{"first start", "the process dies after", opens, firstStart(func(s *site, dead func()) { s.fatal(s.open()); dead() })},

	{"close", "fails but had happened", opens, func(s *site, _ *rand.Rand) {
		s.hooks.close = func(close func() error) error { return errors.Join(close(), errFaulty) }
		if err := s.close(); !errors.Is(err, errFaulty) {
			s.t.Errorf("close: %v", err)
		}
		s.count.add("failures", 1)
	}},
	{"close", "the process dies before", opens, func(s *site, _ *rand.Rand) { s.killed() }},
	{"close", "the process dies after the log's", opens, func(s *site, _ *rand.Rand) {
		var grave string
		s.hooks.close = func(close func() error) error {
			err := close()
			grave = copyDir(s.t, s.dir)
			return err
		}
		s.fatal(s.close())
		s.dir = grave
		s.count.add("kills", 1)
	}},

	{"index and snapshots", "their writes fail", opens, func(s *site, r *rand.Rand) {
		s.removeDerived()
		for _, path := range []string{eventstore.IndexPath(s.dir), eventstore.SnapshotsPath(s.dir)} {
			if err := os.WriteFile(path, nil, 0o644); err != nil { // no directory can be made there then
				s.fatal(os.Chmod(path, 0o500)) // one was, just now
			}
		}
		for range 1 + r.IntN(8) {
			s.fatal(s.send(s.draw(r)))
		}
		s.count.add("failures", 1)
		s.stop(r)
	}},
	{"index and snapshots", "the process dies within", opens, tornDerived(cutOff)},
	{"index and snapshots", "the power goes within", opens, tornDerived(anySectors)},
	{"index and snapshots", "the process dies before old runs are removed", opens, func(s *site, r *rand.Rand) {
		old := copyDir(s.t, s.dir)
		for range 2 + r.IntN(8) {
			s.fatal(s.send(s.draw(r)))
		}
		s.stop(r)
		s.putDerived(old)
	}},
	{"index and snapshots", "a bit flips in each", opens, func(s *site, r *rand.Rand) {
		s.stop(r)
		for _, name := range derived(s.t, s.dir) {
			s.flip(filepath.Join(s.dir, name), r)
		}
	}},
	{"index and snapshots", "a bit flips in each while they are open", opens, func(s *site, r *rand.Rand) {
		for range 4 {
			s.fatal(s.send(s.draw(r)))
			for _, name := range derived(s.t, s.dir) {
				s.flipInPlace(filepath.Join(s.dir, name), r)
			}
		}
		s.stop(r)
	}},
	{"index and snapshots", "they are removed", opens, func(s *site, r *rand.Rand) {
		s.stop(r)
		s.removeDerived()
	}},
	{"index and snapshots", "they are removed while they are open", opens, func(s *site, r *rand.Rand) {
		s.removeDerived()
		for range 1 + r.IntN(4) {
			s.fatal(s.send(s.draw(r)))
		}
		s.stop(r)
	}},
	{"index and snapshots", "they are old copies", opens, func(s *site, r *rand.Rand) {
		old := s.older(r)
		s.removeDerived()
		s.putDerived(old)
	}},
	{"index and snapshots", "they are of another book", opens, func(s *site, r *rand.Rand) {
		other := newSite(s.t, s.count)
		other.fresh = 1000
		other.begin(r)
		s.fatal(other.close())
		s.stop(r)
		if r.IntN(2) == 0 {
			s.removeDerived()
		}
		s.putDerived(other.dir)
	}},

	{"log", "the file is an old copy", refuses, func(s *site, r *rand.Rand) {
		old := s.older(r)
		s.put(old, "book.db", "book.db-wal", "book.db-shm")
	}},
	{"log", "the WAL is an old copy", either, func(s *site, r *rand.Rand) {
		old := s.older(r)
		s.put(old, "book.db-wal", "book.db-shm")
	}},
	{"log", "the file is of another book", refuses, func(s *site, r *rand.Rand) {
		other := newSite(s.t, s.count)
		other.fresh = 1000
		other.begin(r)
		s.stop(r)
		for range 8 {
			s.fatal(other.send(other.draw(r)))
		}
		s.fatal(other.close())
		s.put(other.dir, "book.db", "book.db-wal", "book.db-shm")
	}},
	{"log and anchor", "both are old copies, an anchor is saved elsewhere", opens, oldDirectory(0)},
	{"log and anchor", "both are old copies and went on, an anchor is saved elsewhere", opens, oldDirectory(8)},
}

var errFaulty = errors.New("the disk is on fire")

// TestFaults has every fault happen some times, to books that differ.
func TestFaults(t *testing.T) {
	t.Parallel()
	seed, count := faultSeed(t), newReport()
	rounds := 4
	if everyFault {
		rounds = 40
	}
	t.Run("of", func(t *testing.T) {
		for _, f := range faults {
			t.Run(f.write+"/"+f.what, func(t *testing.T) {
				t.Parallel()
				for round := range rounds {
					r := drawing(seed, t.Name(), round)
					s := newSite(t, count)
					if f.write != "first start" {
						s.begin(r)
					}
					f.strike(s, r)
					s.judge(f.want)
					s.none("round %d", round)
				}
			})
		}
	})
	count.log(t)
}

// none fails the test where something was found.
func (s *site) none(format string, args ...any) {
	s.t.Helper()
	for finding, texts := range s.findings {
		for _, text := range texts {
			s.t.Errorf("%s: %s: %s", fmt.Sprintf(format, args...), finding, text)
		}
	}
}

// killed leaves the directory as it is now to whoever comes, as SIGKILL does.
func (s *site) killed() {
	s.t.Helper()
	grave := copyDir(s.t, s.dir)
	s.fatal(s.close())
	s.dir = grave
	s.count.add("kills", 1)
}

// stop closes the book or kills its process, and saves a copy.
func (s *site) stop(r *rand.Rand) {
	s.t.Helper()
	if r.IntN(2) == 0 {
		s.killed()
	} else {
		s.fatal(s.close())
	}
	s.save()
}

// put replaces files by those of another directory; one that is not there goes.
func (s *site) put(from string, names ...string) {
	s.t.Helper()
	for _, name := range names {
		to := filepath.Join(s.dir, name)
		err := copyFile(filepath.Join(from, name), to)
		if os.IsNotExist(err) {
			if err = os.Remove(to); os.IsNotExist(err) {
				err = nil
			}
		}
		s.fatal(err)
	}
	s.count.add("files replaced", len(names))
}

// removeDerived removes what is made of the book. Where the book is open it may
// be making some of it.
func (s *site) removeDerived() {
	s.t.Helper()
	var err error
	for range 1000 {
		err = errors.Join(os.RemoveAll(eventstore.IndexPath(s.dir)), os.RemoveAll(eventstore.SnapshotsPath(s.dir)))
		if err == nil {
			return
		}
	}
	s.fatal(err)
}

// putDerived adds another directory's files that are made of its book.
func (s *site) putDerived(from string) {
	s.t.Helper()
	s.fatal(errors.Join(os.MkdirAll(eventstore.IndexPath(s.dir), 0o755), os.MkdirAll(eventstore.SnapshotsPath(s.dir), 0o755)))
	s.put(from, derived(s.t, from)...)
}

// flipInPlace flips a bit of a file that somebody has open, if it is still there.
func (s *site) flipInPlace(path string, r *rand.Rand) {
	s.t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	s.fatal(err)
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	s.fatal(err)
	if info.Size() == 0 {
		return
	}
	var b [1]byte
	at := r.Int64N(info.Size())
	_, err = file.ReadAt(b[:], at)
	s.fatal(err)
	b[0] ^= 1 << r.IntN(8)
	_, err = file.WriteAt(b[:], at)
	s.fatal(err)
	s.count.add("bits flipped", 1)
}

// tornDerived leaves some of what was written to the index and snapshots.
func tornDerived(tear func(before, after []byte, r *rand.Rand) []byte) func(*site, *rand.Rand) {
	return func(s *site, r *rand.Rand) {
		before := copyDir(s.t, s.dir)
		for range 1 + r.IntN(6) {
			s.fatal(s.send(s.draw(r)))
		}
		s.stop(r)
		for _, name := range derived(s.t, s.dir) {
			written, err := os.ReadFile(filepath.Join(s.dir, name))
			s.fatal(err)
			old, _ := os.ReadFile(filepath.Join(before, name)) // it is new, most often
			s.fatal(os.WriteFile(filepath.Join(s.dir, name), tear(old, written, r), 0o644))
		}
		s.count.add("kills", 1)
	}
}

func (s *site) flip(path string, r *rand.Rand) {
	s.t.Helper()
	data, err := os.ReadFile(path)
	s.fatal(err)
	if len(data) == 0 {
		return // a process was killed before it wrote anything
	}
	at := r.IntN(len(data))
	if strings.HasSuffix(path, ".db") && r.IntN(2) == 0 {
		at = at/4096*4096 + r.IntN(16) // what SQLite says of a page there
	}
	data[at] ^= 1 << r.IntN(8)
	s.fatal(os.WriteFile(path, data, 0o644))
	s.count.add("bits flipped", 1)
}

func failAppend(happens bool) func(*site, *rand.Rand) {
	return func(s *site, r *rand.Rand) {
		s.hooks.append = func(n uint64, block []byte, write func([]byte) error) error {
			if happens {
				s.fatal(write(block))
			}
			return fmt.Errorf("%w: block %d: %w", eventstore.ErrUncertain, n, errFaulty)
		}
		s.fails(r, eventstore.ErrUncertain)
	}
}

func failAnchor(s *site, r *rand.Rand) {
	s.fatal(s.book.BreakAnchor())
	s.fails(r, syscall.EBADF)
}

// fails has a write fail: the sender is told so, and the book takes no more.
func (s *site) fails(r *rand.Rand, want error) {
	s.t.Helper()
	if err := s.send(s.draw(r)); !errors.Is(err, want) {
		s.t.Errorf("a write failed: %v; want %v", err, want)
	}
	<-s.book.Done()
	if again := s.send(s.draw(r)); again == nil || s.book.Err() == nil {
		s.t.Errorf("sent after a write failed: %v", again)
	}
	_ = s.close() // that the anchor can't be synced may be said again
	s.count.add("failures", 1)
}

// dies has the process end, while records are booked, where the hooks that set
// arranges call dead.
func dies(set func(s *site, dead func())) func(*site, *rand.Rand) {
	return func(s *site, r *rand.Rand) {
		s.save()
		grave := ""
		set(s, func() { grave = copyDir(s.t, s.dir) })
		s.lose(s.draw(r))
		s.fatal(s.close())
		s.dir = grave
		s.count.add("kills", 1)
	}
}

func firstStart(open func(s *site, dead func())) func(*site, *rand.Rand) {
	return func(s *site, _ *rand.Rand) {
		grave := ""
		open(s, func() { grave = copyDir(s.t, s.dir) })
		s.fatal(s.close())
		s.dir = grave
		s.unanswered = terms()
		s.sent = terms()
		s.count.add("kills", 1)
	}
}

// tornAppend leaves some of what an append wrote.
func tornAppend(tear func(before, after []byte, r *rand.Rand) []byte) func(*site, *rand.Rand) {
	return func(s *site, r *rand.Rand) {
		var before, after string
		s.hooks.append = func(_ uint64, block []byte, write func([]byte) error) error {
			before = copyDir(s.t, s.dir)
			err := write(block)
			after = copyDir(s.t, s.dir)
			return err
		}
		s.lose(s.draw(r))
		s.fatal(s.close())
		s.dir = before
		for _, name := range []string{"book.db", "book.db-wal"} {
			old, err := os.ReadFile(filepath.Join(before, name))
			s.fatal(err)
			written, err := os.ReadFile(filepath.Join(after, name))
			s.fatal(err)
			s.fatal(os.WriteFile(filepath.Join(s.dir, name), tear(old, written, r), 0o644))
		}
		s.count.add("kills", 1)
	}
}

// cutOff is a write from the front that did not come to its end.
func cutOff(before, after []byte, r *rand.Rand) []byte {
	at := 0
	for at < min(len(before), len(after)) && before[at] == after[at] {
		at++
	}
	at += r.IntN(len(after) - at + 1)
	torn := slices.Clone(after[:at])
	if len(before) > at {
		torn = append(torn, before[at:]...)
	}
	return torn
}

// anySectors is a write of which the disk had done some sectors.
func anySectors(before, after []byte, r *rand.Rand) []byte {
	const sector = 512
	torn := make([]byte, len(after))
	copy(torn, before)
	for at := 0; at < len(after); at += sector {
		if r.IntN(2) == 0 {
			end := min(at+sector, len(after))
			copy(torn[at:end], after[at:end])
		}
	}
	return torn
}

// tornAnchor leaves some of what an anchor's write wrote.
func tornAnchor(s *site, r *rand.Rand) {
	var before, after string
	s.hooks.append = func(_ uint64, block []byte, write func([]byte) error) error {
		err := write(block)
		before = copyDir(s.t, s.dir)
		return err
	}
	s.hooks.told = func() { after = copyDir(s.t, s.dir) }
	s.lose(s.draw(r))
	s.fatal(s.close())
	s.dir = before
	old, err := os.ReadFile(eventstore.AnchorPath(before))
	s.fatal(err)
	written, err := os.ReadFile(eventstore.AnchorPath(after))
	s.fatal(err)
	s.fatal(os.WriteFile(eventstore.AnchorPath(s.dir), cutOff(old, written, r), 0o644))
	s.count.add("kills", 1)
}

// flippedAppend has another block on disk than the book thinks, one bit of it.
func flippedAppend(s *site, r *rand.Rand) {
	s.save()
	s.hooks.append = func(_ uint64, block []byte, write func([]byte) error) error {
		flipped := slices.Clone(block)
		flipped[r.IntN(len(flipped))] ^= 1 << r.IntN(8)
		return write(flipped)
	}
	n := s.book.Head().Block + 1
	s.fatal(s.send(s.draw(r)))
	s.hooks.append = nil
	for range r.IntN(3) {
		s.fatal(s.send(s.draw(r)))
	}
	if r.IntN(2) == 0 {
		s.killed()
	} else {
		s.fatal(s.close())
	}
	s.count.add("bits flipped", 1)
	// The copy is older than the damage: whatever came since has to be sent again.
	s.then.sent, s.then.unanswered = s.sent, s.sent[len(s.then.sent):]
	if _, err := verify(s.dir, ""); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("block %d", n)) {
		s.found(unclear, "a bit of block %d has flipped: %v", n, err)
	}
}

// older is an old copy of the directory, in which the book then went on.
func (s *site) older(r *rand.Rand) string {
	s.t.Helper()
	old := copyDir(s.t, s.dir)
	s.fatal(s.send(s.draw(r)))
	if r.IntN(2) == 0 {
		s.fatal(s.close())
		s.fatal(s.open())
	}
	s.fatal(s.send(s.draw(r)))
	s.stop(r)
	return old
}

// oldDirectory puts a whole old copy in the directory's place, which nothing in
// it can tell, and has it go on by some blocks. The anchor that is elsewhere can.
func oldDirectory(blocks int) func(*site, *rand.Rand) {
	return func(s *site, r *rand.Rand) {
		old := s.older(r)
		elsewhere := eventstore.AnchorPath(s.saved)
		forged := newSite(s.t, s.count)
		forged.dir, forged.fresh, forged.sent = old, s.fresh+1000, s.sent
		if _, err := verify(old, ""); err != nil {
			s.t.Errorf("an old copy is refused: %v", err)
		}
		for range blocks {
			s.fatal(forged.open())
			s.fatal(forged.send(forged.draw(r)))
			s.fatal(forged.close())
		}
		_, err := verify(old, elsewhere)
		if !errors.Is(err, eventstore.ErrCorrupt) {
			s.found(undetected, "by an anchor saved elsewhere: %v", err)
		} else if !where.MatchString(err.Error()) || !what.MatchString(err.Error()) {
			s.found(unclear, "%v", err)
		}
		s.count.add("files replaced", 2)
		s.dir = copyDir(s.t, s.saved)
	}
}

// A cut is a file that ends too early, or is gone.
type cut struct {
	file string
	size int // −1: there is none
}

// TestCutFiles cuts every file of a directory, of a process that was killed and
// of one that ended in good order.
func TestCutFiles(t *testing.T) {
	t.Parallel()
	seed, count := faultSeed(t), newReport()
	t.Run("of", func(t *testing.T) {
		for _, killed := range []bool{false, true} {
			r := drawing(seed, "cut", 0)
			s := newSite(t, count)
			s.begin(r)
			if killed {
				s.killed()
			} else {
				s.fatal(s.close())
			}
			for _, c := range cuts(s, r) {
				t.Run(fmt.Sprintf("killed=%v/%s to %d", killed, c.file, c.size), func(t *testing.T) {
					t.Parallel()
					f := s.fork()
					f.t = t
					path := filepath.Join(f.dir, c.file)
					if c.size < 0 {
						f.fatal(os.Remove(path))
					} else {
						f.fatal(os.Truncate(path, int64(c.size)))
					}
					count.add("cuts", 1)
					f.judge(either)
					f.none("%d bytes", c.size)
				})
			}
		}
	})
	count.log(t)
}

// cuts are to the lengths where something begins or ends, and some others.
func cuts(s *site, r *rand.Rand) (all []cut) {
	const page, frame = 4096, 24 + 4096
	for _, name := range filesOf(s.t, s.dir) {
		info, err := os.Stat(filepath.Join(s.dir, name))
		s.fatal(err)
		size := int(info.Size())
		if size == 0 {
			all = append(all, cut{name, -1})
			continue
		}
		lengths := []int{-1, 0, 1, 100, size / 2, size - 1, r.IntN(size), r.IntN(size)}
		switch step := map[string]int{"anchor": size / 2, "book.db": page, "book.db-wal": frame}[name]; step {
		case 0:
			lengths = []int{-1, 0, size / 2}
		case frame:
			lengths = append(lengths, 31, 32, 32+24)
			for at := 32 + frame; at < size; at += frame {
				lengths = append(lengths, at)
			}
		default:
			for at := step; at < size; at += step {
				lengths = append(lengths, at-1, at, at+1)
			}
		}
		slices.Sort(lengths)
		for _, length := range slices.Compact(lengths) {
			if length < size {
				all = append(all, cut{name, length})
			}
		}
	}
	if !everyFault { // the ends, and some of what is between
		all = slices.DeleteFunc(all, func(c cut) bool { return c.size > 100 && r.IntN(3) > 0 })
	}
	return all
}

// TestFlippedFiles flips bits of a directory's files at rest. cmd/tollbook has
// every byte of a finished month.
func TestFlippedFiles(t *testing.T) {
	t.Parallel()
	seed, count := faultSeed(t), newReport()
	flips := 20
	if everyFault {
		flips = 400
	}
	t.Run("of", func(t *testing.T) {
		for _, killed := range []bool{false, true} {
			for _, file := range []string{"book.db", "book.db-wal", "anchor"} {
				if file == "book.db-wal" && !killed {
					continue // it is gone
				}
				t.Run(fmt.Sprintf("killed=%v/%s", killed, file), func(t *testing.T) {
					t.Parallel()
					r := drawing(seed, t.Name(), 0)
					s := newSite(t, count)
					s.begin(r)
					if killed {
						s.killed()
					} else {
						s.fatal(s.close())
					}
					for range flips {
						f := s.fork()
						f.flip(filepath.Join(f.dir, file), r)
						f.judge(either)
						f.none("flipped")
					}
				})
			}
		}
	})
	count.log(t)
}

// A WAL whose file is missing or empty is not taken for a leftover, which SQLite
// would delete: once the file is found again, the two are the log.
func TestWALAlone(t *testing.T) {
	for _, test := range []struct {
		name  string
		leave func(path string) error
	}{{"missing", os.Remove}, {"empty", func(path string) error { return os.Truncate(path, 0) }}} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, newReport())
			s.begin(drawing(1, "WAL", 0))
			s.killed()
			path := eventstore.LogPath(s.dir)
			file, err := os.ReadFile(path)
			s.fatal(errors.Join(err, test.leave(path)))
			wantError(t, s.open(), eventstore.ErrCorrupt, path+"-wal", "put back")
			if _, err := verify(s.dir, ""); err == nil {
				t.Error("verified")
			}
			s.fatal(os.WriteFile(path, file, 0o644))
			s.judge(opens)
			s.none("found again")
		})
	}
}
