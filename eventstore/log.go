package eventstore

import "context"

// MaxBlockBytes is the longest block a Log takes, in bytes: what block format 1
// allows, and far below what SQLite or a NATS message can be made to hold.
const MaxBlockBytes = 32 << 20

// A Log stores opaque blocks, numbered from 1 without holes. One writer appends;
// any number of readers may read at the same time, also from other processes
// where the implementation says so. All methods may be called by several
// goroutines at once, and from within a Read. Each returns the error of a
// context that has ended before it begins, having done nothing; Read also does
// between two blocks.
type Log interface {
	// Append stores block as number n, which must be one more than Head: it is
	// the compare-and-append that keeps two writers from forking a book. When it
	// returns nil the block is durable and every later Read has it. The block is
	// stored whole or not at all, and is not kept or changed by the Log.
	//
	// Errors: ErrConflict and ErrTooLarge (nothing was written), ErrUncertain
	// (it may have been; from then on the Log refuses every Append).
	Append(ctx context.Context, n uint64, block []byte) error

	// Read calls each with the blocks from number from (0 is taken as 1) up to
	// the head at the time of the call, in order. A block is valid during the
	// call only. It returns the first error of each as it is; ErrCorrupt, naming
	// the block, when a number is missing. From beyond the head there is nothing
	// to read, which is no error. Reading does not hold up Append.
	Read(ctx context.Context, from uint64, each func(n uint64, block []byte) error) error

	// Head is the number of the last block; 0 when there is none.
	Head(ctx context.Context) (uint64, error)

	// Close gives up what the Log holds. Nothing else may be called afterwards.
	Close() error
}
