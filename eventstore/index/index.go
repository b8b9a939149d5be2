// Package index remembers the identity of every event of a book, for ever, to
// tell what is new from what was booked before.
//
// The model: what was added last is in a table in memory. Once that is full it is
// frozen and written, sorted, as a run: an immutable file that holds the events of
// some blocks in a row. In the background neighbouring runs of one size become one
// larger run, so that there are few. Of a run memory has 1.3 bytes an event, which
// say for a key what place in the file it has if it is there; the file is then
// asked, so that every answer is exact.
//
// An index is derived from its book and is no part of it. Each run names the head
// it goes up to, by the hash of that block, so that [Index.Reach] takes only what
// belongs to the book; what is missing, damaged or of another book is added again
// by whoever has the book. So a run may be lost at any time, and may be used before
// it is durable: what is not whole after a power cut is found by its checksums. It
// is synced all the same, so that a start need not read the whole book again, and
// the runs that it replaces are removed only after it has its name. A crash leaves
// the old files, the new one, or both.
//
// TestNaive compares it with a map over restarts and damage, TestRunDamage shows
// that no changed bit of a run goes unnoticed.
package index

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"tollbook/eventstore/merkle"
)

// A Key is the identity of an event: half of a SHA-256, so keys are spread evenly.
type Key [16]byte

// An Entry is what is known of a booked event.
type Entry struct {
	Digest   [16]byte // exact content: half of the leaf hash
	Position uint64   // from 1; 0: there is no such event
}

// A Head is how far a book goes, as package eventstore has it.
type Head struct {
	Block  uint64
	Hash   merkle.Hash
	Events uint64
}

// ErrDamaged is returned when a run is not what was written. The index answers
// nothing reliably any more: Reset it, and add all of the book again.
var ErrDamaged = errors.New("the index is damaged")

// A TwiceError is of a key that was added twice.
type TwiceError struct{ First, Second uint64 } // positions

func (e *TwiceError) Error() string {
	return fmt.Sprintf("position %d has the identity of position %d", e.Second, e.First)
}

// Options of Open.
type Options struct {
	// Recent is how many events the table takes before it is written: 1<<19 (about
	// 25 MB, and as much again while it is being written) if 0.
	Recent int
	// Warn is told, if not nil, what does not stop the index but somebody should
	// know. It is called from several goroutines.
	Warn func(error)
}

const defaultRecent = 1 << 19

// fanOut is how many neighbouring runs of a size become one. More would have each
// event written less often, and more runs to be asked.
const fanOut = 4

// An Index has one writer, whose all methods are but Search and Find, which others
// may call at the same time.
type Index struct {
	dir  string
	o    Options
	head Head // up to which all was added

	mu     sync.RWMutex // held by the writer to change recent, by Find to read it
	recent *table

	changing sync.Mutex // held to change parts
	parts    atomic.Pointer[parts]
	reading  sync.RWMutex // held by who reads runs; by who closes some that are in parts no more
	broken   atomic.Bool
	filling  atomic.Bool // all of a book is added: runs are merged at its end
	tending  sync.Mutex  // held by who writes runs

	work    chan struct{} // there is something frozen
	closing chan struct{}
	done    chan struct{}
	spare   chan *table // one that can be filled again
}

// parts are what a search looks at besides recent, and are never changed.
type parts struct {
	runs   []*run   // of blocks in a row, from the first on
	frozen []*table // of those after
	cover  uint64   // position of the last event of all these
}

// Open reads what a directory has of an index, which may be nothing. It never
// fails: whatever is not whole is left out, and removed.
func Open(dir string, o Options) *Index {
	if o.Recent == 0 {
		o.Recent = defaultRecent
	}
	x := &Index{
		dir: dir, o: o,
		work: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}), spare: make(chan *table, 1),
	}
	x.parts.Store(&parts{runs: x.openRuns()})
	x.settle()
	go x.background()
	return x
}

// settle begins an empty table after the runs.
func (x *Index) settle() {
	p := x.parts.Load()
	x.head = Head{}
	if n := len(p.runs); n > 0 {
		x.head = p.runs[n-1].to
	}
	next := *p
	next.cover = x.head.Events
	x.parts.Store(&next)
	x.recent = newTable(x.head)
}

func (x *Index) warn(err error) {
	if x.o.Warn != nil {
		x.o.Warn(err)
	}
}

// openRuns opens those runs that follow one another from the first block on; of
// several the one that goes furthest, as a crash leaves runs beside the one they
// have become.
func (x *Index) openRuns() []*run {
	entries, err := os.ReadDir(x.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.warn(fmt.Errorf("index: %w", err))
	}
	var all, chosen []*run
	for _, entry := range entries {
		path := filepath.Join(x.dir, entry.Name())
		if strings.HasSuffix(path, unfinished) {
			_ = os.Remove(path)
			continue
		}
		if !strings.HasPrefix(entry.Name(), runPrefix) {
			continue
		}
		r, err := openRun(path)
		if err != nil {
			x.warn(fmt.Errorf("index: %w: it is made anew from the book", err))
			_ = os.Remove(path)
			continue
		}
		all = append(all, r)
	}
	var end Head
	for {
		var next *run
		for _, r := range all {
			if r.from == end && (next == nil || r.to.Block > next.to.Block) {
				next = r
			}
		}
		if next == nil {
			break
		}
		chosen, end = append(chosen, next), next.to
	}
	for _, r := range all {
		if !slices.Contains(chosen, r) {
			r.remove()
		}
	}
	return chosen
}

// Reach keeps what the index has of a book: is tells whether the book has a head.
// It returns how far the index goes then, and the roots of the full chunks of the
// Merkle tree up to there. Call it before anything is added.
func (x *Index) Reach(is func(Head) bool) (Head, []merkle.Hash) {
	p := *x.parts.Load()
	runs := p.runs
	n := len(runs)
	// A run begins at the hash at which the one before ends, so the last that the
	// book has speaks for all before it.
	for n > 0 && !is(runs[n-1].to) {
		n--
	}
	if n < len(runs) {
		x.warn(fmt.Errorf("index: blocks %d to %d are not those of the book: that part is made anew from it", runs[n].from.Block+1, runs[len(runs)-1].to.Block))
	}
	p.runs = slices.Clone(runs[:n])
	x.changing.Lock()
	x.parts.Store(&p)
	x.changing.Unlock()
	for _, r := range runs[n:] {
		r.remove()
	}
	x.settle()
	var chunks []merkle.Hash
	for _, r := range p.runs {
		chunks = append(chunks, r.chunks...)
	}
	return x.head, chunks
}

// Reset forgets everything.
func (x *Index) Reset() {
	x.changing.Lock()
	old := x.parts.Load()
	x.parts.Store(&parts{})
	x.changing.Unlock()
	x.reading.Lock()
	for _, r := range old.runs {
		r.remove()
	}
	x.reading.Unlock()
	x.broken.Store(false)
	x.mu.Lock()
	x.settle()
	x.mu.Unlock()
}

// Cover is the position up to which Search looks. What Search did not find when
// Cover was the same is Recent, or new.
func (x *Index) Cover() uint64 { return x.parts.Load().cover }

// Broken reports whether damage was found in the background.
func (x *Index) Broken() bool { return x.broken.Load() }

// Recent looks a key up among the events after Cover. The writer's only.
func (x *Index) Recent(key *Key) (Entry, bool) { return x.recent.find(key) }

// Search looks keys up among the events up to Cover, which it returns, and sets
// found for each. Errors: ErrDamaged.
func (x *Index) Search(keys []Key, found []Entry) (cover uint64, err error) {
	x.reading.RLock()
	defer x.reading.RUnlock()
	p := x.parts.Load()
	clear(found)
	for len(keys) > 0 {
		n := min(len(keys), maxProbes)
		if err := p.search(keys[:n], found[:n]); err != nil {
			return p.cover, err
		}
		keys, found = keys[n:], found[n:]
	}
	return p.cover, nil
}

// search asks every part. A key is in one of them.
func (p *parts) search(keys []Key, found []Entry) error {
	for _, t := range p.frozen {
		for i := range keys {
			if e, ok := t.find(&keys[i]); ok {
				found[i] = e
			}
		}
	}
	for i := len(p.runs) - 1; i >= 0; i-- {
		if err := p.runs[i].search(keys, found); err != nil {
			return err
		}
	}
	return nil
}

// Find looks one key up among all events. Errors: ErrDamaged.
func (x *Index) Find(key *Key) (Entry, bool, error) {
	x.mu.RLock()
	e, ok := x.recent.find(key)
	x.mu.RUnlock()
	if ok {
		return e, true, nil
	}
	// What leaves recent meanwhile is in the parts before.
	var found [1]Entry
	x.reading.RLock()
	defer x.reading.RUnlock()
	err := x.parts.Load().search([]Key{*key}, found[:])
	return found[0], found[0].Position != 0, err
}

// Add adds the events of the next block, whose head that is, in their order, and
// the roots of the chunks of the Merkle tree that it completes. It looks for them
// only among those after Cover. Errors: a *TwiceError where one is there, and the
// index must be Reset.
func (x *Index) Add(keys []Key, entries []Entry, head Head, chunks []merkle.Hash) error {
	x.mu.Lock()
	for i := range keys {
		if known, ok := x.recent.add(&keys[i], &entries[i]); !ok {
			x.mu.Unlock()
			return &TwiceError{known.Position, entries[i].Position}
		}
	}
	x.recent.to, x.recent.chunks = head, append(x.recent.chunks, chunks...)
	x.mu.Unlock()
	x.head = head
	if len(x.recent.records) >= x.o.Recent {
		x.freeze()
		x.wake()
	}
	return nil
}

// freeze hands the table over to be written, and begins a new one.
func (x *Index) freeze() {
	var fresh *table
	select {
	case fresh = <-x.spare:
		fresh.from, fresh.to = x.head, x.head
	default:
		fresh = newTable(x.head)
		fresh.slots, fresh.records = make([]uint32, len(x.recent.slots)), make([]record, 0, len(x.recent.records))
	}
	x.mu.Lock() // before it can be written and used again
	defer x.mu.Unlock()
	x.changing.Lock()
	defer x.changing.Unlock()
	p := *x.parts.Load()
	p.frozen, p.cover = append(slices.Clone(p.frozen), x.recent), x.head.Events
	x.parts.Store(&p)
	x.recent = fresh
}

// Close writes what is in memory only, so that the next Open has it. Nothing may
// be called afterwards.
func (x *Index) Close() error {
	close(x.closing)
	<-x.done
	if x.filling.Load() {
		x.Reset() // it was not finished
	}
	if len(x.recent.records) > 0 {
		x.freeze()
	}
	err := x.flush()
	for _, r := range x.parts.Load().runs {
		err = errors.Join(err, r.file.Close())
	}
	return err
}

// background writes frozen tables and merges runs.
func (x *Index) background() {
	defer close(x.done)
	for {
		select {
		case <-x.closing:
			return
		case <-x.work:
		}
		if err := x.tend(); err != nil {
			select {
			case <-x.closing:
			default:
				x.warn(fmt.Errorf("index: %w: make room in %s and check its owner; until then it takes more memory", err, x.dir))
			}
		}
	}
}

// tend does what is to be done, tables first: they are what memory is held by.
func (x *Index) tend() error {
	x.tending.Lock()
	defer x.tending.Unlock()
	for {
		if err := x.flush(); err != nil {
			return err
		}
		if x.filling.Load() {
			return nil
		}
		group := x.group(x.parts.Load().runs)
		if group == nil {
			return x.sync()
		}
		if err := x.merge(group); err != nil {
			return err
		}
	}
}

// sync has the runs on disk that Unite made, for which no start waited.
func (x *Index) sync() error {
	var errs []error
	for _, r := range x.parts.Load().runs {
		if !r.synced {
			errs = append(errs, r.file.Sync())
			r.synced = true
		}
	}
	return errors.Join(errs...)
}

// Fill begins the adding of a whole book to an empty index, which is not searched
// meanwhile; Unite ends it. What is written until then does not outlive the Index,
// as nobody knows yet whether a key is there twice.
func (x *Index) Fill() { x.filling.Store(true) }

// Unite makes one run of all that was added since Fill. Errors: a *TwiceError
// where a key was added twice; those of the system, with which the index answers
// as well as before, and the next Open finds none.
func (x *Index) Unite() error {
	x.tending.Lock()
	defer x.tending.Unlock()
	if p := x.parts.Load(); len(p.runs)+len(p.frozen) == 0 {
		x.filling.Store(false)
		return nil // all is in one table, in which nothing is twice
	}
	if len(x.recent.records) > 0 {
		x.freeze()
	}
	err := x.flush()
	if err == nil {
		err = x.merge(x.parts.Load().runs)
	}
	if err == nil {
		err = x.parts.Load().runs[0].name()
	}
	if _, twice := errors.AsType[*TwiceError](err); !twice {
		x.filling.Store(false)
	}
	x.wake()
	return err
}

func (x *Index) wake() {
	select {
	case x.work <- struct{}{}:
	default:
	}
}

// flush writes the frozen tables. On an error they stay where they are, which is
// right and takes memory; the next one that is frozen has it tried again.
func (x *Index) flush() error {
	for {
		p := x.parts.Load()
		if len(p.frozen) == 0 {
			return nil
		}
		t := p.frozen[0]
		r, err := writeTable(x.dir, t, writing{sync: !x.filling.Load(), part: x.filling.Load()})
		if err != nil {
			return err
		}
		if !x.swap(func(p *parts) bool {
			if len(p.frozen) == 0 || p.frozen[0] != t {
				return false // it was reset
			}
			p.frozen, p.runs = slices.Clone(p.frozen[1:]), append(slices.Clone(p.runs), r)
			return true
		}) {
			r.remove()
			continue
		}
		x.reading.Lock() // until nobody looks into it any more
		t.clear()
		x.reading.Unlock()
		select {
		case x.spare <- t:
		default:
		}
	}
}

func (x *Index) swap(change func(*parts) bool) bool {
	x.changing.Lock()
	defer x.changing.Unlock()
	p := *x.parts.Load()
	if !change(&p) {
		return false
	}
	x.parts.Store(&p)
	return true
}

// size is of runs that are merged with each other.
func (x *Index) size(r *run) (size int) {
	for n := r.count() / uint64(x.o.Recent); n >= fanOut; n /= fanOut {
		size++
	}
	return size
}

// group is the first fanOut neighbours of a size, nil if there are none.
func (x *Index) group(runs []*run) []*run {
	for start, end := 0, 0; end < len(runs); end++ {
		if x.size(runs[end]) != x.size(runs[start]) {
			start = end
		}
		if end-start+1 == fanOut && runs[end].to.Events-runs[start].from.Events <= maxRunEvents {
			return runs[start : end+1]
		}
	}
	return nil
}

// merge makes one run of some in a row.
func (x *Index) merge(group []*run) error {
	if len(group) < 2 {
		return nil
	}
	merged, err := mergeRuns(x.dir, group, writing{sync: !x.filling.Load()}, x.closing)
	if err != nil {
		if !slices.Contains(x.parts.Load().runs, group[0]) {
			return nil // it was reset
		}
		if errors.Is(err, ErrDamaged) {
			x.broken.Store(true)
		}
		return err
	}
	if !x.swap(func(p *parts) bool {
		at := slices.Index(p.runs, group[0])
		if at < 0 {
			return false // it was reset
		}
		p.runs = slices.Replace(slices.Clone(p.runs), at, at+len(group), merged)
		return true
	}) {
		merged.remove()
		return nil
	}
	x.reading.Lock()
	defer x.reading.Unlock()
	for _, r := range group {
		r.remove()
	}
	return nil
}

// Memory is how many bytes the index holds for what is in runs, and how many
// events those are.
func (x *Index) Memory() (bytes, events uint64) {
	for _, r := range x.parts.Load().runs {
		bytes += r.memory()
		events += r.count()
	}
	return bytes, events
}
