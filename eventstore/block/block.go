// Package block is how events stand on disk: block format 1, which
// docs/FORMAT.md describes byte by byte.
//
// A block seals up to [MaxEvents] events. Each field of its calls is a column,
// a section of its own, so that a replay decompresses only what it needs; every
// other event is a row of canonical JSON. Strings that recur for years (tenants,
// sources, users, the users' own numbers) are written once in a generation of
// blocks and are referred to by their ordinal afterwards: [Symbols].
//
// What is guaranteed: [Decode] of what [Symbols.Encode] wrote is the same block,
// and what Encode would write but Decode refuse is refused by Encode. A reader
// never panics, whatever the bytes, and allocates no more than the limits below
// allow. What is assumed: canonical JSON (package cloudevents) stays readable
// for ever, as rows are kept in it. TestAnyEvents and FuzzDecode show the first
// two, TestGolden that old blocks stay readable.
package block

import (
	"crypto/sha256"
	"errors"

	"tollbook/domain"
	"tollbook/eventstore/merkle"
)

// Version is the format written. A reader reads every version there ever was.
const Version = 1

// Limits of format 1. All of them are checked before anything is allocated.
const (
	// MaxEvents is the most events of a block, and the most of its duplicates.
	MaxEvents = 65_536
	// MaxBlockBytes is the longest block: 32 MiB.
	MaxBlockBytes = 32 << 20
	// MaxRawBytes is the most a block's sections may come to, decompressed: 64 MiB.
	MaxRawBytes = 64 << 20
	// MaxTextBytes is the longest string of a column. The domain's own limits
	// are narrower, and may be widened up to this one without a new format.
	MaxTextBytes = 1024
	// MaxSymbols is the most symbols of a generation, personal or not.
	MaxSymbols = 1 << 21
	// MaxSymbolBytes is the most text of a generation's symbols: 128 MiB.
	MaxSymbolBytes = 128 << 20
)

// maxPosition bounds positions and block numbers, so that their sums cannot overflow.
const maxPosition = 1 << 62

// Errors of reading a block. All but ErrSymbols mean that the bytes are not what
// was written: the book must not be used further before somebody has looked.
var (
	// ErrMagic is returned when the bytes do not begin as a block does.
	ErrMagic = errors.New("not a block: it does not begin with TOLLBOOK")
	// ErrVersion is returned for a format this program does not know; a later one will.
	ErrVersion = errors.New("block of an unknown format version: use a newer tollbook")
	// ErrChecksum is returned when the bytes of a block have changed since it was written.
	ErrChecksum = errors.New("block is damaged: its checksum does not fit")
	// ErrCorrupt is returned, with what is wrong, when the checksum fits and the
	// content is nothing a writer of this format produces, or when the block is cut short.
	ErrCorrupt = errors.New("block is corrupt")
	// ErrSymbols is returned when the symbols given lack those the block refers
	// to: load the blocks from the one its generation starts at.
	ErrSymbols = errors.New("symbols do not reach up to the block")
)

// Errors of writing a block. Nothing has changed when they are returned.
var (
	// ErrEvent is returned, with the position and what is wrong, for an event or
	// header no block can hold. Trying again does not help.
	ErrEvent = errors.New("cannot be kept in a block")
	// ErrTooLarge is returned when the events would make a block beyond
	// MaxBlockBytes or MaxRawBytes: seal fewer of them.
	ErrTooLarge = errors.New("block would be too large")
)

// A Header is what a block says about itself.
type Header struct {
	Number   uint64         // from 1
	Prev     merkle.Hash    // [Hash] of the block before; zero for block 1
	First    uint64         // position of its first event in the book, from 1
	Count    uint32         // of its events, 1 to MaxEvents
	SealedAt domain.Instant // by the clock of whoever sealed it; information only
	// Tree has the peaks of the Merkle tree over the canonical bytes
	// (cloudevents.Append) of all events of the book up to and including this
	// block, as [merkle.Tree] has them.
	Tree []merkle.Hash
}

// Duplicates counts the repeats of one source that came since the block before
// and were not booked.
type Duplicates struct {
	Tenant, Source string
	N              uint64 // at least 1
}

// A Block is some events in the order of the book, sealed together.
type Block struct {
	Header
	Events     []domain.Event
	Duplicates []Duplicates
}

// Hash is what the next block names as its Prev: SHA-256 over all bytes of a block.
func Hash(data []byte) merkle.Hash { return sha256.Sum256(data) }

// Decode reads a whole block and checks all of it except the chain and the tree,
// which need the blocks before.
//
// When s stands exactly before the block, or the block starts a generation and s
// is new, the block's own symbols are added to s. When s is further on in the
// same generation, it is left as it is. In all other cases the error is
// [ErrSymbols]. s is unchanged when an error is returned.
func Decode(data []byte, s *Symbols) (*Block, error) {
	r, err := NewReader(data)
	if err != nil {
		return nil, err
	}
	return r.block(s)
}

// DecodeHeader reads the header of a whole block, and checks its checksum.
func DecodeHeader(data []byte) (Header, error) {
	r, err := NewReader(data)
	if err != nil {
		return Header{}, err
	}
	return r.Header(), nil
}
