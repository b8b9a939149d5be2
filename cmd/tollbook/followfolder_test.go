package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tollbook/domain"
)

// once runs follow to the end of everything.
func once(t *testing.T, r *rig, w watched, state string, more ...string) (publishReport, printed) {
	t.Helper()
	p := command(t, append(w.args(state, more...), "--once", "--nats", r.NATSAddress)...)
	if p.code != exitDone {
		t.Fatalf("follow --once: exit status %d: %s", p.code, p.err)
	}
	return decoded[publishReport](t, p.out), p
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestFollowFolder: each file of a folder is sent once; one that changes is sent
// again, one that is still being written is not, and what does not match is left alone.
func TestFollowFolder(t *testing.T) {
	w := asLines()
	r := newRig(t)
	dir, state := t.TempDir(), filepath.Join(t.TempDir(), "state")
	file := func(name string) string { return filepath.Join(dir, name) }
	put(t, file("1.cdr.json"), w.row(1))
	put(t, file("2.cdr.json"), strings.TrimSpace(w.row(2)))
	put(t, file("3.cdr.json"), "["+strings.TrimSpace(w.row(3))+",\n"+w.row(4)+"]")
	put(t, file("empty.cdr.json"), "")
	put(t, file("4.json.tmp"), "{")
	put(t, file("sub/5.cdr.json"), w.row(99))
	args := []string{dir, "--pattern", "*.cdr.json"}
	if got, p := once(t, r, w, state, args...); got.Booked != 4 || got.Received != 4 {
		t.Errorf("at first: %+v\n%s", got, p.err)
	}
	if got, _ := once(t, r, w, state, args...); got.Received != 0 {
		t.Errorf("once more: %+v", got)
	}
	put(t, file("1.cdr.json"), w.row(1)+w.row(5))
	put(t, file("empty.cdr.json"), w.row(6))
	if got, _ := once(t, r, w, state, args...); got.Received != 3 || got.Booked != 2 || got.Duplicate != 1 {
		t.Errorf("after changes: %+v", got)
	}

	// A file that can't be cut is named, is no success, and holds nothing up. What was
	// before the fault is booked.
	put(t, file("broken.cdr.json"), "["+w.row(7))
	put(t, file("whole.cdr.json"), w.row(8))
	p := command(t, append(w.args(state, args...), "--once", "--nats", r.NATSAddress)...)
	if p.code != exitFailed || !strings.Contains(p.err, "broken.cdr.json") || decoded[publishReport](t, p.out).Booked != 2 {
		t.Errorf("exit status %d, %s\n%s", p.code, p.out, p.err)
	}
	put(t, file("broken.cdr.json"), w.row(7))
	if got, _ := once(t, r, w, state, args...); got.Duplicate != 1 || got.Received != 1 {
		t.Errorf("mended: %+v", got)
	}

	// Without its state all is sent again, which does no harm.
	if got, _ := once(t, r, w, state+".new-one", args...); got.Duplicate != 8 || got.Received != 8 {
		t.Errorf("with a new state: %+v", got)
	}
	r.stop()
	checkOnce(t, r.dir, w.sw, upTo(9))
}

// TestFollowMoveTo: files are moved once they are booked, none over another.
func TestFollowMoveTo(t *testing.T) {
	w := asLines()
	r := newRig(t)
	root := t.TempDir()
	dir, done, state := filepath.Join(root, "in"), filepath.Join(root, "done"), filepath.Join(root, "state")
	if err := os.Mkdir(done, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{dir, "--move-to", done}
	for i := 1; i <= 3; i++ { // each time a file of the same name
		put(t, filepath.Join(dir, "cdr.json"), w.row(i))
		if got, _ := once(t, r, w, state, args...); got.Booked != 1 || got.Received != 1 {
			t.Errorf("file %d: %+v", i, got)
		}
	}
	for dir, want := range map[string]string{dir: "", done: "cdr.json cdr.json.1 cdr.json.2"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s has %q, want %q", dir, got, want)
		}
	}
	r.stop()
	checkOnce(t, r.dir, w.sw, upTo(4))
}

// TestFollowFolderRuns: files come to a folder while follow runs, in pieces or by
// a rename, and the folder itself comes late.
func TestFollowFolderRuns(t *testing.T) {
	w := asTable(t)
	r := newRig(t)
	r.book(w.configs...)
	dir := filepath.Join(t.TempDir(), "late")
	f := &following{t: t, r: r, args: w.args(filepath.Join(t.TempDir(), "state"), dir+string(filepath.Separator), "--pattern", "*.csv")}
	f.start()
	next := 1
	for i := range 30 {
		text := w.header
		for range 20 {
			text += w.row(next)
			next++
		}
		path := filepath.Join(dir, fmt.Sprintf("PSTN.calls.%d.csv", i))
		if i%2 == 0 {
			put(t, path+".part", text)
			if err := os.Rename(path+".part", path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		put(t, path, text[:len(text)/2])
		put(t, path, text)
	}
	r.until("all is booked", func() bool { return r.intake("contoso").Booked == uint64(next) })
	f.stop()
	if in := r.intake("contoso"); in.Duplicate != 0 {
		t.Errorf("files were sent twice: %+v", in)
	}
	r.stop()
	checkOnce(t, r.dir, w.sw, upTo(next))
}

// TestFollowGrow: a folder of files that grow, such as Asterisk's one for each
// account, some of which come while follow runs; each is rotated by itself.
func TestFollowGrow(t *testing.T) {
	w := asTable(t)
	r := newRig(t)
	r.book(w.configs...)
	dir := t.TempDir()
	args := []string{dir, "--grow", "--pattern", "*.csv"}
	f := &following{t: t, r: r, args: w.args(filepath.Join(t.TempDir(), "state"), args...)}
	f.start()
	s := newScribe(t, w, "")
	accounts := map[string]*os.File{}
	for i := range 60 {
		account := []string{"acme", "acme-north", "initech", "globex"}[(i/3)%4]
		s.path, s.file = filepath.Join(dir, account+".csv"), accounts[account]
		s.write(10)
		if i%13 == 0 {
			r.until("all is booked", func() bool { return r.intake("contoso").Booked == uint64(s.next) })
			s.shift()
			s.open()
		}
		if i == 27 {
			f.stop()
		}
		if i == 38 {
			f.start()
		}
		accounts[account] = s.file
	}
	r.until("all is booked", func() bool { return r.intake("contoso").Booked == uint64(s.next) })
	f.stop()
	for _, file := range accounts {
		_ = file.Close()
	}
	s.file = nil
	if strings.Contains(f.errs, "may be missing") {
		t.Error(f.errs)
	}
	r.stop()
	checkOnce(t, r.dir, w.sw, upTo(s.next))
}

// TestFollowFreeSWITCH: what mod_xml_cdr leaves in its folder is read file by file.
func TestFollowFreeSWITCH(t *testing.T) {
	r := newRig(t)
	r.book(domain.Event{Tenant: "acme", Source: "admin", ID: "fs-a", Time: instant("2026-11-01T00:00:00Z"), Data: &domain.SwitchConfig{
		Switch: "fs-a", Format: "freeswitch-xml", Country: "CH", NationalPrefix: "0", InternationalPrefixes: []string{"00", "011"}, InternalDigits: []int{3, 4},
		TimeZone: "Europe/Zurich", User: "{sip_from_user}@{accountcode}|{sip_P-Asserted-Identity}@{accountcode}",
		Options: map[string]string{"direction": "sip_h_X-Rig-Dir"},
	}})
	args := []string{"follow", "../../consumers/cdr/testdata/freeswitch", "--pattern", "*.cdr.xml", "--from", "freeswitch-xml", "--tenant", "acme", "--switch", "fs-a",
		"--state", filepath.Join(t.TempDir(), "state"), "--settle", "0s", "--once", "--format", "json", "--nats", r.NATSAddress}
	if got := decoded[publishReport](t, done(t, args...)); got.Booked != 2 || got.Received != 2 {
		t.Errorf("of two legs: %+v", got)
	}
	args[1] = "../../consumers/cdr/testdata/freeswitch/a_leg.cdr.xml"
	refused(t, exitFailed, "a record of this format is a whole file: follow its folder", append(args[:2:2], args[4:]...)...)
}

// TestFollowState: a state that is damaged, another switch's or in use is refused; one
// whose file is another by now leads to a warning, and nothing is left out.
func TestFollowState(t *testing.T) {
	w := asLines()
	r := newRig(t)
	dir := t.TempDir()
	path, state := filepath.Join(dir, "calls.jsonl"), filepath.Join(dir, "state")
	put(t, path, w.row(1)+w.row(2))
	if got, _ := once(t, r, w, state, path); got.Booked != 2 {
		t.Fatalf("%+v", got)
	}
	whole, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	follow := append(w.args(state, path), "--once", "--nats", r.NATSAddress)
	for what, c := range map[string]struct{ text, line string }{
		"cut":            {string(whole[:len(whole)-10]), "the state file is damaged"},
		"empty":          {"", "no state file of 'tollbook follow'"},
		"something else": {"hello\n", "no state file of 'tollbook follow'"},
	} {
		put(t, state, c.text)
		if p := command(t, follow...); p.code != exitFailed || !strings.Contains(p.err, c.line) || !strings.Contains(p.err, "move it away") {
			t.Errorf("%s: exit status %d: %s", what, p.code, p.err)
		}
	}
	put(t, state, string(whole))
	other := w
	other.sw = "mil-2"
	refused(t, exitFailed, "it is the state of tenant contoso, format cloudevents, switch mil-1, not of tenant contoso, format cloudevents, switch mil-2", append(other.args(state, path), "--once", "--nats", r.NATSAddress)...)

	f := &following{t: t, r: r, args: w.args(state, path)}
	put(t, path, w.row(1)+w.row(2)+w.row(3))
	f.start()
	r.until("all is booked", func() bool { return r.intake("contoso").Booked == 3 })
	refused(t, exitFailed, fmt.Sprintf("process %d has the state", os.Getpid()), follow...)
	f.stop()

	put(t, path, w.row(4)+w.row(5)+w.row(6)+w.row(7)) // in place, without a copy of what was there
	got, p := once(t, r, w, state, path)
	if got.Booked != 4 || strings.Count(p.err, "records may be missing") != 1 || !strings.Contains(p.err, fmt.Sprintf(`"from byte"=%d`, len(w.row(1))*3)) {
		t.Errorf("with another file: %+v\n%s", got, p.err)
	}
	if got, p := once(t, r, w, state, path); got.Received != 0 || strings.Contains(p.err, "missing") {
		t.Errorf("after that: %+v\n%s", got, p.err)
	}
}

// TestFollowBadLines: a quote that does not close, garbage, and a line longer than
// can be sent cost themselves and nothing beside them.
func TestFollowBadLines(t *testing.T) {
	w := asTable(t)
	r := newRig(t)
	r.book(w.configs...)
	dir := t.TempDir()
	path, state := filepath.Join(dir, "calls.csv"), filepath.Join(dir, "state")
	text := w.header
	for i := 1; i <= 300; i++ {
		switch i {
		case 100:
			text += "100;\"a quote that never closes;200\r\n"
		case 200:
			text += strings.Repeat("x", maxRecordBytes+100) + "\r\n"
		default:
			text += w.row(4 * i) // those on one line
		}
	}
	put(t, path, text)
	p := command(t, append(w.args(state, path), "--once", "--nats", r.NATSAddress)...)
	got := decoded[publishReport](t, p.out)
	if got.Booked != 298 || got.Suspended != 1 || got.Received != 299 {
		t.Errorf("%+v", got)
	}
	if p.code != exitFailed || strings.Count(p.err, "a line is longer than can be sent") != 1 || !strings.Contains(p.err, "suspended: position") {
		t.Errorf("exit status %d: %s", p.code, p.err)
	}
	if got, _ := once(t, r, w, state, path); got.Received != 0 {
		t.Errorf("once more: %+v", got)
	}
}

// TestFollowUsage: what can't be meant is refused in a line.
func TestFollowUsage(t *testing.T) {
	w := asLines()
	state, dir := filepath.Join(t.TempDir(), "state"), t.TempDir()
	file := writeFile(t, "x.jsonl", nil)
	for _, c := range []struct {
		line string
		args []string
	}{
		{"give the files or folders to follow", nil},
		{"--ami goes without files", []string{file, "--ami", "127.0.0.1:5038"}},
		{"--ami needs --user and --secret-file", []string{"--ami", "127.0.0.1:5038"}},
		{"--ami \"asterisk\": must be HOST:PORT", []string{"--ami", "asterisk", "--user", "a", "--secret-file", file}},
		{"--once goes with files", []string{"--ami", "127.0.0.1:5038", "--user", "a", "--secret-file", file, "--once"}},
		{"need --ami", []string{file, "--user", "a"}},
		{"--poll 1ms: must be", []string{file, "--poll", "1ms"}},
		{"--settle", []string{file, "--settle", "48h"}},
		{"--pattern \"[\"", []string{dir, "--pattern", "["}},
		{"--grow needs --pattern", []string{dir, "--grow"}},
		{"--move-to goes with folders", []string{file, "--move-to", dir}},
		{"is a folder that is followed", []string{dir, "--move-to", dir}},
		{"is compressed and does not grow", []string{file + ".gz"}},
		{"no such file", []string{dir, "--move-to", filepath.Join(dir, "none")}},
	} {
		p := command(t, w.args(state, append(c.args, "--nats", "nats://127.0.0.1:1")...)...)
		if p.code == exitDone || !strings.Contains(p.err, c.line) || strings.Count(p.err, "\n") != 1 {
			t.Errorf("%v: exit status %d: %s, want %q", c.args, p.code, p.err, c.line)
		}
	}
}
