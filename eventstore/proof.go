package eventstore

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore/block"
	"tollbook/eventstore/merkle"
)

// A Place is where an event is in the book.
type Place struct {
	Position uint64
	Event    domain.Event
	Block    uint64
	Hash     merkle.Hash // of the block
	SealedAt domain.Instant
}

// Find is the position of the booked event of an identity. It may be called
// while others are booked, which it does not hold up.
func (b *Book) Find(tenant, source, id string) (position uint64, ok bool) {
	key := identityOf(&domain.Event{Tenant: tenant, Source: source, ID: id})
	b.indexed.RLock()
	e, ok, err := b.index.Find(&key)
	b.indexed.RUnlock()
	if err != nil { // damaged: the committer sees to it
		err = b.Act(context.Background(), func(t *Turn) error {
			e, ok = t.pending.lookup(key)
			return nil
		})
	}
	// The index is a moment ahead of what anybody was told.
	return e.Position, err == nil && ok && e.Position <= b.Head().Events
}

// Place reads the event of a position that the book has. Errors: that of ctx;
// ErrClosed; ErrCorrupt.
func (b *Book) Place(ctx context.Context, position uint64) (Place, error) {
	place := Place{Position: position}
	err := b.Events(ctx, []uint64{position}, func(_ uint64, e *domain.Event) error {
		place.Event = *e
		return nil
	})
	if err != nil {
		return place, err
	}
	b.mu.Lock()
	firsts := b.firsts
	b.mu.Unlock()
	place.Block = uint64(sort.Search(len(firsts), func(i int) bool { return firsts[i] > position }))
	err = b.Blocks(ctx, place.Block, func(n uint64, data []byte) error {
		header, err := block.DecodeHeader(data)
		if err != nil {
			return fmt.Errorf("%w: block %d: %w", ErrCorrupt, n, err)
		}
		place.Hash, place.SealedAt = block.Hash(data), header.SealedAt
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return place, err
}

// A Prover proves what a book holds as of one of its heads.
type Prover struct {
	Checkpoint
	tree merkle.Prover
}

// Prover is of the book as it is now. ctx is for the reading that its proofs
// take, which is that of the at most 1,024 events of a chunk.
func (b *Book) Prover(ctx context.Context) *Prover {
	b.mu.Lock()
	p := &Prover{
		Checkpoint: Checkpoint{Head: b.head, SealedAt: b.sealed},
		tree:       merkle.Prover{Tree: b.tree, Chunks: b.chunks},
	}
	b.mu.Unlock()
	p.Root = p.tree.Tree.Root()
	p.tree.Leaves = func(chunk uint64) ([]merkle.Hash, error) {
		var positions []uint64
		for i := chunk * merkle.ChunkLeaves; i < min((chunk+1)*merkle.ChunkLeaves, p.Events); i++ {
			positions = append(positions, i+1)
		}
		leaves := make([]merkle.Hash, 0, len(positions))
		var canonical []byte
		err := b.Events(ctx, positions, func(_ uint64, e *domain.Event) error {
			canonical = cloudevents.Append(canonical[:0], e)
			leaves = append(leaves, merkle.Leaf(canonical))
			return nil
		})
		return leaves, err
	}
	return p
}

// Prover walks all of the book and is of its end. wanted is asked for each event
// whether proofs will be about it; the last one it wants counts, and its Place is
// returned; nil where there is none.
func (w Walk) Prover(ctx context.Context, wanted func(position uint64, e *domain.Event) bool) (*Prover, *Place, error) {
	w.Leaves, w.Until = true, 0
	var c chain
	var place *Place
	var sealed domain.Instant
	var running, kept []merkle.Hash // leaves of the chunk that is read, of the one that is wanted
	err := w.run(ctx, &c, func(b *block.Block, leaves []merkle.Hash, _ int) error {
		sealed = b.SealedAt
		for i := range b.Events {
			position := b.First + uint64(i)
			if (position-1)%merkle.ChunkLeaves == 0 {
				running = nil
			}
			running = append(running, leaves[i])
			if wanted(position, &b.Events[i]) {
				place = &Place{position, b.Events[i], b.Number, c.head.Hash, b.SealedAt}
			}
			if place != nil && (place.Position-1)/merkle.ChunkLeaves == (position-1)/merkle.ChunkLeaves {
				kept = running
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return &Prover{
		Checkpoint: Checkpoint{c.head, c.tree.Root(), sealed},
		tree: merkle.Prover{Tree: c.tree, Chunks: c.chunks, Leaves: func(chunk uint64) ([]merkle.Hash, error) {
			if place == nil || (place.Position-1)/merkle.ChunkLeaves != chunk {
				return nil, fmt.Errorf("the leaves from position %d on were not kept", chunk*merkle.ChunkLeaves+1)
			}
			return kept, nil
		}},
	}, place, nil
}

// Include proves that the book holds an event at its place. Errors: ErrCorrupt;
// those of reading.
func (p *Prover) Include(place *Place) (leaf merkle.Hash, hashes []merkle.Hash, err error) {
	leaf, hashes, err = p.tree.Include(place.Position - 1)
	if err == nil && leaf != merkle.Leaf(cloudevents.Append(nil, &place.Event)) {
		err = merkle.ErrProof
	}
	return leaf, hashes, p.damaged(err)
}

// Extend proves that the book begins with its first events, at least one.
func (p *Prover) Extend(events uint64) ([]merkle.Hash, error) {
	_, hashes, err := p.tree.Extend(events)
	return hashes, p.damaged(err)
}

func (p *Prover) damaged(err error) error {
	if errors.Is(err, merkle.ErrProof) {
		return fmt.Errorf("%w: the events in the log are not those that block %d has in its Merkle tree: %w", ErrCorrupt, p.Block, err)
	}
	return err
}

// Kinds of proof.
const (
	ProofInclusion   = "inclusion"   // an event is in the book of an anchor
	ProofConsistency = "consistency" // the book of an anchor begins with that of an older one
)

// A Proof is the document that shows to whoever has the public key what a book
// holds. docs/FORMAT.md has it.
type Proof struct {
	Kind     string        `json:"kind"`
	Event    string        `json:"event,omitzero"`    // canonical, to the byte
	Position uint64        `json:"position,omitzero"` // of the event
	Old      string        `json:"old,omitzero"`      // the older signed anchor
	Hashes   []merkle.Hash `json:"hashes"`            // in base64, from the leaf up
	Anchor   string        `json:"anchor"`            // the signed anchor
}

// MaxProofBytes is the longest proof that is read: 64 MiB, more than that of an
// event of 24 MiB of which every byte has to be escaped.
const MaxProofBytes = 64 << 20

// ParseProof reads a proof, which may be anything. Errors: ErrUnproven.
func ParseProof(data []byte) (*Proof, error) {
	if len(data) > MaxProofBytes {
		return nil, unproven("a proof has at most %d bytes, this one %d", MaxProofBytes, len(data))
	}
	var p Proof
	if err := json.Unmarshal(data, &p, json.RejectUnknownMembers(true)); err != nil {
		return nil, unproven("the file is no proof (%v): take it anew from where it was kept", err)
	}
	return &p, nil
}

// Shown is what a proof shows.
type Shown struct {
	Anchor SignedAnchor
	Old    SignedAnchor // of a consistency proof
}

// Check checks the signatures and the hashes. Without keys it takes the anchors
// for what they say they are. Errors: ErrUnproven, saying which part it is.
func (p *Proof) Check(keys PublicKeys) (s Shown, err error) {
	open := func(text string) (SignedAnchor, error) {
		if keys == nil {
			return ReadNote([]byte(text))
		}
		return keys.Open([]byte(text))
	}
	if s.Anchor, err = open(p.Anchor); err != nil {
		return s, fmt.Errorf("anchor: %w", err)
	}
	switch p.Kind {
	case ProofInclusion:
		switch {
		case p.Old != "":
			return s, unproven("old: an inclusion has no older anchor")
		case p.Position == 0 || p.Position > s.Anchor.Events:
			return s, unproven("position: %d is not among the %d of the anchor", p.Position, s.Anchor.Events)
		case !jsontext.Value(p.Event).IsValid():
			return s, unproven("event: is not JSON")
		}
		leaf := merkle.Leaf([]byte(p.Event))
		if err := merkle.CheckInclusion(s.Anchor.Events, s.Anchor.Root, p.Position-1, leaf, p.Hashes); err != nil {
			return s, unproven("event, position, hashes: one of them was changed: %v", err)
		}
	case ProofConsistency:
		if p.Event != "" || p.Position != 0 {
			return s, unproven("event: a consistency proof is about no event")
		}
		if s.Old, err = open(p.Old); err != nil {
			return s, fmt.Errorf("old: %w", err)
		}
		return s, s.Anchor.Extends(&s.Old, p.Hashes)
	default:
		return s, unproven("kind: %.40q is neither %s nor %s", p.Kind, ProofInclusion, ProofConsistency)
	}
	return s, nil
}

// Extends checks that the book of the anchor begins with that of an older one.
// Errors: ErrUnproven.
func (a *SignedAnchor) Extends(old *SignedAnchor, hashes []merkle.Hash) error {
	switch {
	case old.Events > a.Events:
		return unproven("the book ends at position %d, before the older anchor, which is of position %d: it was cut or is an old copy", a.Events, old.Events)
	case old.Head != a.Head && (old.Events == a.Events || old.Block >= a.Block):
		return unproven("the older anchor is of block %d (%s) at position %d, the newer of block %d (%s) at %d: no book has both", old.Block, old.Head, old.Events, a.Block, a.Head, a.Events)
	}
	if err := merkle.CheckExtension(a.Events, a.Root, old.Events, old.Root, hashes); err != nil {
		return unproven("hashes: the %d events of the newer anchor do not begin with the %d of the older one (%v): one of those was changed, or the hashes were", a.Events, old.Events, err)
	}
	return nil
}

// NewInclusion is the proof of an event at its place in the book of an anchor.
func NewInclusion(place *Place, hashes []merkle.Hash, anchor SignedAnchor) *Proof {
	return &Proof{
		Kind: ProofInclusion, Event: string(cloudevents.Append(nil, &place.Event)), Position: place.Position,
		Hashes: hashes, Anchor: anchor.Note,
	}
}

// NewConsistency is the proof that the book of an anchor begins with that of an
// older one. Errors: ErrUnproven, where it does not.
func NewConsistency(old, anchor SignedAnchor, hashes []merkle.Hash) (*Proof, error) {
	p := &Proof{Kind: ProofConsistency, Old: old.Note, Hashes: hashes, Anchor: anchor.Note}
	return p, anchor.Extends(&old, hashes)
}

// Against is Run of a walk whose book must be the one of a signed anchor: reach
// it and hold the same events there, in the same blocks. Errors: those of Run.
func (w Walk) Against(ctx context.Context, a *SignedAnchor, each func(b *block.Block, head Head, size int) error) (Head, error) {
	head, err := w.Run(ctx, func(b *block.Block, head Head, size int) error {
		tree := merkle.Tree{Size: head.Events, Peaks: b.Tree}
		if err := a.check(head, tree.Root()); err != nil {
			return err
		}
		return each(b, head, size)
	})
	if err != nil {
		return head, err
	}
	return head, (&Anchor{a.Head}).reached(head)
}
