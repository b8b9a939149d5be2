// Package sqlite is a log in one SQLite file: the embedded default.
//
// The model: one table, one row a block. A commit in WAL mode with
// synchronous=FULL has the block fsynced before Append returns, and readers,
// also in other processes, see a consistent beginning of the log while the
// writer goes on. SQLite has no checksums over its pages: that a byte of a block
// has changed is found by the block's own checksum and the book's chain of
// hashes, not here; that the structure of a page has, by Open, before anything is
// written to it. The writer is alone because its caller holds the data directory's
// lock (eventstore.LockDir); the primary key makes a second one harmless all the
// same. logtest.Run shows the contract, TestReaderOfTheDead that a log is read as
// its writer left it, however it ended, and TestOpenMakesDurable that what a log
// has when it is opened is on disk.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

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

// walBytes is how long the WAL's file may be before an Append waits for the
// readers to let it begin anew, and how much of it is kept then: 64 MiB. Without
// waiting, readers that overlap would let it grow for as long as they do.
const walBytes = 64 << 20

// restartPatience is how long that Append waits for readers of other processes.
// A chunk takes them milliseconds; who takes longer hangs, and is let be.
const restartPatience = time.Second

// busyTimeout is how long a statement waits for another process, in
// milliseconds: a reader that recovers the WAL of a writer that died takes that long at most.
const busyTimeout = 10_000

// Log is an eventstore.Log.
type Log struct {
	path     string
	readOnly bool

	opening sync.Mutex // guards db and frozen, which change only where frozen is set
	db      *sql.DB
	frozen  fs.FileInfo // of a file that is read without locks: as it was when opened

	reading sync.RWMutex // held by a Read while it copies; by an Append, to have the WAL to itself

	mu        sync.Mutex // serializes Append
	uncertain error      // why nothing can be appended any more
	restartAt int64      // the length of the WAL, in bytes, at which it is to begin anew
}

var _ eventstore.Log = (*Log)(nil)

// Open opens the file for writing, and makes it if it does not exist. It leaves a
// file that is not a log of tollbook as it is. What the log has when Open returns
// is durable, also where the writer before died between writing and syncing. The
// error is ErrLocked where a reader holds on to an old state for longer than
// busyTimeout.
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
	// A writer that was killed may have left blocks in the WAL that only the
	// kernel has. Whoever reads them here tells others that they are booked.
	folded, err := l.fold(context.Background(), "FULL")
	if err == nil && !folded {
		err = fmt.Errorf("%w: another process reads an old state of %s and does not go on: stop it", eventstore.ErrLocked, path)
	}
	if err == nil {
		err = l.checkPages()
	}
	if err != nil {
		return nil, errors.Join(err, l.db.Close())
	}
	return l, nil
}

// checkPages has SQLite look at the structure of the whole file. Where a page says
// wrongly which part of it is free, every block can be read, and the next one that
// is written overwrites others.
func (l *Log) checkPages() error {
	var found string
	if err := l.db.QueryRow("PRAGMA quick_check(1)").Scan(&found); err != nil {
		return l.translate("checking", err)
	}
	if found != "ok" {
		return fmt.Errorf("%w: %s: %s: put back a copy of the file", eventstore.ErrCorrupt, l.path, strings.Join(strings.Fields(found), " "))
	}
	return nil
}

// fold copies the blocks of the WAL into the file and syncs both; false if
// somebody was in the way for longer than busyTimeout. Mode is FULL, or RESTART,
// after which the WAL begins anew.
func (l *Log) fold(ctx context.Context, mode string) (bool, error) {
	var busy, frames, folded int
	if err := l.db.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &frames, &folded); err != nil {
		if codeOf(err) == sqlite3.SQLITE_BUSY {
			return false, nil
		}
		return false, l.translate("folding the WAL into", err)
	}
	return busy == 0, nil
}

// OpenReadOnly opens an existing file for reading, also while another process
// writes it or after one has died writing, and from a directory that can't be
// written. Append fails. The error is fs.ErrNotExist where there is no file.
func OpenReadOnly(path string) (*Log, error) {
	for {
		before, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		query := url.Values{"mode": {"ro"}, "_pragma": {fmt.Sprintf("busy_timeout(%d)", busyTimeout)}}
		l, err := open(path, true, query)
		if code := codeOf(err); code != sqlite3.SQLITE_CANTOPEN && code != sqlite3.SQLITE_READONLY || hasWAL(path) {
			return l, err
		}
		// SQLite wants the WAL beside the file, even an empty one, and can't make it
		// here. Without a WAL there is no writer, and the file alone is the log.
		query.Set("immutable", "1")
		l, err = open(path, true, query)
		if changed(path, before) { // a writer has come: nothing of what was read counts
			if err == nil {
				_ = l.Close()
			}
			continue
		}
		if err == nil {
			l.frozen = before
		}
		return l, err
	}
}

func hasWAL(path string) bool {
	_, err := os.Stat(path + "-wal")
	return !errors.Is(err, fs.ErrNotExist)
}

// changed says whether a writer has had the file since: it is there, or has left
// its traces.
func changed(path string, since fs.FileInfo) bool {
	now, err := os.Stat(path)
	return err != nil || hasWAL(path) || !os.SameFile(now, since) || now.Size() != since.Size() || !now.ModTime().Equal(since.ModTime())
}

// orphaned refuses a WAL that is all that is left of a log. SQLite would take it
// for a leftover of a file that was deleted, and delete it too.
func orphaned(path string) error {
	wal, err := os.Stat(path + "-wal")
	if err != nil || wal.Size() == 0 {
		return nil
	}
	if file, err := os.Stat(path); err == nil && file.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%w: %s is missing or empty, but the WAL beside it (%s-wal) has blocks of it: put back the file, or a copy of both", eventstore.ErrCorrupt, path, path)
}

func open(path string, readOnly bool, query url.Values) (*Log, error) {
	if err := orphaned(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l := &Log{db: db, path: path, readOnly: readOnly, restartAt: walBytes}
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
	l.boundWAL()
	return nil
}

// boundWAL lets a WAL that has grown long begin anew. SQLite does so by itself
// when nobody reads at that moment, which may be never. That it fails is no error
// of the append: the block is in the WAL, and the WAL is only long.
func (l *Log) boundWAL() {
	wal, err := os.Stat(l.path + "-wal")
	if err != nil || wal.Size() <= l.restartAt {
		return
	}
	l.reading.Lock()
	defer l.reading.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), restartPatience)
	defer cancel()
	if restarted, err := l.fold(ctx, "RESTART"); restarted && err == nil {
		l.restartAt = walBytes
		return
	}
	l.restartAt = wal.Size() + walBytes // a reader that hangs delays one append in many
}

// Read implements eventstore.Log.
func (l *Log) Read(ctx context.Context, from uint64, each func(n uint64, block []byte) error) error {
	head, err := l.Head(ctx)
	if err != nil {
		return err
	}
	var c chunk
	blocks := uint64(1) // who wants one block does not wait for many
	for next := max(from, 1); next <= head; blocks = min(2*blocks, chunkBlocks) {
		if err := l.readChunk(ctx, next, min(head, next+blocks-1), &c); err != nil {
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

// selectBlocks asks for the length first: what damage has made longer than any
// block is not brought into memory.
const selectBlocks = `SELECT n, ifnull(octet_length(data), 0), CASE WHEN octet_length(data) <= ?3 THEN data END
	FROM blocks WHERE n BETWEEN ?1 AND ?2 ORDER BY n`

// query runs f, which only reads. What was read without locks counts only if no
// writer has come meanwhile; else the file is opened again and f runs once more.
func (l *Log) query(ctx context.Context, f func(db *sql.DB) error) error {
	for {
		l.opening.Lock()
		db, frozen := l.db, l.frozen
		l.opening.Unlock()
		err := f(db)
		if frozen == nil || !changed(l.path, frozen) || ctx.Err() != nil {
			return err
		}
		if err := l.reopen(db); err != nil {
			return err
		}
	}
}

func (l *Log) reopen(old *sql.DB) error {
	l.opening.Lock()
	defer l.opening.Unlock()
	if l.db != old {
		return nil // another Read was first
	}
	next, err := OpenReadOnly(l.path)
	if err != nil {
		return err
	}
	l.db, l.frozen = next.db, next.frozen
	return old.Close()
}

// A chunk is some blocks in a row, copied.
type chunk struct {
	data []byte
	ends []int // of each block in data
}

// readChunk fills c with at least one block, the first being number from and the
// last until, unless they are too large together.
func (l *Log) readChunk(ctx context.Context, from, until uint64, c *chunk) error {
	return l.query(ctx, func(db *sql.DB) error { return l.copyChunk(ctx, db, from, until, c) })
}

func (l *Log) copyChunk(ctx context.Context, db *sql.DB, from, until uint64, c *chunk) error {
	l.reading.RLock()
	defer l.reading.RUnlock()
	c.data, c.ends = c.data[:0], c.ends[:0]
	rows, err := db.QueryContext(ctx, selectBlocks, int64(from), int64(until), eventstore.MaxBlockBytes)
	if err != nil {
		return l.readError(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	var data sql.RawBytes
	for next := from; rows.Next(); next++ {
		var n, length int64
		if err := rows.Scan(&n, &length, &data); err != nil {
			return l.readError(ctx, err)
		}
		wrong := length == 0 || int64(len(data)) != length
		if len(c.ends) > 0 && (wrong || len(c.data)+len(data) > chunkBytes) || uint64(n) != next {
			break // the next chunk begins here, or finds what is wrong
		}
		if wrong {
			return fmt.Errorf("%w: block %d of %s has %d bytes, which no block has: put back a copy of the file", eventstore.ErrCorrupt, n, l.path, length)
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
	err := l.query(ctx, func(db *sql.DB) error {
		err := db.QueryRowContext(ctx, "SELECT ifnull(max(n), 0) FROM blocks").Scan(&head)
		if err != nil {
			return l.readError(ctx, err)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if head < 0 {
		return 0, fmt.Errorf("%w: %s has blocks with negative numbers", eventstore.ErrCorrupt, l.path)
	}
	return uint64(head), nil
}

// Close implements eventstore.Log. After it the file alone is the log, unless a
// reader is in the way: then it is so together with its WAL.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if !l.readOnly && l.uncertain == nil {
		_, err = l.fold(context.Background(), "FULL") // SQLite leaves it to the last to close, and a reader can't
	}
	return errors.Join(err, l.db.Close())
}

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
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB,
		sqlite3.SQLITE_ERROR: // our statements are right: it is the table that is not as we made it
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
