package merkle

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// tlogTree is the same tree kept by golang.org/x/mod/sumdb/tlog, every hash of it.
type tlogTree struct {
	size   int64
	hashes []tlog.Hash
}

func (t *tlogTree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		list[i] = t.hashes[index]
	}
	return list, nil
}

func (t *tlogTree) append(data []byte) error {
	hashes, err := tlog.StoredHashes(t.size, data, t)
	if err != nil {
		return err
	}
	t.hashes = append(t.hashes, hashes...)
	t.size++
	return nil
}

func compare(t *Tree, want *tlogTree) error {
	root, err := tlog.TreeHash(want.size, want)
	if err != nil {
		return err
	}
	if got := t.Root(); got != Hash(root) {
		return fmt.Errorf("root of %d leaves is %s, tlog says %s", want.size, got, Hash(root))
	}
	if t.Size != uint64(want.size) {
		return fmt.Errorf("size is %d, want %d", t.Size, want.size)
	}
	return nil
}

func TestAgreesWithTlog(t *testing.T) {
	var tree Tree
	var want tlogTree
	for size := 0; size <= 300; size++ {
		if err := compare(&tree, &want); err != nil {
			t.Fatal(err)
		}
		data := fmt.Appendf(nil, "leaf %d", size)
		if got := Leaf(data); got != Hash(tlog.RecordHash(data)) {
			t.Fatalf("leaf %d is %s", size, got)
		}
		tree.Append(Leaf(data))
		if err := want.append(data); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAgreesWithTlogOnAnyLeaves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tree Tree
		var want tlogTree
		leaves := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 80), 0, 200).Draw(t, "leaves")
		keep := rapid.IntRange(0, len(leaves)).Draw(t, "keep")
		var kept Tree
		var keptRoot Hash
		for i, data := range leaves {
			if i == keep {
				kept, keptRoot = tree.Clone(), tree.Root()
			}
			tree.Append(Leaf(data))
			if err := want.append(data); err != nil {
				t.Fatal(err)
			}
		}
		if err := compare(&tree, &want); err != nil {
			t.Fatal(err)
		}
		if keep < len(leaves) && kept.Root() != keptRoot {
			t.Fatal("a clone changed with the tree it was taken from")
		}
	})
}

func TestPeaksThatDoNotFitPanic(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("a tree of 3 leaves with one peak was used")
		}
	}()
	tree := Tree{Size: 3, Peaks: make([]Hash, 1)}
	tree.Root()
}

func TestAppendAllocatesNothing(t *testing.T) {
	tree := Tree{Peaks: make([]Hash, 0, 64)}
	data := []byte("a leaf of ordinary length, about as long as a short event is")
	if n := testing.AllocsPerRun(2000, func() { tree.Append(Leaf(data)) }); n >= 1 {
		t.Fatalf("an append allocates %v times", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	var tree Tree
	data := make([]byte, 500)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		binary.LittleEndian.PutUint64(data, n)
		tree.Append(Leaf(data))
		n++
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}
