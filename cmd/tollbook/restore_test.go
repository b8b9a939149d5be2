package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/eventstore"
)

// sameBook is of a directory that must have exactly the blocks of a backup, be
// whole, and take more.
func sameBook(t *testing.T, dir, backup string) {
	t.Helper()
	done(t, "verify", "--data", dir)
	if diff := cmp.Diff(blocksOf(t, backup), blocksOf(t, dir)); diff != "" {
		t.Errorf("%s has other blocks than %s: %s", dir, backup, diff)
	}
	addBlocks(t, dir, "after", 2)
	done(t, "verify", "--data", dir)
}

// A state of a directory in which somebody restores a backup.
type state struct {
	name  string
	spoil func(t *testing.T, dir string)
}

var spoilt = []state{
	{"whole", func(*testing.T, string) {}},
	{"log flipped", func(t *testing.T, dir string) {
		edit(t, eventstore.LogPath(dir), func(d []byte) []byte { d[len(d)/2] ^= 1; return d })
	}},
	{"log cut", func(t *testing.T, dir string) {
		edit(t, eventstore.LogPath(dir), func(d []byte) []byte { return d[:len(d)/2] })
	}},
	{"log empty", func(t *testing.T, dir string) { edit(t, eventstore.LogPath(dir), func([]byte) []byte { return nil }) }},
	{"log something else", func(t *testing.T, dir string) {
		edit(t, eventstore.LogPath(dir), func([]byte) []byte { return bytes.Repeat([]byte("x"), 10_000) })
	}},
	{"log gone", func(t *testing.T, dir string) { remove(t, eventstore.LogPath(dir)) }},
	{"last blocks gone", func(t *testing.T, dir string) { change(t, dir, "DELETE FROM blocks WHERE n > 2") }},
	{"block in the middle gone", func(t *testing.T, dir string) { change(t, dir, "DELETE FROM blocks WHERE n = 2") }},
	{"anchor gone", func(t *testing.T, dir string) { remove(t, eventstore.AnchorPath(dir)) }},
	{"anchor something else", func(t *testing.T, dir string) {
		edit(t, eventstore.AnchorPath(dir), func([]byte) []byte { return bytes.Repeat([]byte("x"), 10_000) })
	}},
	{"log and anchor gone", func(t *testing.T, dir string) {
		remove(t, eventstore.LogPath(dir))
		remove(t, eventstore.AnchorPath(dir))
	}},
	{"a WAL of a writer that died", func(t *testing.T, dir string) { dieWriting(t, dir) }},
}

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(data), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// dieWriting leaves the directory as a process does that ends without closing
// its log: with all blocks in the WAL, and the file without them.
func dieWriting(t *testing.T, dir string) {
	t.Helper()
	blocks := blocksOf(t, dir)
	remove(t, eventstore.LogPath(dir))
	log, err := openLog(eventstore.LogPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	dead := t.TempDir()
	for i, data := range blocks {
		if err := log.Append(context.Background(), uint64(i+1), data); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range oldFiles {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dead, name), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range oldFiles {
		if err := os.Rename(filepath.Join(dead, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestore puts a backup into directories in every state, from a directory
// and from a file. What was there is kept as it was, and the streams stay.
func TestRestore(t *testing.T) {
	original := aBook(t, "a", 5)
	target := t.TempDir()
	asDir, asFile := filepath.Join(target, "copy"), filepath.Join(target, "copy.tar")
	backup(t, "--data", original, "--to", asDir)
	backup(t, "--data", original, "--to", asFile)
	for _, test := range spoilt {
		for _, from := range []string{asDir, asFile} {
			t.Run(test.name+" "+filepath.Base(from), func(t *testing.T) {
				dir := t.TempDir()
				for _, name := range []string{"book.db", "anchor"} {
					copyTo(t, filepath.Join(original, name), filepath.Join(dir, name))
				}
				if err := os.MkdirAll(filepath.Join(dir, "nats"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "nats", "stream"), []byte("not booked yet"), 0o644); err != nil {
					t.Fatal(err)
				}
				test.spoil(t, dir)
				before := filesOf(t, dir)
				report := decoded[restoreReport](t, done(t, "restore", "--data", dir, "--from", from, "--format", "json"))
				if report.Blocks != 5 || report.Warning != "" {
					t.Errorf("%+v", report)
				}
				after := filesOf(t, dir)
				if after["nats/stream"] != before["nats/stream"] {
					t.Error("the streams have changed")
				}
				wantKept(t, before, dir, report.Replaced)
				sameBook(t, dir, asDir)
			})
		}
	}
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	if err := copyFile(from, to); err != nil {
		t.Fatal(err)
	}
}

// wantKept checks that what a book had is in the directory named, and that a
// restore left nothing else behind.
func wantKept(t *testing.T, before map[string]string, dir, replaced string) {
	t.Helper()
	want := maps.Clone(before)
	maps.DeleteFunc(want, func(name, _ string) bool {
		return !slices.Contains([]string{"book.db", "book.db-wal", "anchor"}, name)
	})
	got := map[string]string{}
	if replaced != "" {
		got = filesOf(t, replaced)
		delete(got, ".")
		delete(got, "book.db-shm") // an index of the WAL, which readers make anew
		if before["book.db-wal"] == "" {
			delete(got, "book.db-wal") // empty, a reader's
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kept (-there before +kept): %s", diff)
	}
	for _, name := range []string{"restore.new", "restoring"} {
		if exists(filepath.Join(dir, name)) {
			t.Errorf("%s is left behind", name)
		}
	}
}

// entries are those of a tar, to be written in another way.
type entry struct {
	header tar.Header
	data   []byte
}

func entriesOf(t *testing.T, path string) (list []entry) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	archive := tar.NewReader(file)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		data, err2 := io.ReadAll(archive)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		list = append(list, entry{*h, data})
	}
}

func tarOf(t *testing.T, list ...entry) string {
	t.Helper()
	var b bytes.Buffer
	archive := tar.NewWriter(&b)
	for _, e := range list {
		if err := archive.WriteHeader(&e.header); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "b.tar", b.Bytes())
}

// TestRestoreRefuses: of a backup that is not whole, or of too little, nothing
// gets into the directory, which stays as it was byte for byte.
func TestRestoreRefuses(t *testing.T) {
	dir := aBook(t, "a", 5)
	good := filepath.Join(t.TempDir(), "good")
	backup(t, "--data", dir, "--to", good)
	older := filepath.Join(t.TempDir(), "older")
	backup(t, "--data", dir, "--to", older)
	saved := filepath.Join(t.TempDir(), "saved")
	copyTo(t, eventstore.AnchorPath(dir), saved)
	addBlocks(t, dir, "b", 2)
	further := filepath.Join(t.TempDir(), "further")
	copyTo(t, eventstore.AnchorPath(dir), further)
	whole := filepath.Join(t.TempDir(), "whole.tar")
	backup(t, "--data", dir, "--to", whole)
	packed := entriesOf(t, whole)
	anchor, book := packed[0], packed[1]
	flipped := func(e entry, at int) entry { e.data = bytes.Clone(e.data); e.data[at] ^= 1; return e }
	named := func(e entry, name string) entry { e.header.Name = name; return e }
	damaged := func(spoil func(dir string)) string {
		to := filepath.Join(t.TempDir(), "damaged")
		backup(t, "--data", dir, "--to", to)
		spoil(to)
		return to
	}
	link := entry{header: tar.Header{Typeflag: tar.TypeSymlink, Name: "book.db", Linkname: "/etc/passwd", Mode: 0o644}}
	none := t.TempDir()

	for _, test := range []struct {
		name, from string
		code       int
		say        string
		args       []string
	}{
		{"missing", filepath.Join(none, "x.tar"), exitFailed, "no such file", nil},
		{"empty directory", none, exitFailed, "there is no book in", nil},
		{"empty file", writeFile(t, "b.tar", nil), exitCheck, "it has no anchor", nil},
		{"text", writeFile(t, "b.tar", bytes.Repeat([]byte("backup "), 1000)), exitCheck, "it is no tar, or was cut", nil},
		{"no anchor in the tar", tarOf(t, book), exitCheck, "it has no anchor", nil},
		{"no book in the tar", tarOf(t, anchor), exitCheck, "it has no book.db", nil},
		{"another entry", tarOf(t, anchor, book, named(anchor, "lock")), exitCheck, `"lock"`, nil},
		{"a path", tarOf(t, anchor, named(book, "../book.db")), exitCheck, "../book.db", nil},
		{"a path here", tarOf(t, anchor, named(book, "./book.db")), exitCheck, "./book.db", nil},
		{"the private key", tarOf(t, anchor, book, named(anchor, "signing-key")), exitCheck, "signing-key", nil},
		{"a link", tarOf(t, anchor, link), exitCheck, "book.db", nil},
		{"twice", tarOf(t, anchor, book, anchor), exitCheck, "anchor twice", nil},
		{"a long anchor", tarOf(t, entry{tar.Header{Name: "anchor", Mode: 0o644, Size: 5000}, make([]byte, 5000)}, book), exitCheck, "has 5000 bytes, more than 4096", nil},
		{"bit of the tar's book", tarOf(t, anchor, flipped(book, len(book.data)-20)), exitCheck, "can't be used", nil},
		{"tar's book is none", tarOf(t, anchor, entry{book.header, bytes.Repeat([]byte("x"), len(book.data))}), exitCheck, "the backup", nil},
		{"tar's anchor is none", tarOf(t, entry{anchor.header, bytes.Repeat([]byte("x"), len(anchor.data))}, book), exitCheck, "holds no anchor", nil},
		{"block changed", damaged(func(d string) {
			change(t, d, "UPDATE blocks SET data = (SELECT data FROM blocks WHERE n = 3) WHERE n = 4")
		}), exitCheck, "block 4", nil},
		{"block missing", damaged(func(d string) { change(t, d, "DELETE FROM blocks WHERE n = 4") }), exitCheck, "block 4 is missing", nil},
		{"cut", damaged(func(d string) { change(t, d, "DELETE FROM blocks WHERE n = 7") }), exitCheck, "last 1 blocks are missing", nil},
		{"no anchor", damaged(func(d string) { remove(t, eventstore.AnchorPath(d)) }), exitCheck, "has no anchor", nil},
		{"half restored itself", damaged(func(d string) { _ = os.WriteFile(eventstore.RestoringPath(d), []byte("replaced-1\n"), 0o644) }), exitCheck, "a restore was begun", nil},
		{"older", older, exitCheck, "it lacks the last 2 events", nil},
		{"another book", aBook(t, "c", 9), exitCheck, "different books", nil},
		{"another, shorter book", aBook(t, "c", 2), exitCheck, "different books", nil},
		{"the directory itself", dir, exitFailed, "the same directory", nil},
		{"saved anchor not reached", good, exitCheck, "last 2 blocks are missing", []string{"--anchor", further, "--accept-loss"}},
		{"anchor of another book", good, exitCheck, "not the book the anchor was made of", []string{"--anchor", eventstore.AnchorPath(aBook(t, "c", 3)), "--accept-loss"}},
		{"anchor that is none", good, exitCheck, "holds no anchor", []string{"--anchor", writeFile(t, "a", nil), "--accept-loss"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := filesOf(t, dir)
			refused(t, test.code, test.say, append([]string{"restore", "--data", dir, "--from", test.from}, test.args...)...)
			if diff := cmp.Diff(before, filesOf(t, dir)); diff != "" {
				t.Errorf("the directory has changed: %s", diff)
			}
		})
	}
	// A tar that is cut anywhere is refused, or lacks nothing but padding.
	file, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	before := filesOf(t, dir)
	for n := 0; n < len(file)-1024; n += 509 {
		refused(t, exitCheck, "", "restore", "--data", dir, "--from", writeFile(t, "b.tar", file[:n]))
	}
	if diff := cmp.Diff(before, filesOf(t, dir)); diff != "" {
		t.Errorf("the directory has changed: %s", diff)
	}

	// Accepted, what was lost is said, and kept.
	for _, from := range []string{older, aBook(t, "d", 3)} {
		p := command(t, "restore", "--data", dir, "--from", from, "--accept-loss", "--anchor", eventstore.AnchorPath(from))
		if p.code != exitDone || !strings.Contains(p.out, "the backup") || !strings.Contains(p.out, "What was there before is in "+dir) {
			t.Errorf("%+v", p)
		}
		sameBook(t, dir, from)
	}
	kept, err := filepath.Glob(filepath.Join(dir, "replaced-*"))
	if err != nil || len(kept) != 2 {
		t.Fatalf("%v, %v", kept, err)
	}
	done(t, "restore", "--data", dir, "--from", kept[0], "--accept-loss", "--anchor", further) // and back again
	done(t, "verify", "--data", dir, "--anchor", further)
}

// TestRestoreSignedAnchor: a backup must reach what was signed, by a key that is known.
func TestRestoreSignedAnchor(t *testing.T) {
	dir := aBook(t, "a", 3)
	good := filepath.Join(t.TempDir(), "good")
	key, _, err := eventstore.OpenSigningKey(dir, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stranger, _, err := eventstore.OpenSigningKey(t.TempDir(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	backup(t, "--data", dir, "--to", good)
	note := func(by *eventstore.SigningKey, dir string) string {
		anchor, err := eventstore.ReadAnchor(eventstore.AnchorPath(dir))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := by.Sign(eventstore.Checkpoint{Head: anchor.Head})
		if err != nil {
			t.Fatal(err)
		}
		return writeFile(t, "note", []byte(signed.Note))
	}
	now := note(key, dir)
	addBlocks(t, dir, "a", 1)
	later := note(key, dir)
	restore := []string{"restore", "--data", dir, "--from", good, "--accept-loss", "--anchor"}
	refused(t, exitCheck, "last 1 blocks are missing", append(restore, later)...)
	refused(t, exitCheck, "not the book the anchor was made of", append(restore, note(key, aBook(t, "b", 3)))...)
	refused(t, exitCheck, "no key of that name that is known", append(restore, note(stranger, good))...)
	refused(t, exitCheck, "no key of that name that is known", append(restore, now, "--key", stranger.Public())...)
	done(t, append(restore, note(stranger, good), "--key", stranger.Public())...)
	done(t, append(restore, now)...)
	sameBook(t, dir, good)
}

// TestRestoreLocked: nothing is restored beside a running engine.
func TestRestoreLocked(t *testing.T) {
	dir, from := aBook(t, "a", 2), aBook(t, "b", 2)
	book, err := eventstore.Open(context.Background(), dir, openLog, eventstore.Options{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	before := filesOf(t, dir)
	refused(t, exitFailed, "is in use", "restore", "--data", dir, "--from", from, "--accept-loss")
	if diff := cmp.Diff(before, filesOf(t, dir)); diff != "" {
		t.Error(diff)
	}
	if err := book.Close(); err != nil {
		t.Error(err)
	}
}

// TestRestoreCrash ends a restore after each of its steps, in directories in
// every state. Then the book is refused, with what to do, or it is the old or
// the new one; it never begins anew. What is old is still there. Restoring
// again, from the same backup or another, ends it.
func TestRestoreCrash(t *testing.T) {
	original := aBook(t, "a", 3)
	backups := []string{filepath.Join(t.TempDir(), "same"), filepath.Join(t.TempDir(), "further")}
	backup(t, "--data", original, "--to", backups[0])
	copyOf := t.TempDir()
	done(t, "restore", "--data", copyOf, "--from", original)
	addBlocks(t, copyOf, "b", 2)
	backup(t, "--data", copyOf, "--to", backups[1])
	states := []state{{"further than the backup", func(t *testing.T, dir string) { addBlocks(t, dir, "c", 2) }}}
	for _, s := range spoilt {
		if slices.Contains([]string{"whole", "log cut", "log gone", "anchor gone", "log and anchor gone", "a WAL of a writer that died"}, s.name) {
			states = append(states, s)
		}
	}
	seen := map[string]int{} // how it was found after the crash
	for _, state := range states {
		for k := 0; ; k++ {
			dir := t.TempDir()
			for _, name := range []string{"book.db", "anchor"} {
				copyTo(t, filepath.Join(original, name), filepath.Join(dir, name))
			}
			state.spoil(t, dir)
			before := filesOf(t, dir)
			c := restoreCmd{Data: dir, From: backups[0], AcceptLoss: true}
			p, _, err := c.prepare(context.Background(), Streams{Out: io.Discard, Err: io.Discard}, clock())
			if err != nil {
				t.Fatal(err)
			}
			steps := p.steps()
			for _, step := range steps[:k] {
				if err := step.do(); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.lock.Unlock(); err != nil {
				t.Fatal(err)
			}
			where := fmt.Sprintf("%s, after %d of %d steps", state.name, k, len(steps))

			if k > 0 && k < len(steps)-1 {
				there := filesOf(t, dir)
				refused(t, exitCheck, "a restore was begun", "verify", "--data", dir)
				_, err := eventstore.Open(context.Background(), dir, openLog, eventstore.Options{Clock: clock})
				if !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), "run it again: tollbook restore --data "+dir) {
					t.Errorf("%s: %v", where, err)
				}
				if diff := cmp.Diff(there, filesOf(t, dir)); diff != "" {
					t.Errorf("%s: opening it has changed the directory: %s", where, diff)
				}
				seen["refused"]++
			} else if k >= len(steps)-1 {
				done(t, "verify", "--data", dir)
				if diff := cmp.Diff(blocksOf(t, backups[0]), blocksOf(t, dir)); diff != "" {
					t.Errorf("%s: %s", where, diff)
				}
				replaced := filepath.Join(dir, p.kept)
				if !exists(replaced) {
					replaced = ""
				}
				wantKept(t, before, t.TempDir(), replaced)
				seen["new"]++
			} else {
				after := filesOf(t, dir)
				maps.DeleteFunc(after, func(name, _ string) bool { return strings.HasPrefix(name, "restore.new") })
				forReaders(before)
				forReaders(after)
				if diff := cmp.Diff(before, after); diff != "" {
					t.Errorf("%s: %s", where, diff)
				}
				seen["old"]++
			}

			from := backups[k%2]
			report := decoded[restoreReport](t, done(t, "restore", "--data", dir, "--from", from, "--accept-loss", "--format", "json"))
			if k < len(steps)-1 {
				wantKept(t, before, dir, report.Replaced)
			}
			sameBook(t, dir, from)
			if k == len(steps) {
				break
			}
		}
	}
	t.Logf("found after the crash: %v", seen)
}

// forReaders takes away what a reader may leave beside a log.
func forReaders(files map[string]string) {
	delete(files, "book.db-shm")
	if strings.HasPrefix(files["book.db-wal"], "0 bytes") {
		delete(files, "book.db-wal")
	}
}
