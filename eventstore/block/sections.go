package block

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"

	"github.com/klauspost/compress/zstd"

	"tollbook/domain"
	"tollbook/eventstore/merkle"
)

// A block, all integers little-endian:
//
//	┌──────────────────────────────────────────────────────────────────────┐
//	│ magic "TOLLBOOK" <8b>                                                │
//	├───────────────┬────────────────┬──────────────────┬──────────────────┤
//	│ version <2b>  │ sections <2b>  │ events <4b>      │ number <8b>      │
//	├───────────────┴────────────────┼──────────────────┴──────────────────┤
//	│ first <8b>                     │ sealed_at <8b>                      │
//	├────────────────────────────────┴─────────────────────────────────────┤
//	│ prev <32b>                                                           │
//	├────────────────────────────────┬──────────────────┬──────────────────┤
//	│ symbols_from <8b>              │ common before<4b>│ personal before4b│
//	├───────────────┬────────────────┼──────────────────┼──────────────────┤
//	│ common new<4b>│personal new<4b>│ duplicates <4b>  │ length <4b>      │
//	├───────────────┴────────────────┴──────────────────┴──────────────────┤
//	│ peaks <32b> × popcount(first − 1 + events)                           │
//	├──────────────────────────────────────────────────────────────────────┤
//	│ kind <2b> │ codec <1b> │ flags <1b> │ raw <4b> │ stored <4b>         │
//	│ … × sections, by ascending kind                                      │
//	├──────────────────────────────────────────────────────────────────────┤
//	│ stored bytes of each section, in the same order                      │
//	├──────────────────────────────────────────────────────────────────────┤
//	│ CRC-32C of all before <4b>                                           │
//	└──────────────────────────────────────────────────────────────────────┘
const (
	magic       = "TOLLBOOK"
	fixedBytes  = 104
	entryBytes  = 12
	crcBytes    = 4
	peakBytes   = len(merkle.Hash{})
	maxSections = 128
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Codecs of a section.
const (
	codecStored = 0
	codecZstd   = 1
)

// flagPersonal marks a section that holds personal values.
const flagPersonal = 1

// A kind names a section: the column in the high byte, its part in the low one.
type kind uint16

// Columns. The numbers are on disk and are never given to anything else.
const (
	colOrder          kind = 0x0100 // bytes, one per event
	colCommon         kind = 0x0200 // texts: symbols
	colPersonal       kind = 0x0300 // texts: symbols; length 0 is a number, else length − 1
	colPersonalNumber kind = 0x0400 // numbers of the symbols of length 0
	colPersonalTail   kind = 0x0500

	colTenant      kind = 0x1000 // ints: common symbol
	colSource      kind = 0x1100 // ints: common symbol
	colFlags       kind = 0x1200 // bytes
	colID          kind = 0x1300 // ids
	colTime        kind = 0x1400 // ints
	colSequence    kind = 0x1500 // ints, of calls that have one
	colUser        kind = 0x1600 // ints: personal symbol
	colKind        kind = 0x1700 // ints: common symbol
	colOwn         kind = 0x1800 // ints: personal symbol, relative to the user's
	colCaller      kind = 0x1900 // numbers, of inbound calls
	colCallerTail  kind = 0x1A00
	colCalled      kind = 0x1B00 // numbers, of outbound calls
	colCalledTail  kind = 0x1C00
	colBillable    kind = 0x1D00 // ints
	colEnded       kind = 0x1E00 // ints, of calls that have one
	colAnswered    kind = 0x1F00 // ints, of calls that have one
	colStarted     kind = 0x2000 // ints, of calls that have one
	colQ850        kind = 0x2100 // dictionary
	colSIPStatus   kind = 0x2200 // dictionary
	colCorrelation kind = 0x2300 // ids

	colPlainRow    kind = 0x3000 // texts
	colPersonalRow kind = 0x3100 // texts

	colRepeatTenant kind = 0x4000 // ints: common symbol
	colRepeatSource kind = 0x4100 // ints: common symbol
	colRepeatCount  kind = 0x4200 // ints
)

// Parts of a column, by what it holds. A column of ints is parts 0 and 1.
const (
	partDictValues = 2 // and 3: ints

	partTextBytes = 2 // parts 0 and 1 are the lengths: ints

	partShape = 0
	partLead  = 1 // to 4: dictionary
	partMid   = 5 // and 6: ints
	// The tails are a column of ints of their own.

	partForm   = 0
	partUUID   = 1
	partInts   = 2 // and 3
	partLength = 4 // and 5: ints; 6: bytes
)

// personal reports whether a section of that kind is flagged so.
func (k kind) personal() bool {
	switch k & 0xFF00 {
	case colPersonal, colPersonalNumber, colPersonalTail, colUser, colOwn, colCaller, colCallerTail,
		colCalledTail, colPersonalRow:
		return true
	}
	return false
}

func (k kind) String() string { return fmt.Sprintf("section %#04x", uint16(k)) }

// A section is an entry of the section table.
type section struct {
	kind   kind
	codec  uint8
	raw    int
	stored []byte
}

// compressFrom is the shortest section worth a zstd frame.
const compressFrom = 64

// The coders are shared: they hold tables, no state of any book.
var (
	compressor = must(zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithAllLitEntropyCompression(true)))
	decompressor = must(zstd.NewReader(nil, zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(MaxRawBytes), zstd.WithDecodeAllCapLimit(true)))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// sectionWriter gathers the sections of a block.
type sectionWriter struct {
	table []byte
	body  []byte
	count int
	raw   int
}

// add writes a section, unless it is empty.
func (w *sectionWriter) add(k kind, raw []byte) {
	if len(raw) == 0 {
		return
	}
	start, codec := len(w.body), byte(codecStored)
	if len(raw) >= compressFrom {
		w.body = compressor.EncodeAll(raw, w.body)
		codec = codecZstd
	}
	if codec == codecStored || len(w.body)-start >= len(raw) {
		w.body = append(w.body[:start], raw...)
		codec = codecStored
	}
	flags := byte(0)
	if k.personal() {
		flags = flagPersonal
	}
	w.table = binary.LittleEndian.AppendUint16(w.table, uint16(k))
	w.table = append(w.table, codec, flags)
	w.table = binary.LittleEndian.AppendUint32(w.table, uint32(len(raw)))
	w.table = binary.LittleEndian.AppendUint32(w.table, uint32(len(w.body)-start))
	w.count++
	w.raw += len(raw)
}

// frame is the fixed part of a block beside its Header.
type frame struct {
	Header
	sections    int
	symbolsFrom uint64
	before      [tables]uint32 // symbols of the generation in earlier blocks
	added       [tables]uint32 // symbols in this block
	duplicates  uint32
	length      uint32
}

func (f *frame) append(dst []byte) []byte {
	le := binary.LittleEndian
	dst = append(dst, magic...)
	dst = le.AppendUint16(dst, Version)
	dst = le.AppendUint16(dst, uint16(f.sections))
	dst = le.AppendUint32(dst, f.Count)
	dst = le.AppendUint64(dst, f.Number)
	dst = le.AppendUint64(dst, f.First)
	dst = le.AppendUint64(dst, uint64(f.SealedAt))
	dst = append(dst, f.Prev[:]...)
	dst = le.AppendUint64(dst, f.symbolsFrom)
	dst = le.AppendUint32(dst, f.before[common])
	dst = le.AppendUint32(dst, f.before[personal])
	dst = le.AppendUint32(dst, f.added[common])
	dst = le.AppendUint32(dst, f.added[personal])
	dst = le.AppendUint32(dst, f.duplicates)
	dst = le.AppendUint32(dst, f.length)
	for i := range f.Tree {
		dst = append(dst, f.Tree[i][:]...)
	}
	return dst
}

// check is the part of the header's rules that does not depend on its bytes.
func (h *Header) check() error {
	switch {
	case h.Number < 1 || h.Number > maxPosition:
		return fmt.Errorf("block number %d is out of range", h.Number)
	case h.First < h.Number || h.First > maxPosition:
		return fmt.Errorf("first position %d is out of range for block %d", h.First, h.Number)
	case h.Number == 1 && (h.First != 1 || h.Prev != merkle.Hash{}):
		return fmt.Errorf("block 1 must begin at position 1 and name no block before")
	case h.Count < 1 || h.Count > MaxEvents:
		return fmt.Errorf("a block has 1 to %d events, not %d", MaxEvents, h.Count)
	case h.SealedAt < domain.MinInstant || h.SealedAt > domain.MaxInstant:
		return fmt.Errorf("sealed_at %d is out of range", h.SealedAt)
	case len(h.Tree) != h.peaks():
		return fmt.Errorf("%d peaks of the tree, not %d", h.peaks(), len(h.Tree))
	}
	return nil
}

func (h *Header) peaks() int { return bits.OnesCount64(h.First - 1 + uint64(h.Count)) }

// checkEnvelope checks magic, version, checksum and length, each with an error of its own.
func checkEnvelope(data []byte) error {
	le := binary.LittleEndian
	switch {
	case len(data) < len(magic) || string(data[:len(magic)]) != magic:
		return ErrMagic
	case len(data) >= len(magic)+2 && le.Uint16(data[len(magic):]) != Version:
		return fmt.Errorf("%w: version %d", ErrVersion, le.Uint16(data[len(magic):]))
	case len(data) < fixedBytes+crcBytes:
		return fmt.Errorf("%w: cut short after %d bytes", ErrCorrupt, len(data))
	case len(data) > MaxBlockBytes:
		return fmt.Errorf("%w: longer than %d bytes", ErrCorrupt, MaxBlockBytes)
	}
	end := len(data) - crcBytes
	if crc32.Checksum(data[:end], castagnoli) != le.Uint32(data[end:]) {
		return ErrChecksum
	}
	if length := le.Uint32(data[100:]); uint64(len(data)) != uint64(length) {
		return fmt.Errorf("%w: %d bytes where its header says %d", ErrCorrupt, len(data), length)
	}
	return nil
}

// parse reads the header and the section table of a block whose envelope was checked.
func parse(data []byte) (f frame, sections []section, err error) {
	le := binary.LittleEndian
	f.sections = int(le.Uint16(data[10:]))
	f.Count = le.Uint32(data[12:])
	f.Number = le.Uint64(data[16:])
	f.First = le.Uint64(data[24:])
	f.SealedAt = domain.Instant(le.Uint64(data[32:]))
	copy(f.Prev[:], data[40:])
	f.symbolsFrom = le.Uint64(data[72:])
	f.before = [tables]uint32{le.Uint32(data[80:]), le.Uint32(data[84:])}
	f.added = [tables]uint32{le.Uint32(data[88:]), le.Uint32(data[92:])}
	f.duplicates = le.Uint32(data[96:])
	f.length = le.Uint32(data[100:])

	rest := data[fixedBytes : len(data)-crcBytes]
	peaks := f.peaks()
	if len(rest) < peaks*peakBytes+f.sections*entryBytes || f.sections > maxSections {
		return f, nil, fmt.Errorf("%w: no room for %d peaks and %d sections", ErrCorrupt, peaks, f.sections)
	}
	f.Tree = make([]merkle.Hash, peaks)
	for i := range f.Tree {
		copy(f.Tree[i][:], rest[i*peakBytes:])
	}
	rest = rest[peaks*peakBytes:]
	if err := f.Header.check(); err != nil {
		return f, nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err := f.check(); err != nil {
		return f, nil, fmt.Errorf("%w: block %d: %w", ErrCorrupt, f.Number, err)
	}
	sections, err = parseTable(rest, f.sections)
	if err != nil {
		return f, nil, fmt.Errorf("%w: block %d: %w", ErrCorrupt, f.Number, err)
	}
	return f, sections, nil
}

func (f *frame) check() error {
	symbols := uint64(f.before[common]) + uint64(f.before[personal]) +
		uint64(f.added[common]) + uint64(f.added[personal])
	switch {
	case f.symbolsFrom < 1 || f.symbolsFrom > f.Number:
		return fmt.Errorf("its symbols start at block %d", f.symbolsFrom)
	case f.symbolsFrom == f.Number && f.before != [tables]uint32{}:
		return fmt.Errorf("symbols before the first block of their generation")
	case symbols > MaxSymbols:
		return fmt.Errorf("%d symbols, more than %d", symbols, MaxSymbols)
	case f.duplicates > MaxEvents:
		return fmt.Errorf("%d counts of duplicates, more than %d", f.duplicates, MaxEvents)
	case f.added[common] > 3*f.Count+2*f.duplicates || f.added[personal] > 2*f.Count:
		return fmt.Errorf("more new symbols than it can refer to")
	}
	return nil
}

// parseTable reads the section table and cuts what follows it into sections.
func parseTable(rest []byte, count int) ([]section, error) {
	le := binary.LittleEndian
	table, body := rest[:count*entryBytes], rest[count*entryBytes:]
	sections := make([]section, count)
	last, total := -1, 0
	for i := range sections {
		e := table[i*entryBytes:]
		s := section{kind: kind(le.Uint16(e)), codec: e[2]}
		raw, stored := le.Uint32(e[4:]), le.Uint32(e[8:])
		flags := byte(0)
		if s.kind.personal() {
			flags = flagPersonal
		}
		switch {
		case int(s.kind) <= last:
			return nil, fmt.Errorf("%v is out of order", s.kind)
		case e[3] != flags:
			return nil, fmt.Errorf("%v has flags %#x", s.kind, e[3])
		case raw == 0 || raw > MaxRawBytes || total+int(raw) > MaxRawBytes:
			return nil, fmt.Errorf("%v has %d bytes", s.kind, raw)
		case uint64(stored) > uint64(len(body)):
			return nil, fmt.Errorf("%v is cut short", s.kind)
		case s.codec > codecZstd || s.codec == codecStored && stored != raw:
			return nil, fmt.Errorf("%v has codec %d and %d bytes for %d", s.kind, s.codec, stored, raw)
		}
		s.raw, s.stored, body = int(raw), body[:stored:stored], body[stored:]
		last, total = int(s.kind), total+s.raw
		sections[i] = s
	}
	if len(body) > 0 {
		return nil, fmt.Errorf("%d bytes after the last section", len(body))
	}
	return sections, nil
}
