package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/domain"
	"tollbook/eventstore"
	auditpack "tollbook/eventstore/pack"
	"tollbook/projections"
)

// packed makes the audit pack of a month of contoso.
func packed(t *testing.T, dir, month string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "contoso-"+month+".pack")
	done(t, monthArgs("audit-pack", "contoso", month, "--data", dir, "-o", path)...)
	return path
}

// TestAuditPack: what leaves the house is checked where nothing of it is known.
func TestAuditPack(t *testing.T) {
	r := closedTwice(t)
	documents := r.issued("contoso")
	key := publicKey(t, r.dir)
	for i, month := range []string{"2026-10", "2026-11"} {
		t.Run(month, func(t *testing.T) {
			// The engine runs on.
			file := filepath.Join(t.TempDir(), "contoso.pack")
			report := decoded[packReport](t, done(t, monthArgs("audit-pack", "contoso", month, "--data", r.dir, "-o", file, "--format", "json")...))
			info, err := os.Stat(file)
			if err != nil || info.Mode().Perm()&0o007 != 0 {
				t.Fatalf("%v, mode %v", err, info.Mode())
			}
			// month.closed is the event after the document's position, and the last.
			closing := booked(t, r.dir)[report.Events-1]
			if data, ok := closing.Data.(*domain.MonthClosed); !ok || data.Month.String() != month {
				t.Errorf("the last event in the pack is %+v", closing)
			}
			if report.Number != documents[i].Number || report.Digest != documents[i].Digest || report.Position != documents[i].Position ||
				report.Events != report.Position+1 || report.Bytes != info.Size() || report.Key != key || len(report.OtherTenants) != 0 {
				t.Errorf("%+v", report)
			}

			out := filepath.Join(t.TempDir(), "document.json")
			audited := decoded[auditReport](t, done(t, "audit", file, "--key", key, "--document", out, "--format", "json"))
			if !audited.Holds || !audited.KeyGiven || audited.Number != report.Number || audited.Digest != report.Digest || audited.Month != month ||
				audited.Events != report.Events || audited.Blocks != report.Blocks || audited.Head != report.Head || len(audited.Differences) != 0 {
				t.Errorf("%+v", audited)
			}
			if sum, err := ownDigest(); err != nil || audited.Packer.Program != sum || audited.Packer.Version != version() {
				t.Errorf("%v: %+v", err, audited.Packer)
			}
			invoice := canonical(t, r.ask(monthArgs("invoice", "contoso", month, "--format", "json")...))
			if diff := cmp.Diff(invoice, readText(t, out)); diff != "" {
				t.Errorf("the document, -engine +audited:\n%s", diff)
			}

			keyFile := writeFile(t, "public-key", []byte(key+"\n"))
			withKey := done(t, "audit", file, "--key", keyFile)
			for _, want := range []string{"byte for byte", documents[i].Number, documents[i].Digest, key, fmt.Sprintf("%d events", report.Events)} {
				if !strings.Contains(withKey, want) {
					t.Errorf("audit does not say %q:\n%s", want, withKey)
				}
			}
			const warning = "compare the key with one you got elsewhere"
			if without := done(t, "audit", file); !strings.Contains(without, warning) || strings.Contains(withKey, warning) {
				t.Errorf("audit says\nwith a key\n%s\nwithout\n%s", withKey, without)
			}
		})
	}
	// The same book, month, key and program make the same pack.
	if a, b := readText(t, packed(t, r.dir, "2026-11")), readText(t, packed(t, r.dir, "2026-11")); a != b {
		t.Error("two packs of a month differ")
	}
}

// TestAuditPackOfManyTenants says whose records go out with it.
func TestAuditPackOfManyTenants(t *testing.T) {
	r, _ := newRigAt(t, "2026-11-04T08:00:00Z")
	for _, tenant := range []string{"fabrikam", "acme", "tailspin", "contoso"} {
		r.book(licensed(tenant)...)
	}
	r.book(callAt("contoso", "1", "2026-10-05T09:00:00Z", 130*60))
	r.close("contoso", "2026-10")
	r.book(licensed("later")...)
	file := filepath.Join(t.TempDir(), "contoso.pack")
	args := monthArgs("audit-pack", "contoso", "2026-10", "--data", r.dir, "-o", file, "--replace")
	if text := done(t, args...); !strings.Contains(text, "the records of other tenants too (acme, fabrikam, tailspin)") {
		t.Errorf("%s", text)
	}
	report := decoded[packReport](t, done(t, append(args, "--format", "json")...))
	if diff := cmp.Diff([]string{"acme", "fabrikam", "tailspin"}, report.OtherTenants); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	done(t, "audit", file, "--key", report.Key)
}

// TestAuditElsewhere: the program and the file are enough. There is no data
// directory any more, no home, nothing in the working directory.
func TestAuditElsewhere(t *testing.T) {
	r := closedTwice(t)
	key, file := publicKey(t, r.dir), packed(t, r.dir, "2026-11")
	r.stop()
	if err := os.RemoveAll(r.dir); err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	nowhere := t.TempDir()
	cmd := exec.Command(program, "audit", file, "--key", key)
	cmd.Dir, cmd.Env = nowhere, []string{asProgram + "=1", "HOME=" + filepath.Join(nowhere, "none")}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "byte for byte") {
		t.Errorf("%v\n%s", err, out)
	}
	if left, err := os.ReadDir(nowhere); err != nil || len(left) != 0 {
		t.Errorf("audit left %v, %v", left, err)
	}
}

func TestAuditPackRefuses(t *testing.T) {
	r := closedTwice(t)
	file := filepath.Join(t.TempDir(), "contoso.pack")
	args := func(dir, month, to string) []string {
		return monthArgs("audit-pack", "contoso", month, "--data", dir, "-o", to)
	}
	refused(t, exitFailed, "month 2026-12 of contoso is not closed", args(r.dir, "2026-12", file)...)
	refused(t, exitFailed, "is in the data directory", args(r.dir, "2026-11", filepath.Join(r.dir, "contoso.pack"))...)
	refused(t, exitFailed, "no such file", args(r.dir, "2026-11", filepath.Join(t.TempDir(), "none", "contoso.pack"))...)
	refused(t, exitUsage, "--month", args(r.dir, "November", file)...)
	copied := filepath.Join(t.TempDir(), "copy")
	done(t, "backup", "--data", r.dir, "--to", copied)
	refused(t, exitFailed, "run audit-pack on the data directory of the engine", args(copied, "2026-11", file)...)
	if exists(file) || exists(file+".new") {
		t.Error("something was written")
	}
	there := writeFile(t, "there.pack", []byte("mine"))
	refused(t, exitFailed, "exists: name another file, or give --replace", args(r.dir, "2026-11", there)...)
	if readText(t, there) != "mine" {
		t.Error("the file was replaced")
	}
	done(t, append(args(r.dir, "2026-11", there), "--replace")...)
	done(t, "audit", there)

	// A document that does not hold is not packed, nor is a damaged book.
	r.stop()
	forged := forge(t, r.dir, func(_ uint64, e *domain.Event) {
		if call, ok := e.Data.(*domain.Call); ok && e.ID == "3" {
			call.BillableMS += 60_000
		}
	})
	giveKey(t, r.dir, forged)
	refused(t, exitCheck, "nothing was packed", args(forged, "2026-11", file)...)
	done(t, args(forged, "2026-10", file)...)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	flipBit(t, r.dir, 3)
	refused(t, exitCheck, "block 3: ", args(r.dir, "2026-11", file)...)
	if exists(file) || exists(file+".new") {
		t.Error("something was written")
	}
}

// giveKey has the book of a directory be signed by the key of another's.
func giveKey(t *testing.T, from, to string) {
	t.Helper()
	if err := os.WriteFile(eventstore.SigningKeyPath(to), []byte(readText(t, eventstore.SigningKeyPath(from))), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A part is a member of a pack with its header, to the next.
type part struct {
	name string
	data []byte
}

func partsOf(t *testing.T, data []byte) (parts []part) {
	t.Helper()
	archive := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return append(parts, part{"the end", data})
		}
		if err != nil {
			t.Fatal(err)
		}
		size := 512 + (h.Size+511)/512*512
		parts = append(parts, part{h.Name, data[:size]})
		data = data[size:]
	}
}

// TestEveryByteOfAnAuditPack flips a bit of each byte. Each is refused with exit
// status 3, in one line that names the member, or the block.
func TestEveryByteOfAnAuditPack(t *testing.T) {
	r := closedTwice(t)
	path, key := packed(t, r.dir, "2026-11"), publicKey(t, r.dir)
	data := []byte(readText(t, path))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	audit := auditCmd{File: path, Key: key, format: format{"text"}}
	at, total := int64(0), 0
	for _, part := range partsOf(t, data) {
		names := regexp.MustCompile(": " + regexp.QuoteMeta(part.name) + ": ")
		if number, ok := strings.CutPrefix(part.name, "blocks/"); ok {
			names = regexp.MustCompile(": (block " + strings.TrimLeft(number, "0") + "|" + part.name + "): ")
		}
		flips := 0
		for i := range part.data {
			if raceDetector && i%16 != 0 {
				continue // a race in it would be one for every byte
			}
			where := at + int64(i)
			if _, err := file.WriteAt([]byte{data[where] ^ 1<<(where%8)}, where); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err := audit.Run(t.Context(), Streams{Out: &out, Err: &out})
			if !errors.Is(err, errCheck) || out.Len() > 0 || strings.Contains(err.Error(), "\n") || !names.MatchString(err.Error()) {
				t.Fatalf("byte %d, in %s: printed %q, %v", where, part.name, &out, err)
			}
			if flips%256 == 0 {
				refused(t, exitCheck, err.Error(), "audit", path, "--key", key)
			}
			if _, err := file.WriteAt(data[where:where+1], where); err != nil {
				t.Fatal(err)
			}
			flips++
		}
		t.Logf("%s: %d flips in %d bytes, all refused", part.name, flips, len(part.data))
		at += int64(len(part.data))
		total += flips
	}
	t.Logf("%d flips in %d bytes, all refused", total, len(data))
	done(t, "audit", path, "--key", key)
}

// TestAuditInsiders: somebody leaves a call out of the book, and makes everything
// anew that follows from it.
func TestAuditInsiders(t *testing.T) {
	// open is a book with calls whose month is not closed yet, signed by the key of
	// another, or by its own.
	open := func(keyOf string, calls ...domain.Event) *rig {
		r, _ := newRigAt(t, "2026-11-04T08:00:00Z")
		if keyOf != "" {
			r.stop()
			giveKey(t, keyOf, r.dir)
			r.start()
		}
		r.book(licensed("contoso")...)
		for _, e := range calls {
			r.book(e)
		}
		return r
	}
	closed := func(r *rig) string {
		r.close("contoso", "2026-10")
		return packed(t, r.dir, "2026-10")
	}
	first, second := callAt("contoso", "1", "2026-10-05T09:00:00Z", 130*60), callAt("contoso", "2", "2026-10-06T09:00:00Z", 60*60)
	book := open("", first, second)
	key, kept := publicKey(t, book.dir), writeFile(t, "anchor.txt", []byte(book.ask("anchor")))
	honest := closed(book)
	done(t, "audit", honest, "--key", key)
	if text := done(t, "audit", honest, "--key", key, "--anchor", kept); !strings.Contains(text, "the first 5 events are those that tollbook-") {
		t.Errorf("%s", text)
	}
	book.book(licensed("fabrikam")...)
	later := writeFile(t, "later.txt", []byte(book.ask("anchor")))
	refused(t, exitFailed, "give one from before the month was closed", "audit", honest, "--key", key, "--anchor", later)
	refused(t, exitCheck, "is not a signed anchor", "audit", honest, "--anchor", eventstore.AnchorPath(book.dir))

	// With a key of their own the pack is whole, and signed by nobody one knows.
	own := closed(open("", second))
	done(t, "audit", own)
	refused(t, exitCheck, "has not signed it", "audit", own, "--key", key)

	// Without a key: what was signed, with the blocks of another book.
	spliced := func(blocks string) string {
		var data []byte
		for _, part := range append(partsOf(t, []byte(readText(t, honest)))[:4:4], partsOf(t, []byte(readText(t, blocks)))[4:]...) {
			data = append(data, part.data...)
		}
		return writeFile(t, "spliced.pack", data)
	}
	refused(t, exitCheck, "blocks/00000004: ", "audit", spliced(own), "--key", key)
	refused(t, exitCheck, "blocks/00000004: ", "audit", spliced(own))
	shortened := callAt("contoso", "1", "2026-10-05T09:00:00Z", 10*60)
	refused(t, exitCheck, "block 4 has hash", "audit", spliced(closed(open("", shortened, second))), "--key", key)

	// With the book's key only an anchor tells that somebody kept.
	stolen := closed(open(book.dir, shortened, second))
	done(t, "audit", stolen, "--key", key)
	refused(t, exitCheck, "block 3: the events 1 to 5 are not those that tollbook-", "audit", stolen, "--key", key, "--anchor", kept)
}

// TestAuditDifferences: a pack of a book whose document is not what its events
// make, signed by the book's key.
func TestAuditDifferences(t *testing.T) {
	r := closedTwice(t)
	r.stop()
	write := func(dir string, change func(*auditpack.Contents)) string {
		t.Helper()
		giveKey(t, r.dir, dir)
		key, err := eventstore.ReadSigningKey(dir)
		if err != nil {
			t.Fatal(err)
		}
		walk, closeLog, err := openBook(t.Context(), dir, "")
		if err != nil {
			t.Fatal(err)
		}
		defer closeLog()
		month, err := domain.ParseMonth("2026-11")
		if err != nil {
			t.Fatal(err)
		}
		issue, err := projections.Check(t.Context(), walk, "contoso", month, nil)
		if err != nil {
			t.Fatal(err)
		}
		contents := auditpack.Contents{
			Manifest: auditpack.Manifest{Tenant: "contoso", Month: "2026-11", Number: issue.Number, Position: issue.Position, Version: "x", Program: "x", Go: "x"},
			Document: issue.Document, Read: walk.Log.Read, Last: walk.Anchor.Block,
		}
		if change != nil {
			change(&contents)
		}
		var b bytes.Buffer
		if err := auditpack.Write(context.Background(), &b, key, contents); err != nil {
			t.Fatal(err)
		}
		return writeFile(t, "contoso.pack", b.Bytes())
	}
	forged := forge(t, r.dir, func(_ uint64, e *domain.Event) {
		if call, ok := e.Data.(*domain.Call); ok && e.ID == "3" {
			call.BillableMS += 60_000
		}
	})
	key := publicKey(t, r.dir)
	out := filepath.Join(t.TempDir(), "document.json")
	p := command(t, "audit", write(forged, nil), "--key", key, "--document", out)
	const line = "line IT Italy landline at 0.016 + 0, deck standard 1\n    issued   1 calls, 1200 s, 0.32\n    replayed 1 calls, 1260 s, 0.34\n"
	if p.code != exitCheck || !strings.Contains(p.out, line) || strings.Contains(p.out, "byte for byte") || !strings.Contains(p.err, "document 2026-0002 is booked as 2026-0002, as of position 7") || exists(out) {
		t.Errorf("exit status %d:\n%s%s", p.code, p.out, p.err)
	}
	// Whoever forges a document can't have it do anything to a terminal.
	colourful := forge(t, r.dir, func(_ uint64, e *domain.Event) {
		if data, ok := e.Data.(*domain.MonthClosed); ok {
			data.Document = bytes.Replace(data.Document, []byte(`"destination":"Italy"`), []byte(`"destination":"\u001b[31m\nItaly"`), 1)
			data.Digest = projections.Digest(data.Document)
		}
	})
	p = command(t, "audit", write(colourful, nil), "--key", key)
	if p.code != exitCheck || !strings.Contains(p.out, `\x1b[31m`) || strings.Contains(p.out+p.err, "\x1b") {
		t.Errorf("exit status %d:\n%q%q", p.code, p.out, p.err)
	}
	done(t, "audit", write(r.dir, nil), "--key", key)
	for want, change := range map[string]func(*auditpack.Contents){
		"month 2026-12 of contoso is not closed":                      func(c *auditpack.Contents) { c.Month = "2026-12" },
		"month 2026-11 of acme is not closed":                         func(c *auditpack.Contents) { c.Tenant = "acme" },
		"manifest: \"next\" is not a month":                           func(c *auditpack.Contents) { c.Month = "next" },
		"manifest: it says document 2026-0003 as of":                  func(c *auditpack.Contents) { c.Number = "2026-0003" },
		"manifest: it says document 2026-0002 as of position 6":       func(c *auditpack.Contents) { c.Position = 6 },
		"document.json: is not the document that the month.closed ev": func(c *auditpack.Contents) { c.Document = []byte("{}") },
		"month 2026-11 of contoso is not closed":                      func(c *auditpack.Contents) { c.Last = 5 },
	} {
		refused(t, exitCheck, want, "audit", write(r.dir, change), "--key", key)
	}
}
