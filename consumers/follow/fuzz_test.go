package follow

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/consumers/cdr"
	"tollbook/domain/cloudevents"
)

func cutterOf(t testing.TB, framing cdr.Framing) cutter {
	t.Helper()
	switch framing {
	case cdr.Table:
		format, ok := cdr.Lookup("csv")
		if !ok {
			t.Fatal("no format csv")
		}
		return cutter{framing, format.Split}
	case cdr.Rows:
		return cutter{framing, func(payload []byte, each func([]byte) error) error {
			rows, err := cdr.CutRows(payload)
			for _, row := range rows {
				if err := each(row); err != nil {
					return err
				}
			}
			return err
		}}
	}
	return cutter{framing, cloudevents.Split}
}

// cutAll cuts a file that has come as far as the steps say, and is over at the end.
func cutAll(t testing.TB, c cutter, file []byte, steps []int) (records []string) {
	t.Helper()
	at, begun, header := 0, false, []byte(nil)
	for _, end := range append(steps, len(file)) {
		for final := end == len(file); ; {
			p := c.next(file[at:end], header, begun, final)
			if p.size < 0 || p.size > end-at || p.payload != nil && p.size == 0 {
				t.Fatalf("a piece of %d bytes of %d: %q", p.size, end-at, p.payload)
			}
			if p.payload != nil {
				err := c.split(p.payload, func(raw []byte) error { records = append(records, string(raw)); return nil })
				if err != nil {
					records = append(records, "refused: "+err.Error())
				}
			}
			at, begun, header = at+p.size, p.begun, p.header
			if p.size == 0 {
				break
			}
		}
	}
	if at != len(file) {
		t.Fatalf("%d of %d bytes were cut", at, len(file))
	}
	return records
}

// FuzzCut: whatever is in a file, all of it is passed, and where the file was seen
// half written makes no difference to its records.
func FuzzCut(f *testing.F) {
	f.Add(uint8(cdr.Objects), []byte("{\"a\":1}\n\n{\"a\":2}\r\n[1]\n{\"a\":3"), uint16(9), uint16(20))
	f.Add(uint8(cdr.Rows), []byte("\"a\",1\n\"b\"\"\n\",2\nc\"d,3\n,4"), uint16(5), uint16(11))
	f.Add(uint8(cdr.Table), []byte("\xef\xbb\xbfa,b\r\n1,2\r\na,b\r\n3,\"4\n\"\r\n5"), uint16(4), uint16(16))
	f.Add(uint8(cdr.Table), []byte("\x00\x00\x00a;b\n\"1;2\n3;4\n"), uint16(1), uint16(8))
	f.Fuzz(func(t *testing.T, framing uint8, file []byte, a, b uint16) {
		c := cutterOf(t, cdr.Framing(framing%3))
		if len(file) > 64<<10 {
			return
		}
		first, second := min(int(a), len(file)), min(int(b), len(file))
		whole := cutAll(t, c, file, nil)
		inParts := cutAll(t, c, file, []int{min(first, second), max(first, second)})
		for _, record := range whole {
			if c.framing != cdr.Objects && strings.Count(record, `"`)%2 != 0 {
				return // which line is a row of its own depends on what was there
			}
		}
		if diff := cmp.Diff(whole, inParts); diff != "" {
			t.Errorf("seen half written, the records differ:\n%s", diff)
		}
	})
}

// TestCutQuotes: a quote that does not close costs its own line, not those after it.
func TestCutQuotes(t *testing.T) {
	c := cutterOf(t, cdr.Rows)
	var file strings.Builder
	for i := range 500 {
		if i == 100 {
			file.WriteString("\"broken,100\n")
			continue
		}
		fmt.Fprintf(&file, "\"a \"\"quoted\"\" name\",%d\n", i)
	}
	records := cutAll(t, c, []byte(file.String()), []int{4000, 9000})
	if len(records) != 500 || records[100] != `"broken,100` || records[499] != `"a ""quoted"" name",499` {
		t.Errorf("%d records; the 100th %q", len(records), records[min(100, len(records)-1)])
	}
}

// FuzzState: nothing but a state that was written is read, and it is read as written.
func FuzzState(f *testing.F) {
	s := &state{Of: "tenant contoso, format csv, switch pbx-1", Positions: []position{{Path: "/x", Offset: 12, Seen: 12, Head: "ab", Last: "ab", Header: []byte("a;b")}}, Done: []string{"AAAA"}}
	data, err := appendState(nil, s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)-1])
	f.Add([]byte(stateMagic))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseState(data)
		if err != nil {
			return
		}
		again, err := appendState(nil, s)
		if err != nil {
			t.Fatal(err)
		}
		read, err := parseState(again)
		if err != nil {
			t.Fatalf("written again it is refused: %v\n%s", err, again)
		}
		if diff := cmp.Diff(s, read); diff != "" {
			t.Errorf("written and read again it differs:\n%s", diff)
		}
	})
}

// TestState: each cut and each change of a byte of a state file is noticed.
func TestState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	s := &state{Of: "x", Positions: []position{{Path: "/x", Offset: 12, Seen: 12, Head: "ab", Last: "ab", Changed: time.Unix(1, 0).UTC()}}}
	if err := writeState(path, s); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if read, err := readState(path, "x"); err != nil || !cmp.Equal(read, s) {
		t.Fatalf("read %+v, %v", read, err)
	}
	refused := func(what string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readState(path, "x"); err == nil {
			t.Errorf("%s is read", what)
		}
	}
	for i := range whole {
		refused(fmt.Sprintf("cut at %d", i), whole[:i])
		changed := bytes.Clone(whole)
		changed[i] ^= 0x20
		refused(fmt.Sprintf("changed at %d", i), changed)
	}
	refused("with more behind it", append(bytes.Clone(whole), '\n'))
	if _, err := readState(filepath.Join(t.TempDir(), "none"), "x"); err != nil {
		t.Errorf("no file: %v", err)
	}
}

// FuzzManager: whatever a manager sends, what is read of it fits the limits and
// becomes one line of JSON.
func FuzzManager(f *testing.F) {
	f.Add([]byte("Event: Cdr\r\nPrivilege: cdr,all\r\nCallerID: \"J\xfcrg\" <1>\r\nUserField: a\r\nb\r\nX:\r\nX: 1\r\n\r\n"))
	f.Add([]byte("\r\n\r\nResponse: Success\r\nPing: Pong\r\n\r\nEvent"))
	f.Add([]byte(": x\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := bufio.NewReader(bytes.NewReader(data))
		for {
			headers, err := readMessage(lines)
			if err != nil {
				return
			}
			if len(headers) == 0 || len(headers) > maxAMIFields+1 {
				t.Fatalf("%d headers", len(headers))
			}
			record := jsontext.Value(appendObject(nil, headers))
			if !record.IsValid(jsontext.AllowDuplicateNames(true)) || bytes.ContainsAny(record, "\r\n") {
				t.Fatalf("not one line of JSON: %q", record)
			}
		}
	})
}

// TestManagerLimits: what is longer than any event ends the connection.
func TestManagerLimits(t *testing.T) {
	for what, data := range map[string]string{
		"a line":  "Event: " + strings.Repeat("x", maxAMILine) + "\r\n\r\n",
		"a value": "Event: Cdr\r\n" + strings.Repeat(strings.Repeat("x", 1000)+"\r\n", maxAMIEvent/1000+1) + "\r\n",
		"headers": strings.Repeat("A: b\r\n", maxAMIFields+2) + "\r\n",
	} {
		if _, err := readMessage(bufio.NewReader(strings.NewReader(data))); err == nil {
			t.Errorf("%s without end is taken", what)
		}
	}
}

// TestRotatedNames: which names rotating gives.
func TestRotatedNames(t *testing.T) {
	for _, c := range []struct {
		base, name string
		want       bool
	}{
		{"Master.csv", "Master.csv", false},
		{"Master.csv", "Master.csv.1", true},
		{"Master.csv", "Master.csv.1.gz", true},
		{"Master.csv", "Master.csv-20261122", true},
		{"Master.csv", "Master-20261122.csv", true},
		{"Master.csv", "Master-20261122.csv.gz", true},
		{"Master.csv", "Masters.csv", false},
		{"Master.csv", "Master.txt", false},
		{"cdr", "cdr.1", true},
		{"cdr", "cdrs", false},
		{".csv", ".csv.1", true},
	} {
		if got := rotatedName(c.base, c.name); got != c.want {
			t.Errorf("%s of %s: %v", c.name, c.base, got)
		}
	}
}

// TestExtends: a file is known by its content, wherever it is, and another one with
// the same inode is not taken for it.
func TestExtends(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		path := filepath.Join(t.TempDir(), "file")
		content := rapid.SliceOfN(rapid.Byte(), 1, 3*printBytes).Draw(rt, "content")
		write := func(path string, data []byte) {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				rt.Fatal(err)
			}
		}
		opened := func(path string) *file {
			o, err := openFile(path, path, time.Time{})
			if err != nil {
				rt.Fatal(err)
			}
			return o
		}
		write(path, content)
		o := opened(path)
		defer o.close()
		data, _, err := o.read(len(content), time.Time{})
		if err != nil {
			rt.Fatal(err)
		}
		o.note(false)
		o.advance(data[:rapid.IntRange(0, len(data)).Draw(rt, "offset")])
		p := o.position
		more := append(bytes.Clone(content), rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(rt, "more")...)
		write(path+".copy", more)
		same := opened(path + ".copy")
		defer same.close()
		if p.Telling && !same.extends(&p) {
			rt.Fatalf("the copy does not extend the position %+v", p)
		}
		if n := int(max(p.Offset, p.Seen)); n > 0 {
			write(path, content[:n-1])
			if o.extends(&p) {
				rt.Fatalf("a file that is too short extends the position %+v", p)
			}
			if _, _, err := o.read(1, time.Time{}); err == nil && p.Offset > 0 && p.Offset >= int64(n) {
				rt.Fatal("a file that was cut is read on")
			}
			at := rapid.IntRange(0, min(n, printBytes)-1).Draw(rt, "changed at")
			changed := bytes.Clone(content)
			changed[at] ^= 1
			write(path, changed)
			if o.extends(&p) {
				rt.Fatal("another file of the same inode is taken for it")
			}
		}
	})
}
