// Package projections answers from the book: the months of every tenant, live.
//
// The model: a [Months] is a fold of the book's blocks. It is told of each block
// once, in order, and at every moment its statements are exactly what
// [domain.Ledger] makes of the events up to its position. It holds no state of
// its own that the book does not: it is rebuilt from the book at every start, and
// [Replay] makes the same bytes from the book alone. TestReplayIsTheLiveMonth
// shows it.
//
// Nothing here reads the clock.
package projections
