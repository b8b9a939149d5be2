package index

import (
	"encoding/binary"
	"math/bits"
)

// A sieve says of a key which entries of a sorted run may be it: none, most often,
// or one. It is the Elias–Fano code of the run's keys, cut to the bits that are
// worth their memory: the keys of n entries fall into n buckets, in order, and of
// each entry the next eight bits are kept. So a key that is not there passes one
// time in 256, and the place in the file of one that is there comes for nothing.
//
//	tags    n bytes: of each entry the eight bits after those of its bucket
//	unary   2n bits: of each bucket a 1 for each of its entries, then a 0
//	starts  of each groupBuckets-th bucket: how many entries are before it
//
// Together 1.31 bytes an entry, made in one pass over the sorted keys. The file
// has the first two.
type sieve struct {
	n      uint64
	tags   []byte
	unary  []uint64
	starts []uint32 // not before finish
}

const groupBuckets = 64

// unaryWords is how many words of the unary code are kept; a search loads up to
// two more.
func unaryWords(n uint64) uint64 { return (2*n + 63) / 64 }

func newSieve(n uint64) *sieve {
	return &sieve{n: n, tags: make([]byte, 0, n), unary: make([]uint64, unaryWords(n)+2)}
}

func (s *sieve) place(key *Key) (bucket uint64, tag byte) {
	bucket, rest := bits.Mul64(binary.BigEndian.Uint64(key[:]), s.n)
	return bucket, byte(rest >> 56)
}

// add adds the next key, in ascending order.
func (s *sieve) add(key *Key) {
	bucket, tag := s.place(key)
	bit := bucket + uint64(len(s.tags))
	s.unary[bit/64] |= 1 << (bit % 64)
	s.tags = append(s.tags, tag)
}

// finish makes the starts, once all is there; false if that is no sieve of n entries.
func (s *sieve) finish() bool {
	s.starts = append(make([]uint32, 0, (s.n+groupBuckets-1)/groupBuckets), 0)
	var ones, zeros uint64
	for _, word := range s.unary {
		count := uint64(bits.OnesCount64(word))
		for len(s.starts) < cap(s.starts) {
			// The next group begins behind the last zero of the one before.
			last := uint64(len(s.starts))*groupBuckets - 1 - zeros
			if last >= 64-count {
				break
			}
			s.starts = append(s.starts, uint32(ones+nth(^word, last)-last))
		}
		ones, zeros = ones+count, zeros+64-count
	}
	return ones == s.n && uint64(len(s.tags)) == s.n && len(s.starts) == cap(s.starts)
}

// nth is the place of a 1 of word that has n of them below it.
func nth(word, n uint64) uint64 {
	for range n {
		word &= word - 1
	}
	return uint64(bits.TrailingZeros64(word))
}

// load is the 64 bits from bit at on.
func (s *sieve) load(at uint64) uint64 {
	word, shift := at/64, at%64
	return s.unary[word]>>shift | s.unary[word+1]<<(63-shift)<<1
}

// A probe is the search for a key on its way through a sieve.
type probe struct {
	bucket     uint64
	first, end uint64 // entries
	bit        uint64
	tag        byte
	touched    uint64 // of no use; so the compiler can't leave out what only brings memory near
}

// find sets of each probe the entries that its key may be: those from first to
// before end. Each step is done for all of them before the next, as most of the
// time is waiting for memory, and so they wait together.
func (s *sieve) find(keys []Key, probes []probe) {
	var touched uint64
	for i := range keys {
		p := &probes[i]
		p.bucket, p.tag = s.place(&keys[i])
		group := p.bucket / groupBuckets
		p.first = uint64(s.starts[group])
		p.bit = p.first + group*groupBuckets // of the group's first bucket: entries and buckets before it
	}
	for i := range probes {
		touched |= s.unary[probes[i].bit/64+1]
	}
	for i := range probes {
		s.skip(&probes[i])
	}
	for i := range probes {
		touched |= uint64(s.tags[min(probes[i].first, s.n-1)])
	}
	probes[0].touched = touched
	for i := range probes {
		s.match(&probes[i])
	}
}

// skip goes over the zeros of the buckets before, and sets first and end to the
// entries of the key's own.
func (s *sieve) skip(p *probe) {
	for skip := p.bucket % groupBuckets; skip > 0; {
		zeros := ^s.load(p.bit)
		count := uint64(bits.OnesCount64(zeros))
		if count < skip {
			skip, p.first, p.bit = skip-count, p.first+64-count, p.bit+64
			continue
		}
		n := nth(zeros, skip-1)
		p.first, p.bit = p.first+n-(skip-1), p.bit+n+1
		break
	}
	p.end = p.first
	for {
		ones := uint64(bits.TrailingZeros64(^s.load(p.bit)))
		p.end, p.bit = p.end+ones, p.bit+ones
		if ones < 64 {
			break
		}
	}
}

// match leaves the entries with the key's tag. Tags of a bucket ascend as its keys do.
func (s *sieve) match(p *probe) {
	for p.first < p.end && s.tags[p.first] < p.tag {
		p.first++
	}
	end := p.first
	for end < p.end && s.tags[end] == p.tag {
		end++
	}
	p.end = end
}
