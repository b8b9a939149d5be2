package sqlite_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"tollbook/eventstore"
	"tollbook/eventstore/sqlite"
)

// writerEnv makes the test binary a writer: it appends to the log at that path
// until it is killed, and prints the number of each block once it is durable.
const writerEnv = "TOLLBOOK_TEST_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		fmt.Fprintln(os.Stderr, "writer:", write(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func write(path string) error {
	l, err := sqlite.Open(path)
	if err != nil {
		return err
	}
	head, err := l.Head(ctx)
	for n := head + 1; err == nil; n++ {
		if err = l.Append(ctx, n, block(n, blockBytes)); err == nil {
			_, err = fmt.Println(n)
		}
	}
	return err
}

// A writer is another process that appends.
type writer struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func startWriter(t *testing.T, path string) *writer {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{cmd, bufio.NewScanner(out)}
	t.Cleanup(func() { w.kill() })
	return w
}

// durable waits for some more blocks, and is the number of the last one then.
func (w *writer) durable(t *testing.T, more int) (last uint64) {
	t.Helper()
	for range more {
		if !w.lines.Scan() {
			t.Fatal("the writer has ended")
		}
		n, err := strconv.ParseUint(w.lines.Text(), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		last = n
	}
	return last
}

// kill ends the writer as a crash does, and is the last block it said was durable.
func (w *writer) kill() (last uint64) {
	_ = w.cmd.Process.Signal(syscall.SIGKILL)
	for w.lines.Scan() {
		last, _ = strconv.ParseUint(w.lines.Text(), 10, 64)
	}
	_ = w.cmd.Wait()
	return last
}

// A reader in another process sees all that is durable while the writer goes on,
// and after it was killed, wherever it was; the next writer goes on from there.
func TestReaderOfTheDead(t *testing.T) {
	path := eventstore.LogPath(t.TempDir())
	last := uint64(0)
	for range 3 {
		w := startWriter(t, path)
		last = w.durable(t, 30)
		reader, err := sqlite.OpenReadOnly(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if read, err := readAll(reader); read < last || err != nil {
				t.Errorf("read %d blocks, %v; %d were durable", read, err, last)
			}
			last = w.durable(t, 10)
		}
		last = max(last, w.kill())
		if read, err := readAll(reader); read < last || err != nil {
			t.Errorf("after the writer died: read %d blocks, %v; %d were durable", read, err, last)
		}
		closeLog(t, reader)
		if wal, err := os.Stat(path + "-wal"); err != nil || wal.Size() == 0 {
			t.Fatalf("the writer left no WAL, %v", err)
		}
		if reader, err = sqlite.OpenReadOnly(path); err != nil {
			t.Fatal(err)
		}
		if read, err := readAll(reader); read < last || err != nil {
			t.Errorf("opened after the writer died: read %d blocks, %v; %d were durable", read, err, last)
		}
		closeLog(t, reader)
	}
	l := openLog(t, path)
	defer closeLog(t, l)
	head, err := l.Head(ctx)
	if err != nil || head < last {
		t.Fatalf("head %d, %v; %d were durable", head, err, last)
	}
	fill(t, l, head+1, head+10)
	wantBlocks(t, l, head+10)
}

func copyFiles(t *testing.T, from, to string, suffixes ...string) {
	t.Helper()
	for _, suffix := range suffixes {
		data, err := os.ReadFile(from + suffix)
		if err == nil {
			err = os.WriteFile(to+suffix, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A copy of the file with its WAL, made while nobody appends, is the log.
func TestCopy(t *testing.T) {
	path := eventstore.LogPath(t.TempDir())
	l := openLog(t, path)
	defer closeLog(t, l)
	fill(t, l, 1, 20)
	for _, suffixes := range [][]string{{"", "-wal"}, {"", "-wal", "-shm"}} {
		to := eventstore.LogPath(t.TempDir())
		copyFiles(t, path, to, suffixes...)
		reader, err := sqlite.OpenReadOnly(to)
		if err != nil {
			t.Fatal(err)
		}
		wantBlocks(t, reader, 20)
		closeLog(t, reader)
	}
}

// unprivileged runs f as somebody who can't write where we can. Root gives its
// rights over files up for that, on one thread, which then ends.
func unprivileged(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	const nobody = 65534
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread goes with the goroutine
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0); errno != 0 {
			t.Errorf("setfsuid: %v", errno)
			return
		}
		f()
	}()
	<-done
}

// A directory that can't be written is read all the same, except where SQLite
// would have to leave blocks out: that is an error.
func TestReadOnlyDirectory(t *testing.T) {
	const blocks = 20
	for _, test := range []struct {
		name    string
		prepare func(t *testing.T, path string)
		refused string // what the error says; "": all blocks are read
	}{
		{"closed", func(t *testing.T, path string) {
			l := openLog(t, path)
			fill(t, l, 1, blocks)
			closeLog(t, l)
		}, ""},
		{"being written", func(t *testing.T, path string) {
			l := openLog(t, path)
			fill(t, l, 1, blocks)
			t.Cleanup(func() { closeLog(t, l) })
		}, ""},
		{"left by a writer", func(t *testing.T, path string) {
			from := eventstore.LogPath(t.TempDir())
			l := openLog(t, from)
			defer closeLog(t, l)
			fill(t, l, 1, blocks)
			copyFiles(t, from, path, "", "-wal", "-shm")
		}, ""},
		{"without shared memory", func(t *testing.T, path string) {
			from := eventstore.LogPath(t.TempDir())
			l := openLog(t, from)
			defer closeLog(t, l)
			fill(t, l, 1, blocks)
			copyFiles(t, from, path, "", "-wal")
		}, "check owner and permissions"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := eventstore.LogPath(t.TempDir())
			if err := os.Chmod(filepath.Dir(filepath.Dir(path)), 0o711); err != nil { // the test's own
				t.Fatal(err)
			}
			test.prepare(t, path)
			setModes(t, filepath.Dir(path), 0o555, 0o444)
			defer setModes(t, filepath.Dir(path), 0o755, 0o644)
			unprivileged(t, func() {
				if err := os.WriteFile(path+".try", nil, 0o644); !errors.Is(err, os.ErrPermission) {
					t.Errorf("the directory can be written: %v", err)
				}
				reader, err := sqlite.OpenReadOnly(path)
				read := uint64(0)
				if err == nil {
					read, err = readAll(reader)
					closeLog(t, reader)
				}
				switch {
				case test.refused == "" && (err != nil || read != blocks):
					t.Errorf("read %d blocks of %d, %v", read, blocks, err)
				case test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)):
					t.Errorf("read %d blocks, %v; want %q", read, err, test.refused)
				}
			})
		})
	}
}

func setModes(t *testing.T, dir string, ofDir, ofFiles os.FileMode) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	for _, file := range files {
		err = errors.Join(err, os.Chmod(file, ofFiles))
	}
	if err := errors.Join(err, os.Chmod(dir, ofDir)); err != nil {
		t.Fatal(err)
	}
}
