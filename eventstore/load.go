package eventstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore/block"
	"tollbook/eventstore/index"
	"tollbook/eventstore/merkle"
)

// A loader reads the log when a book is opened: every block against the chain of
// hashes and the anchor, and of each only as much more as somebody needs. Hashing
// and decoding are spread over the cores, as a block needs of those before it
// only their symbols, which are few, and the peaks of their tree, which are in
// their headers.
type loader struct {
	log    Reader
	anchor *Anchor
	until  uint64 // the last block; 0: the log's
	leaves uint64 // from this block on the events are checked against the Merkle tree
	events uint64 // from this block on they are decoded; 0: none are
	pieces uint64 // from this block on they are read as pieces; 0: none are
	index  *index.Index
	search bool // look the identities up in it while there are cores to spare
}

// A loaded block is on its way through a loader. Whoever has it at a time owns it.
type loaded struct {
	readAhead // its piece has no more than the head, unless that was wanted

	header  block.Header
	symbols *block.Symbols
	before  merkle.Tree // up to the block before

	events     []domain.Event // if they are wanted
	duplicates []block.Duplicates
	keys       []index.Key // if its leaves are wanted
	entries    []index.Entry
	chunks     []merkle.Hash // that end in it
	cover      uint64        // of the index, when its keys were looked up
	found      []index.Entry
}

// newLoaded is a block that may be on its way already.
func newLoaded(n uint64, data []byte) *loaded {
	return &loaded{readAhead: readAhead{n: n, data: data, opened: make(chan struct{}), read: make(chan struct{})}}
}

// run calls each with the blocks in their order, in the caller's goroutine, and
// has c be at the last one. c.chunks grows where leaves were checked.
func (l *loader) run(ctx context.Context, c *chain, each func(*loaded) error) error {
	ctx, cancel := context.WithCancel(ctx)
	procs := runtime.GOMAXPROCS(0)
	var (
		window  = 2*procs + 2
		work    = make(chan func(), 2*window)
		read    = make(chan *loaded, window)
		linked  = make(chan *loaded, window)
		buffers = sync.Pool{New: func() any { return new([]byte) }}
		all     sync.WaitGroup
	)
	defer all.Wait()
	defer cancel()
	for range procs {
		all.Go(func() {
			for f := range work {
				f()
			}
		})
	}
	all.Go(func() {
		defer close(read)
		err := l.log.Read(ctx, c.head.Block+1, func(n uint64, data []byte) error {
			buffer := buffers.Get().(*[]byte)
			b := newLoaded(n, append((*buffer)[:0], data...))
			work <- b.open
			read <- b
			if n == l.until {
				return errEnough
			}
			return ctx.Err()
		})
		if err != nil && !errors.Is(err, errEnough) {
			end := newLoaded(0, nil) // no block, but why there is none
			end.err = err
			close(end.opened)
			read <- end
		}
	})
	link := *c // the last block that is linked; c is the last that each was called with
	all.Go(func() {
		defer close(work)
		defer close(linked)
		for b := range read {
			<-b.opened
			if b.n != 0 {
				b.err = l.link(&link, b)
			}
			failed := b.err != nil
			if failed || b.n < l.leaves && !from(l.events, b.n) && !from(l.pieces, b.n) {
				close(b.read)
			} else {
				work <- func() { b.decode(l) }
			}
			linked <- b
			if failed {
				break
			}
		}
		cancel()
		for range read {
		}
	})
	var failed error
	for b := range linked {
		<-b.read
		if failed == nil {
			failed = b.err
		}
		if failed == nil {
			c.head, c.tree = b.piece.Head, merkle.Tree{Size: b.piece.Head.Events, Peaks: b.header.Tree}
			c.chunks = append(c.chunks, b.chunks...)
			failed = each(b)
			buffers.Put(&b.data)
		}
		if failed != nil {
			cancel()
		}
	}
	if failed != nil {
		return failed
	}
	c.symbols = link.symbols
	return l.anchor.reached(c.head)
}

// from reports whether block n is among those from first on; 0: none are.
func from(first, n uint64) bool { return first != 0 && n >= first }

// link is done in the order of the blocks: it continues the chain by one.
func (l *loader) link(c *chain, b *loaded) error {
	before := c.tree
	if err := c.follow(&b.readAhead); err != nil {
		return err
	}
	b.header = b.reader.Header()
	c.tree = merkle.Tree{Size: c.head.Events, Peaks: b.header.Tree}
	b.before, b.symbols = before, c.symbols.Clone()
	return l.anchor.check(c.head)
}

// decode is done in any order.
func (b *loaded) decode(l *loader) {
	defer close(b.read)
	if from(l.pieces, b.n) {
		b.columns(block.FieldSequence)
		if b.err == nil {
			b.piece.Duplicates, b.err = b.ready.Duplicates()
		}
		if b.err != nil {
			b.err = fmt.Errorf("%w: block %d: %w", ErrCorrupt, b.n, b.err)
			return
		}
	}
	wanted := from(l.events, b.n)
	if wanted {
		blk, err := block.Decode(b.data, b.symbols)
		if err != nil {
			b.err = fmt.Errorf("%w: block %d: %w", ErrCorrupt, b.n, err)
			return
		}
		b.events, b.duplicates = blk.Events, blk.Duplicates
	}
	if b.n < l.leaves {
		return
	}
	leaves := make([]merkle.Hash, b.header.Count)
	b.keys, b.entries = make([]index.Key, len(leaves)), make([]index.Entry, len(leaves))
	var canonical []byte
	leaf := func(position uint64, e *domain.Event) {
		i := position - b.header.First
		canonical = cloudevents.Append(canonical[:0], e)
		leaves[i] = merkle.Leaf(canonical)
		b.keys[i] = identityOf(e)
		b.entries[i] = index.Entry{Digest: [16]byte(leaves[i][:16]), Position: position}
	}
	if wanted {
		for i := range b.events {
			leaf(b.header.First+uint64(i), &b.events[i])
		}
	} else if err := b.stream(leaf); err != nil {
		b.err = fmt.Errorf("%w: block %d: %w", ErrCorrupt, b.n, err)
		return
	}
	tree := b.before.Clone()
	for i := range leaves {
		b.chunks = merkle.AppendChunk(b.chunks, &tree, leaves[i])
		tree.Append(leaves[i])
	}
	if !slices.Equal(tree.Peaks, b.header.Tree) {
		b.err = fmt.Errorf("%w: block %d: its events do not make the Merkle tree it names", ErrCorrupt, b.n)
		return
	}
	if !l.search {
		return
	}
	b.found = make([]index.Entry, len(b.keys))
	var err error
	if b.cover, err = l.index.Search(b.keys, b.found); err != nil {
		b.cover = notSearched // enter will, and find the same
	}
}

// stream calls each with the events of the block, which keeps none of them.
func (b *loaded) stream(each func(position uint64, e *domain.Event)) error {
	err := b.reader.Rows(func(position uint64, e *domain.Event) error {
		each(position, e)
		return nil
	})
	if err != nil {
		return err
	}
	return b.reader.Calls(b.symbols, block.AllFields, func(position uint64, e *domain.Event, _ *domain.Call) error {
		each(position, e)
		return nil
	})
}

// enter adds a loaded block to the index. Errors: *index.TwiceError, as far as the
// index was searched; index.ErrDamaged.
func (b *loaded) enter(x *index.Index) error {
	if b.found != nil && b.cover != x.Cover() {
		if _, err := x.Search(b.keys, b.found); err != nil {
			return err
		}
	}
	for i, e := range b.found {
		if e.Position != 0 {
			return &index.TwiceError{First: e.Position, Second: b.header.First + uint64(i)}
		}
	}
	return x.Add(b.keys, b.entries, index.Head(b.piece.Head), b.chunks)
}
