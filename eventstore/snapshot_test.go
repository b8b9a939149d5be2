package eventstore_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/memlog"
)

// A recaller is a Resumer that has a hash of all events it was told of, in their
// order, and how often each source repeated itself.
type recaller struct {
	State struct {
		Events  uint64
		Hash    [sha256.Size]byte
		Repeats map[string]uint64
	}
	told    int  // events, since it was made
	refuses bool // to resume
}

func (r *recaller) Name() string { return "recaller" }

func (r *recaller) Follow(u eventstore.Update) {
	r.told += len(u.Events)
	for i := range u.Events {
		if u.First+uint64(i) != r.State.Events+1 {
			panic("the recaller is told of an event out of its turn")
		}
		r.State.Events++
		r.State.Hash = sha256.Sum256(append(r.State.Hash[:], canonical(&u.Events[i])...))
	}
	for _, d := range u.Duplicates {
		if r.State.Repeats == nil {
			r.State.Repeats = map[string]uint64{}
		}
		r.State.Repeats[d.Source] += d.N
	}
}

func (r *recaller) Snapshot(last bool) func(io.Writer) error {
	state := r.State
	if !last {
		state.Repeats = maps.Clone(state.Repeats)
	}
	return func(w io.Writer) error { return json.NewEncoder(w).Encode(state) }
}

func (r *recaller) Resume(in io.Reader) (accept func(), err error) {
	if r.refuses {
		return nil, errors.New("not of this version")
	}
	var was recaller
	err = json.NewDecoder(in).Decode(&was.State)
	return func() { r.State = was.State }, err
}

// recalled is what a recaller of these events has.
func recalled(events []domain.Event) *recaller {
	r := &recaller{}
	r.Follow(eventstore.Update{First: 1, Events: events})
	return r
}

// A Resumer that has a snapshot of the head is told of nothing when the book is
// opened; one that has not, or can't read it, of everything.
func TestResume(t *testing.T) {
	dir, log := t.TempDir(), memlog.New(t)
	open := func(r *recaller, follow ...eventstore.Follower) *eventstore.Book {
		book, err := eventstore.Open(ctx, dir, func(string) (eventstore.Log, error) { return log, nil },
			eventstore.Options{Clock: ticking(), Resume: []eventstore.Resumer{r}, Follow: follow})
		if err != nil {
			t.Fatal(err)
		}
		return book
	}
	closed := func(book *eventstore.Book) {
		if err := book.Close(); err != nil {
			t.Fatal(err)
		}
		log = log.Reopen()
	}
	send := func(book *eventstore.Book, list []eventstore.Record) {
		if _, err := book.Submit(ctx, list); err != nil {
			t.Fatal(err)
		}
	}
	book := open(&recaller{})
	send(book, calls(1, 40))
	closed(book)

	r := &recaller{}
	book = open(r)
	if r.told != 0 || r.State.Events != 40 {
		t.Errorf("resumed at %d, and was told of %d events", r.State.Events, r.told)
	}
	send(book, calls(31, 50)) // ten repeats, which the block has
	send(book, calls(31, 50)) // and some that no block has
	closed(book)

	var all uint64
	r = &recaller{}
	book = open(r, func(u eventstore.Update) { all += uint64(len(u.Events)) })
	if r.told != 10 || r.State.Events != 50 || all != 50 {
		t.Errorf("told of %d events up to %d; another follower of %d", r.told, r.State.Events, all)
	}
	if want := map[string]uint64{"switch/mil-1": 10}; !cmp.Equal(r.State.Repeats, want) {
		t.Errorf("repeats %v; the book has %v", r.State.Repeats, want)
	}
	closed(book)

	r = &recaller{refuses: true}
	book = open(r)
	if r.told != 50 || r.State.Events != 50 {
		t.Errorf("told of %d events up to %d", r.told, r.State.Events)
	}
	closed(book)
}

// TestDerived is of random histories with restarts and kills, in which the index
// and the snapshots are removed, cut, changed, or put back from before: what
// senders are told is what a map says, and what a Resumer knows is in the book.
func TestDerived(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "derived")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		log := memlog.New(t)
		recent, every := rapid.IntRange(1, 40).Draw(t, "recent"), rapid.Uint64Range(1, 60).Draw(t, "every")
		var r *recaller
		open := func() *eventstore.Book {
			r = &recaller{}
			book, err := eventstore.Open(ctx, dir, func(string) (eventstore.Log, error) { return log, nil },
				eventstore.Options{Clock: ticking(), Resume: []eventstore.Resumer{r}}.KeepRecent(recent).SnapshotEvery(every))
			if err != nil {
				t.Fatalf("open: %v", err)
			}
			return book
		}
		book := open()
		naive := map[string]eventstore.Record{} // by id
		positions := map[string]uint64{}
		var events []domain.Event
		var old string
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			switch step := rapid.SampledFrom([]string{"submit", "submit", "submit", "restart", "kill", "harm", "harm open", "save", "put back"}).Draw(t, "step"); step {
			case "submit":
				for range rapid.IntRange(1, 5).Draw(t, "batches") {
					var list []eventstore.Record
					for range rapid.IntRange(1, 12).Draw(t, "records") {
						e := call("contoso", "switch/1", rapid.IntRange(1, 200).Draw(t, "call"))
						if rapid.IntRange(0, 9).Draw(t, "other") == 0 {
							e = longer(e, 1)
						}
						list = append(list, records(e)...)
					}
					results, err := book.Submit(ctx, list)
					if err != nil {
						t.Fatalf("submit: %v", err)
					}
					for i, result := range results {
						e := list[i].Event
						first, known := naive[e.ID]
						switch {
						case !known:
							naive[e.ID], positions[e.ID] = list[i], result.Position
							events = append(events, e)
							if result.Status != eventstore.Booked || result.Position != uint64(len(events)) {
								t.Fatalf("%s is new: %v", e.ID, result)
							}
						case string(canonical(&first.Event)) == string(canonical(&e)):
							if result.Status != eventstore.Duplicate || result.Position != positions[e.ID] {
								t.Fatalf("%s is a duplicate of position %d: %v", e.ID, positions[e.ID], result)
							}
						default:
							if result.Status == eventstore.Booked {
								t.Fatalf("%s is a conflict: %v", e.ID, result)
							}
							if result.Status == eventstore.Suspended {
								events = append(events, domain.Event{}) // read from the book below
							}
						}
					}
				}
			case "restart", "kill", "harm", "put back":
				killed := copyDir(t, dir)
				if err := book.Close(); err != nil {
					t.Fatalf("close: %v", err)
				}
				log = log.Reopen()
				if step == "kill" {
					_ = os.RemoveAll(dir)
					dir = killed
				} else {
					_ = os.RemoveAll(killed)
				}
				if step == "harm" {
					harmDerived(t, dir)
				}
				if step == "put back" && old != "" {
					for _, name := range derived(t, old) {
						if err := copyFile(filepath.Join(old, name), filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
							t.Fatalf("%v", err)
						}
					}
				}
				book = open()
			case "harm open":
				harmDerived(t, dir)
			case "save":
				_ = os.RemoveAll(old)
				old = copyDir(t, dir)
			}
			inBook, head := checkLog(t, dir, log.Reopen())
			if head != book.Head() || len(inBook) != len(events) {
				t.Fatalf("%d events in the book, %d expected", len(inBook), len(events))
			}
			want := recalled(inBook).State
			if r.State.Events != want.Events || r.State.Hash != want.Hash {
				t.Fatalf("the recaller knows %d events, and not those of the book: %d", r.State.Events, want.Events)
			}
			for id, position := range positions {
				if at, ok := book.Find("contoso", "switch/1", id); at != position || !ok {
					t.Fatalf("%s is found at %d, %v; it is at %d", id, at, ok, position)
				}
			}
			if _, ok := book.Find("contoso", "switch/1", "nobody"); ok {
				t.Fatalf("found what is not there")
			}
		}
		if err := book.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
		_ = os.RemoveAll(old)
	})
}

// derived are the files of a directory that are made of its book.
func derived(t tb, dir string) []string {
	t.Helper()
	return slices.DeleteFunc(filesOf(t, dir), func(name string) bool {
		first := filepath.Dir(name)
		return first != filepath.Base(eventstore.IndexPath("")) && first != filepath.Base(eventstore.SnapshotsPath(""))
	})
}

// harmDerived does something to one of these files, which may go meanwhile.
func harmDerived(t *rapid.T, dir string) {
	names := derived(t, dir)
	if len(names) == 0 {
		return
	}
	path := filepath.Join(dir, names[rapid.IntRange(0, len(names)-1).Draw(t, "file")])
	info, err := os.Stat(path)
	if err != nil || info.Size() == 0 {
		return
	}
	at := rapid.Int64Range(0, info.Size()-1).Draw(t, "at")
	switch rapid.SampledFrom([]string{"remove", "cut", "flip", "remove all"}).Draw(t, "harm") {
	case "remove":
		_ = os.Remove(path)
	case "cut":
		_ = os.Truncate(path, at)
	case "flip":
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return
		}
		var b [1]byte
		_, _ = file.ReadAt(b[:], at)
		b[0] ^= 1 << (at % 8)
		_, _ = file.WriteAt(b[:], at)
		_ = file.Close()
	case "remove all":
		_ = os.RemoveAll(filepath.Dir(path))
	}
}
