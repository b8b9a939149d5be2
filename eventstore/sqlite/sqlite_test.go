package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tollbook/eventstore"
	"tollbook/eventstore/logtest"
	"tollbook/eventstore/sqlite"
)

var ctx = context.Background()

func TestLog(t *testing.T) {
	logtest.Run(t, func(t *testing.T, dir string) eventstore.Log { return openLog(t, eventstore.LogPath(dir)) })
}

func openLog(t testing.TB, path string) *sqlite.Log {
	t.Helper()
	l, err := sqlite.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeLog(t testing.TB, l *sqlite.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// block says which one it is, all over.
func block(n uint64, size int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%8d", n), size/8)
}

const blockBytes = 8000

func fill(t testing.TB, l *sqlite.Log, from, to uint64) {
	t.Helper()
	for n := from; n <= to; n++ {
		if err := l.Append(ctx, n, block(n, blockBytes)); err != nil {
			t.Fatal(err)
		}
	}
}

// readAll is how many blocks a log has, all of which are right.
func readAll(l *sqlite.Log) (uint64, error) {
	read := uint64(0)
	err := l.Read(ctx, 1, func(n uint64, got []byte) error {
		if read++; n != read || !bytes.Equal(got, block(n, blockBytes)) {
			return fmt.Errorf("block %d where %d is next, or not what was appended", n, read)
		}
		return nil
	})
	return read, err
}

func wantBlocks(t testing.TB, l *sqlite.Log, want uint64) {
	t.Helper()
	if read, err := readAll(l); read != want || err != nil {
		t.Errorf("%d blocks, %v; want %d", read, err, want)
	}
}

func TestPathsOfAnyName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?mode=ro&x#y%41;ü")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, eventstore.LogPath(dir))
	fill(t, l, 1, 1)
	closeLog(t, l)
	if _, err := os.Stat(eventstore.LogPath(dir)); err != nil {
		t.Error(err)
	}
}

func TestReadOnlyHasNoAppend(t *testing.T) {
	path := eventstore.LogPath(t.TempDir())
	if _, err := sqlite.OpenReadOnly(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	l := openLog(t, path)
	defer closeLog(t, l)
	fill(t, l, 1, 2)
	reader, err := sqlite.OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeLog(t, reader)
	if err := reader.Append(ctx, 3, block(3, blockBytes)); err == nil || errors.Is(err, eventstore.ErrUncertain) {
		t.Errorf("append through a reader: %v", err)
	}
	wantBlocks(t, reader, 2)
	fill(t, l, 3, 3)
	wantBlocks(t, reader, 3)
}

// maker makes a file of another program, or a broken one.
type maker func(t *testing.T, path string)

func database(statements string) maker {
	return func(t *testing.T, path string) {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.Exec(statements)
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func truncated(to func(size int64) int64) maker {
	return func(t *testing.T, path string) {
		l := openLog(t, path)
		fill(t, l, 1, 50)
		closeLog(t, l)
		info, err := os.Stat(path)
		if err == nil {
			err = os.Truncate(path, to(info.Size()))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A file that is not a whole log of ours is refused with what to do, for writing
// and for reading, and is left as it is.
func TestRefuses(t *testing.T) {
	for _, test := range []struct {
		name    string
		make    maker
		corrupt bool // it is ErrCorrupt
		say     string
	}{
		{"text", func(t *testing.T, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("dear diary\n"), 500), 0o644); err != nil {
				t.Fatal(err)
			}
		}, true, "put back a copy"},
		{"other application", database("CREATE TABLE diary (day, text); INSERT INTO diary VALUES (1, 'dear')"), false, "name another data directory"},
		{"other application by id", database("PRAGMA application_id = 77"), false, "name another data directory"},
		{"other application by version", database("PRAGMA user_version = 1"), false, "name another data directory"},
		{"newer version", database("CREATE TABLE blocks (n INTEGER PRIMARY KEY, data BLOB, more); PRAGMA application_id = 0x544f4c4c; PRAGMA user_version = 2"), false, "newer tollbook"},
		{"half of a file", truncated(func(size int64) int64 { return size / 2 }), true, "put back a copy"},
		{"without its last page", truncated(func(size int64) int64 { return size - 4096 }), true, "put back a copy"},
		{"without its last byte", truncated(func(size int64) int64 { return size - 1 }), true, "put back a copy"},
		{"first page", truncated(func(int64) int64 { return 4096 }), true, "put back a copy"},
		{"header", truncated(func(int64) int64 { return 100 }), true, "put back a copy"},
	} {
		for name, open := range map[string]func(string) (*sqlite.Log, error){"write": sqlite.Open, "read": sqlite.OpenReadOnly} {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				path := eventstore.LogPath(t.TempDir())
				test.make(t, path)
				before, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				l, err := open(path)
				if err == nil {
					_, err = readAll(l)
					closeLog(t, l)
				}
				if err == nil || errors.Is(err, eventstore.ErrCorrupt) != test.corrupt || !strings.Contains(err.Error(), test.say) || !strings.Contains(err.Error(), path) {
					t.Errorf("%v; want %q and the path, ErrCorrupt: %v", err, test.say, test.corrupt)
				}
				if after, err := os.ReadFile(path); !bytes.Equal(before, after) || err != nil {
					t.Errorf("the file has changed, %v", err)
				}
			})
		}
	}
}

// An empty file is a new log for a writer, and none for a reader.
func TestEmptyFile(t *testing.T) {
	path := eventstore.LogPath(t.TempDir())
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.OpenReadOnly(path); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("reading: %v", err)
	}
	l := openLog(t, path)
	fill(t, l, 1, 1)
	closeLog(t, l)
}

func TestMissingBlocks(t *testing.T) {
	for _, test := range []struct {
		missing string // a condition on n
		read    uint64 // blocks before it
	}{{"n = 1", 0}, {"n = 40", 39}, {"n <= 70", 0}, {"n IN (80, 99)", 79}, {"n BETWEEN 2 AND 99", 1}} {
		t.Run(test.missing, func(t *testing.T) {
			path := eventstore.LogPath(t.TempDir())
			l := openLog(t, path)
			fill(t, l, 1, 100)
			closeLog(t, l)
			database("DELETE FROM blocks WHERE "+test.missing)(t, path)
			l = openLog(t, path)
			defer closeLog(t, l)
			read, err := readAll(l)
			want := fmt.Sprintf("block %d is missing", test.read+1)
			if read != test.read || !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), want) {
				t.Errorf("read %d blocks, %v; want %d and %q", read, err, test.read, want)
			}
		})
	}
}

// A reader that takes its time does not keep the WAL from being folded into the
// file: what it may look at is copied.
func TestSlowReaderBoundsWAL(t *testing.T) {
	const size, before, appends, limit = 128 << 10, 100, 10, 24 << 20
	path := eventstore.LogPath(t.TempDir())
	l := openLog(t, path)
	defer closeLog(t, l)
	next, largest := uint64(1), int64(0)
	add := func() error {
		next++
		return l.Append(ctx, next-1, block(next-1, size))
	}
	for range before {
		if err := add(); err != nil {
			t.Fatal(err)
		}
	}
	err := l.Read(ctx, 1, func(uint64, []byte) error {
		for range appends {
			if err := add(); err != nil {
				return err
			}
		}
		wal, err := os.Stat(path + "-wal")
		if err == nil {
			largest = max(largest, wal.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if largest == 0 || largest > limit {
		t.Errorf("the WAL has grown to %d bytes while %d were appended; want at most %d", largest, before*appends*size, limit)
	}
}
