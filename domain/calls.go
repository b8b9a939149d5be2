package domain

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"time"
)

// A call as a month keeps it: 48 bytes without pointers, and 8 beside it in
// columns of the month. What it says is given; how it is placed is derived.
type call struct {
	at     Instant
	id     [16]byte // a UUID, or with flagText where the text is
	number uint64   // called: digits, 50 bits; how many, 4; of them masked, 4; flags, 6
	line   uint32   // derived: of pooled and outside calls
	talk   uint32   // billable ms, 28 bits; derived: class, 4
	drawn  uint32   // derived: billed seconds, 20 bits; lane, 6; bucket's position in the lane, 6
	source uint16   // [manySources]: in a map of the month
	kind   uint16
}

type callFlags uint8

const (
	flagPlus    callFlags = 1 << iota
	flagCosts             // outbound, answered and longer than nothing: all else is free (R6.1)
	flagAmended           // what a correction made of the call
	flagText              // the id is no UUID
)

// class is R6's.
type class uint8

const (
	unplaced class = iota
	gone           // replaced by a correction, or voided
	free
	unlicensed
	unrated
	pooled
	outside
)

// Numbers of which there are too many for 16 bits.
const (
	manySources = math.MaxUint16
	manyKinds   = math.MaxUint16
)

func (c *call) billableMS() int64    { return int64(c.talk & (1<<28 - 1)) }
func (c *call) class() class         { return class(c.talk >> 28) }
func (c *call) setClass(k class)     { c.talk = c.talk&(1<<28-1) | uint32(k)<<28 }
func (c *call) billed() int64        { return int64(c.drawn & (1<<20 - 1)) }
func (c *call) lane() int            { return int(c.drawn >> 20 & 63) }
func (c *call) bucket() int          { return int(c.drawn >> 26) }
func (c *call) has(f callFlags) bool { return callFlags(c.number>>58)&f != 0 }
func (c *call) setFlags(f callFlags) { c.number |= uint64(f) << 58 }

func (c *call) place(billed int64, lane, bucket uint8) {
	c.drawn = uint32(billed) | uint32(lane)<<20 | uint32(bucket)<<26
}

func (c *call) setCalled(n Number) {
	c.number = n.Digits | uint64(n.Len)<<50 | uint64(n.Masked)<<54
	if n.Plus {
		c.setFlags(flagPlus)
	}
}

func (c *call) called() Number {
	return Number{Digits: c.number & (1<<50 - 1), Len: uint8(c.number >> 50 & 15), Masked: uint8(c.number >> 54 & 15), Plus: c.has(flagPlus)}
}

// expectedAt is when a switch reports a call: at its end.
func (c *call) expectedAt() Instant { return c.at + Instant(c.billableMS())*Instant(time.Millisecond) }

// A CallID is the id of a call's event: a UUID as its 16 bytes, or any text.
type CallID struct {
	UUID [16]byte
	Text string // "": the UUID
}

// ParseCallID reads an id. Only what a UUID is written as again is taken for one.
func ParseCallID(id string) CallID {
	u, ok := uuidOf(id)
	if !ok {
		return CallID{Text: id}
	}
	return CallID{UUID: u}
}

// uuidOf reads 0f8fad5b-d9cb-469f-a165-70867728950e, in lower case.
func uuidOf(id string) (u [16]byte, ok bool) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return u, false
	}
	at := 0
	for i := range u {
		if at == 8 || at == 13 || at == 18 || at == 23 {
			at++
		}
		high, low := nibble(id[at]), nibble(id[at+1])
		if high|low > 15 {
			return u, false
		}
		u[i] = high<<4 | low
		at += 2
	}
	return u, true
}

func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

func appendUUID(dst []byte, u [16]byte) []byte {
	for i, part := range [...][]byte{u[0:4], u[4:6], u[6:8], u[8:10], u[10:16]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}

// chunked is a list that grows without moving what it has.
type chunked[T any] struct {
	chunks [][]T
	n      uint32
}

const (
	chunkBits = 14
	chunkSize = 1 << chunkBits
)

func (l *chunked[T]) at(i uint32) *T { return &l.chunks[i>>chunkBits][i&(chunkSize-1)] }

func (l *chunked[T]) add(v T) {
	if l.n&(chunkSize-1) == 0 {
		size := chunkSize
		if l.n == 0 {
			size = 0 // a small list stays small
		}
		l.chunks = append(l.chunks, make([]T, 0, size))
	}
	last := &l.chunks[len(l.chunks)-1]
	*last = append(*last, v)
	l.n++
}

// calls are those of a month, by index.
type calls struct {
	chunked[call]
	users   chunked[uint32]
	late    chunked[int32]     // when the call was said: ms after expectedAt; or [manyLate]
	saids   map[uint32]Instant // where those don't say it
	sources map[uint32]uint32  // where there are too many for 16 bits
	texts   []byte             // ids that are no UUIDs
	spans   []chunkSpan        // of each chunk
}

// A chunkSpan is when the first and the last call of a chunk were answered, and what
// searches keep of it.
type chunkSpan struct {
	from, to Instant
	leads    *leads
}

func (s *chunkSpan) add(at Instant) { s.from, s.to = min(s.from, at), max(s.to, at) }

const manyLate = math.MinInt32

// add keeps a call, whose source, id and user come beside it.
func (l *calls) add(c call, user, source uint32, id CallID, said Instant) uint32 {
	index := l.n
	if id.Text != "" {
		c.setFlags(flagText)
		putText(&c.id, len(l.texts), len(id.Text))
		l.texts = append(l.texts, id.Text...)
	} else {
		c.id = id.UUID
	}
	if c.source = uint16(source); source >= manySources {
		c.source = manySources
		if l.sources == nil {
			l.sources = map[uint32]uint32{}
		}
		l.sources[index] = source
	}
	late := said - c.expectedAt()
	ms := late / Instant(time.Millisecond)
	if late%Instant(time.Millisecond) != 0 || ms <= math.MinInt32 || ms > math.MaxInt32 {
		ms = manyLate
		if l.saids == nil {
			l.saids = map[uint32]Instant{}
		}
		l.saids[index] = said
	}
	if index&(chunkSize-1) == 0 {
		l.spans = append(l.spans, chunkSpan{c.at, c.at, &leads{}})
	}
	l.spans[index>>chunkBits].add(c.at)
	l.chunked.add(c)
	l.users.add(user)
	l.late.add(int32(ms))
	return index
}

func putText(id *[16]byte, offset, length int) {
	for i := range 8 {
		id[i] = byte(offset >> (8 * i))
	}
	id[8], id[9] = byte(length), byte(length>>8)
}

func (l *calls) textOf(c *call) []byte {
	offset := 0
	for i := range 8 {
		offset |= int(c.id[i]) << (8 * i)
	}
	return l.texts[offset:][:int(c.id[8])|int(c.id[9])<<8]
}

func (l *calls) user(i uint32) uint32 { return *l.users.at(i) }

func (l *calls) source(i uint32) uint32 {
	if s := l.at(i).source; s != manySources {
		return uint32(s)
	}
	return l.sources[i]
}

// saidAt is the time of the event that reported the call.
func (l *calls) saidAt(i uint32) Instant {
	if ms := *l.late.at(i); ms != manyLate {
		return l.at(i).expectedAt() + Instant(ms)*Instant(time.Millisecond)
	}
	return l.saids[i]
}

// id is the call's id as events have it.
func (l *calls) id(c *call) CallID {
	if c.has(flagText) {
		return CallID{Text: string(l.textOf(c))}
	}
	return CallID{UUID: c.id}
}

// String is the id as events have it.
func (id CallID) String() string {
	if id.Text != "" {
		return id.Text
	}
	return string(appendUUID(nil, id.UUID))
}

// An idFilter tells of nearly all calls that they are none of some.
type idFilter struct {
	texts bool
	tails [1 << 16 / 64]uint64 // of UUIDs, by their last two bytes: the first may be a time
}

func newIDFilter(refs []Ref) *idFilter {
	f := &idFilter{}
	for _, ref := range refs {
		if id := ParseCallID(ref.ID); id.Text != "" {
			f.texts = true
		} else {
			tail := binary.LittleEndian.Uint16(id.UUID[14:])
			f.tails[tail/64] |= 1 << (tail % 64)
		}
	}
	return f
}

// may reports whether the call may be one of them.
func (f *idFilter) may(c *call) bool {
	if c.has(flagText) {
		return f.texts
	}
	tail := binary.LittleEndian.Uint16(c.id[14:])
	return f.tails[tail/64]&(1<<(tail%64)) != 0
}

// compareIDs is byte-wise on the ids of x of l and y of k as events have them.
// UUIDs sort as their bytes do.
func compareIDs(l *calls, x *call, k *calls, y *call) int {
	switch {
	case !x.has(flagText) && !y.has(flagText):
		return bytes.Compare(x.id[:], y.id[:])
	case x.has(flagText) && y.has(flagText):
		return bytes.Compare(l.textOf(x), k.textOf(y))
	case x.has(flagText):
		return bytes.Compare(l.textOf(x), appendUUID(nil, y.id))
	default:
		return bytes.Compare(appendUUID(nil, x.id), k.textOf(y))
	}
}
