package eventstore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/eventstore/memlog"
)

func copyAnchor(from, to string) error {
	data, err := os.ReadFile(eventstore.AnchorPath(from))
	if err != nil {
		return err
	}
	return os.WriteFile(eventstore.AnchorPath(to), data, 0o644)
}

// filled is a closed book of five blocks of ten calls, made by a clock.
func filled(t *testing.T) *shelf {
	t.Helper()
	s := newShelf(t, t.TempDir()).open()
	for from := 1; from <= 41; from += 10 {
		s.submit(calls(from, from+9))
	}
	s.close()
	return s
}

// tamper changes the anchor's file.
func (s *shelf) tamper(change func(data []byte) []byte) {
	s.t.Helper()
	path := eventstore.AnchorPath(s.dir)
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(data), 0o644)
	}
	if err != nil {
		s.t.Fatalf("anchor: %v", err)
	}
}

// garble makes a slot that was being written when the power went.
func garble(slot int) func(data []byte) []byte {
	return func(data []byte) []byte {
		copy(data[slot*256+40:], "\x00\x00\x00\x00 and what was there before")
		return data
	}
}

func (s *shelf) cut(blocks int) { s.log = memlog.Of(s.t, s.log.Blocks()[:blocks]...) }

// TestAnchor is of a book of five blocks, the last of which has its anchor in
// slot 1 and the one before in slot 0.
func TestAnchor(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(t *testing.T, s *shelf)
		refused []string // what the error says; nil: opened
	}{
		{"untouched", func(*testing.T, *shelf) {}, nil},
		{"missing", func(t *testing.T, s *shelf) {
			if err := os.Remove(eventstore.AnchorPath(s.dir)); err != nil {
				t.Fatal(err)
			}
		}, []string{"5 blocks", "no anchor", "put back a copy"}},
		{"empty", func(_ *testing.T, s *shelf) { s.tamper(func([]byte) []byte { return nil }) }, []string{"no anchor", "put back a copy"}},
		{"newer slot torn", func(_ *testing.T, s *shelf) { s.tamper(garble(1)) }, nil},
		{"older slot torn", func(_ *testing.T, s *shelf) { s.tamper(garble(0)) }, nil},
		{"both slots torn", func(_ *testing.T, s *shelf) { s.tamper(garble(0)); s.tamper(garble(1)) }, []string{"no anchor", "put back a copy"}},
		{"cut in the newer slot", func(_ *testing.T, s *shelf) { s.tamper(func(d []byte) []byte { return d[:300] }) }, nil},
		{"cut in the older slot", func(_ *testing.T, s *shelf) { s.tamper(func(d []byte) []byte { return d[:90] }) }, []string{"no anchor"}},
		{"one digit of both", func(_ *testing.T, s *shelf) {
			s.tamper(func(d []byte) []byte { return bytes.ReplaceAll(d, []byte("anchor-1 "), []byte("anchor-1 1")) })
		}, []string{"no anchor"}},
		{"book cut by a block", func(_ *testing.T, s *shelf) { s.cut(4) }, []string{"ends at block 4", "anchor is block 5", "last 1 blocks"}},
		{"book cut to one", func(_ *testing.T, s *shelf) { s.cut(1) }, []string{"ends at block 1", "last 4 blocks"}},
		{"book emptied", func(_ *testing.T, s *shelf) { s.cut(0) }, []string{"ends at block 0", "last 5 blocks"}},
		{"cut by a block, newer slot torn", func(_ *testing.T, s *shelf) { s.cut(4); s.tamper(garble(1)) }, nil},
		{"another book of that length", func(t *testing.T, s *shelf) {
			other := newShelf(t, t.TempDir()).open()
			for from := 101; from <= 141; from += 10 {
				other.submit(calls(from, from+9))
			}
			other.close()
			s.log = other.log
		}, []string{"block 5", "not the book"}},
		{"another, longer book", func(t *testing.T, s *shelf) {
			other := newShelf(t, t.TempDir()).open()
			for id := 101; id <= 109; id++ {
				other.submit(calls(id, id))
			}
			other.close()
			s.log = other.log
		}, []string{"block 5", "not the book"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := filled(t)
			test.change(t, s)
			before := s.log.Blocks()
			anchor, err := os.ReadFile(eventstore.AnchorPath(s.dir))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if test.refused == nil {
				s.open()
				s.check()
				wantCounts(t, s.submit(calls(1, 60)), 60-10*len(before), 10*len(before), 0)
				s.close()
				return
			}
			wantError(t, s.tryOpen(), eventstore.ErrCorrupt, test.refused...)
			// Refused, it is as it was, and refused again.
			if after, err := os.ReadFile(eventstore.AnchorPath(s.dir)); !bytes.Equal(after, anchor) || err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the anchor has changed, %v", err)
			}
			s.log = s.log.Reopen()
			wantError(t, s.tryOpen(), eventstore.ErrCorrupt, test.refused...)
		})
	}
}

// A crash between the append and the anchor leaves an anchor that is behind.
func TestAnchorBehind(t *testing.T) {
	s := newShelf(t, t.TempDir()).open()
	var anchors [][]byte
	for from := 1; from <= 41; from += 10 {
		anchor, err := os.ReadFile(eventstore.AnchorPath(s.dir))
		if err != nil {
			t.Fatal(err)
		}
		anchors = append(anchors, anchor)
		s.submit(calls(from, from+9))
	}
	s.close()
	for behind, anchor := range anchors {
		s.tamper(func([]byte) []byte { return anchor })
		s.open()
		s.check() // has it at the head again
		s.close()
		s.tamper(func([]byte) []byte { return anchor })
		s.open()
		wantCounts(t, s.submit(calls(1, 50)), 0, 50, 0)
		wantCounts(t, s.submit(calls(100+behind, 100+behind)), 1, 0, 0)
		s.close()
	}
}

// A new book has its anchor before it has a block, with room for both slots.
func TestAnchorOfNewBook(t *testing.T) {
	s := newShelf(t, t.TempDir())
	// What a crash before the rename leaves.
	if err := os.WriteFile(filepath.Join(s.dir, "anchor.new"), []byte("tollb"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.open()
	s.check()
	for slot := range 2 {
		s.tamper(garble(slot))
		if a, err := eventstore.ReadAnchor(eventstore.AnchorPath(s.dir)); slot == 0 && (err != nil || a.Head != eventstore.Head{}) {
			t.Errorf("anchor %v, %v", a, err)
		}
	}
	s.close()
}

// anchorLine has its checksum as the first digits of its hash, too.
const anchorLine = "tollbook-anchor-1 7 70 7b1e50a326714351671000000000000000000000000000000000000000000000 7b1e50a3"

// The line's checksum is its last field, wherever else the same digits are.
func TestAnchorChecksumInHash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "anchor")
	sum := crc32.Checksum([]byte(anchorLine[:len(anchorLine)-9]), crc32.MakeTable(crc32.Castagnoli))
	if want := fmt.Sprintf(" %08x", sum); anchorLine[len(anchorLine)-9:] != want || anchorLine[len("tollbook-anchor-1 7 70"):][:9] != want {
		t.Fatalf("the line is not what it is for: checksum%s", want)
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, "%-255s\n", anchorLine), 0o644); err != nil {
		t.Fatal(err)
	}
	if a, err := eventstore.ReadAnchor(path); err != nil || a.Block != 7 || a.Events != 70 {
		t.Errorf("%v, %v", a, err)
	}
}

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
			if err != nil && summed && !bytes.Contains([]byte(err.Error()), []byte("block 3")) && !bytes.Contains([]byte(err.Error()), []byte("block 4")) {
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
