package index

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

	"tollbook/eventstore/merkle"
)

// A record is an entry with its key.
type record struct {
	key Key
	Entry
}

// A table has the events of some blocks in the order in which they came.
type table struct {
	from, to Head // the blocks after from up to to
	records  []record
	slots    []uint32 // number of a record + 1, by the hash of its key; 0: none
	chunks   []merkle.Hash
	// Whoever may choose ids can't choose where in the table they come to lie.
	seed uint64
}

func newTable(from Head) *table {
	return &table{from: from, to: from, seed: rand.Uint64()}
}

// clear empties the table and keeps its memory.
func (t *table) clear() {
	t.records, t.chunks = t.records[:0], nil
	clear(t.slots)
}

// slot is where the search for a key begins.
func (t *table) slot(key *Key) int {
	hi, lo := bits.Mul64(binary.LittleEndian.Uint64(key[:])^t.seed, 0x9e3779b97f4a7c15)
	return int((hi ^ lo) & uint64(len(t.slots)-1))
}

func (t *table) find(key *Key) (Entry, bool) {
	if len(t.records) == 0 {
		return Entry{}, false
	}
	for at := t.slot(key); t.slots[at] != 0; at = (at + 1) & (len(t.slots) - 1) {
		if r := &t.records[t.slots[at]-1]; r.key == *key {
			return r.Entry, true
		}
	}
	return Entry{}, false
}

// add adds a key, or returns the entry it has already.
func (t *table) add(key *Key, e *Entry) (known Entry, ok bool) {
	if 2*(len(t.records)+1) > len(t.slots) {
		t.grow()
	}
	at := t.slot(key)
	for ; t.slots[at] != 0; at = (at + 1) & (len(t.slots) - 1) {
		if r := &t.records[t.slots[at]-1]; r.key == *key {
			return r.Entry, false
		}
	}
	t.records = append(t.records, record{*key, *e})
	t.slots[at] = uint32(len(t.records))
	return Entry{}, true
}

func (t *table) grow() {
	t.slots = make([]uint32, max(256, 2*len(t.slots)))
	for i := range t.records {
		at := t.slot(&t.records[i].key)
		for t.slots[at] != 0 {
			at = (at + 1) & (len(t.slots) - 1)
		}
		t.slots[at] = uint32(i + 1)
	}
}

// sorted are the records by their keys. Keys are spread evenly, so each is put
// close to its place at once and moved there.
func (t *table) sorted() []record {
	n := uint64(len(t.records))
	ends := make([]uint32, n+1)
	place := func(k *Key) uint64 {
		hi, _ := bits.Mul64(binary.BigEndian.Uint64(k[:]), n)
		return hi
	}
	for i := range t.records {
		ends[place(&t.records[i].key)]++
	}
	sum := uint32(0)
	for i, count := range ends {
		ends[i] = sum
		sum += count
	}
	list := make([]record, n)
	for i := range t.records {
		p := place(&t.records[i].key)
		list[ends[p]] = t.records[i]
		ends[p]++
	}
	for i := 1; i < len(list); i++ {
		if !less(&list[i].key, &list[i-1].key) {
			continue
		}
		r, j := list[i], i
		for ; j > 0 && less(&r.key, &list[j-1].key); j-- {
			list[j] = list[j-1]
		}
		list[j] = r
	}
	return list
}

func less(a, b *Key) bool {
	x, y := binary.BigEndian.Uint64(a[:]), binary.BigEndian.Uint64(b[:])
	if x != y {
		return x < y
	}
	return binary.BigEndian.Uint64(a[8:]) < binary.BigEndian.Uint64(b[8:])
}
