// Package sqlite is a log in one SQLite file: the embedded default.
//
// The model: one table, one row a block. A commit in WAL mode with
// synchronous=FULL has the block fsynced before Append returns, and readers,
// also in other processes, see a consistent beginning of the log while the
// writer goes on. SQLite has no checksums over its pages: that a byte of a block
// has changed is found by the block's own checksum and the book's chain of
// hashes, not here. The writer is alone because its caller holds the data
// directory's lock (eventstore.LockDir); the primary key makes a second one
// harmless all the same. logtest.Run shows the contract, TestReaderOfTheDead that
// a log is read as its writer left it, however it ended.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"sync"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"tollbook/eventstore"
)

// What a file of ours says about itself.
const (
	applicationID = 0x544f4c4c // "TOLL"
	userVersion   = 1
)

// A reader copies a chunk of blocks and lets go of the database before anybody
// looks at them: a read transaction that waits for its reader would keep the WAL
// from being folded into the file, and let it grow.
const (
	chunkBlocks = 64
	chunkBytes  = 16 << 20 // unless the first block alone is longer
)

// walBytes is how much of the WAL's file is kept once it has been folded into the
// database, 64 MiB: a burst must not take the space for ever.
const walBytes = 64 << 20

// busyTimeout is how long a statement waits for another process, in
// milliseconds: a reader that recovers the WAL of a writer that died takes that long at most.
const busyTimeout = 10_000

// Log is an eventstore.Log.
type Log struct {
	db       *sql.DB
	path     string
	readOnly bool

	mu        sync.Mutex // serializes Append
	uncertain error      // why nothing can be appended any more
}

var _ eventstore.Log = (*Log)(nil)

// Open opens the file for writing, and makes it if it does not exist. It leaves a
// file that is not a log of tollbook as it is.
func Open(path string) (*Log, error) {
	query := url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout),
		"synchronous(FULL)",
		fmt.Sprintf("journal_size_limit(%d)", walBytes),
	}}
	l, err := open(path, false, query)
	if err != nil {
		return nil, err
	}
	var mode string
	if err := l.db.QueryRow("PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return nil, errors.Join(l.translate("opening", err), l.db.Close())
	}
	if mode != "wal" { // SQLite's way to say that it can't
		return nil, errors.Join(fmt.Errorf("%s: the file system can't share memory between processes (journal mode %s): put the data directory on a local disk", path, mode), l.db.Close())
	}
	return l, nil
}

// OpenReadOnly opens an existing file for reading, also while another process
// writes it or after one has died writing, and from a directory that can't be
// written. Append fails. The error is fs.ErrNotExist where there is no file.
func OpenReadOnly(path string) (*Log, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	query := url.Values{"mode": {"ro"}, "_pragma": {fmt.Sprintf("busy_timeout(%d)", busyTimeout)}}
	l, err := open(path, true, query)
	if code := codeOf(err); code != sqlite3.SQLITE_CANTOPEN && code != sqlite3.SQLITE_READONLY {
		return l, err
	}
	// SQLite wants the WAL beside the file, even an empty one, and can't make it
	// here. Without a WAL there is no writer, and the file alone is the log.
	if _, walErr := os.Stat(path + "-wal"); !errors.Is(walErr, fs.ErrNotExist) {
		return l, err
	}
	query.Set("immutable", "1")
	return open(path, true, query)
}

func open(path string, readOnly bool, query url.Values) (*Log, error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l := &Log{db: db, path: path, readOnly: readOnly}
	if err := l.check(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return l, nil
}

// check makes sure the file is ours, or makes a new one so.
func (l *Log) check() error {
	var application, version, tables int
	err := l.db.QueryRow(`SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version),
		(SELECT count(*) FROM sqlite_schema)`).Scan(&application, &version, &tables)
	switch {
	case err != nil:
		return l.translate("opening", err)
	case tables == 0 && application == 0 && version == 0:
		return l.create()
	case application != applicationID:
		return fmt.Errorf("%s is not a tollbook log (application id %#x): name another data directory", l.path, application)
	case version > userVersion:
		return fmt.Errorf("%s is of version %d, written by a newer tollbook: use that one", l.path, version)
	}
	return nil
}

func (l *Log) create() error {
	if l.readOnly {
		return fmt.Errorf("%s is empty: no engine has begun a book in it", l.path)
	}
	_, err := l.db.Exec(fmt.Sprintf(`BEGIN IMMEDIATE;
		CREATE TABLE blocks (n INTEGER PRIMARY KEY, data BLOB NOT NULL);
		PRAGMA application_id = %d;
		PRAGMA user_version = %d;
		COMMIT`, applicationID, userVersion))
	if err != nil {
		return l.translate("making the table", err)
	}
	return nil
}

// Append implements eventstore.Log.
func (l *Log) Append(ctx context.Context, n uint64, block []byte) error {
	if len(block) == 0 || len(block) > eventstore.MaxBlockBytes {
		return fmt.Errorf("%w: block %d has %d bytes", eventstore.ErrTooLarge, n, len(block))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.readOnly {
		return fmt.Errorf("%s is open for reading only", l.path)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.uncertain != nil {
		return l.uncertain
	}
	// One statement is one transaction. It inserts nothing unless n follows the
	// head, and a context that ends must not leave it half known: it runs to its end.
	result, err := l.db.ExecContext(context.WithoutCancel(ctx),
		"INSERT INTO blocks (n, data) SELECT ?1, ?2 WHERE ?1 = 1 + (SELECT ifnull(max(n), 0) FROM blocks)", int64(n), block)
	if err == nil {
		var rows int64
		if rows, err = result.RowsAffected(); err == nil && rows == 0 {
			return fmt.Errorf("%w: block %d is not the next one", eventstore.ErrConflict, n)
		}
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", eventstore.ErrUncertain, l.translate("appending", err))
		l.uncertain = err
		return err
	}
	return nil
}

// Read implements eventstore.Log.
func (l *Log) Read(ctx context.Context, from uint64, each func(n uint64, block []byte) error) error {
	head, err := l.Head(ctx)
	if err != nil {
		return err
	}
	var c chunk
	for next := max(from, 1); next <= head; {
		if err := l.readChunk(ctx, next, head, &c); err != nil {
			return err
		}
		start := 0
		for _, end := range c.ends {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := each(next, c.data[start:end:end]); err != nil {
				return err
			}
			start = end
			next++
		}
	}
	return nil
}

// A chunk is some blocks in a row, copied.
type chunk struct {
	data []byte
	ends []int // of each block in data
}

// readChunk fills c with at least one block, the first being number from.
func (l *Log) readChunk(ctx context.Context, from, head uint64, c *chunk) error {
	c.data, c.ends = c.data[:0], c.ends[:0]
	until := min(head, from+chunkBlocks-1)
	rows, err := l.db.QueryContext(ctx, "SELECT n, data FROM blocks WHERE n BETWEEN ? AND ? ORDER BY n", int64(from), int64(until))
	if err != nil {
		return l.readError(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	var data sql.RawBytes
	for next := from; rows.Next(); next++ {
		var n int64
		if err := rows.Scan(&n, &data); err != nil {
			return l.readError(ctx, err)
		}
		if uint64(n) != next || len(c.ends) > 0 && len(c.data)+len(data) > chunkBytes {
			break // the next chunk begins here, or finds that nothing does
		}
		c.data = append(c.data, data...)
		c.ends = append(c.ends, len(c.data))
	}
	if err := rows.Err(); err != nil {
		return l.readError(ctx, err)
	}
	if len(c.ends) == 0 {
		return fmt.Errorf("%w: block %d is missing from %s: put back a copy of the file", eventstore.ErrCorrupt, from, l.path)
	}
	return nil
}

// Head implements eventstore.Log.
func (l *Log) Head(ctx context.Context) (uint64, error) {
	var head int64
	if err := l.db.QueryRowContext(ctx, "SELECT ifnull(max(n), 0) FROM blocks").Scan(&head); err != nil {
		return 0, l.readError(ctx, err)
	}
	if head < 0 {
		return 0, fmt.Errorf("%w: %s has blocks with negative numbers", eventstore.ErrCorrupt, l.path)
	}
	return uint64(head), nil
}

// Close implements eventstore.Log.
func (l *Log) Close() error { return l.db.Close() }

// readError prefers what the context says: SQLite only knows that it was interrupted.
func (l *Log) readError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return l.translate("reading", err)
}

// codeOf is SQLite's primary result code; −1 for what is no error of SQLite.
func codeOf(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return -1
	}
	return e.Code() & 0xff
}

// translate says what an error of SQLite means for whoever runs the engine.
func (l *Log) translate(doing string, err error) error {
	switch codeOf(err) {
	case -1:
		return err
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %s %s: %w: put back a copy of the file", eventstore.ErrCorrupt, doing, l.path, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%s %s: the disk is full: make room: %w", doing, l.path, err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("%s %s: the disk reports an error: look at the kernel's log: %w", doing, l.path, err)
	case sqlite3.SQLITE_BUSY:
		return fmt.Errorf("%s %s: another program holds the file: stop it: %w", doing, l.path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%s %s: the file or its directory can't be opened or written: check owner and permissions: %w", doing, l.path, err)
	}
	return fmt.Errorf("%s %s: %w", doing, l.path, err)
}
