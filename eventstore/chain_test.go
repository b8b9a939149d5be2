package eventstore_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"testing"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/eventstore/memlog"
	"tollbook/eventstore/merkle"
)

// A byte that has changed is found wherever it is, and the block is named, with
// and without somebody having made its checksum right again.
func TestDamagedBlock(t *testing.T) {
	s := filled(t)
	const n = 3
	good := s.log.Blocks()
	data := good[n-1]
	header, err := block.DecodeHeader(data)
	if err != nil {
		t.Fatal(err)
	}
	peaks := 104 // by docs/FORMAT.md
	table := peaks + 32*len(header.Tree)
	places := map[string]int{
		"magic": 0, "version": 8, "sections": 10, "events": 12, "number": 16, "first": 24, "sealed_at": 32, "prev": 40,
		"symbols_from": 72, "common before": 80, "personal before": 84, "common new": 88, "personal new": 92, "duplicates": 96, "length": 100,
		"first peak": peaks, "last peak": table - 1, "kind": table, "codec": table + 2, "flags": table + 3, "raw": table + 4, "stored": table + 8,
		"middle": (table + len(data)) / 2, "last section": len(data) - 5, "checksum": len(data) - 1,
	}
	for at := table; at < len(data)-4; at += 13 {
		places[fmt.Sprintf("byte %d", at)] = at
	}
	for name, at := range places {
		for _, summed := range []bool{false, true} {
			if summed && at >= len(data)-4 {
				continue
			}
			blocks := s.log.Blocks()
			blocks[n-1][at] ^= 0x04
			// One whose checksum is right may be a block, but not the one that the next names.
			names := []string{"block 3"}
			if summed {
				body := blocks[n-1][:len(data)-4]
				binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
				names = nil
			}
			damaged := &shelf{t: t, dir: s.dir, log: memlog.Of(t, blocks...), clock: s.clock}
			err := damaged.tryOpen()
			wantError(t, err, eventstore.ErrCorrupt, names...)
			if err != nil && summed && !strings.Contains(err.Error(), "block 3") && !strings.Contains(err.Error(), "block 4") {
				t.Errorf("%s: %v", name, err)
			}
			for _, leaves := range []bool{false, true} {
				_, err := eventstore.Walk{Log: memlog.Of(t, blocks...), Leaves: leaves}.Run(ctx, ignore)
				if !errors.Is(err, eventstore.ErrCorrupt) {
					t.Errorf("%s, checksum right %v: a walk, leaves %v, says %v", name, summed, leaves, err)
				}
			}
			if t.Failed() {
				t.Fatalf("%s, checksum right %v", name, summed)
			}
		}
	}
	s.open() // what is refused is left as it is
	s.check()
	s.close()
}

func ignore(*block.Block, eventstore.Head, int) error { return nil }

// The last block has no next one that names it: the anchor does.
func TestDamagedHead(t *testing.T) {
	s := filled(t)
	blocks := s.log.Blocks()
	last := blocks[4]
	last[32] ^= 1 // sealed_at, which nothing else depends on
	body := last[:len(last)-4]
	binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	s.log = memlog.Of(t, blocks...)
	wantError(t, s.tryOpen(), eventstore.ErrCorrupt, "block 5", "anchor")
}

func TestBlocksOutOfPlace(t *testing.T) {
	s := filled(t)
	good := s.log.Blocks()
	for _, test := range []struct {
		name   string
		blocks [][]byte
		say    string
	}{
		{"missing", [][]byte{good[0], good[1], nil, good[3], good[4]}, "block 3 is missing"},
		{"left out", [][]byte{good[0], good[1], good[3], good[4]}, "block 3"},
		{"swapped", [][]byte{good[0], good[2], good[1], good[3], good[4]}, "block 2"},
		{"twice", [][]byte{good[0], good[1], good[1], good[3], good[4]}, "block 3"},
		{"without the first", good[1:], "block 1"},
		{"cut short", [][]byte{good[0], good[1], good[2][:len(good[2])-1], good[3], good[4]}, "block 3"},
		{"too long", [][]byte{good[0], good[1], append(good[2:3:3][0], 0), good[3], good[4]}, "block 3"},
		{"cut to nothing", [][]byte{good[0], {}, good[2], good[3], good[4]}, "block 2"},
	} {
		damaged := &shelf{t: t, dir: s.dir, log: memlog.Of(t, test.blocks...), clock: s.clock}
		if err := damaged.tryOpen(); err == nil {
			t.Errorf("%s: opened", test.name)
		} else {
			wantError(t, err, eventstore.ErrCorrupt, test.say)
		}
	}
}

// A block of a later format says so, among what is damaged.
func TestNewerFormat(t *testing.T) {
	s := filled(t)
	blocks := s.log.Blocks()
	blocks[4][8]++
	s.log = memlog.Of(t, blocks...)
	err := s.tryOpen()
	wantError(t, err, block.ErrVersion, "block 5", "newer tollbook")
	wantError(t, err, eventstore.ErrCorrupt)
}

// A block that is well-formed, and yet not the next one of its book, is refused
// by whoever makes it.
func TestForgedBlock(t *testing.T) {
	for _, test := range []struct {
		name  string
		forge func(b *block.Block)
		say   string // "": it is no forgery
		quick bool   // a walk that does not look at the events sees it too
	}{
		{"genuine", func(*block.Block) {}, "", false},
		{"number", func(b *block.Block) { b.Number++ }, "block 7", true},
		{"hash of the block before", func(b *block.Block) { b.Prev[5] ^= 1 }, "but block 5 has", true},
		{"first position", func(b *block.Block) {
			b.First += 4 // 55 + 2 has as many peaks as 51 + 2
			b.Tree = append(b.Tree, make([]merkle.Hash, 4)...)[:popcount(b.First+1)]
		}, "begins at position 55", true},
		{"other events", func(b *block.Block) { b.Events[1] = longer(b.Events[1], 1) }, "Merkle tree", false},
		{"other order", func(b *block.Block) { b.Events[0], b.Events[1] = b.Events[1], b.Events[0] }, "Merkle tree", false},
		{"tree", func(b *block.Block) { b.Tree[0][0] ^= 1 }, "Merkle tree", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := filled(t)
			forge(t, s, calls(51, 52), test.forge)
			_, err := eventstore.Walk{Log: s.log.Reopen()}.Run(ctx, ignore)
			if test.quick {
				wantError(t, err, eventstore.ErrCorrupt, "block 6", test.say)
			} else if err != nil {
				t.Error(err)
			}
			if test.say != "" {
				wantError(t, s.tryOpen(), eventstore.ErrCorrupt, "block 6", test.say)
				return
			}
			s.open()
			wantCounts(t, s.submit(calls(50, 53)), 1, 3, 0)
			s.close()
		})
	}
	// Booked twice, with the same content or another.
	for _, again := range []domain.Event{call("contoso", "switch/mil-1", 7), longer(call("contoso", "switch/mil-1", 7), 1)} {
		s := filled(t)
		forge(t, s, records(call("contoso", "switch/mil-1", 51), again), func(*block.Block) {})
		for _, keep := range []int{0, 5} {
			s.keep = keep
			for _, lose := range []bool{false, true, false} { // what one leaves behind does not hide it from the next
				if lose {
					if err := os.RemoveAll(eventstore.IndexPath(s.dir)); err != nil {
						t.Fatal(err)
					}
				}
				wantError(t, s.tryOpen(), eventstore.ErrCorrupt, "block 6", "position 52", "position 7", "call-7")
				s.log = s.log.Reopen()
			}
		}
	}
}

func popcount(n uint64) int { return strings.Count(fmt.Sprintf("%b", n), "1") }

// forge appends a block of these events to a closed book, as somebody would who
// knows the format.
func forge(t *testing.T, s *shelf, list []eventstore.Record, change func(b *block.Block)) {
	t.Helper()
	blocks := s.log.Blocks()
	var symbols block.Symbols
	var last *block.Block
	for _, data := range blocks {
		var err error
		if last, err = block.Decode(data, &symbols); err != nil {
			t.Fatal(err)
		}
	}
	tree := merkle.Tree{Size: last.First - 1 + uint64(last.Count), Peaks: last.Tree}
	b := &block.Block{Header: block.Header{
		Number: last.Number + 1, Prev: block.Hash(blocks[len(blocks)-1]), First: tree.Size + 1,
		Count: uint32(len(list)), SealedAt: started,
	}}
	for i := range list {
		b.Events = append(b.Events, list[i].Event)
		tree.Append(merkle.Leaf(canonical(&list[i].Event)))
	}
	b.Tree = tree.Peaks
	change(b)
	if b.Number != last.Number+1 {
		symbols = block.Symbols{} // of a generation of its own
	}
	data, _, err := symbols.Encode(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	s.log = memlog.Of(t, append(blocks, data)...)
}
