package eventstore

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// An Anchor is how far a book went when somebody last looked. A book that does
// not reach it, or has another block there, was cut or replaced by an old copy.
type Anchor struct{ Head }

// check compares the block of the anchor, when a walk comes by it.
func (a *Anchor) check(at Head) error {
	if a == nil || a.Block != at.Block || a.Head == at {
		return nil
	}
	return fmt.Errorf("%w: block %d has hash %s and ends at position %d, but the anchor says %s and %d: this is not the book the anchor was made of; put back a copy of the book that is",
		ErrCorrupt, at.Block, at.Hash, at.Events, a.Hash, a.Events)
}

// reached refuses a book that ends before its anchor.
func (a *Anchor) reached(end Head) error {
	if a == nil || end.Block >= a.Block {
		return nil
	}
	return fmt.Errorf("%w: the book ends at block %d, but its anchor is block %d (position %d): the last %d blocks are missing; put back a copy of the book that has them",
		ErrCorrupt, end.Block, a.Block, a.Events, a.Block-end.Block)
}

// The anchor file has two slots of anchorSlot bytes, written in turn in place, so
// that a write that is cut leaves the other one whole. A slot is a line:
//
//	tollbook-anchor-1 BLOCK EVENTS HASH CRC32C
//
// padded with spaces and ended by a newline; it can be read with cat.
const (
	anchorSlot  = 256
	anchorMagic = "tollbook-anchor-1"
	anchorName  = "anchor"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (a Anchor) append(dst []byte) []byte {
	start := len(dst)
	dst = fmt.Appendf(dst, "%s %d %d %x", anchorMagic, a.Block, a.Events, a.Hash[:])
	dst = fmt.Appendf(dst, " %08x", crc32.Checksum(dst[start:], castagnoli))
	for len(dst)-start < anchorSlot-1 {
		dst = append(dst, ' ')
	}
	return append(dst, '\n')
}

func parseAnchor(slot []byte) (a Anchor, ok bool) {
	fields := strings.Fields(string(slot))
	if len(fields) != 5 || fields[0] != anchorMagic {
		return a, false
	}
	body := slot[:bytes.LastIndex(slot, []byte(" "+fields[4]))]
	sum, err1 := strconv.ParseUint(fields[4], 16, 32)
	hash, err2 := hex.DecodeString(fields[3])
	var err3, err4 error
	a.Block, err3 = strconv.ParseUint(fields[1], 10, 64)
	a.Events, err4 = strconv.ParseUint(fields[2], 10, 64)
	if errors.Join(err1, err2, err3, err4) != nil || len(hash) != len(a.Hash) || uint32(sum) != crc32.Checksum(body, castagnoli) {
		return a, false
	}
	copy(a.Hash[:], hash)
	return a, true
}

// ReadAnchor reads an anchor file: the newer of its slots. A file without a
// whole slot is ErrCorrupt; a missing one is fs.ErrNotExist.
func ReadAnchor(path string) (*Anchor, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var newest *Anchor
	for len(data) > 0 {
		slot := data[:min(anchorSlot, len(data))]
		data = data[len(slot):]
		if a, ok := parseAnchor(slot); ok && (newest == nil || a.Block > newest.Block) {
			newest = &a
		}
	}
	if newest == nil {
		return nil, fmt.Errorf("%w: %s holds no anchor that can be read; put back a copy of it", ErrCorrupt, path)
	}
	return newest, nil
}

// AnchorPath is where a data directory has its anchor.
func AnchorPath(dir string) string { return filepath.Join(dir, anchorName) }

// anchorFile keeps the anchor of an open book.
type anchorFile struct{ file *os.File }

// openAnchor opens or, for a book without blocks, makes the anchor file. A book
// with blocks but no anchor is refused: what was to be compared is gone.
func openAnchor(path string, end uint64) (*anchorFile, *Anchor, error) {
	a, err := ReadAnchor(path)
	if errors.Is(err, fs.ErrNotExist) {
		if end > 0 {
			return nil, nil, fmt.Errorf("%w: the book has %d blocks but no anchor (%s); put back a copy of the anchor, or of the whole directory", ErrCorrupt, end, path)
		}
		a = &Anchor{}
		if err := createAnchor(path, *a); err != nil {
			return nil, nil, fmt.Errorf("anchor: %w", err)
		}
	} else if err != nil {
		return nil, nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("anchor: %w", err)
	}
	return &anchorFile{file}, a, nil
}

// createAnchor makes both slots, so that later writes need no space, and has the
// file and its name on disk: a book must not outlive its anchor in a power cut.
// A crash before the rename leaves no anchor, and no book either.
func createAnchor(path string, a Anchor) error {
	file, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = file.Write(a.append(a.append(nil)))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// write moves the anchor on. It follows an append that is durable already, so it
// is not synced itself: after a power cut an anchor may be some blocks behind,
// which is allowed; it is never ahead.
func (f *anchorFile) write(h Head) error {
	slot := Anchor{h}.append(make([]byte, 0, anchorSlot))
	_, err := f.file.WriteAt(slot, int64(h.Block%2)*anchorSlot)
	if err != nil {
		return fmt.Errorf("anchor: %w", err)
	}
	return nil
}

func (f *anchorFile) close() error {
	return errors.Join(f.file.Sync(), f.file.Close())
}
