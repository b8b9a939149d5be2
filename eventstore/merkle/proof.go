package merkle

import (
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// A chunk is ChunkLeaves leaves from a multiple of it on. With the roots of the
// full ones kept, 32 bytes for 1,024 leaves, any proof needs the leaves of one.
const (
	chunkLevel  = 10
	ChunkLeaves = 1 << chunkLevel
)

// maxLeaves is the largest tree that tlog counts in: 2^62 leaves, as many
// positions as a book has.
const maxLeaves = 1 << 62

// ErrProof is returned when a proof does not hold, or leaves do not make the tree
// that they should.
var ErrProof = errors.New("the hashes do not lead to the root")

// AppendChunk adds to chunks, the roots of the full chunks of t, that of the chunk
// that leaf is about to complete, if it does. Call it before t.Append(leaf).
func AppendChunk(chunks []Hash, t *Tree, leaf Hash) []Hash {
	if t.Size%ChunkLeaves != ChunkLeaves-1 {
		return chunks
	}
	t.check()
	// All but the last leaf of a chunk are one peak of each level below its root.
	for i := range chunkLevel {
		leaf = node(&t.Peaks[len(t.Peaks)-1-i], &leaf)
	}
	return append(chunks, leaf)
}

// A Prover proves what a tree holds. It asks for the leaves of at most one chunk.
type Prover struct {
	Tree   Tree
	Chunks []Hash // roots of the full chunks, of a tree as large or larger
	// Leaves returns those of a chunk, from 0, as far as Tree has them.
	Leaves func(chunk uint64) ([]Hash, error)

	chunk  uint64
	leaves []Hash // of chunk; nil: not asked for yet
}

// Include proves that a leaf, from 0, is in the tree. It is ErrProof if what the
// Prover has does not make the tree.
func (p *Prover) Include(leaf uint64) (Hash, []Hash, error) {
	if leaf >= p.Tree.Size {
		return Hash{}, nil, fmt.Errorf("leaf %d is not among the %d of the tree", leaf, p.Tree.Size)
	}
	proof, err := tlog.ProveRecord(int64(p.Tree.Size), int64(leaf), p)
	if err != nil {
		return Hash{}, nil, err
	}
	hash, err := p.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(leaf))})
	if err != nil {
		return Hash{}, nil, err
	}
	own, list := Hash(hash[0]), ours(proof)
	return own, list, CheckInclusion(p.Tree.Size, p.Tree.Root(), leaf, own, list)
}

// Extend proves that the tree begins with the tree over its first size leaves, at
// least one, whose root it returns too. It is ErrProof if what the Prover has
// does not make the tree.
func (p *Prover) Extend(size uint64) (Hash, []Hash, error) {
	if size == 0 || size > p.Tree.Size {
		return Hash{}, nil, fmt.Errorf("a tree of %d leaves is not the beginning of one of %d", size, p.Tree.Size)
	}
	proof, err := tlog.ProveTree(int64(p.Tree.Size), int64(size), p)
	if err != nil {
		return Hash{}, nil, err
	}
	old, err := tlog.TreeHash(int64(size), p)
	if err != nil {
		return Hash{}, nil, err
	}
	list := ours(proof)
	return Hash(old), list, CheckExtension(p.Tree.Size, p.Tree.Root(), size, Hash(old), list)
}

// ReadHashes makes a Prover a tlog.HashReader.
func (p *Prover) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		hash, err := p.subtree(level, uint64(n))
		if err != nil {
			return nil, err
		}
		list[i] = tlog.Hash(hash)
	}
	return list, nil
}

// subtree is the root of the n-th full subtree of 2^level leaves.
func (p *Prover) subtree(level int, n uint64) (Hash, error) {
	p.Tree.check()
	if full := p.Tree.Size >> level; full%2 == 1 && n == full-1 {
		return p.Tree.Peaks[bits.OnesCount64(full>>1)], nil
	}
	if level >= chunkLevel {
		return fold(p.Chunks, level-chunkLevel, n)
	}
	chunk := n << level / ChunkLeaves
	if p.leaves == nil || p.chunk != chunk {
		leaves, err := p.Leaves(chunk)
		if err != nil {
			return Hash{}, err
		}
		p.chunk, p.leaves = chunk, leaves
	}
	return fold(p.leaves, level, n-chunk*ChunkLeaves>>level)
}

// fold is the root over the n-th group of 2^level hashes.
func fold(hashes []Hash, level int, n uint64) (Hash, error) {
	if have := uint64(len(hashes)) >> level; n >= have {
		return Hash{}, fmt.Errorf("%w: group %d of %d hashes is asked for, and there are %d", ErrProof, n, uint64(1)<<level, have)
	}
	var t Tree
	for _, hash := range hashes[n<<level : (n+1)<<level] {
		t.Append(hash)
	}
	return t.Root(), nil
}

// CheckInclusion returns ErrProof unless the proof shows that a leaf, from 0, has
// that hash in the tree of size leaves with that root. That these two belong
// together has to be known otherwise: a root does not say its size.
func CheckInclusion(size uint64, root Hash, leaf uint64, hash Hash, proof []Hash) error {
	if size > maxLeaves {
		return fmt.Errorf("%w: no tree has %d leaves", ErrProof, size)
	}
	if err := tlog.CheckRecord(theirs(proof), int64(size), tlog.Hash(root), int64(leaf), tlog.Hash(hash)); err != nil {
		return fmt.Errorf("%w of %d leaves", ErrProof, size)
	}
	return nil
}

// CheckExtension returns ErrProof unless the proof shows that the tree of size
// leaves with that root begins with the old one, of at least one leaf. That each
// size belongs to its root has to be known otherwise.
func CheckExtension(size uint64, root Hash, oldSize uint64, old Hash, proof []Hash) error {
	if size > maxLeaves {
		return fmt.Errorf("%w: no tree has %d leaves", ErrProof, size)
	}
	if err := tlog.CheckTree(theirs(proof), int64(size), tlog.Hash(root), int64(oldSize), tlog.Hash(old)); err != nil {
		return fmt.Errorf("%w of %d and of %d leaves", ErrProof, oldSize, size)
	}
	return nil
}

func ours(list []tlog.Hash) []Hash {
	hashes := make([]Hash, len(list))
	for i, hash := range list {
		hashes[i] = Hash(hash)
	}
	return hashes
}

func theirs(list []Hash) []tlog.Hash {
	hashes := make([]tlog.Hash, len(list))
	for i, hash := range list {
		hashes[i] = tlog.Hash(hash)
	}
	return hashes
}
