package eventstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore/block"
	"tollbook/eventstore/index"
	"tollbook/eventstore/merkle"
)

// commitLoop seals what is waiting, one block after the other, until Close or
// until an append fails.
func (b *Book) commitLoop() {
	defer close(b.done)
	var waiting []*submission
	for {
		waiting = waiting[:0]
		select {
		case <-b.closing: // first: who waits when Close comes is not begun
			return
		default:
		}
		select {
		case s := <-b.queue:
			waiting = append(waiting, s)
		case <-b.closing:
			return
		}
		// What has come meanwhile shares the block; nothing waits for more to come.
		for more, n := true, len(waiting[0].records); more && n < maxBlockEvents; {
			select {
			case s := <-b.queue:
				waiting = append(waiting, s)
				n += len(s.records)
			default:
				more = false
			}
		}
		if err := b.commit(waiting); err != nil {
			b.mu.Lock()
			b.failed = err
			b.mu.Unlock()
			return
		}
	}
}

// commit brings the waiting submissions into blocks, each appended and durable
// before its senders know. After an error no sender knows anything.
func (b *Book) commit(waiting []*submission) error {
	for len(waiting) > 0 {
		if s := waiting[0]; s.decide != nil {
			if err := b.act(s); err != nil {
				fail(waiting, err)
				return err
			}
			close(s.done)
			waiting = waiting[1:]
			continue
		}
		p := newPending(b)
		for _, s := range waiting {
			// An Act decides by what is durable, so it begins a block of its own.
			if s.decide != nil || !p.take(s) {
				break
			}
		}
		if err := p.seal(); err != nil {
			fail(waiting, err)
			return err
		}
		for len(waiting) > 0 && waiting[0].decide == nil && waiting[0].next == len(waiting[0].records) {
			close(waiting[0].done)
			waiting = waiting[1:]
		}
	}
	return nil
}

// fail ends submissions that nothing came of.
func fail(waiting []*submission, err error) {
	for _, s := range waiting {
		s.err = err
		close(s.done)
	}
}

// pending is a block that is being put together. Nothing of the Book changes
// until it is durable.
type pending struct {
	book    *Book
	events  []domain.Event
	leaves  []merkle.Hash
	keys    []index.Key
	entries []index.Entry
	index   map[index.Key]index.Entry // the same by their keys
	text    int
	repeat  []*domain.Event
	failed  error // the index could not be asked: what was decided since counts for nothing
}

func newPending(b *Book) *pending {
	return &pending{book: b, keys: b.keys[:0], entries: b.entries[:0], index: map[index.Key]index.Entry{}}
}

// take decides what becomes of each record of s; false when the block is full.
func (p *pending) take(s *submission) bool {
	for ; s.next < len(s.records); s.next++ {
		i := s.next
		if len(p.events) == maxBlockEvents || p.text > 0 && p.text+s.sizes[i] > maxBlockText {
			return false
		}
		record := &s.records[i]
		known, twice := p.look(s.keys[i], s.found[i], s.cover)
		s.results[i] = p.decide(record, s.keys[i], s.leaves[i], s.sizes[i], known, twice)
	}
	return true
}

func (p *pending) lookup(key index.Key) (index.Entry, bool) {
	return p.look(key, index.Entry{}, notSearched)
}

// look is lookup of a key that was searched before, which found this and covered
// the book up to that position.
func (p *pending) look(key index.Key, found index.Entry, cover uint64) (index.Entry, bool) {
	if e, ok := p.index[key]; ok {
		return e, true
	}
	e, ok, err := p.book.known(&key, found, cover)
	if err != nil && p.failed == nil {
		p.failed = fmt.Errorf("index of identities: %w", err)
	}
	return e, ok
}

// decide decides what becomes of a record, whose key is known or not.
func (p *pending) decide(r *Record, key index.Key, leaf merkle.Hash, size int, known index.Entry, twice bool) Result {
	suspended, refused := r.Event.Data.(*domain.Suspended)
	switch {
	case !twice:
		position := p.add(r.Event, key, leaf, size)
		if refused {
			return Result{Suspended, position, suspended.Reason, suspended.Detail}
		}
		return Result{Status: Booked, Position: position}
	case refused || known.Digest == [16]byte(leaf[:16]):
		// A suspended record's id is made of its content; when and why it was refused may differ.
		p.repeat = append(p.repeat, &r.Event)
		return Result{Status: Duplicate, Position: known.Position}
	}
	raw := r.Raw
	if raw == nil {
		raw = cloudevents.Append(nil, &r.Event)
	}
	detail := fmt.Sprintf("source %s id %s is booked at position %d with other content (digest %x, this one %x): a correction needs tollbook.call.corrected.v1 or an id of its own",
		r.Event.Source, domain.MaskNumbers(r.Event.ID), known.Position, known.Digest, leaf[:16])
	again := Record{Event: Suspend(r.Event.Tenant, r.Subject, raw, ReasonConflict, detail, p.book.clock())}
	if r.Event.Sequence.Has {
		data := again.Event.Data.(*domain.Suspended)
		data.Source, data.Sequence = r.Event.Source, r.Event.Sequence
	}
	canonical := cloudevents.Append(nil, &again.Event)
	key = identityOf(&again.Event)
	known, twice = p.lookup(key)
	return p.decide(&again, key, merkle.Leaf(canonical), len(canonical), known, twice)
}

func (p *pending) add(e domain.Event, key index.Key, leaf merkle.Hash, size int) (position uint64) {
	position = p.book.chain.head.Events + uint64(len(p.events)) + 1
	p.events = append(p.events, e)
	p.leaves = append(p.leaves, leaf)
	entry := index.Entry{Digest: [16]byte(leaf[:16]), Position: position}
	p.keys, p.entries, p.index[key] = append(p.keys, key), append(p.entries, entry), entry
	p.text += size
	return position
}

// seal makes the block durable and then known: to the index, the chain, the
// anchor and the followers. A crash before the append leaves nothing; after it,
// the block, which the next Open finds; the anchor may be one block behind.
func (p *pending) seal() error {
	b := p.book
	if p.failed != nil {
		return p.failed
	}
	repeats := p.countRepeats()
	if len(p.events) == 0 {
		if len(repeats) > 0 {
			b.tell(Update{Head: b.chain.head, Duplicates: repeats})
		}
		return nil
	}
	c := &b.chain
	tree, chunks := c.tree.Clone(), c.chunks
	for _, leaf := range p.leaves {
		chunks = merkle.AppendChunk(chunks, &tree, leaf)
		tree.Append(leaf)
	}
	blk := &block.Block{
		Header: block.Header{
			Number: c.head.Block + 1, Prev: c.head.Hash, First: c.head.Events + 1,
			Count: uint32(len(p.events)), SealedAt: b.clock(), Tree: tree.Peaks,
		},
		Events: p.events,
	}
	blk.Duplicates = sortedDuplicates(b.duplicates)
	data, staged, err := c.symbols.Encode(nil, blk)
	if err != nil {
		return fmt.Errorf("block %d: %w", blk.Number, err)
	}
	if err := b.log.Append(context.Background(), blk.Number, data); err != nil {
		return fmt.Errorf("block %d: %w", blk.Number, err)
	}
	staged.Commit()
	added := chunks[len(c.chunks):]
	c.tree, c.chunks = tree, chunks
	c.head = Head{Block: blk.Number, Hash: block.Hash(data), Events: c.head.Events + uint64(len(p.events))}
	b.keys, b.entries = p.keys, p.entries
	if err := b.index.Add(p.keys, p.entries, index.Head(c.head), added); err != nil {
		return fmt.Errorf("%w: block %d: %w", ErrCorrupt, blk.Number, err)
	}
	clear(b.duplicates)
	if err := b.anchor.write(c.head); err != nil {
		return err
	}
	b.mu.Lock()
	b.head, b.firsts = c.head, append(b.firsts, blk.First)
	b.tree, b.chunks, b.sealed = tree, chunks, blk.SealedAt
	b.symbols = c.symbols.Clone()
	b.mu.Unlock()
	b.tell(Update{c.head, blk.First, blk.Events, repeats})
	b.take()
	return nil
}

// How many counts of duplicates are kept apart between two blocks. Beyond the
// first limit a further source is counted under its tenant alone, beyond the
// second a further tenant under nobody: a block has room for block.MaxEvents.
const (
	maxRepeatSources = 10_000
	maxRepeatTenants = 2 * maxRepeatSources
)

// countRepeats adds this round's repeats to those the next block names, and
// returns them. They become durable with that block: a repeat is no fact that
// anything depends on, so it does not get a block of its own.
func (p *pending) countRepeats() []block.Duplicates {
	round := map[[2]string]uint64{}
	for _, e := range p.repeat {
		key := repeatKey(p.book.duplicates, e.Tenant, e.Source)
		p.book.duplicates[key]++
		round[key]++
	}
	return sortedDuplicates(round)
}

func repeatKey(counts map[[2]string]uint64, tenant, source string) [2]string {
	key := [2]string{tenant, source}
	if _, ok := counts[key]; ok || len(counts) < maxRepeatSources {
		return key
	}
	key[1] = SuspenseSource
	if _, ok := counts[key]; !ok && len(counts) >= maxRepeatTenants {
		key[0] = domain.NoTenant
	}
	return key
}

func sortedDuplicates(counts map[[2]string]uint64) []block.Duplicates {
	var all []block.Duplicates
	for from, n := range counts {
		all = append(all, block.Duplicates{Tenant: from[0], Source: from[1], N: n})
	}
	slices.SortFunc(all, func(a, b block.Duplicates) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Source, b.Source))
	})
	return all
}
