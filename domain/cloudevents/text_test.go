package cloudevents_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

var update = flag.Bool("update", false, "rewrite the expected lines of testdata/*.txt")

// A paragraph of a testdata file: its first line, the lines after it, and what
// the line that begins with > expects.
type paragraph struct {
	head, body, want string
}

// eachParagraph runs check on every paragraph of a file and compares its result
// with the last line, or writes it there.
func eachParagraph(t *testing.T, path string, check func(t *testing.T, p paragraph) string) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for text := range strings.SplitSeq(strings.TrimSpace(string(file)), "\n\n") {
		p, i := parseParagraph(text), len(out)
		out = append(out, text) // what -run leaves out stays as it is
		if p.head == "" {
			continue
		}
		t.Run(p.head, func(t *testing.T) {
			got := check(t, p)
			if got != p.want && !*update {
				t.Errorf("got\n%s\nwant\n%s", got, p.want)
			}
			before, _, _ := strings.Cut(text, "\n>")
			out[i] = before + "\n> " + got
		})
	}
	if *update {
		if err := os.WriteFile(path, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func parseParagraph(text string) (p paragraph) {
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case strings.HasPrefix(line, "# "):
		case strings.HasPrefix(line, ">"):
			p.want = strings.TrimPrefix(line[1:], " ")
		case p.head == "":
			p.head = line
		default:
			p.body += line + "\n"
		}
	}
	return p
}

func TestCanonical(t *testing.T) {
	types := map[domain.Type]bool{}
	eachParagraph(t, "testdata/canonical.txt", func(t *testing.T, p paragraph) string {
		e := mustDecode(t, p.body)
		types[e.Data.Type()] = true
		got := cloudevents.Append(nil, &e)
		checkCanonical(t, e, got)
		return string(got)
	})
	for _, want := range bookedTypes {
		if !types[want] {
			t.Errorf("no event of type %s", want)
		}
	}
}

// bookedTypes are all types that Decode takes.
var bookedTypes = []domain.Type{
	domain.TypeCall, domain.TypeCorrection, domain.TypeVoid, domain.TypeAssignment, domain.TypeRemoval, domain.TypePlan,
	domain.TypeDeck, domain.TypeTenantConfig, domain.TypeSwitchConfig, domain.TypeSuspended, domain.TypeRecycled,
	domain.TypeWrittenOff, domain.TypeGapWaived, domain.TypeMonthClosed, domain.TypeExceptionWaived,
}

func mustDecode(t testing.TB, text string) domain.Event {
	t.Helper()
	e, err := cloudevents.Decode([]byte(text), "")
	if err != nil {
		t.Fatalf("%s\n%s", err, text)
	}
	return e
}

// TestRefusals reads cases that begin with the name of an event in canonical.txt
// and change it: a path and a JSON value, or a path and a hyphen to take the
// member out. "raw" is followed by a quoted text that is decoded as it is.
func TestRefusals(t *testing.T) {
	bases := map[string]string{}
	file, err := os.ReadFile("testdata/canonical.txt")
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.SplitSeq(string(file), "\n\n") {
		p := parseParagraph(text)
		bases[p.head] = p.body
	}
	eachParagraph(t, "testdata/refusals.txt", func(t *testing.T, p paragraph) string {
		raw, tenant := "", ""
		base, changes, _ := strings.Cut(p.body, "\n")
		if quoted, isRaw := strings.CutPrefix(base, "raw "); isRaw {
			raw, err = strconv.Unquote(quoted)
			if err != nil {
				t.Fatal(err)
			}
		} else {
			base, tenant, _ = strings.Cut(base, " for ")
			if bases[base] == "" {
				t.Fatalf("no event %q in canonical.txt", base)
			}
			raw = changed(t, bases[base], changes)
		}
		e, err := cloudevents.Decode([]byte(raw), tenant)
		var refusal *cloudevents.Error
		switch {
		case err == nil:
			return "taken: " + string(cloudevents.Append(nil, &e))
		case !errors.As(err, &refusal):
			t.Errorf("a %T, not an *Error", err)
		case strings.ContainsAny(err.Error(), "\n\r\x00") || len(err.Error()) > 400:
			t.Errorf("not one short line: %q", err)
		}
		return err.Error()
	})
}

// changed applies lines of "path value" to an event.
func changed(t *testing.T, event, lines string) string {
	t.Helper()
	var root any
	if err := json.Unmarshal([]byte(event), &root); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(lines) {
		path, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			t.Fatalf("no value in %q", line)
		}
		at := root
		steps := strings.Split(path, ".")
		for _, step := range steps[:len(steps)-1] {
			switch v := at.(type) {
			case map[string]any:
				at = v[step]
			case []any:
				i, err := strconv.Atoi(step)
				if err != nil {
					t.Fatal(err)
				}
				at = v[i]
			}
		}
		last := steps[len(steps)-1]
		switch v := at.(type) {
		case map[string]any:
			if v[last] = json.RawMessage(value); value == "-" {
				delete(v, last)
			}
		case []any:
			i, err := strconv.Atoi(last)
			if err != nil {
				t.Fatal(err)
			}
			v[i] = json.RawMessage(value)
		default:
			t.Fatalf("nothing at %s", path)
		}
	}
	var out strings.Builder
	w := json.NewEncoder(&out)
	w.SetEscapeHTML(false)
	if err := w.Encode(root); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
