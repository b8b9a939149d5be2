package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/eventstore"
	"tollbook/eventstore/sqlite"
)

// addBlocks opens the book of a directory as the engine does, and books n calls,
// each in a block of its own.
func addBlocks(t tester, dir, series string, n int) {
	t.Helper()
	book, err := eventstore.Open(context.Background(), dir, openLog, eventstore.Options{Clock: clock})
	if err != nil {
		t.Fatalf("%v", err)
	}
	at := book.Head().Events
	for i := range n {
		e := someCall("contoso", fmt.Sprintf("%s-%d", series, at+uint64(i)), "user000@contoso.example", int64(1+i))
		if _, err := book.Submit(context.Background(), []eventstore.Record{{Event: e}}); err != nil {
			t.Fatalf("%v", err)
		}
	}
	if err := book.Close(); err != nil {
		t.Fatalf("%v", err)
	}
}

// aBook is a directory with a closed book of n blocks.
func aBook(t *testing.T, series string, n int) string {
	t.Helper()
	dir := t.TempDir()
	addBlocks(t, dir, series, n)
	return dir
}

// blocksOf are the blocks of a directory's log as they are.
func blocksOf(t tester, dir string) (blocks [][]byte) {
	t.Helper()
	log, err := sqlite.OpenReadOnly(eventstore.LogPath(dir))
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer func() { _ = log.Close() }()
	if err := log.Read(context.Background(), 1, func(_ uint64, data []byte) error {
		blocks = append(blocks, bytes.Clone(data))
		return nil
	}); err != nil {
		t.Fatalf("%v", err)
	}
	return blocks
}

// filesOf are the digests of all files below a directory, the lock apart, by name.
func filesOf(t tester, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch {
		case name == "lock":
		case d.IsDir():
			files[name] = "directory"
		default:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files[name] = fmt.Sprintf("%d bytes %x", len(data), sha256.Sum256(data))
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return files
}

func backup(t tester, args ...string) copyReport {
	t.Helper()
	return decoded[copyReport](t, done(t, append([]string{"backup", "--format", "json"}, args...)...))
}

// TestBackupUnderLoad: each backup made while calls are booked has all that was
// acknowledged before it began, is the beginning of the book, and is whole.
func TestBackupUnderLoad(t *testing.T) {
	r := newRig(t)
	r.book(licensed("contoso")...)
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		for round := 0; ; round++ {
			select {
			case <-stop:
				return
			default:
				r.book(roundCalls(round, 5)...)
			}
		}
	})
	var copies []string
	target := t.TempDir()
	for i := range 4 {
		before := r.Book.Head()
		to := filepath.Join(target, "standing") // grows from one to the next
		if i%2 == 1 {
			to = filepath.Join(target, fmt.Sprintf("%d.tar", i))
		}
		report := backup(t, "--data", r.dir, "--to", to)
		if report.Position < before.Events || report.Copied == 0 {
			t.Errorf("the book was at %v, the backup is %+v", before, report)
		}
		at := filepath.Join(target, fmt.Sprint(i))
		done(t, "restore", "--data", at, "--from", to)
		if verified := decoded[verifyReport](t, done(t, "verify", "--data", at, "--format", "json")); verified.Head != report.Head || verified.Bytes != report.Bytes {
			t.Errorf("the backup is %+v, what was restored %+v", report, verified)
		}
		copies = append(copies, at)
	}
	close(stop)
	load.Wait()
	all := blocksOf(t, r.dir)
	for _, dir := range copies {
		part := blocksOf(t, dir)
		if !slices.EqualFunc(part, all[:len(part)], bytes.Equal) {
			t.Errorf("%s is not the beginning of the book", dir)
		}
	}
	t.Logf("the first backup has %d of %d blocks", len(blocksOf(t, copies[0])), len(all))
	if len(blocksOf(t, copies[0])) == len(all) {
		t.Error("nothing was booked after the first backup")
	}
	// As of the position where it ends, the month is the live book's.
	month := []string{"--tenant", "contoso", "--month", "2026-10", "--format", "json"}
	last := copies[len(copies)-1]
	at := fmt.Sprint(len(booked(t, last)))
	if got, want := done(t, append([]string{"replay", "--data", last}, month...)...), done(t, append([]string{"replay", "--data", r.dir, "--at", at}, month...)...); got != want {
		t.Errorf("replay of the backup %s\nof the book as of then %s", got, want)
	}
}

// TestBackupAdds: a second backup to a directory adds what has come since.
func TestBackupAdds(t *testing.T) {
	dir, to := aBook(t, "a", 5), filepath.Join(t.TempDir(), "below", "copy")
	want := []uint64{5, 0, 70, 0}
	for i, add := range []int{0, 0, 70, 0} {
		if add > 0 {
			addBlocks(t, dir, "b", add)
		}
		report := backup(t, "--data", dir, "--to", to)
		if report.Copied != want[i] || report.Path != to {
			t.Errorf("backup %d: %+v", i, report)
		}
		if diff := cmp.Diff(blocksOf(t, dir), blocksOf(t, to)); diff != "" {
			t.Errorf("backup %d: %s", i, diff)
		}
		done(t, "verify", "--data", to)
	}
	if text := done(t, "backup", "--data", dir, "--to", to); !strings.Contains(text, "75 blocks, 75 events") || !strings.Contains(text, "(0 blocks of them now)") {
		t.Error(text)
	}
}

// TestBackupOfNothing: of a directory in which an engine has begun, and booked
// nothing yet.
func TestBackupOfNothing(t *testing.T) {
	to := filepath.Join(t.TempDir(), "b.tar")
	dir := aBook(t, "a", 0)
	if report := backup(t, "--data", dir, "--to", to); report.Blocks != 0 {
		t.Errorf("%+v", report)
	}
	done(t, "restore", "--data", filepath.Join(t.TempDir(), "new"), "--from", to)
	refused(t, exitFailed, "there is no book in", "backup", "--data", t.TempDir(), "--to", to+"2")
}

// TestTar: a tar has the book, its anchor and the public key, and nothing else.
func TestTar(t *testing.T) {
	dir := aBook(t, "a", 3)
	theirs, ours := newPublicKey(t)+"\n", newPublicKey(t)+"\n"
	for name, text := range map[string]string{"public-key": theirs + "not a key\n", "signing-key": "SECRET\n", "other": "other\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "b.tar")
	backup(t, "--data", dir, "--to", path)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var listing []string
	archive := tar.NewReader(bytes.NewReader(file))
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		size := "some"
		if h.Size < 4096 {
			size = fmt.Sprint(h.Size)
		}
		listing = append(listing, fmt.Sprintf("%s %c %o %d:%d %s bytes", h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid, size))
	}
	want := []string{"anchor 0 644 0:0 512 bytes", "public-key 0 644 0:0 " + fmt.Sprint(len(theirs)) + " bytes", "book.db 0 644 0:0 some bytes"}
	if diff := cmp.Diff(want, listing); diff != "" {
		t.Error(diff)
	}
	if bytes.Contains(file, []byte("SECRET")) {
		t.Error("the private key is in the backup")
	}
	if names, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	restored := t.TempDir()
	for _, there := range []string{"", ours} { // the first is that of the signing key there
		if there != "" {
			if err := os.WriteFile(filepath.Join(restored, "public-key"), []byte(there), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		done(t, "restore", "--data", restored, "--from", path)
		if data, err := os.ReadFile(filepath.Join(restored, "public-key")); err != nil || string(data) != there+theirs {
			t.Errorf("%q, %v", data, err)
		}
	}
}

// TestBackupRefuses: what is there already stays as it is.
func TestBackupRefuses(t *testing.T) {
	dir := aBook(t, "a", 5)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{dir, dir + "/", filepath.Join(dir, "copy"), filepath.Join(dir, "b.tar"), link, filepath.Join(link, "copy")} {
		refused(t, exitFailed, "is in the data directory", "backup", "--data", dir, "--to", to)
	}
	before := filesOf(t, dir)
	forReaders(before)

	file := writeFile(t, "precious.tar", []byte("precious"))
	refused(t, exitFailed, "exists: name another file, or give --replace", "backup", "--data", dir, "--to", file)
	if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
		t.Errorf("%q, %v", data, err)
	}
	backup(t, "--data", dir, "--to", file, "--replace")
	done(t, "restore", "--data", t.TempDir(), "--from", file)

	other := aBook(t, "b", 7)
	theirs := blocksOf(t, other)
	refused(t, exitCheck, "block 1 has hash", "backup", "--data", dir, "--to", other)
	if diff := cmp.Diff(theirs, blocksOf(t, other)); diff != "" {
		t.Errorf("the other book has changed: %s", diff)
	}
	longer := filepath.Join(t.TempDir(), "longer")
	backup(t, "--data", dir, "--to", longer)
	addBlocks(t, longer, "a", 2)
	refused(t, exitCheck, "goes on to block 7", "backup", "--data", dir, "--to", longer)

	lock, err := eventstore.LockDir(other)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, exitFailed, "is in use", "backup", "--data", dir, "--to", other)
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	refused(t, exitFailed, "no such file", "backup", "--data", dir, "--to", filepath.Join(dir+"-nowhere", "b.tar"))
	after := filesOf(t, dir)
	forReaders(after)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the book has changed: %s", diff)
	}

	// A damaged book is copied up to the damage, and no further.
	change(t, dir, "UPDATE blocks SET data = (SELECT data FROM blocks WHERE n = 2) WHERE n = 4")
	to := filepath.Join(t.TempDir(), "copy")
	refused(t, exitCheck, "tollbook restore --data "+dir+" --from BACKUP", "backup", "--data", dir, "--to", to)
	done(t, "verify", "--data", to)
	if n := len(blocksOf(t, to)); n != 3 {
		t.Errorf("%d blocks are copied", n)
	}
	refused(t, exitCheck, "block 4", "backup", "--data", dir, "--to", to+".tar")
	if names, err := os.ReadDir(filepath.Dir(to)); err != nil || slices.ContainsFunc(names, func(e fs.DirEntry) bool { return e.Name() != "copy" }) {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

// newPublicKey is that of a new directory.
func newPublicKey(t *testing.T) string {
	t.Helper()
	key, _, err := eventstore.OpenSigningKey(t.TempDir(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}
