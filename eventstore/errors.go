package eventstore

import "errors"

// Errors of a Log and a Book, by what the caller does next.
var (
	// ErrConflict is returned when the number of an appended block is not the
	// next one: another writer was first. Reopen and decide anew.
	ErrConflict = errors.New("the log has moved on: another writer appended")

	// ErrUncertain is returned when an append failed in a way that leaves open
	// whether the block is there. Reopen: what is in the log then, counts.
	ErrUncertain = errors.New("append failed and may or may not have happened: restart tollbook, it will look")

	// ErrCorrupt is returned when what is stored is not what was written, or
	// part of it is gone. Do not go on; put back a copy.
	ErrCorrupt = errors.New("the book is damaged")

	// ErrTooLarge is returned when a block is longer than MaxBlockBytes or empty,
	// or an event is longer than a block can hold. Nothing was written.
	ErrTooLarge = errors.New("block has no bytes or more than a log takes")

	// ErrLocked is returned when another process has the data directory.
	ErrLocked = errors.New("the data directory is in use")

	// ErrClosed is returned when the book was closed before the records' turn came.
	ErrClosed = errors.New("the book is closed")
)
