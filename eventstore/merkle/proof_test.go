package merkle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// A forest is one tree of numbered leaves, kept in both ways.
type forest struct {
	tree   Tree
	chunks []Hash
	leaves []Hash
	tlog   tlogTree
}

func (f *forest) grow(t interface{ Fatal(...any) }, size uint64) {
	for f.tree.Size < size {
		data := binary.BigEndian.AppendUint64(nil, f.tree.Size)
		leaf := Leaf(data)
		f.chunks = AppendChunk(f.chunks, &f.tree, leaf)
		f.tree.Append(leaf)
		f.leaves = append(f.leaves, leaf)
		if err := f.tlog.append(data); err != nil {
			t.Fatal(err)
		}
	}
}

// prover proves of the tree as it is now, and counts the chunks it asks for.
func (f *forest) prover(asked *int) *Prover {
	leaves := f.leaves
	return &Prover{Tree: f.tree.Clone(), Chunks: f.chunks, Leaves: func(chunk uint64) ([]Hash, error) {
		*asked++
		if chunk*ChunkLeaves >= uint64(len(leaves)) {
			return nil, fmt.Errorf("chunk %d is not there", chunk)
		}
		return leaves[chunk*ChunkLeaves : min((chunk+1)*ChunkLeaves, uint64(len(leaves)))], nil
	}}
}

// TestProofsAgreeWithTlog: what the prover makes from roots of chunks and one
// chunk of leaves is what tlog makes from every hash there is.
func TestProofsAgreeWithTlog(t *testing.T) {
	var f forest
	f.grow(t, 5*ChunkLeaves+1)
	full := f
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(
			rapid.Uint64Range(1, uint64(len(full.leaves))),
			rapid.Custom(func(t *rapid.T) uint64 {
				return rapid.Uint64Range(1, 5).Draw(t, "chunks")*ChunkLeaves + rapid.Uint64Range(0, 2).Draw(t, "more") - 1
			}),
		).Draw(t, "size")
		var f forest
		for _, leaf := range full.leaves[:size] {
			f.chunks = AppendChunk(f.chunks, &f.tree, leaf)
			f.tree.Append(leaf)
		}
		f.leaves = full.leaves[:size]
		asked := 0

		n := rapid.Uint64Range(0, size-1).Draw(t, "leaf")
		leaf, proof, err := f.prover(&asked).Include(n)
		if err != nil || leaf != full.leaves[n] {
			t.Fatalf("leaf %d of %d: %s, %v", n, size, leaf, err)
		}
		want, err := tlog.ProveRecord(int64(size), int64(n), &full.tlog)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ours(want), proof); diff != "" {
			t.Fatalf("leaf %d of %d (-tlog +prover):\n%s", n, size, diff)
		}
		if asked > 1 {
			t.Fatalf("leaf %d of %d: %d chunks were asked for", n, size, asked)
		}

		asked = 0
		old := rapid.Uint64Range(1, size).Draw(t, "old")
		root, proof, err := f.prover(&asked).Extend(old)
		if err != nil {
			t.Fatalf("from %d to %d: %v", old, size, err)
		}
		want2, err := tlog.ProveTree(int64(size), int64(old), &full.tlog)
		if err != nil {
			t.Fatal(err)
		}
		wantRoot, err := tlog.TreeHash(int64(old), &full.tlog)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ours(want2), proof); diff != "" || root != Hash(wantRoot) {
			t.Fatalf("from %d to %d: root %s, tlog says %s (-tlog +prover):\n%s", old, size, root, Hash(wantRoot), diff)
		}
		if asked > 1 {
			t.Fatalf("from %d to %d: %d chunks were asked for", old, size, asked)
		}
	})
}

// TestChangedProofsDoNotHold: any bit of any part of a proof matters.
func TestChangedProofsDoNotHold(t *testing.T) {
	var f forest
	asked := 0
	f.grow(t, 37)
	old, oldRoot := f.tree.Size, f.tree.Root()
	f.grow(t, 100)
	size, root := f.tree.Size, f.tree.Root()
	leaf, inclusion, err := f.prover(&asked).Include(40)
	if err != nil {
		t.Fatal(err)
	}
	_, extension, err := f.prover(&asked).Extend(old)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		bit := rapid.IntRange(0, 255).Draw(t, "bit")
		flip := func(h *Hash) { h[bit/8] ^= 1 << (bit % 8) }
		which := rapid.IntRange(-2, max(len(inclusion), len(extension))-1).Draw(t, "hash")
		changed := func(list []Hash, root, leaf Hash) ([]Hash, Hash, Hash) {
			list = append([]Hash(nil), list...)
			switch {
			case which == -2:
				flip(&root)
			case which == -1:
				flip(&leaf)
			default:
				flip(&list[which%len(list)])
			}
			return list, root, leaf
		}
		proof, r, l := changed(inclusion, root, leaf)
		if err := CheckInclusion(size, r, 40, l, proof); !errors.Is(err, ErrProof) {
			t.Fatalf("inclusion: %v", err)
		}
		proof, r, l = changed(extension, root, oldRoot)
		if err := CheckExtension(size, r, old, l, proof); !errors.Is(err, ErrProof) {
			t.Fatalf("extension: %v", err)
		}
	})
	for _, n := range []uint64{39, 41, 100, 1 << 62, 1<<64 - 1} {
		if err := CheckInclusion(size, root, n, leaf, inclusion); !errors.Is(err, ErrProof) {
			t.Errorf("as leaf %d: %v", n, err)
		}
		if err := CheckExtension(size, root, n, oldRoot, extension); !errors.Is(err, ErrProof) {
			t.Errorf("from %d leaves: %v", n, err)
		}
	}
	for _, size := range []uint64{0, 1, 40, 64, 129, 1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		if err := CheckInclusion(size, root, 40, leaf, inclusion); !errors.Is(err, ErrProof) {
			t.Errorf("of %d leaves: %v", size, err)
		}
		if err := CheckExtension(size, root, old, oldRoot, extension); !errors.Is(err, ErrProof) {
			t.Errorf("to %d leaves: %v", size, err)
		}
	}
}

// TestProverRefuses: what is not in the tree, and leaves that are not the tree's.
func TestProverRefuses(t *testing.T) {
	var f forest
	asked := 0
	f.grow(t, 3*ChunkLeaves+5)
	if _, _, err := f.prover(&asked).Include(f.tree.Size); err == nil {
		t.Error("a leaf beyond the end was proved")
	}
	for _, size := range []uint64{0, f.tree.Size + 1} {
		if _, _, err := f.prover(&asked).Extend(size); err == nil {
			t.Errorf("%d leaves were proved to be the beginning", size)
		}
	}
	f.leaves[700][3] ^= 1
	if _, _, err := f.prover(&asked).Include(5); !errors.Is(err, ErrProof) {
		t.Errorf("with a changed leaf in the chunk: %v", err)
	}
	if _, _, err := f.prover(&asked).Extend(600); !errors.Is(err, ErrProof) {
		t.Errorf("from 600, with a changed leaf in the chunk: %v", err)
	}
	f.leaves = f.leaves[:100]
	if _, _, err := f.prover(&asked).Include(5); !errors.Is(err, ErrProof) {
		t.Errorf("with leaves missing: %v", err)
	}
}
