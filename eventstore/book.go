package eventstore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore/block"
	"tollbook/eventstore/index"
	"tollbook/eventstore/merkle"
)

// Limits of one block. A block should be large enough that an fsync is shared by
// many events, and small enough that nobody waits long for it.
const (
	maxBlockEvents = 16_384
	maxBlockText   = 8 << 20 // canonical bytes of its events
)

// maxEventText is the longest event taken, in canonical bytes: 24 MiB. However
// badly it compresses, it fits a block of its own.
const maxEventText = 24 << 20

// queueDepth is how many Submits may wait for the committer before further ones
// block their callers: the back-pressure that bounds memory.
const queueDepth = 1024

// A Record is one thing received: an event, and the bytes it came as.
type Record struct {
	Event   domain.Event
	Raw     []byte // kept if the event conflicts; nil: its canonical form is
	Subject string // where it came in
}

// A Status is what became of a record.
type Status uint8

// Statuses: every record received is exactly one of them (R10, conservation).
const (
	Booked    Status = iota // it is in the book now
	Duplicate               // it was already
	Suspended               // it is in the book as a record.suspended
)

func (s Status) String() string { return [...]string{"booked", "duplicate", "suspended"}[s] }

// A Result says what became of a record.
type Result struct {
	Status   Status
	Position uint64 // of the event in the book; of a duplicate, of the first one
	Reason   string // of a suspended record: a code
	Detail   string // and a line for people
}

// An Update is what the book tells a [Follower]: what a block has, or, of what
// was received just now, only repeats.
type Update struct {
	Head       Head           // after it
	First      uint64         // position of Events[0]
	Events     []domain.Event // the events and their data are never changed again, and may be kept
	Duplicates []block.Duplicates
}

// A Follower is told of everything in the book, in order: first what was there,
// then what comes, once it is durable and before its senders know. Followers are
// called one after the other, from one goroutine, and nothing is booked meanwhile:
// they must not call Submit or Close, which would wait for themselves.
type Follower func(Update)

// A Book is safe for concurrent use.
type Book struct {
	log    Log
	anchor *anchorFile
	clock  instant
	notes  *slog.Logger
	follow []Follower
	later  []Follower
	lock   interface{ Unlock() error }

	queue    chan *submission
	closing  chan struct{} // Close was called
	done     chan struct{} // the committer has ended
	released chan struct{} // all is closed, with closeErr
	closeErr error

	mu     sync.Mutex // guards those below, and additions to reads
	head   Head
	sealed domain.Instant // when the head block was
	tree   merkle.Tree    // over all events up to head; its peaks are never changed in place
	chunks []merkle.Hash  // roots of its full chunks
	firsts []uint64       // position of the first event of block n+1 at n
	// Of the newest generation, as of the head, and of the one that was read last.
	symbols, older *block.Symbols
	failed         error
	closed         bool
	reads          sync.WaitGroup // Events that read the log now

	// The committer's.
	chain      chain
	index      *index.Index         // of all events up to chain's head; others may Search and Find
	indexed    sync.RWMutex         // held by the committer while it makes the index again, by others to Find
	duplicates map[[2]string]uint64 // (tenant, source): received since the last block, for the next one
	snapshots  snapshots
	keys       []index.Key // memory of the last block's, for the next one
	entries    []index.Entry
}

// Options of Open.
type Options struct {
	Clock  func() domain.Instant // when blocks are sealed and records suspended
	Follow []Follower
	Resume []Resumer  // followers that begin at their snapshots; they are called after the others
	Later  []Follower // those that are told of nothing that was there before; they are called last
	// Log, if not nil, is told what the book put right by itself.
	Log *slog.Logger
	// Progress, if not nil, is called now and then while the book is read.
	Progress func(events uint64)

	recent int    // how many events the index keeps in memory; 0: its default
	every  uint64 // how many events are between two snapshots; 0: snapshotEvery
}

// Open opens the book of a data directory over its log for writing: it takes the
// directory's lock, reads and checks every block, compares the anchor, and
// starts the committer. The Book owns the log from then on. Errors: ErrLocked,
// ErrCorrupt with the block and what to do.
func Open(ctx context.Context, dir string, openLog func(path string) (Log, error), o Options) (*Book, error) {
	lock, err := LockDir(dir)
	if err != nil {
		return nil, err
	}
	log, err := openLogIn(dir, openLog)
	if err != nil {
		return nil, errors.Join(Damaged(dir, err), lock.Unlock())
	}
	b := &Book{
		log: log, clock: o.Clock, notes: o.Log, follow: o.Follow, later: o.Later, lock: lock,
		queue: make(chan *submission, queueDepth), closing: make(chan struct{}), done: make(chan struct{}), released: make(chan struct{}),
		duplicates: map[[2]string]uint64{},
	}
	b.snapshots = snapshots{dir: SnapshotsPath(dir), every: cmp.Or(o.every, snapshotEvery)}
	for _, r := range o.Resume {
		b.snapshots.all = append(b.snapshots.all, &resuming{Resumer: r})
	}
	if b.notes == nil {
		b.notes = slog.New(slog.DiscardHandler)
	}
	if err := b.load(ctx, dir, o); err != nil {
		return nil, errors.Join(Damaged(dir, err), b.closeFiles())
	}
	go b.commitLoop()
	return b, nil
}

// LogPath is where a data directory has its log.
func LogPath(dir string) string { return filepath.Join(dir, "book.db") }

func (b *Book) load(ctx context.Context, dir string, o Options) error {
	end, err := b.log.Head(ctx)
	if err != nil {
		return err
	}
	file, anchor, err := openAnchor(AnchorPath(dir), end)
	if err != nil {
		return err
	}
	b.anchor = file
	b.index = index.Open(IndexPath(dir), index.Options{Recent: o.recent, Warn: b.warn})
	from, err := b.reach(ctx)
	if err != nil {
		return err
	}
	l := loader{log: b.log, anchor: anchor, leaves: from + 1, index: b.index, search: from > 0}
	if from == 0 {
		b.index.Fill()
	}
	if l.events, l.pieces, err = b.resume(ctx); err != nil {
		return err
	}
	if len(b.follow) > 0 {
		l.events = 1
	}
	var damage error // of the index
	err = l.run(ctx, &b.chain, func(blk *loaded) error {
		if blk.n > from && damage == nil {
			if err := blk.enter(b.index); errors.Is(err, index.ErrDamaged) {
				damage = err // followers go on; the index is made again then
			} else if err != nil {
				return err
			}
		}
		b.firsts, b.sealed = append(b.firsts, blk.header.First), blk.header.SealedAt
		b.tellLoaded(blk)
		if o.Progress != nil {
			o.Progress(blk.piece.Head.Events)
		}
		return nil
	})
	switch {
	case err == nil && damage != nil:
		err = b.reindex(ctx, damage)
	case err == nil && from == 0:
		err = b.unite()
	}
	if err != nil {
		return b.twice(ctx, err)
	}
	b.head, b.tree, b.chunks = b.chain.head, b.chain.tree, b.chain.chunks
	b.symbols = b.chain.symbols.Clone()
	b.take() // of what was read again, if that is much
	return b.anchor.write(b.head)
}

func (b *Book) tell(u Update) {
	for _, f := range b.follow {
		f(u)
	}
	for _, r := range b.snapshots.all {
		r.Follow(u)
	}
	for _, f := range b.later {
		f(u)
	}
}

// tellLoaded is tell while the book is opened: Resumers know the beginning of it.
func (b *Book) tellLoaded(blk *loaded) {
	u := Update{blk.piece.Head, blk.header.First, blk.events, blk.duplicates}
	for _, f := range b.follow {
		f(u)
	}
	for _, r := range b.snapshots.all {
		switch loader, ok := r.Resumer.(Loader); {
		case blk.n <= r.told.Block:
		case ok:
			loader.Load(&blk.piece)
		default:
			r.Follow(u)
		}
	}
}

// identityOf is the first half of SHA-256 over (tenant, source, id).
func identityOf(e *domain.Event) index.Key {
	buf := make([]byte, 0, 384)
	buf = append(append(buf, e.Tenant...), 0)
	buf = append(append(buf, e.Source...), 0)
	buf = append(buf, e.ID...)
	sum := sha256.Sum256(buf)
	return index.Key(sum[:16])
}

// Head is how far the book goes now: everything up to it is durable.
func (b *Book) Head() Head {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.head
}

// Done is closed when the book takes no more: after Close, or because an append
// failed; Err says which.
func (b *Book) Done() <-chan struct{} { return b.done }

// Err is why the book takes no more; nil while it does and after Close.
func (b *Book) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

// Submit books records together and returns once each is durable, with a result
// for each in their order. Records of one Submit are booked in their order, but
// they may be spread over blocks. On an error nothing may be acknowledged: some
// of the records may be in the book, and sending all of them again is safe.
//
// The slice is the caller's again on return, whatever happened; the events' data
// and the raw bytes must never be changed.
//
// Errors: that of ctx; ErrTooLarge for an event of more than 24 MiB, and none of
// the records is booked then; ErrClosed; or why an append failed, as Err has it.
func (b *Book) Submit(ctx context.Context, records []Record) ([]Result, error) {
	if len(records) == 0 {
		return nil, nil
	}
	s, err := newSubmission(records, b.clock)
	if err != nil {
		return nil, err
	}
	b.search(s)
	return b.submit(ctx, s)
}

// submit queues s and returns what comes of it.
func (b *Book) submit(ctx context.Context, s *submission) ([]Result, error) {
	select {
	case b.queue <- s:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-b.done:
		return nil, b.closedError()
	}
	select {
	case <-s.done:
		return s.outcome()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-b.done:
		select {
		case <-s.done:
			return s.outcome()
		default:
			return nil, b.closedError()
		}
	}
}

func (b *Book) closedError() error {
	if err := b.Err(); err != nil {
		return err
	}
	return ErrClosed
}

// Close stops taking records, finishes what is being appended, and releases the
// directory. Waiting Submits that were not begun, and Events, get ErrClosed.
// Closing again returns what the first Close did, once it has.
func (b *Book) Close() error {
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	b.mu.Unlock()
	if first {
		close(b.closing)
		<-b.done
		b.takeLast()
		b.reads.Wait()
		b.closeErr = b.closeFiles()
		close(b.released)
	}
	<-b.released
	return b.closeErr
}

func (b *Book) closeFiles() error {
	var errs []error
	if b.index != nil {
		if err := b.index.Close(); err != nil {
			b.warn(fmt.Errorf("index: %w: what of it is missing is made again from the book", err))
		}
	}
	if b.log != nil {
		errs = append(errs, b.log.Close())
		b.log = nil
	}
	if b.anchor != nil {
		errs = append(errs, b.anchor.close())
		b.anchor = nil
	}
	if b.lock != nil {
		errs = append(errs, b.lock.Unlock())
		b.lock = nil
	}
	return errors.Join(errs...)
}

// A submission is the records of one Submit on their way, or an Act.
type submission struct {
	decide  func(*Turn) error // of an Act: it has no records
	records []Record
	keys    []index.Key
	leaves  []merkle.Hash
	sizes   []int
	results []Result
	found   []index.Entry // what the index said of keys
	cover   uint64        // up to which position it was asked then
	next    int           // the first record that is not in a block yet
	err     error
	done    chan struct{}
}

// outcome is what Submit returns once s is done. Results of a block that failed
// are only what would have been.
func (s *submission) outcome() ([]Result, error) {
	if s.err != nil {
		return nil, s.err
	}
	return s.results, nil
}

// newSubmission does the work that needs no turn: hashing, in the caller's goroutine.
func newSubmission(records []Record, clock instant) (*submission, error) {
	s := &submission{
		// Its own: a Submit whose context ends leaves it in the queue.
		records: slices.Clone(records), keys: make([]index.Key, len(records)), leaves: make([]merkle.Hash, len(records)),
		sizes: make([]int, len(records)), results: make([]Result, len(records)), done: make(chan struct{}),
	}
	var canonical []byte
	for i := range s.records {
		r := &s.records[i]
		canonical = cloudevents.Append(canonical[:0], &r.Event)
		if err := keepable(&r.Event, canonical); err != nil {
			raw := r.Raw
			if raw == nil {
				raw = bytes.Clone(canonical)
			}
			r.Event = Suspend(r.Event.Tenant, r.Subject, raw, ReasonEvent, err.Error(), clock())
			canonical = cloudevents.Append(canonical[:0], &r.Event)
		}
		if len(canonical) > maxEventText && r.Raw != nil {
			r.Event = Suspend(r.Event.Tenant, r.Subject, r.Raw, ReasonTooLarge, fmt.Sprintf("event %s has %d bytes, more than %d: send it in parts", r.Event.ID, len(canonical), maxEventText), clock())
			canonical = cloudevents.Append(canonical[:0], &r.Event)
		}
		if len(canonical) > maxEventText {
			return nil, fmt.Errorf("%w: event %s %s %s has %d bytes, more than %d: send it in parts, or set max_payload of the NATS server to 8 MB",
				ErrTooLarge, r.Event.Tenant, r.Event.Source, r.Event.ID, len(canonical), maxEventText)
		}
		s.keys[i] = identityOf(&r.Event)
		s.leaves[i] = merkle.Leaf(canonical)
		s.sizes[i] = len(canonical)
	}
	return s, nil
}

// keepable makes sure that a row of the book can be read again: one event that
// can't must not keep the others of its block out.
func keepable(e *domain.Event, canonical []byte) error {
	switch e.Data.(type) {
	case *domain.Call, *domain.Suspended:
		return nil // calls are columns; suspended records are the engine's own and clean
	}
	_, err := cloudevents.Decode(canonical, "")
	return err
}
