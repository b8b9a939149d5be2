package index

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"tollbook/eventstore/merkle"
)

// keyOf and entryOf are of a book's event by its position.
func keyOf(book string, position uint64) Key {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", book, position))
	return Key(sum[:16])
}

func entryOf(book string, position uint64) Entry {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d content", book, position))
	return Entry{[16]byte(sum[:16]), position}
}

// A library is a book's heads, whose events all have been added.
type library struct {
	name  string
	heads []Head
}

func (l *library) head() Head {
	if len(l.heads) == 0 {
		return Head{}
	}
	return l.heads[len(l.heads)-1]
}

func (l *library) has(h Head) bool {
	return h.Block-1 < uint64(len(l.heads)) && l.heads[h.Block-1] == h
}

// grow adds a block of n events to the book, and to the index.
func (l *library) grow(x *Index, n int) error {
	before := l.head()
	next := Head{Block: before.Block + 1, Events: before.Events + uint64(n)}
	binary.BigEndian.PutUint64(next.Hash[:], next.Events)
	copy(next.Hash[8:], l.name)
	l.heads = append(l.heads, next)
	return l.add(x, before, next)
}

func (l *library) add(x *Index, before, next Head) error {
	var keys []Key
	var entries []Entry
	for p := before.Events + 1; p <= next.Events; p++ {
		keys, entries = append(keys, keyOf(l.name, p)), append(entries, entryOf(l.name, p))
	}
	var chunks []merkle.Hash
	for c := before.Events / merkle.ChunkLeaves; c < next.Events/merkle.ChunkLeaves; c++ {
		chunks = append(chunks, chunkOf(c))
	}
	return x.Add(keys, entries, next, chunks)
}

func chunkOf(c uint64) (h merkle.Hash) {
	binary.BigEndian.PutUint64(h[24:], c)
	return h
}

// reach has the index hold all of the book, as whoever opens one does.
func (l *library) reach(t tb, x *Index) {
	t.Helper()
	from, chunks := x.Reach(l.has)
	if from.Block > 0 && !l.has(from) {
		t.Fatalf("the index says it reaches %v", from)
	}
	for i, c := range chunks {
		if c != chunkOf(uint64(i)) {
			t.Fatalf("chunk %d is %v", i, c)
		}
	}
	if want := from.Events / merkle.ChunkLeaves; uint64(len(chunks)) != want {
		t.Fatalf("%d chunks of %d", len(chunks), want)
	}
	fill := from.Block == 0
	if fill {
		x.Fill()
	}
	for _, next := range l.heads[from.Block:] {
		if err := l.add(x, from, next); err != nil {
			t.Fatalf("block %d: %v", next.Block, err)
		}
		from = next
	}
	if fill {
		if err := x.Unite(); err != nil {
			t.Fatalf("unite: %v", err)
		}
	}
}

// compare asks for every event of the book, and for some that are not in it.
func (l *library) compare(t tb, x *Index) {
	t.Helper()
	n := l.head().Events
	var keys []Key
	for p := uint64(1); p <= n+50; p++ {
		keys = append(keys, keyOf(l.name, p))
	}
	found := make([]Entry, len(keys))
	cover, err := x.Search(keys, found)
	if err != nil {
		mend(t, l, x, err)
		cover, err = x.Search(keys, found)
	}
	if err != nil || cover != x.Cover() || cover > n {
		t.Fatalf("searched up to %d of %d: %v", cover, n, err)
	}
	for i := range keys {
		p := uint64(i) + 1
		var want Entry
		if p <= n {
			want = entryOf(l.name, p)
		}
		got, ok, err := x.Find(&keys[i])
		if errors.Is(err, ErrDamaged) { // of a run that was written meanwhile
			mend(t, l, x, err)
			l.compare(t, x)
			return
		}
		if got != want || ok != (p <= n) || err != nil {
			t.Fatalf("position %d of %d: found %v, %v", p, n, got, err)
		}
		if p > cover {
			want = Entry{}
		}
		if found[i] != want {
			t.Fatalf("position %d of %d, covered up to %d: found %v", p, n, cover, found[i])
		}
		if recent, ok := x.Recent(&keys[i]); ok != (p > cover && p <= n) || ok && recent != entryOf(l.name, p) {
			t.Fatalf("position %d of %d, covered up to %d: recently %v", p, n, cover, recent)
		}
	}
}

type tb interface {
	Helper()
	Fatalf(format string, args ...any)
}

// mend is what a book does with damage.
func mend(t tb, l *library, x *Index, err error) {
	t.Helper()
	if !errors.Is(err, ErrDamaged) {
		t.Fatalf("error %v", err)
	}
	x.Reset()
	x.Fill()
	from := Head{}
	for _, next := range l.heads {
		if err := l.add(x, from, next); err != nil {
			t.Fatalf("block %d: %v", next.Block, err)
		}
		from = next
	}
	if err := x.Unite(); err != nil {
		t.Fatalf("unite: %v", err)
	}
}

// TestNaive is of random books over restarts, kills, and files that were removed,
// cut, changed, or are old copies: the answers are always those of a map.
func TestNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "index")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		o := Options{Recent: rapid.SampledFrom([]int{1, 7, 100, 3000}).Draw(t, "recent")}
		l := &library{name: "book"}
		x := Open(dir, o)
		l.reach(t, x)
		reopen := func(kill bool) {
			if kill {
				grave, err := os.MkdirTemp("", "index")
				if err != nil {
					t.Fatal(err)
				}
				copyFiles(t, dir, grave)
				_ = x.Close()
				_ = os.RemoveAll(dir)
				dir = grave
			} else if err := x.Close(); err != nil {
				t.Fatalf("close: %v", err)
			}
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"grow", "grow", "grow", "restart", "kill", "harm", "harm open", "go back"}).Draw(t, "step") {
			case "grow":
				for range rapid.IntRange(1, 30).Draw(t, "blocks") {
					if err := l.grow(x, rapid.IntRange(1, 60).Draw(t, "events")); err != nil {
						t.Fatalf("add: %v", err)
					}
				}
			case "restart", "kill":
				reopen(rapid.Bool().Draw(t, "kill"))
				x = Open(dir, o)
				l.reach(t, x)
			case "harm":
				reopen(false)
				harm(t, dir)
				x = Open(dir, o)
				l.reach(t, x)
			case "harm open":
				harm(t, dir)
			case "go back": // a copy of the book as it was, with the index as it is
				reopen(false)
				l.heads = l.heads[:rapid.IntRange(0, len(l.heads)).Draw(t, "block")]
				x = Open(dir, o)
				l.reach(t, x)
			}
			l.compare(t, x)
		}
		_ = x.Close()
	})
}

// copyFiles is what a kill leaves. Files may go meanwhile.
func copyFiles(t tb, from, to string) {
	entries, err := os.ReadDir(from)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%v", err)
	}
	for _, entry := range entries {
		if data, err := os.ReadFile(filepath.Join(from, entry.Name())); err == nil {
			_ = os.WriteFile(filepath.Join(to, entry.Name()), data, 0o644)
		}
	}
}

// harm does something to one of the files. Some may go meanwhile.
func harm(t *rapid.T, dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return
	}
	path := filepath.Join(dir, entries[rapid.IntRange(0, len(entries)-1).Draw(t, "file")].Name())
	info, err := os.Stat(path)
	if err != nil || info.Size() == 0 {
		return
	}
	at := rapid.Int64Range(0, info.Size()-1).Draw(t, "at")
	switch rapid.SampledFrom([]string{"remove", "cut", "flip", "zeros", "remove all"}).Draw(t, "harm") {
	case "remove":
		_ = os.Remove(path)
	case "cut":
		_ = os.Truncate(path, at)
	case "remove all":
		_ = os.RemoveAll(dir)
	default:
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return
		}
		change := make([]byte, min(512, info.Size()-at))
		if len(change)%2 == 0 {
			change = change[:1]
			_, _ = file.ReadAt(change, at)
			change[0] ^= 1 << (at % 8)
		}
		_, _ = file.WriteAt(change, at)
		_ = file.Close()
	}
}

// TestRunDamage changes every byte of a run: it is refused when it is opened, or
// when the changed page is read, and never answers otherwise than before.
func TestRunDamage(t *testing.T) {
	dir := t.TempDir()
	x, l := Open(dir, Options{}), &library{name: "book"}
	for range 4 {
		if err := l.grow(x, 300); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	paths, _ := filepath.Glob(filepath.Join(dir, runPrefix+"*"))
	if len(paths) != 1 {
		t.Fatalf("files %v", paths)
	}
	good, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	r, err := openRun(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.file.Close() }()
	file, err := os.OpenFile(paths[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	put := func(b byte, at int) {
		if _, err := file.WriteAt([]byte{b}, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	refused, noticed := 0, 0
	for at := range good {
		put(good[at]^1<<(at%8), at)
		if at > 0 {
			put(good[at-1], at-1)
		}
		if at < pageBytes || int64(at) >= pageBytes*(1+r.pages()) {
			if _, err := openRun(paths[0]); !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d: %v", at, err)
			}
			refused++
			continue
		}
		// Of the page that was changed, the first and the last entry, and one between.
		page := at/pageBytes - 1
		first, last := page*pageRecords, min((page+1)*pageRecords, int(r.count()))-1
		for _, i := range []int{first, (first + last) / 2, last} {
			key := Key(good[pageBytes*(page+1)+(i-first)*recordBytes:])
			if err := r.search([]Key{key}, make([]Entry, 1)); !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d, entry %d: %v", at, i, err)
			}
			noticed++
		}
	}
	for size := range len(good) {
		if size%97 != 0 && size%pageBytes != 0 {
			continue
		}
		if err := os.WriteFile(paths[0], good[:size], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := openRun(paths[0]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d: %v", size, err)
		}
	}
	t.Logf("%d changes refused, %d noticed", refused, noticed)
}

// Runs of two books never make one index, and the same key twice is noticed
// wherever its two events are.
func TestTwice(t *testing.T) {
	for _, between := range []int{0, 1, 10, 100} {
		x, l := Open(t.TempDir(), Options{Recent: 10}), &library{name: "book"}
		x.Fill()
		err := l.grow(x, 5)
		for range between {
			err = errors.Join(err, l.grow(x, 3))
		}
		again := l.head()
		key, entry := keyOf(l.name, 2), Entry{Position: again.Events + 1}
		again.Block, again.Events = again.Block+1, again.Events+1
		if err == nil {
			err = x.Add([]Key{key}, []Entry{entry}, again, nil)
		}
		if err == nil {
			err = x.Unite()
		}
		var twice *TwiceError
		if !errors.As(err, &twice) || twice.First != 2 || twice.Second != again.Events {
			t.Errorf("%d blocks between: %v", between, err)
		}
		_ = x.Close()
	}
}

// TestSieve asks a sieve for every key it has: each passes, at its place.
func TestSieve(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{1, 2, 63, 64, 65, 127, 1000, 5000}).Draw(t, "keys")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		// Some books' keys are all alike at the beginning, which nobody would do by accident.
		alike := rapid.IntRange(0, 63).Draw(t, "bits alike")
		tab := newTable(Head{})
		for i := range n {
			var key Key
			binary.BigEndian.PutUint64(key[:], random.Uint64()>>alike)
			binary.BigEndian.PutUint64(key[8:], random.Uint64())
			tab.add(&key, &Entry{Position: uint64(i + 1)})
		}
		list := tab.sorted()
		s := newSieve(uint64(len(list)))
		for i := range list {
			s.add(&list[i].key)
		}
		if !s.finish() {
			t.Fatalf("no sieve of %d", n)
		}
		for i := range list {
			if i > 0 && !less(&list[i-1].key, &list[i].key) {
				t.Fatalf("entry %d is not sorted", i)
			}
		}
		for start := 0; start < len(list); start += maxProbes {
			part := list[start:min(start+maxProbes, len(list))]
			keys, probes := make([]Key, len(part)), make([]probe, len(part))
			for i := range part {
				keys[i] = part[i].key
			}
			s.find(keys, probes)
			for i, p := range probes {
				if at := uint64(start + i); at < p.first || at >= p.end {
					t.Fatalf("entry %d of %d: found from %d to %d", at, n, p.first, p.end)
				}
			}
		}
	})
}

// BenchmarkSearch is of keys that are not there, and of some that are, in an index
// as it is after so many events.
func BenchmarkSearch(b *testing.B) {
	const events = 4_000_000
	x := Open(b.TempDir(), Options{})
	random := rand.New(rand.NewPCG(1, 2))
	draw := func() (k Key) {
		binary.BigEndian.PutUint64(k[:], random.Uint64())
		binary.BigEndian.PutUint64(k[8:], random.Uint64())
		return k
	}
	var some []Key
	var head Head
	for head.Events < events {
		var keys []Key
		var entries []Entry
		for range 8000 {
			head.Events++
			keys, entries = append(keys, draw()), append(entries, Entry{Position: head.Events})
		}
		head.Block++
		some = append(some, keys[0])
		if err := x.Add(keys, entries, head, make([]merkle.Hash, newChunks(Head{Events: head.Events - 8000}, head))); err != nil {
			b.Fatal(err)
		}
	}
	if err := x.tend(); err != nil {
		b.Fatal(err)
	}
	bytes, inRuns := x.Memory()
	for _, c := range []struct {
		name string
		key  func(i int) Key
	}{{"new", func(int) Key { return draw() }}, {"known", func(i int) Key { return some[i%len(some)] }}} {
		b.Run(c.name, func(b *testing.B) {
			keys, found := make([]Key, 1000), make([]Entry, 1000)
			for i := 0; i < b.N; i += len(keys) {
				for j := range keys {
					keys[j] = c.key(i + j)
				}
				if _, err := x.Search(keys, found); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(bytes)/float64(inRuns), "B/event")
			b.ReportMetric(float64(len(x.parts.Load().runs)), "runs")
		})
	}
	if err := x.Close(); err != nil {
		b.Fatal(err)
	}
}
