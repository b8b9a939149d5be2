// Package sqlite is a log in one SQLite file: the embedded default.
//
// The model: one table, one row a block. A commit in WAL mode with
// synchronous=FULL has the block fsynced before Append returns, and readers,
// also in other processes, see a consistent beginning of the log while the
// writer goes on. SQLite has no checksums over its pages: that a byte of a block
// has changed is found by the block's own checksum and the book's chain of
// hashes, not here. The writer is alone because its caller holds the data
// directory's lock (eventstore.LockDir); the primary key makes a second one
// harmless all the same. logtest.Run shows the contract.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
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

// readChunk is how many blocks one read transaction takes: a reader that holds
// one for long keeps the WAL from being folded into the file.
const readChunk = 64

// busyTimeout is how long a statement waits for another process, in
// milliseconds: a reader that recovers the WAL of a writer that died takes that long at most.
const busyTimeout = 10_000

// Log is an eventstore.Log.
type Log struct {
	db   *sql.DB
	path string

	mu        sync.Mutex // serializes Append
	uncertain error      // why nothing can be appended any more
}

var _ eventstore.Log = (*Log)(nil)

// Open opens the file for writing, and makes it if it does not exist.
func Open(path string) (*Log, error) { return open(path, false) }

// OpenReadOnly opens an existing file for reading, also while another process
// writes it or after one has died writing. Append fails.
func OpenReadOnly(path string) (*Log, error) { return open(path, true) }

func open(path string, readOnly bool) (*Log, error) {
	query := url.Values{}
	query.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busyTimeout))
	if readOnly {
		query.Add("mode", "ro")
		query.Add("_pragma", "query_only(1)")
	} else {
		query.Add("_pragma", "journal_mode(WAL)")
		query.Add("_pragma", "synchronous(FULL)")
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l := &Log{db: db, path: path}
	if err := l.check(readOnly); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return l, nil
}

// check makes sure the file is ours, or makes a new one so.
func (l *Log) check(readOnly bool) error {
	var application, version, tables int
	err := errors.Join(
		l.db.QueryRow("PRAGMA application_id").Scan(&application),
		l.db.QueryRow("PRAGMA user_version").Scan(&version),
		l.db.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&tables),
	)
	switch {
	case err != nil:
		return l.translate("opening", err)
	case tables == 0 && !readOnly:
		_, err := l.db.Exec(fmt.Sprintf(`BEGIN IMMEDIATE;
			CREATE TABLE blocks (n INTEGER PRIMARY KEY, data BLOB NOT NULL);
			PRAGMA application_id = %d;
			PRAGMA user_version = %d;
			COMMIT`, applicationID, userVersion))
		if err != nil {
			return l.translate("making the table", err)
		}
		return nil
	case tables == 0:
		return nil // made, but not written to yet
	case application != applicationID:
		return fmt.Errorf("%s is not a tollbook log (application id %#x): name another data directory", l.path, application)
	case version > userVersion:
		return fmt.Errorf("%s is of version %d, written by a newer tollbook: use that one", l.path, version)
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
	for next := max(from, 1); next <= head; {
		until := min(head, next+readChunk-1)
		if err := l.readChunk(ctx, next, until, each); err != nil {
			return err
		}
		next = until + 1
	}
	return nil
}

func (l *Log) readChunk(ctx context.Context, from, until uint64, each func(n uint64, block []byte) error) error {
	rows, err := l.db.QueryContext(ctx, "SELECT n, data FROM blocks WHERE n BETWEEN ? AND ? ORDER BY n", int64(from), int64(until))
	if err != nil {
		return l.translate("reading", err)
	}
	defer func() { _ = rows.Close() }()
	next := from
	var data sql.RawBytes
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n, &data); err != nil {
			return l.translate("reading", err)
		}
		if uint64(n) != next {
			break
		}
		if err := each(next, data); err != nil {
			return err
		}
		next++
	}
	if err := rows.Err(); err != nil {
		return l.translate("reading", err)
	}
	if next <= until {
		return fmt.Errorf("%w: block %d is missing from %s", eventstore.ErrCorrupt, next, l.path)
	}
	return nil
}

// Head implements eventstore.Log.
func (l *Log) Head(ctx context.Context) (uint64, error) {
	var head int64
	if err := l.db.QueryRowContext(ctx, "SELECT ifnull(max(n), 0) FROM blocks").Scan(&head); err != nil {
		return 0, l.translate("reading", err)
	}
	if head < 0 {
		return 0, fmt.Errorf("%w: %s has blocks with negative numbers", eventstore.ErrCorrupt, l.path)
	}
	return uint64(head), nil
}

// Close implements eventstore.Log.
func (l *Log) Close() error { return l.db.Close() }

// translate says what an error of SQLite means for whoever runs the engine.
func (l *Log) translate(doing string, err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
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
