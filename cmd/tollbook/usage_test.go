package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	_ "modernc.org/sqlite" // to damage a log behind its back

	"tollbook/eventstore"
)

// refused checks that a command failed with one line that says so, and that it
// printed nothing else.
func refused(t *testing.T, code int, line string, args ...string) {
	t.Helper()
	p := command(t, args...)
	said := strings.TrimSuffix(p.err, "\n")
	if p.code != code || p.out != "" || strings.Contains(said, "\n") || !strings.HasPrefix(said, "tollbook: ") || !strings.Contains(said, line) {
		t.Errorf("tollbook %s: exit status %d, printed %q and %q; want %d and one line with %q", strings.Join(args, " "), p.code, p.out, p.err, code, line)
	}
}

func TestWrongUsage(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, "calls.ndjson", []byte(goodCall("a")))
	month := []string{"--tenant", "contoso", "--month", "2026-10"}
	with := func(first string, rest ...string) []string { return append([]string{first}, rest...) }
	for line, args := range map[string][]string{
		"expected one of":           {},
		"unexpected argument":       {"bill"},
		"--tenant \"\": must be":    {"pools"},
		"--month: \"\" is not":      {"invoice", "--tenant", "contoso"},
		"--colour":                  with("pools", append(month, "--colour", "red")...),
		"--format":                  with("pools", append(month, "--format", "yaml")...),
		"--data":                    with("pools", append(month, "--data", filepath.Join(dir, "nowhere"))...),
		"--tenant \"Contoso\"":      {"pools", "--tenant", "Contoso", "--month", "2026-10"},
		"--month":                   {"invoice", "--tenant", "contoso", "--month", "2026-13"},
		"--month:":                  {"replay", "--data", dir, "--tenant", "contoso", "--month", "October"},
		"--at":                      with("replay", append(month, "--data", dir, "--at", "-1")...),
		"<FILE>":                    {"publish"},
		"--from \"avaya\"":          {"publish", "--from", "avaya", file},
		"needs --tenant":            {"publish", "--from", "kamailio", file},
		"--switch":                  {"publish", "--from", "kamailio", "--tenant", "acme", "--switch", "a.b", file},
		"--version":                 {"import-deck", file, "--effective-from", "2026-10-01T00:00:00Z"},
		"--effective-from \"1/10\"": {"import-deck", file, "--version", "1", "--effective-from", "1/10"},
		"missing flags: --data":     {"serve"},
		"--nats-sync":               {"serve", "--data", dir, "--nats-sync", "soon"},
		"--anchor":                  {"verify", "--data", dir, "--anchor", filepath.Join(dir, "nowhere")},
		"--calls":                   {"demo", "--calls", "many"},
		"--calls 0":                 {"demo", "--calls", "0"},
	} {
		refused(t, exitUsage, line, args...)
		if p := command(t, args...); !strings.HasSuffix(p.err, "; see 'tollbook --help'\n") {
			t.Errorf("%v does not point to the help: %q", args, p.err)
		}
	}
	p := command(t, "--help")
	if p.code != exitDone || !strings.Contains(p.out, "import-deck") {
		t.Errorf("--help: exit status %d\n%s%s", p.code, p.out, p.err)
	}
	if out := done(t, "version"); !strings.HasPrefix(out, "tollbook 0.") {
		t.Errorf("version prints %q", out)
	}
}

func TestFailures(t *testing.T) {
	nobody := "nats://127.0.0.1:1"
	file := writeFile(t, "calls.ndjson", []byte(goodCall("a")))
	month := []string{"--tenant", "contoso", "--month", "2026-10"}
	for _, args := range [][]string{
		{"status"}, append([]string{"pools"}, month...), append([]string{"invoice"}, month...),
		{"publish", file}, {"import-catalog"},
	} {
		refused(t, exitFailed, "NATS at "+nobody, append(args, "--nats", nobody)...)
	}
	refused(t, exitFailed, "does not answer", "health", "--http", "http://127.0.0.1:1")
	refused(t, exitFailed, "NATS at "+nobody, "serve", "--data", t.TempDir(), "--nats", nobody)
	refused(t, exitFailed, "--nats-listen", "serve", "--data", t.TempDir(), "--nats-listen", "4222")

	empty := t.TempDir()
	refused(t, exitFailed, "there is no book in "+empty, "verify", "--data", empty)
	refused(t, exitFailed, "there is no book in "+empty, append([]string{"replay", "--data", empty}, month...)...)
	refused(t, exitFailed, "there is no book in "+empty, append([]string{"pools", "--data", empty}, month...)...)

	r := newRig(t)
	refused(t, exitFailed, "nowhere.ndjson", "publish", filepath.Join(empty, "nowhere.ndjson"), "--nats", r.NATSAddress)
	for line, text := range map[string]string{
		"is empty":                         "\n \n",
		"element 2 of the array":           "[" + goodCall("a") + ", " + goodCall("b")[:50],
		"more after the array":             "[] []",
		"line 2: is longer than":           goodCall("a") + "\n" + strings.Repeat("x", 9<<20) + "\n",
		"element 1 of the array is longer": "[\"" + strings.Repeat("x", 9<<20) + "\"]",
		"publishing the files":             "[" + goodCall("a") + ",",
		"1 records are booked":             "[" + goodCall("a") + ",,",
	} {
		refused(t, exitFailed, line, "publish", writeFile(t, "broken.json", []byte(text)), "--nats", r.NATSAddress)
	}
	if in := r.intake("contoso"); in.Booked != 1 || in.Suspended != 0 {
		t.Errorf("the good call of the broken files: %+v", in)
	}
	refused(t, exitFailed, "line 1", "import-deck", file, "--version", "1", "--effective-from", "2026-10-01T00:00:00Z", "--nats", r.NATSAddress)

	// NATS is there, an engine is not.
	if err := errors.Join(r.Engine.stops[0](), r.Engine.Conn.Flush()); err != nil { // the server knows it then
		t.Fatal(err)
	}
	refused(t, exitFailed, "no tollbook engine answers", "status", "--nats", r.NATSAddress)
	refused(t, exitFailed, "no tollbook engine answers", append([]string{"invoice", "--nats", r.NATSAddress}, month...)...)
}

// TestFileWithBadRecords: publish ends well, as every record is in the book, and
// says on stderr which are in suspense.
func TestFileWithBadRecords(t *testing.T) {
	r := newRig(t)
	var text strings.Builder
	for i := range 12 {
		fmt.Fprintln(&text, goodCall(fmt.Sprintf("good-%d", i)))
		fmt.Fprintln(&text, goodCall(fmt.Sprintf("bad-%d", i), `60000`, `-60000`))
	}
	fmt.Fprintln(&text, goodCall("nobody's", `"tenant":"contoso",`, ``))
	file := writeFile(t, "mixed.ndjson", []byte("\xef\xbb\xbf\r\n"+strings.ReplaceAll(text.String(), "\n", "\r\n\r\n")))
	p := command(t, "publish", file, "--nats", r.NATSAddress)
	if want := "25 records: 12 booked, 0 duplicate, 13 suspended; the book is at position 25\n"; p.code != exitDone || p.out != want {
		t.Errorf("exit status %d, printed %q, want %q", p.code, p.out, want)
	}
	lines := strings.Split(strings.TrimSuffix(p.err, "\n"), "\n")
	if len(lines) != refusalsShown+1 || lines[0] != "suspended: position 2: data.billable_ms: -60000: must be an integer from 0 to 172800000 milliseconds (48 h)" || lines[refusalsShown] != "suspended: and 3 more" {
		t.Errorf("on stderr:\n%s", p.err)
	}
	if a, b := r.intake("contoso"), r.intake("-"); a.Booked != 12 || a.Suspended != 12 || b.Suspended != 1 {
		t.Errorf("contoso %+v, nobody %+v", a, b)
	}
	// A tenant on the command line speaks for records that name none, and against those of another.
	report := r.publishFile("--tenant", "contoso", writeFile(t, "one.ndjson", []byte(goodCall("mine", `"tenant":"contoso",`, ``))))
	if report.Booked != 1 {
		t.Errorf("%+v", report)
	}
	report = r.publishFile("--tenant", "acme", writeFile(t, "one.ndjson", []byte(goodCall("theirs"))))
	if report.Suspended != 1 || r.intake("acme").Suspended != 1 {
		t.Errorf("%+v", report)
	}
}

// TestSecondEngine: a directory has one engine, and who comes second is told by
// whom it is held.
func TestSecondEngine(t *testing.T) {
	r := newRig(t)
	line := fmt.Sprintf("%v: process %d has %s", eventstore.ErrLocked, os.Getpid(), r.dir)
	refused(t, exitFailed, line, "serve", "--data", r.dir, "--nats-listen", "127.0.0.1:0", "--http", "")
	r.book(licensed("contoso")...) // the first goes on
}

// TestServeTwiceOnOnePort: a port that is taken is said so, and the directory is free again.
func TestServeTwiceOnOnePort(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	refused(t, exitFailed, strings.TrimPrefix(r.NATSAddress, "nats://"), "serve", "--data", dir, "--nats-listen", strings.TrimPrefix(r.NATSAddress, "nats://"), "--http", "")
	startRig(t, dir).stop()
}

// TestReplayAt: a month as of an earlier position is the month of a book that ends there.
func TestReplayAt(t *testing.T) {
	x := examples(t)[0]
	r := newRig(t)
	r.book(x.events...)
	for at := range x.events {
		short := newRig(t)
		short.book(x.events[:at+1]...)
		want := canonical(t, done(t, append([]string{"replay", "--data", short.dir}, x.month()...)...), "head")
		got := canonical(t, done(t, append([]string{"replay", "--data", r.dir, "--at", strconv.Itoa(at + 1)}, x.month()...)...), "head")
		if got != want {
			t.Errorf("at %d:\n got %s\nwant %s", at+1, got, want)
		}
		short.stop()
	}
	beyond := strconv.Itoa(len(x.events) + 1)
	refused(t, exitFailed, "position "+beyond+" is beyond the end of the book: it has "+strconv.Itoa(len(x.events))+" events",
		append([]string{"replay", "--data", r.dir, "--at", beyond}, x.month()...)...)
}

// TestDamagedBook: damage is found by verify with exit status 3, and neither
// replay nor serve goes on with such a book.
func TestDamagedBook(t *testing.T) {
	book := func(t *testing.T) string {
		r := startRig(t, t.TempDir())
		for i := range 20 {
			r.book(someCall("contoso", fmt.Sprintf("call-%d", i), "user000@contoso.example", 60))
		}
		r.stop()
		if out := done(t, "verify", "--data", r.dir); !strings.HasPrefix(out, "The book is whole: 20 blocks, 20 events") {
			t.Fatalf("verify prints %s", out)
		}
		return r.dir
	}
	for name, damage := range map[string]struct {
		do   func(t *testing.T, dir string)
		line string
	}{
		"a bit of block 7":        {func(t *testing.T, dir string) { flipBit(t, dir, 7) }, "block 7: "},
		"a bit of the last block": {func(t *testing.T, dir string) { flipBit(t, dir, 20) }, "block 20: "},
		"a block changed as a whole": {func(t *testing.T, dir string) {
			change(t, dir, "UPDATE blocks SET data = (SELECT data FROM blocks WHERE n = 3) WHERE n = 4")
		}, "block 4: "},
		"two blocks swapped": {func(t *testing.T, dir string) {
			change(t, dir, "UPDATE blocks SET n = -n WHERE n IN (8, 9)", "UPDATE blocks SET n = 9 WHERE n = -8", "UPDATE blocks SET n = 8 WHERE n = -9")
		}, "block 8: "},
		"a block in the middle is missing": {func(t *testing.T, dir string) { change(t, dir, "DELETE FROM blocks WHERE n = 12") }, "block 12 is missing"},
		"the last block is missing":        {func(t *testing.T, dir string) { change(t, dir, "DELETE FROM blocks WHERE n = 20") }, "the book ends at block 19, but its anchor is block 20"},
		"all blocks are missing":           {func(t *testing.T, dir string) { change(t, dir, "DELETE FROM blocks") }, "the book ends at block 0"},
		"the log is no log": {func(t *testing.T, dir string) {
			overwrite(t, eventstore.LogPath(dir), bytes.Repeat([]byte("x"), 10_000))
		}, "damaged"},
		"the log is cut": {func(t *testing.T, dir string) {
			if err := os.Truncate(eventstore.LogPath(dir), 5000); err != nil {
				t.Fatal(err)
			}
		}, "damaged"},
		"the anchor of another book": {func(t *testing.T, dir string) {
			data, err := os.ReadFile(eventstore.AnchorPath(book(t)))
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, eventstore.AnchorPath(dir), data)
		}, "this is not the book the anchor was made of"},
		"an anchor that cannot be read": {func(t *testing.T, dir string) { overwrite(t, eventstore.AnchorPath(dir), []byte("hello\n")) }, "holds no anchor that can be read"},
		"no anchor": {func(t *testing.T, dir string) {
			if err := os.Remove(eventstore.AnchorPath(dir)); err != nil {
				t.Fatal(err)
			}
		}, "no anchor"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := book(t)
			damage.do(t, dir)
			month := []string{"--data", dir, "--tenant", "contoso", "--month", "2026-10"}
			refused(t, exitCheck, damage.line, "verify", "--data", dir)
			refused(t, exitCheck, damage.line, append([]string{"replay"}, month...)...)
			refused(t, exitCheck, damage.line, append([]string{"invoice"}, month...)...)
			p := command(t, "serve", "--data", dir, "--nats-listen", "127.0.0.1:0", "--http", "")
			if p.code == exitDone || p.out != "" || !strings.Contains(p.err, damage.line) {
				t.Errorf("serve: exit status %d, printed %q and %q", p.code, p.out, p.err)
			}
		})
	}
	t.Run("an anchor saved elsewhere", func(t *testing.T) {
		dir, other := book(t), book(t)
		saved := filepath.Join(t.TempDir(), "anchor")
		data, err := os.ReadFile(eventstore.AnchorPath(dir))
		if err != nil {
			t.Fatal(err)
		}
		overwrite(t, saved, data)
		done(t, "verify", "--data", dir, "--anchor", saved)
		refused(t, exitCheck, "this is not the book the anchor was made of", "verify", "--data", other, "--anchor", saved)
		// Cut with its own anchor made to fit, the book agrees with itself and not with the saved one.
		change(t, dir, "DELETE FROM blocks WHERE n = 20")
		overwrite(t, eventstore.AnchorPath(dir), data[:0])
		refused(t, exitCheck, "the book ends at block 19, but its anchor is block 20", "verify", "--data", dir, "--anchor", saved)
	})
}

func overwrite(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func openDatabase(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", eventstore.LogPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func change(t *testing.T, dir string, statements ...string) {
	t.Helper()
	db := openDatabase(t, dir)
	for _, statement := range statements {
		if _, err := db.ExecContext(context.Background(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// flipBit turns over one bit in the middle of a block, in the file itself.
func flipBit(t *testing.T, dir string, n int) {
	t.Helper()
	db := openDatabase(t, dir)
	var data []byte
	if err := db.QueryRow("SELECT data FROM blocks WHERE n = ?", n).Scan(&data); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(eventstore.LogPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	// SQLite leaves copies behind where it moved a row to another page.
	damaged := bytes.Clone(data)
	damaged[len(data)/2] ^= 0x10
	changed := bytes.ReplaceAll(file, data, damaged)
	if bytes.Equal(changed, file) {
		t.Fatalf("block %d is not in one piece in the file", n)
	}
	overwrite(t, eventstore.LogPath(dir), changed)
}

// TestJSONOfEveryCommand: with --format json every command prints one line of JSON.
func TestJSONOfEveryCommand(t *testing.T) {
	r := newRig(t)
	month := []string{"--tenant", "contoso", "--month", "2026-10"}
	deck := writeFile(t, "deck.csv", []byte("prefix,destination,country,type,rate_per_min\n39,Italy,IT,landline,0.016\n"))
	plans := writeFile(t, "plans.json", []byte(`[{"plan":"P","name":"P","effective_from":"2026-10-01","buckets":[]}]`))
	calls := writeFile(t, "calls.json", array(append(licensed("contoso"), someCall("contoso", "a", "user000@contoso.example", 60))))
	engine := []string{"--nats", r.NATSAddress}
	offline := []string{"--data", r.dir}
	for _, c := range []struct {
		args, where []string
		field       string
	}{
		{[]string{"import-catalog"}, engine, "booked"},
		{[]string{"import-catalog", plans, "--tenant", "contoso"}, engine, "booked"},
		{[]string{"import-deck", deck, "--version", "1", "--currency", "EUR", "--effective-from", "2026-10-01T00:00:00Z"}, engine, "booked"},
		{[]string{"publish", calls}, engine, "booked"},
		{[]string{"status"}, engine, "tenants"},
		{append([]string{"pools"}, month...), engine, "pools"},
		{append([]string{"pools"}, month...), offline, "pools"},
		{append([]string{"invoice", "--country", "IT", "--plan", "DOMESTIC_120"}, month...), engine, "invoices"},
		{append([]string{"invoice"}, month...), offline, "invoices"},
		{append([]string{"replay"}, month...), offline, "pools"},
		{append([]string{"replay", "--at", "3"}, month...), offline, "invoices"},
		{[]string{"verify"}, offline, "blocks"},
	} {
		p := command(t, append(append(c.args, "--format", "json"), c.where...)...)
		if p.code != exitDone || p.err != "" || strings.Count(p.out, "\n") != 1 {
			t.Errorf("%v: exit status %d, printed %q and %q", c.args, p.code, p.out, p.err)
			continue
		}
		if fields := decoded[map[string]jsontext.Value](t, p.out); fields[c.field] == nil {
			t.Errorf("%v prints no %s: %s", c.args, c.field, p.out)
		}
		// And for people, which must not look like it.
		p = command(t, append(c.args, c.where...)...)
		if p.code != exitDone || p.err != "" || p.out == "" || jsontext.Value(p.out).IsValid() || strings.Contains(p.out, "\x1b") {
			t.Errorf("%v: exit status %d, printed %q and %q", c.args, p.code, p.out, p.err)
		}
	}
}
