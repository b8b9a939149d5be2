package eventstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"tollbook/eventstore"
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
