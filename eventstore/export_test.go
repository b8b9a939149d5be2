package eventstore

import (
	"os"

	"tollbook/eventstore/block"
)

// Limits of a block, for tests that reach them.
const (
	MaxBlockEvents = maxBlockEvents
	MaxBlockText   = maxBlockText
	QueueDepth     = queueDepth
)

// LimitSymbols makes the book's generations of symbols short. Call it before the
// first Submit.
func (b *Book) LimitSymbols(l block.Limits) { b.chain.symbols.Limits = l }

// RepeatKey is under what a repeat is counted.
var RepeatKey = repeatKey

// The limits RepeatKey keeps.
const (
	MaxRepeatSources = maxRepeatSources
	MaxRepeatTenants = maxRepeatTenants
)

// BreakAnchor makes every later write of the anchor fail. Call it before a Submit.
func (b *Book) BreakAnchor() error {
	file, err := os.Open(b.anchor.file.Name())
	if err != nil {
		return err
	}
	old := b.anchor.file
	b.anchor.file = file
	return old.Close()
}

// ForgetIndex makes the book take every record for a new one. Call it before a Submit.
func (b *Book) ForgetIndex() { b.index.Reset() }

// KeepRecent has the index write a run every few events, and merge runs often.
func (o Options) KeepRecent(n int) Options {
	o.recent = n
	return o
}

// SnapshotEvery has snapshots written every few events.
func (o Options) SnapshotEvery(n uint64) Options {
	o.every = n
	return o
}

// IndexMemory is what the index holds in memory for what is in runs.
func (b *Book) IndexMemory() (bytes, events uint64) { return b.index.Memory() }
