package sqlite

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"tollbook/eventstore"
)

// A disk that is full fails the append and every one after it, until somebody
// has made room and opened the log again; nothing of the block is there.
func TestFull(t *testing.T) {
	ctx := context.Background()
	path := eventstore.LogPath(t.TempDir())
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	l.db.SetMaxOpenConns(1) // the limit is of one connection
	if _, err := l.db.Exec("PRAGMA max_page_count = 20"); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(ctx, 1, make([]byte, 10_000)); err != nil {
		t.Fatal(err)
	}
	failed := l.Append(ctx, 2, make([]byte, 1_000_000))
	if !errors.Is(failed, eventstore.ErrUncertain) || !strings.Contains(failed.Error(), "make room") || !strings.Contains(failed.Error(), path) {
		t.Errorf("append to a full disk: %v", failed)
	}
	if _, err := l.db.Exec("PRAGMA max_page_count = 20000"); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(ctx, 2, []byte("small")); err != failed {
		t.Errorf("append after an uncertain one: %v", err)
	}
	if head, err := l.Head(ctx); head != 1 || err != nil {
		t.Errorf("head %d, %v", head, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if l, err = Open(path); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(ctx, 2, []byte("small")); err != nil {
		t.Error(err)
	}
	err = l.Read(ctx, 2, func(_ uint64, block []byte) error {
		if !bytes.Equal(block, []byte("small")) {
			t.Errorf("block 2 is %.20q", block)
		}
		return nil
	})
	if err := errors.Join(err, l.Close()); err != nil {
		t.Error(err)
	}
}

// Each connection of the pool that might write waits for the disk.
func TestDurable(t *testing.T) {
	ctx := context.Background()
	l, err := Open(eventstore.LogPath(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		conn, err := l.db.Conn(ctx) // kept, so that the next is another one
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		var mode string
		var synchronous, timeout int
		err = errors.Join(conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode),
			conn.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&synchronous),
			conn.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&timeout))
		if err != nil || mode != "wal" || synchronous != 2 || timeout != busyTimeout {
			t.Errorf("journal mode %s, synchronous %d, busy timeout %d, %v", mode, synchronous, timeout, err)
		}
	}
}
