package sqlite_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tollbook/eventstore"
	"tollbook/eventstore/sqlite"
)

// alone is a copy of a log's file without its WAL.
func alone(t *testing.T, path string) *sqlite.Log {
	t.Helper()
	to := eventstore.LogPath(t.TempDir())
	copyFiles(t, path, to, "")
	return openLog(t, to)
}

// What a killed writer left in the WAL may be nowhere but in the kernel's memory.
// Open brings it into the file, and so to the disk, before anybody relies on it.
func TestOpenMakesDurable(t *testing.T) {
	from, path := eventstore.LogPath(t.TempDir()), eventstore.LogPath(t.TempDir())
	l := openLog(t, from)
	defer closeLog(t, l)
	fill(t, l, 1, 20)
	copyFiles(t, from, path, "", "-wal")
	opened := openLog(t, path)
	defer closeLog(t, opened)
	file := alone(t, path)
	defer closeLog(t, file)
	wantBlocks(t, file, 20)
}

// A reader that has the log open keeps SQLite, but not Close, from folding the WAL.
func TestFileAloneAfterClose(t *testing.T) {
	path := eventstore.LogPath(t.TempDir())
	l := openLog(t, path)
	fill(t, l, 1, 20)
	reader, err := sqlite.OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeLog(t, reader)
	wantBlocks(t, reader, 20)
	closeLog(t, l)
	file := alone(t, path)
	defer closeLog(t, file)
	wantBlocks(t, file, 20)
}

// A reader that found no writer, and reads without locks, notices when one has
// come, and when it has gone again.
func TestWriterAfterFrozenReader(t *testing.T) {
	for _, gone := range []bool{false, true} {
		t.Run(fmt.Sprintf("gone=%v", gone), func(t *testing.T) {
			path := eventstore.LogPath(t.TempDir())
			if err := os.Chmod(filepath.Dir(filepath.Dir(path)), 0o711); err != nil { // the test's own
				t.Fatal(err)
			}
			l := openLog(t, path)
			fill(t, l, 1, 200)
			closeLog(t, l)
			setModes(t, filepath.Dir(path), 0o555, 0o444)
			defer setModes(t, filepath.Dir(path), 0o755, 0o644)
			var reader *sqlite.Log
			unprivileged(t, func() {
				var err error
				if reader, err = sqlite.OpenReadOnly(path); err != nil {
					t.Error(err)
					return
				}
				wantBlocks(t, reader, 200)
			})
			if reader == nil {
				return
			}
			defer closeLog(t, reader)
			setModes(t, filepath.Dir(path), 0o755, 0o644)
			l = openLog(t, path)
			fill(t, l, 201, 2000)
			if gone {
				closeLog(t, l)
			} else {
				defer closeLog(t, l)
			}
			setModes(t, filepath.Dir(path), 0o555, 0o444)
			unprivileged(t, func() { wantBlocks(t, reader, 2000) })
		})
	}
}

// Readers of which one always reads do not let the WAL grow for ever.
func TestOverlappingReadersBoundWAL(t *testing.T) {
	const size, before, after, limit = 128 << 10, 300, 900, 72 << 20
	path := eventstore.LogPath(t.TempDir())
	l := openLog(t, path)
	defer closeLog(t, l)
	appendBlock := func(n uint64) {
		t.Helper()
		if err := l.Append(ctx, n, block(n, size)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range uint64(before) {
		appendBlock(n + 1)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	defer readers.Wait()
	defer close(stop)
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := l.Read(ctx, 1, func(uint64, []byte) error { return nil }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	largest := int64(0)
	for n := range uint64(after) {
		appendBlock(before + n + 1)
		wal, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, wal.Size())
	}
	if largest > limit {
		t.Errorf("the WAL has grown to %d bytes while %d were appended; want at most %d", largest, after*size, limit)
	}
}

// A length that no block has is damage, and is not brought into memory.
func TestWrongLength(t *testing.T) {
	for _, data := range []string{"x''", fmt.Sprintf("zeroblob(%d)", eventstore.MaxBlockBytes+1)} {
		path := eventstore.LogPath(t.TempDir())
		l := openLog(t, path)
		fill(t, l, 1, 3)
		closeLog(t, l)
		database("UPDATE blocks SET data = "+data+" WHERE n = 2")(t, path)
		l = openLog(t, path)
		read, err := readAll(l)
		if read != 1 || !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), "block 2") {
			t.Errorf("%s: read %d blocks, %v", data, read, err)
		}
		closeLog(t, l)
	}
}

// SQLite has no checksums: a flipped bit is refused by Open, is ErrCorrupt, or
// gives other bytes or fewer blocks, which the book's chain and its anchor find.
// It is never another error of Read, nor a block that was not there.
func TestFlippedBits(t *testing.T) {
	const blocks, flips, page = 30, 400, 4096
	path := eventstore.LogPath(t.TempDir())
	l := openLog(t, path)
	fill(t, l, 1, blocks)
	closeLog(t, l)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	damaged := eventstore.LogPath(t.TempDir())
	refused, corrupt, other := 0, 0, 0
	for i := range flips {
		at := random.IntN(len(whole))
		if i%2 == 0 {
			at = at/page*page + random.IntN(16) // what SQLite itself has there
		}
		data := bytes.Clone(whole)
		data[at] ^= 1 << random.IntN(8)
		if err := os.WriteFile(damaged, data, 0o644); err != nil {
			t.Fatal(err)
		}
		l, err := sqlite.OpenReadOnly(damaged)
		if err != nil {
			refused++
			continue
		}
		read := uint64(0)
		err = l.Read(ctx, 1, func(n uint64, got []byte) error {
			if read++; n != read || n > blocks {
				t.Errorf("byte %d: block %d where %d is next", at, n, read)
			}
			if !bytes.Equal(got, block(n, blockBytes)) {
				other++
			}
			return nil
		})
		if errors.Is(err, eventstore.ErrCorrupt) {
			corrupt++
		} else if err != nil {
			t.Errorf("byte %d: %v", at, err)
		}
		closeLog(t, l)
	}
	if refused+corrupt == 0 || other == 0 {
		t.Errorf("of %d flips %d were refused, %d were ErrCorrupt, %d gave other bytes", flips, refused, corrupt, other)
	}
}

// What a page says of itself is looked at before anything is written: a page that
// has a block where it says it is free is read as ever, and would lose it.
func TestFlippedPageHeader(t *testing.T) {
	const blocks, page, header = 3, 4096, 8
	path := eventstore.LogPath(t.TempDir())
	l := openLog(t, path)
	for n := uint64(1); n <= blocks; n++ {
		if err := l.Append(ctx, n, block(n, 800)); err != nil {
			t.Fatal(err)
		}
	}
	closeLog(t, l)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	damaged := eventstore.LogPath(t.TempDir())
	for at := page; at < page+header; at++ {
		for bit := range 8 {
			data := bytes.Clone(whole)
			data[at] ^= 1 << bit
			if err := os.WriteFile(damaged, data, 0o644); err != nil {
				t.Fatal(err)
			}
			l, err := sqlite.Open(damaged)
			if err != nil {
				if refused++; !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), damaged) {
					t.Errorf("byte %d, bit %d: %v", at, bit, err)
				}
				continue
			}
			head, err := l.Head(ctx)
			if err == nil {
				err = l.Append(ctx, head+1, block(head+1, 800))
			}
			if err != nil {
				t.Errorf("byte %d, bit %d: opened, but %v", at, bit, err)
			}
			err = l.Read(ctx, 1, func(n uint64, got []byte) error {
				if !bytes.Equal(got, block(n, 800)) {
					t.Errorf("byte %d, bit %d: block %d is not what was appended", at, bit, n)
				}
				return nil
			})
			if err != nil {
				t.Errorf("byte %d, bit %d: %v", at, bit, err)
			}
			closeLog(t, l)
		}
	}
	if refused == 0 {
		t.Error("no flip was refused")
	}
}
