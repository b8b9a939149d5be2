// Package eventstore keeps the book: every event ever accepted, in the order in
// which it was booked, append-only.
//
// The model: a [Log] stores numbered opaque blocks durably; a [Book] above it
// knows events. It tells duplicates from conflicts by a permanent index of
// (tenant, source, id), seals what is waiting into one block (group commit),
// chains every block to the one before by its hash, and lets the sender know
// only once the block is durable.
//
// The guarantees: what [Book.Submit] has returned as booked is in the book after
// any crash, once; a book whose blocks do not follow one another, or that is
// behind its anchor, is refused with the number of the block, never skipped
// over. They rest on the Log's promise that a block is durable when Append
// returns nil.
package eventstore
