// Package merkle keeps the Merkle tree over a book's events.
//
// The model is RFC 6962: a leaf is SHA-256(0x00 ‖ data), a node is
// SHA-256(0x01 ‖ left ‖ right), and the tree over n leaves splits at the largest
// power of two below n. A [Tree] keeps only the roots of the full subtrees, one
// for each set bit of n, which is all that appending and the root need.
// Whoever holds the leaves can prove with them that an event is in the book and
// that one state of the book is the beginning of another.
//
// Nothing here is safe for use by several goroutines at once, except [Leaf].
// TestAgreesWithTlog compares every root with golang.org/x/mod/sumdb/tlog.
package merkle

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"math/bits"
	"slices"
	"sync"
)

// A Hash is a SHA-256.
type Hash [sha256.Size]byte

// String is the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// A Tree is the compact range of the first Size leaves. The zero value is the
// empty tree.
type Tree struct {
	Size  uint64 // leaves
	Peaks []Hash // roots of the full subtrees, one per set bit of Size, largest first
}

// Domain separation of RFC 6962, section 2.1.
const (
	leafPrefix = 0x00
	nodePrefix = 0x01
)

// Append adds the next leaf, which is what [Leaf] returned for its data. It
// panics when Peaks does not fit Size.
func (t *Tree) Append(leaf Hash) {
	t.check()
	for range bits.TrailingZeros64(^t.Size) {
		last := len(t.Peaks) - 1
		leaf = node(&t.Peaks[last], &leaf)
		t.Peaks = t.Peaks[:last]
	}
	t.Peaks = append(t.Peaks, leaf)
	t.Size++
}

// Root is the hash of the whole tree; of the empty one, SHA-256 of nothing. It
// panics when Peaks does not fit Size.
func (t *Tree) Root() Hash {
	t.check()
	if t.Size == 0 {
		return sha256.Sum256(nil)
	}
	last := len(t.Peaks) - 1
	root := t.Peaks[last]
	for i := last - 1; i >= 0; i-- {
		root = node(&t.Peaks[i], &root)
	}
	return root
}

// Clone is a copy that shares nothing with t.
func (t *Tree) Clone() Tree {
	return Tree{Size: t.Size, Peaks: slices.Clone(t.Peaks)}
}

func (t *Tree) check() {
	if len(t.Peaks) != bits.OnesCount64(t.Size) {
		panic("merkle: the number of peaks does not fit the size of the tree")
	}
}

// leafHasher is the state of a leaf's hash, kept so that data is neither
// copied behind its prefix nor a state allocated for each leaf.
type leafHasher struct {
	hash   hash.Hash
	prefix [1]byte
	sum    Hash
}

var leafHashers = sync.Pool{New: func() any {
	return &leafHasher{hash: sha256.New(), prefix: [1]byte{leafPrefix}}
}}

// Leaf is the hash of a leaf with that data.
func Leaf(data []byte) Hash {
	h := leafHashers.Get().(*leafHasher)
	h.hash.Reset()
	h.hash.Write(h.prefix[:])
	h.hash.Write(data)
	h.hash.Sum(h.sum[:0])
	sum := h.sum
	leafHashers.Put(h)
	return sum
}

func node(left, right *Hash) Hash {
	var buf [1 + 2*sha256.Size]byte
	buf[0] = nodePrefix
	copy(buf[1:], left[:])
	copy(buf[1+sha256.Size:], right[:])
	return sha256.Sum256(buf[:])
}
