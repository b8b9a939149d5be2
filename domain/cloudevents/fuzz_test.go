package cloudevents_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/domain/cloudevents"
)

// seeds are the events of canonical.txt, as written and as kept.
func seeds(f *testing.F) (events []string) {
	file, err := os.ReadFile("testdata/canonical.txt")
	if err != nil {
		f.Fatal(err)
	}
	for text := range strings.SplitSeq(string(file), "\n\n") {
		if p := parseParagraph(text); p.body != "" {
			events = append(events, p.body, p.want)
		}
	}
	return events
}

// FuzzDecode: what decodes has a canonical form that decodes to the same event;
// what does not has one line that says why.
func FuzzDecode(f *testing.F) {
	for _, event := range seeds(f) {
		f.Add([]byte(event), "")
		f.Add([]byte(event), "contoso")
	}
	f.Fuzz(func(t *testing.T, raw []byte, tenant string) {
		before := bytes.Clone(raw)
		e, err := cloudevents.Decode(raw, tenant)
		if !bytes.Equal(raw, before) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			if line := err.Error(); line == "" || len(line) > 400 || strings.ContainsAny(line, "\n\r") {
				t.Fatalf("not one short line: %q", line)
			}
			return
		}
		canonical := cloudevents.Append(nil, &e)
		clear(raw) // the event must not lean on it
		checkCanonical(t, e, canonical)
	})
}

// FuzzSplit: elements stand in the payload in order, apart from each other, and
// only white space and what holds an array together is between them.
func FuzzSplit(f *testing.F) {
	events := seeds(f)
	for _, event := range events {
		f.Add([]byte(event))
	}
	f.Add([]byte("[" + strings.Join(events, ",") + "]"))
	f.Add([]byte("\ufeff" + strings.Join(events, "\r\n")))
	f.Add([]byte("[]"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if bytes.Count(payload, []byte("\n"))+bytes.Count(payload, []byte(",")) >= cloudevents.MaxEventsPerMessage {
			return
		}
		rest := bytes.TrimPrefix(payload, []byte("\ufeff"))
		err := cloudevents.Split(payload, func(raw []byte) error {
			at := bytes.Index(rest, raw)
			if at < 0 || len(raw) == 0 {
				t.Fatalf("%q is not in %q", raw, rest)
			}
			if between := strings.Trim(string(rest[:at]), " \t\r\n,["); between != "" {
				t.Fatalf("%q was passed over", between)
			}
			rest = rest[at+len(raw):]
			if e, err := cloudevents.Decode(raw, ""); err == nil {
				again := cloudevents.Append(nil, &e)
				for _, form := range [][]byte{again, append(append([]byte{'['}, again...), ']')} {
					if err := cloudevents.Split(form, func(raw []byte) error {
						back, err := cloudevents.Decode(raw, "")
						if err != nil || !cmp.Equal(e, back, sameEvent) {
							t.Fatalf("another event came back: %v\n%s", err, cmp.Diff(e, back, sameEvent))
						}
						return nil
					}); err != nil {
						t.Fatal(err)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if left := strings.Trim(string(rest), " \t\r\n[]"); left != "" {
			t.Fatalf("%q was passed over", left)
		}
	})
}
