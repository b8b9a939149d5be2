package eventstore

import "tollbook/eventstore/block"

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
