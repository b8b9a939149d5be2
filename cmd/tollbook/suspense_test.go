package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/micro"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
)

// A story is a file of command lines that begin with $, each with what it prints,
// and of comments that begin with #. Its commands run in a shell, with the
// program, in a directory that has the story's files.
type story struct {
	t       *testing.T
	dir     string
	env     []string
	clock   *setClock // the engine's; nil if it goes by itself
	printed string    // the command that the last output proposed
}

// thePrinted stands for the command that the output before it proposed.
const thePrinted = "(the command it printed)"

// theClock begins what sets the engine's clock: (it is 2026-11-02T09:30:00Z).
const theClock = "(it is "

func newStory(t *testing.T, files string, env ...string) *story {
	t.Helper()
	s := &story{t: t, dir: t.TempDir()}
	if err := os.CopyFS(s.dir, os.DirFS(files)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "tollbook")); err != nil {
		t.Fatal(err)
	}
	s.env = append(os.Environ(), asProgram+"=1", "PATH="+bin+":"+os.Getenv("PATH"))
	// A program built with -race sleeps for a second before it ends.
	s.env = append(s.env, "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	s.env = append(s.env, env...)
	return s
}

// tell runs the story and returns it as it went.
func (s *story) tell(text string) string {
	var told strings.Builder
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case isCommand:
			fmt.Fprintf(&told, "%s\n%s\n", line, s.run(command))
		case strings.HasPrefix(line, "#"):
			fmt.Fprintln(&told, line)
		}
	}
	return told.String()
}

// run runs a command line, and returns what it printed on both streams, without
// what differs from run to run.
func (s *story) run(line string) string {
	s.t.Helper()
	if line == thePrinted {
		line = s.printed
	}
	if at, ok := strings.CutPrefix(line, theClock); ok && s.clock != nil {
		s.clock.set(strings.TrimSuffix(at, ")"))
		return ""
	}
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir, cmd.Env = s.dir, s.env
	out, err := cmd.CombinedOutput()
	text := string(out)
	if _, exited := err.(*exec.ExitError); exited {
		text += fmt.Sprintf("[exit status %d]\n", cmd.ProcessState.ExitCode())
	} else if err != nil {
		s.t.Fatalf("%s: %v", line, err)
	}
	_, s.printed, _ = strings.Cut(text, "to do it: ")
	s.printed, _, _ = strings.Cut(s.printed, "\n")
	for _, r := range varying {
		text = r.what.ReplaceAllString(text, r.is)
	}
	return text
}

// varying is what differs from run to run: what the engine's clock said.
var varying = []struct {
	what *regexp.Regexp
	is   string
}{
	{regexp.MustCompile(`\d+ (s|min|h) ago`), "0 s ago"},
	{regexp.MustCompile(`  \d+ (s|min|h) +`), "  0 s     "},
	{regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z`), "2026-11-02T09:30:00.123456789Z"},
	{regexp.MustCompile(`sha256:[0-9a-f]{64}`), "sha256:…"},
}

// TestSuspenseStory is a morning at the desk.
func TestSuspenseStory(t *testing.T) {
	r := newRig(t)
	text, err := os.ReadFile("testdata/suspense.txt")
	if err != nil {
		t.Fatal(err)
	}
	s := newStory(t, "testdata/suspense", "TOLLBOOK_NATS="+r.NATSAddress, "DATA="+r.dir)
	golden(t, "suspense.txt", s.tell(string(text)))
}

// suspendedCall is a call whose number no switch has.
func suspendedCall(id string) []byte {
	return bytes.Replace(ndjson([]domain.Event{someCall("contoso", id, "user000@contoso.example", 60)}), []byte("+390612345678"), []byte("0612345678"), 1)
}

// TestSuspenseJSON: each command prints one line of JSON, and what is asked of the
// engine and of its book is the same.
func TestSuspenseJSON(t *testing.T) {
	r := newRig(t)
	r.book(licensed("contoso")...)
	for _, id := range []string{"a", "b", "c"} {
		r.request("tollbook.contoso.call.completed", suspendedCall(id))
	}
	edited := writeFile(t, "edited.json", ndjson([]domain.Event{someCall("contoso", "a", "user000@contoso.example", 60)}))
	as := func(args ...string) []string { return append([]string{"suspense"}, args...) }
	for _, c := range []struct {
		args    []string
		offline bool
		field   string
	}{
		{as("list"), true, "groups"},
		{as("list", "--limit", "1", "--tenant", "contoso"), true, "next"},
		{as("show", "4"), true, "raw"},
		{as("recycle", "4", "--edited", edited, "--dry-run", "--by", "ada"), false, "outcomes"},
		{as("recycle", "4", "--edited", edited, "--by", "ada", "--why", "asked the switch"), false, "counts"},
		{as("show", "4"), true, "became"},
		{as("write-off", "--reason", "syntax", "--why", "test calls", "--by", "ada"), false, "dry_run"},
		{as("write-off", "5", "--why", "test calls", "--by", "ada"), false, "outcomes"},
		{as("show", "5"), true, "why"},
		{as("list"), true, "records"},
	} {
		p := command(t, append(c.args, "--format", "json", "--nats", r.NATSAddress)...)
		if p.code != exitDone || p.err != "" || strings.Count(p.out, "\n") != 1 {
			t.Fatalf("%v: exit status %d, printed %q and %q", c.args, p.code, p.out, p.err)
		}
		if fields := decoded[map[string]jsontext.Value](t, p.out); fields[c.field] == nil {
			t.Errorf("%v prints no %s: %s", c.args, c.field, p.out)
		}
		if c.offline {
			if offline := done(t, append(c.args, "--format", "json", "--data", r.dir)...); offline != p.out {
				t.Errorf("%v: of the book alone (-engine +book):\n%s", c.args, cmp.Diff(p.out, offline))
			}
		}
	}
	// What is refused is printed, and is a failure.
	p := command(t, "suspense", "recycle", "4", "5", "6", "--by", "ada", "--format", "json", "--nats", r.NATSAddress)
	doc := decoded[api.ResolveDocument](t, p.out)
	if p.code != exitFailed || p.err != "tollbook: 3 of 3 records refused\n" || doc.Counts[consumers.OutcomeRefused] != 3 || doc.DryRun {
		t.Errorf("exit status %d, printed %q and %q", p.code, p.out, p.err)
	}
	in := r.intake("contoso")
	if in.Received != 6 || in.Booked != 4 || in.Suspended != 2 || in.WrittenOff != 1 {
		t.Errorf("%+v", in)
	}
	if status := r.ask("status"); !strings.HasSuffix(status, "\ncontoso: of the 2 suspended, 1 written off\n") {
		t.Errorf("status prints %q", status)
	}
	if show := r.ask("suspense", "show", "4", "--raw"); show != strings.TrimSuffix(string(suspendedCall("a")), "\n") {
		t.Errorf("the bytes of record 4: %q", show)
	}
}

func TestSuspenseWrongUsage(t *testing.T) {
	nobody := []string{"--nats", "nats://127.0.0.1:1"}
	file := writeFile(t, "edited.json", []byte("{}"))
	dir := t.TempDir()
	for _, c := range []struct {
		line string
		args []string
	}{
		{"--limit 0: must be 1 to 1000", []string{"list", "--limit", "0"}},
		{"--limit 1001: must be 1 to 1000", []string{"--limit", "1001"}},
		{"--limit -1", []string{"list", "--limit=-1"}},
		{"--data", []string{"list", "--data", filepath.Join(dir, "nowhere")}},
		{"<position>", []string{"show"}},
		{"<position>", []string{"show", "first"}},
		{"name records by their positions, or choose them", []string{"recycle"}},
		{"name records by their positions, or choose them", []string{"recycle", "--up-to", "7", "--yes"}},
		{"name records by their positions, or choose them", []string{"write-off", "--why", "x"}},
		{"not both", []string{"recycle", "7", "--tenant", "contoso"}},
		{"not both", []string{"write-off", "7", "--up-to", "9", "--why", "x"}},
		{"--why", []string{"write-off", "7"}},
		{"are for one record", []string{"recycle", "7", "8", "--edited", file}},
		{"are for one record", []string{"recycle", "--reason", "syntax", "--subject", "tollbook.contoso.call.completed"}},
		{"--edited", []string{"recycle", "7", "--edited", filepath.Join(dir, "nowhere")}},
		{"--by \"Ada Lovelace\": must be a name", []string{"recycle", "7", "--by", "Ada Lovelace"}},
		{"--by", []string{"write-off", "7", "--why", "x", "--by", strings.Repeat("x", 65)}},
		{"unknown flag -7", []string{"recycle", "-7"}},
	} {
		refused(t, exitUsage, c.line, append(append([]string{"suspense"}, c.args...), nobody...)...)
	}
	for _, args := range [][]string{{"list"}, {"show", "7"}, {"recycle", "7"}, {"write-off", "7", "--why", "x"}} {
		refused(t, exitFailed, "NATS at nats://127.0.0.1:1", append(append([]string{"suspense"}, args...), nobody...)...)
	}
	refused(t, exitFailed, "there is no book in "+dir, "suspense", "list", "--data", dir)

	r := newRig(t)
	r.book(licensed("contoso")...)
	ask := func(args ...string) []string {
		return append(append([]string{"suspense"}, args...), "--nats", r.NATSAddress)
	}
	refused(t, exitFailed, "position 3 is a tollbook.license.assigned.v1, no record in suspense", ask("show", "3")...)
	refused(t, exitFailed, "position 9: the book has no such position", ask("show", "9")...)
	refused(t, exitFailed, "position 0: the book has no such position", ask("show", "0")...)
	refused(t, exitFailed, "position 3 is a", "suspense", "show", "3", "--data", r.dir)
	refused(t, exitFailed, "why: must be one line of text", ask("write-off", "3", "--why", "one\ntwo")...)
	refused(t, exitFailed, "must have at most 1024 bytes", ask("recycle", "3", "--why", strings.Repeat("x", 1025))...)
	refused(t, exitFailed, "has more than", ask("recycle", "3", "--edited", writeFile(t, "huge", bytes.Repeat([]byte("x"), 5<<20)))...)

	// Nothing is there: nothing to do, and no command that would do it to what comes later.
	for _, args := range [][]string{ask("recycle", "--tenant", "contoso"), ask("write-off", "--tenant", "contoso", "--why", "x", "--yes")} {
		if out := done(t, args...); out != "No record in suspense is like that; 'tollbook suspense list' shows them.\n" {
			t.Errorf("%v prints %q", args, out)
		}
	}
	if out := done(t, ask()...); out != "Nothing is in suspense (position 3).\n" {
		t.Errorf("prints %q", out)
	}
}

// TestSuspenseDamaged: of a book that is damaged the desk says so, and what to do.
func TestSuspenseDamaged(t *testing.T) {
	r := newRig(t)
	r.book(licensed("contoso")...)
	r.request("tollbook.contoso.call.completed", suspendedCall("a"))
	r.stop()
	flipBit(t, r.dir, 2)
	refused(t, exitCheck, "block 2: ", "suspense", "list", "--data", r.dir)
}

// TestSuspenseRequests: what others than the commands may ask.
func TestSuspenseRequests(t *testing.T) {
	r := newRig(t)
	r.book(licensed("contoso")...)
	for _, id := range []string{"a", "b", "c"} {
		r.request("tollbook.contoso.call.completed", suspendedCall(id))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	contoso := `{"of":{"tenant":"contoso"},"why":"x"}`
	for _, c := range []struct{ subject, payload, want string }{
		{"as.ä.suspense.recycle", contoso, `must be a name of 1 to 64 letters`},
		{"as.a!b.suspense.recycle", contoso, `must be a name of 1 to 64 letters`},
		{"as." + strings.Repeat("x", 65) + ".suspense.write-off", contoso, `must be a name of 1 to 64 letters`},
		{"as.ada.suspense.recycle", "", "must be JSON such as"},
		{"as.ada.suspense.recycle", "{\n\"positions\": [4,\n]}", "must be JSON such as"},
		{"as.ada.suspense.recycle", `{"positions":["4"]}`, "must be JSON such as"},
		{"as.ada.suspense.recycle", `{"positions":[-4]}`, "must be JSON such as"},
		{"as.ada.suspense.recycle", `{"positions":[4],"edited":"not base64"}`, "must be JSON such as"},
		{"as.ada.suspense.recycle", `{}`, "name records by position"},
		{"as.ada.suspense.recycle", `{"of":{}}`, "name records by position"},
		{"as.ada.suspense.recycle", `{"of":{"up_to":9}}`, "name records by position"},
		{"as.ada.suspense.recycle", `{"of":{"tenant":"contoso"},"positions":[4]}`, "not both"},
		{"as.ada.suspense.recycle", `{"of":{"tenant":"contoso","limit":-1}}`, "limit -1"},
		{"as.ada.suspense.recycle", `{"of":{"tenant":"contoso"},"edited":"e30="}`, "3 records can't become one"},
		{"as.ada.suspense.write-off", `{"positions":[4]}`, "needs a reason"},
		{"as.ada.suspense.write-off", `{"positions":[4],"why":"one\ntwo"}`, "one line of text"},
		{"suspense.list", "", "must be JSON such as"},
		{"suspense.list", `{"limit":1001}`, "limit 1001: must be 1 to 1000"},
		{"suspense.list", `{"limit":-1}`, "limit -1: must be 1 to 1000"},
		{"suspense.show", "4", "must be JSON such as"},
		{"suspense.show", `{}`, "position 0: the book has no such position"},
		{"suspense.show", `{"position":1}`, "position 1 is a tollbook.plan.published.v1"},
	} {
		msg, err := r.nc.RequestWithContext(ctx, api.Prefix+c.subject, []byte(c.payload))
		if err != nil {
			t.Fatalf("%s %s: %v", c.subject, c.payload, err)
		}
		said := msg.Header.Get(micro.ErrorHeader)
		if msg.Header.Get(micro.ErrorCodeHeader) != "400" || !strings.Contains(said, c.want) || strings.Contains(said, "\n") || len(said) > 400 {
			t.Errorf("%s %s: %v, want 400 and one line with %q", c.subject, c.payload, msg.Header, c.want)
		}
	}
	if in := r.intake("contoso"); in.Suspended != 3 || in.WrittenOff != 0 || in.Received != 6 {
		t.Errorf("%+v", in)
	}
	// A request takes a part of the records in the same words as a list.
	for _, c := range []struct {
		of   api.SuspenseRequest
		want []uint64
	}{
		{api.SuspenseRequest{Tenant: "contoso", Limit: 2}, []uint64{4, 5}},
		{api.SuspenseRequest{Tenant: "contoso", After: 4}, []uint64{5, 6}},
		{api.SuspenseRequest{Tenant: "contoso", After: 4, UpTo: 5, Limit: 9}, []uint64{5}},
		{api.SuspenseRequest{Tenant: "fabrikam"}, nil},
		{api.SuspenseRequest{Source: "switch/mil-1", Reason: "syntax"}, []uint64{4, 5, 6}},
	} {
		doc, err := r.client.WriteOff(ctx, "ada", api.ResolveRequest{Of: &c.of, Why: "x", DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		var got []uint64
		for _, o := range doc.Outcomes {
			got = append(got, o.Position)
		}
		if diff := cmp.Diff(c.want, got); diff != "" || doc.UpTo != max(0, last(c.want)) {
			t.Errorf("%+v, up to %d (-want +got):\n%s", c.of, doc.UpTo, diff)
		}
	}
	if _, err := r.client.Recycle(ctx, "ada.lovelace", api.ResolveRequest{Positions: []uint64{4}}); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("a name with a dot: %v", err)
	}
	text, err := json.Marshal(api.ResolveRequest{Positions: []uint64{4}, Edited: []byte{}})
	if err != nil || string(text) != `{"positions":[4],"edited":""}` {
		t.Errorf("an edited record that is empty is no record as it came: %s, %v", text, err)
	}
}

func last(list []uint64) uint64 {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1]
}

// TestWho: nobody's name is bent into another, but that of a machine's user may be.
func TestWho(t *testing.T) {
	for _, c := range []struct {
		address engineAddress
		by      string
		want    string
	}{
		{engineAddress{}, "ada", "ada"},
		{engineAddress{natsLogin: natsLogin{User: "desk@milan"}}, "", "desk@milan"},
		{engineAddress{natsLogin: natsLogin{User: "Gräfin L."}}, "", "Gr_fin_L_"},
		{engineAddress{natsLogin: natsLogin{User: strings.Repeat("x", 80)}}, "", strings.Repeat("x", 64)},
	} {
		if got := c.address.who(c.by); got != c.want {
			t.Errorf("%+v %q: %q, want %q", c.address, c.by, got, c.want)
		}
	}
	if who := (engineAddress{}).who(""); who == "" || asActor(who) != who {
		t.Errorf("without a name, %q", who)
	}
}

// TestQuoted: a shell reads what is printed as it was meant.
func TestQuoted(t *testing.T) {
	for _, s := range []string{"-", "contoso", "switch/mil-1", "it's", "a b", "$HOME `x` \"y\" \\", "*", "é", "#x", "~", "a=b;c&d|e"} {
		out, err := exec.Command("sh", "-c", "printf %s --why="+api.Quoted(s)).Output()
		if err != nil || string(out) != "--why="+s {
			t.Errorf("%q is read as %q, %v", s, out, err)
		}
	}
}
