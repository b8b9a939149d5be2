package block

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/domain"
	"tollbook/eventstore/merkle"
)

// reseal makes length and checksum fit again after a change, so that what
// follows them is looked at.
func reseal(data []byte) []byte {
	if len(data) < fixedBytes+crcBytes {
		return data
	}
	copy(data, magic)
	binary.LittleEndian.PutUint16(data[8:], Version)
	binary.LittleEndian.PutUint32(data[100:], uint32(len(data)))
	end := len(data) - crcBytes
	binary.LittleEndian.PutUint32(data[end:], crc32.Checksum(data[:end], castagnoli))
	return data
}

// sample is a book of two blocks in one generation and a third that starts another.
func sample(tb testing.TB) (blocks []*Block, encoded [][]byte) {
	tb.Helper()
	source, c := newTraffic(3, 40), chain{}
	w := new(Symbols)
	for i := range 3 {
		if i == 2 {
			w.Limits.Symbols = w.Len()
		}
		events := source.calls(30)
		events[7].ID, events[8].ID, events[9].ID = "41", "43", "1700000000.17"
		events[5].Data.(*domain.Call).Correlation = "leg"
		events[6].Data.(*domain.Call).Correlation = "leg"
		events[11] = domain.Event{Tenant: "contoso", Source: "admin", ID: "a1", Time: domain.MinInstant,
			Data: &domain.Assignment{User: "anna@contoso.example", Plan: "DOMESTIC", Country: "IT", EffectiveAt: domain.MinInstant}}
		b := c.seal(events, Duplicates{"contoso", "switch/con-1", 7})
		data, staged, err := w.Encode(nil, b)
		if err != nil {
			tb.Fatal(err)
		}
		staged.Commit()
		c.appended(b, data)
		blocks, encoded = append(blocks, b), append(encoded, data)
	}
	if r, _ := NewReader(encoded[2]); r.SymbolsFrom() != 3 {
		tb.Fatal("the sample's third block starts no generation")
	}
	return blocks, encoded
}

func TestEveryByteCounts(t *testing.T) {
	_, encoded := sample(t)
	data := encoded[0]
	for i := range data {
		changed := slices.Clone(data)
		changed[i] ^= 0x10
		_, err := Decode(changed, new(Symbols))
		want := ErrChecksum
		switch {
		case i < 8:
			want = ErrMagic
		case i < 10:
			want = ErrVersion
		}
		if !errors.Is(err, want) {
			t.Fatalf("byte %d changed: %v, want %v", i, err, want)
		}
		if _, err := DecodeHeader(changed); !errors.Is(err, want) {
			t.Fatalf("byte %d changed: header: %v, want %v", i, err, want)
		}
	}
	for n := range data {
		if _, err := Decode(data[:n], new(Symbols)); err == nil {
			t.Fatalf("the first %d of %d bytes were read", n, len(data))
		}
	}
	if _, err := Decode(append(slices.Clone(data), 0), new(Symbols)); err == nil {
		t.Fatal("a byte after the end was read")
	}
}

// TestCorrupt changes one thing of a good block and makes the checksum fit.
func TestCorrupt(t *testing.T) {
	_, encoded := sample(t)
	le := binary.LittleEndian
	r, err := NewReader(encoded[0])
	if err != nil {
		t.Fatal(err)
	}
	table := fixedBytes + len(r.frame.Tree)*peakBytes
	entry := func(data []byte, k kind) []byte {
		at := slices.IndexFunc(r.sections, func(s section) bool { return s.kind == k })
		if at < 0 {
			t.Fatalf("%v is not in the sample", k)
		}
		return data[table+at*entryBytes:]
	}
	stored := func(data []byte, k kind) []byte {
		at := table + len(r.sections)*entryBytes
		for _, s := range r.sections {
			if s.kind == k {
				return data[at:]
			}
			at += len(s.stored)
		}
		t.Fatalf("%v is not in the sample", k)
		return nil
	}
	for _, c := range []struct {
		want   string
		change func(data []byte) []byte
	}{
		{"block number", func(d []byte) []byte { le.PutUint64(d[16:], 0); return d }},
		{"first position", func(d []byte) []byte { le.PutUint64(d[24:], 0); return d }},
		{"block 1 must", func(d []byte) []byte { d[40] = 1; return d }},
		{"a block has 1 to", func(d []byte) []byte { le.PutUint32(d[12:], MaxEvents+30); return d }},
		{"sealed_at", func(d []byte) []byte { le.PutUint64(d[32:], 1); return d }},
		{"symbols start at", func(d []byte) []byte { le.PutUint64(d[72:], 2); return d }},
		{"symbols before the first", func(d []byte) []byte { le.PutUint32(d[80:], 1); return d }},
		{"more new symbols", func(d []byte) []byte { le.PutUint32(d[88:], 1000); return d }},
		{"symbols, more than", func(d []byte) []byte { le.PutUint32(d[92:], 1<<31); return d }},
		{"counts of duplicates", func(d []byte) []byte { le.PutUint32(d[96:], MaxEvents+1); return d }},
		{"no room", func(d []byte) []byte { le.PutUint16(d[10:], 0xFFFF); return d }},
		{"out of order", func(d []byte) []byte { le.PutUint16(entry(d, colSource), uint16(colTenant)); return d }},
		{"flags", func(d []byte) []byte { entry(d, colUser)[3] = 0; return d }},
		{"codec", func(d []byte) []byte { entry(d, colUser)[2] = 2; return d }},
		{"due", func(d []byte) []byte { le.PutUint32(d[96:], 2); return d }},
		{"cut short", func(d []byte) []byte { le.PutUint32(entry(d, colUser)[8:], 1<<20); return d }},
		{"has 0 bytes", func(d []byte) []byte { le.PutUint32(entry(d, colUser)[4:], 0); return d }},
		{"after the last section", func(d []byte) []byte { return append(d, 0) }},
		{"belongs to nothing", func(d []byte) []byte {
			le.PutUint16(d[10:], uint16(len(r.sections)+1))
			d = slices.Insert(d, len(d)-crcBytes, 'x')
			return slices.Insert(d, table+len(r.sections)*entryBytes, 0, 0x70, codecStored, 0, 1, 0, 0, 0, 1, 0, 0, 0)
		}},
		{"has the scale", func(d []byte) []byte { stored(d, colUser)[0] = 10; return d }},
		{"has the value", func(d []byte) []byte { stored(d, colUser)[1] = 1 | codeSign; return d }},
		{"is a number", func(d []byte) []byte { stored(d, colUser)[1] = 1; return d }},
		{"disposition", func(d []byte) []byte { stored(d, colFlags)[0] |= flagDispositionMask; return d }},
		{"section 0x1300 has the value", func(d []byte) []byte { stored(d, colID)[0] = idForms; return d }},
		{"is no number", func(d []byte) []byte { stored(d, colCalled)[0] = 0xFF; return d }},
	} {
		data := reseal(c.change(slices.Clone(encoded[0])))
		s := new(Symbols)
		_, err := Decode(data, s)
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.want, err)
		}
		if s.Next() != 0 || s.Len() != 0 {
			t.Errorf("%q: symbols of a corrupt block were taken", c.want)
		}
	}
}

func TestSymbolsAreNeeded(t *testing.T) {
	blocks, encoded := sample(t)
	if _, err := Decode(encoded[1], new(Symbols)); !errors.Is(err, ErrSymbols) {
		t.Fatalf("block 2 without block 1: %v", err)
	}
	var s Symbols
	for i, data := range encoded {
		if _, err := Decode(data, &s); err != nil {
			t.Fatalf("block %d: %v", i+1, err)
		}
	}
	if _, err := Decode(encoded[1], &s); !errors.Is(err, ErrSymbols) {
		t.Fatalf("block 2 with the symbols of another generation: %v", err)
	}
	if s.From() != 3 || s.Next() != 4 {
		t.Fatalf("symbols of blocks %d to %d", s.From(), s.Next()-1)
	}

	// The symbols of another book are noticed where they differ.
	other := newTraffic(4, 40)
	var c chain
	var foreign, mixed Symbols
	data, staged, err := foreign.Encode(nil, c.seal(other.calls(30)))
	if err != nil {
		t.Fatal(err)
	}
	staged.Commit()
	if _, err := Decode(data, &mixed); err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(encoded[0], &mixed); err == nil {
		t.Fatal("symbols of another book were used")
	}
	if _, err := Decode(encoded[1], &mixed); err == nil {
		t.Fatal("symbols of another book were continued")
	}

	// A writer out of step is stopped before it writes what nobody can read.
	if _, _, err := s.Encode(nil, blocks[0]); !errors.Is(err, ErrSymbols) {
		t.Fatalf("block 1 was encoded after block 3: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("symbols were committed twice")
		}
	}()
	staged.Commit()
}

func TestRefusedByEncode(t *testing.T) {
	for _, c := range []struct {
		want   error
		text   string
		change func(b *Block)
	}{
		{ErrEvent, "events where", func(b *Block) { b.Count++ }},
		{ErrEvent, "1 to 65536 events", func(b *Block) { b.Count, b.Events = 0, nil }},
		{ErrEvent, "peaks", func(b *Block) { b.Tree = append(b.Tree, merkle.Hash{}) }},
		{ErrEvent, "sealed_at", func(b *Block) { b.SealedAt = 0 }},
		{ErrEvent, "position 3", func(b *Block) { b.Events[2].Time = 0 }},
		{ErrEvent, "no data", func(b *Block) { b.Events[2].Data = nil }},
		{ErrEvent, "no data", func(b *Block) { b.Events[2].Data = (*domain.Call)(nil) }},
		{ErrEvent, "user is longer", func(b *Block) { call(b, 2).User = strings.Repeat("x", MaxTextBytes+1) }},
		{ErrEvent, "billable_ms", func(b *Block) { call(b, 2).BillableMS = -1 }},
		{ErrEvent, "direction", func(b *Block) { call(b, 2).Direction = 2 }},
		{ErrEvent, "disposition", func(b *Block) { call(b, 2).Disposition = 5 }},
		{ErrEvent, "q850", func(b *Block) { call(b, 2).Q850 = 128 }},
		{ErrEvent, "sip_status", func(b *Block) { call(b, 2).SIPStatus = 99 }},
		{ErrEvent, "calling", func(b *Block) { call(b, 2).Calling.Len = 16 }},
		{ErrEvent, "called", func(b *Block) { call(b, 2).Called = domain.Number{Digits: 5} }},
		{ErrEvent, "answered_at", func(b *Block) { call(b, 2).AnsweredAt = domain.MaxInstant + 1 }},
		{ErrEvent, "sequence", func(b *Block) { b.Events[2].Sequence = domain.Sequence{N: 1} }},
		{ErrEvent, "counts of duplicates", func(b *Block) { b.Duplicates = make([]Duplicates, MaxEvents+1) }},
		{ErrEvent, "count is 0", func(b *Block) { b.Duplicates = make([]Duplicates, 1) }},
		{ErrEvent, "name is longer", func(b *Block) {
			b.Duplicates = []Duplicates{{Tenant: strings.Repeat("x", MaxTextBytes+1)}}
		}},
	} {
		b := new(chain).seal(newTraffic(1, 10).calls(5))
		c.change(b)
		var s Symbols
		data, staged, err := s.Encode([]byte("before"), b)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%q: %v", c.text, err)
		}
		if staged != nil || string(data) != "before" || s.Len() != 0 {
			t.Errorf("%q: something was left behind", c.text)
		}
	}
}

func call(b *Block, i int) *domain.Call { return b.Events[i].Data.(*domain.Call) }

func TestTooLarge(t *testing.T) {
	source := newTraffic(1, 10)
	events := source.calls(MaxEvents)
	random := make([]byte, 900)
	for i := range events {
		for j := range random {
			random[j] = byte('!' + source.rand.IntN(94))
		}
		events[i].ID = string(random)
	}
	var s Symbols
	if _, _, err := s.Encode(nil, new(chain).seal(events)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("a block of 59 MB of ids: %v", err)
	}
	if _, _, err := s.Encode(nil, new(chain).seal(source.calls(MaxEvents))); err != nil {
		t.Fatalf("a full block: %v", err)
	}
}

// TestHostileCountsAllocateLittle claims much in few bytes.
func TestHostileCountsAllocateLittle(t *testing.T) {
	le := binary.LittleEndian
	b := new(chain).seal(newTraffic(1, 10).calls(1))
	var w Symbols
	good, _, err := w.Encode(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	hostile := func(change func(d []byte)) []byte {
		d := slices.Clone(good)
		change(d)
		return reseal(d)
	}
	table := fixedBytes + len(b.Tree)*peakBytes
	for i, data := range [][]byte{
		hostile(func(d []byte) { le.PutUint32(d[12:], 1<<16-1); le.PutUint64(d[24:], 1) }),
		hostile(func(d []byte) { le.PutUint32(d[88:], MaxSymbols) }),
		hostile(func(d []byte) { le.PutUint32(d[96:], MaxEvents) }),
		hostile(func(d []byte) { le.PutUint32(d[table+4:], MaxRawBytes); d[table+2] = codecZstd }),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := Decode(data, new(Symbols)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d: %v", i, err)
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
			t.Errorf("%d: %d bytes were allocated for a block of %d", i, used, len(data))
		}
	}
}

// FuzzDecode reads any bytes as the first or the second block of a book: it
// never panics, and what it reads can be written and read again.
func FuzzDecode(f *testing.F) {
	_, encoded := sample(f)
	for _, data := range encoded {
		f.Add(data, false)
		f.Add(data, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, follows bool) {
		var s Symbols
		if follows {
			if _, err := Decode(encoded[0], &s); err != nil {
				t.Fatal(err)
			}
		}
		b, err := Decode(reseal(bytes.Clone(data)), &s)
		if err != nil {
			return
		}
		var w, again Symbols
		data, _, err = w.Encode(nil, b)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		got, err := Decode(data, &again)
		if err != nil {
			t.Fatalf("what was written again cannot be read: %v", err)
		}
		if diff := cmp.Diff(b, got, equal); diff != "" {
			t.Fatal(diff)
		}
	})
}
