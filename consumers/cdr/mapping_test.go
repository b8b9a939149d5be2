package cdr

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// described is the switch that a file describes, as it is published.
func described(t testing.TB, file string) *domain.SwitchConfig {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return configOf(t, text)
}

func configOf(t testing.TB, text []byte) *domain.SwitchConfig {
	t.Helper()
	e, err := cloudevents.Decode(text, "contoso")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	cfg, ok := e.Data.(*domain.SwitchConfig)
	if !ok {
		t.Fatalf("%s is no switch", e.Data.Type())
	}
	if err := Check(cfg); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return cfg
}

// TestMappingGolden: testdata/mapping has descriptions of switches (.json) beside
// records of theirs. Those of CUCM are written after a lab cluster's, with fewer columns.
func TestMappingGolden(t *testing.T) {
	for name, file := range map[string]string{"cucm": "cucm.csv", "pbx": "pbx.csv", "edge": "edge.jsonl"} {
		t.Run(name, func(t *testing.T) {
			goldenRecords(t, "testdata/mapping/"+file, described(t, "testdata/mapping/"+name+".json"))
		})
	}
}

// TestMappingDocumented: what docs/switches/any-other.md says to paste is taken, and
// is what the golden files are made with.
func TestMappingDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/switches/any-other.md")
	if err != nil {
		t.Fatal(err)
	}
	var got []*domain.SwitchConfig
	for _, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(page, -1) {
		got = append(got, configOf(t, block[1]))
	}
	if want := []*domain.SwitchConfig{described(t, "testdata/mapping/cucm.json")}; !cmp.Equal(want, got) {
		t.Error(cmp.Diff(want, got))
	}
	for _, o := range tableOptions {
		if !bytes.Contains(page, []byte("`"+o.name+"`")) {
			t.Errorf("the page does not say what %s is for", o.name)
		}
	}
}

// TestMappingChecks: every mistake is a line when the configuration is published.
func TestMappingChecks(t *testing.T) {
	whole := map[string]string{
		"id": "{id}", "direction": "outbound", "calling": "{a}", "called": "{b}",
		"time": "unix", "answered_at": "{t}", "ended_at": "{e}",
	}
	for _, c := range []struct{ change, want string }{
		{"", ""},
		{"time=%Y-%m-%dT%H:%M:%S%z", ""},
		{"time=%d/%m/%y %I:%M %p", ""},
		{"separator=tab", ""},
		{"user=", "user: a template for whose licence pays is needed, such as {extension}@{tenant}"},
		{"user={", "user: has a { or } without its partner, or no name between them"},
		{"id=", "options: id is missing; format csv needs id, direction, calling, called, time and times"},
		{"id={id", `options: id "{id": has a { or } without its partner, or no name between them`},
		{"called={}", `options: called "{}": has a { or } without its partner, or no name between them`},
		{"time=seconds", `options: time "seconds": must be unix, unix_ms, unix_us, rfc3339 or a strftime layout such as %Y-%m-%d %H:%M:%S`},
		{"time=%Y-%m-%d", `options: time "%Y-%m-%d": does not say year, month, day, hour and minute: 2026-11-22 21:40 would be "2026-11-22"`},
		{"time=%d.%m. %H:%M", `options: time "%d.%m. %H:%M": does not say year, month, day, hour and minute: 2026-11-22 21:40 would be "22.11. 21:40"`},
		{"time=%Y-%m-%d %I:%M", `options: time "%Y-%m-%d %I:%M": does not say year, month, day, hour and minute: 2026-11-22 21:40 would be "2026-11-22 09:40"`},
		{"time=%F %T %Z", `options: time "%F %T %Z": %Z is an abbreviation that means several zones; use %z, or leave it out and set the switch's time_zone`},
		{"time=%F %T %Q", `options: time "%F %T %Q": strftime: unsupported directive: %Q `},
		{"separator=,", `options: separator ",": must be comma or semicolon or tab or pipe`},
		{"billable.unit=h", `options: billable.unit "h": must be s or ms or us`},
		{"direction.values=1", `options: direction.values "1": "1" is not a text and what it means, such as ANSWERED=answered; pairs are separated by ;`},
		{"direction.values=1=out", `options: direction.values "1=out": "1" means "out", which must be outbound or inbound`},
		{"kind.values=1=conference", "options: kind.values says what the texts of kind mean, and kind is missing"},
		{"leave_out={x}", "options: leave_out.values is missing: the texts of leave_out by which records are left out, such as 2; INTEGER"},
		{"leave_out.values=2;*", `options: leave_out.values "2;*": has a text that is empty or every text; texts are separated by ;, and an * stands for any characters`},
		{"unanswered={x};disposition={x}", "options: disposition says how every call ended, unanswered how those did that have no time of an answer: give one of them"},
		{"unanswered.values=1=answered", `options: unanswered.values "1=answered": "1" means "answered", which must be no_answer or busy or failed or cancelled`},
		{"answered_at=", "options: answered_at is missing; without it disposition, ended_at and billable are needed, and the call was answered at its end less its talk time"},
		{"answered_at=;unanswered={x}", "options: unanswered needs answered_at, which tells the calls it is about"},
		{"ended_at=", "options: billable or ended_at is needed, to know how long a call was"},
		{"disposition.ANSWERED=answered", `options: "disposition.ANSWERED" is no option of format csv, which has separator, id, `},
	} {
		cfg := &domain.SwitchConfig{Switch: "x", Format: "csv", Country: "CH", TimeZone: "UTC", User: "{user}", Options: maps.Clone(whole)}
		changes := []string{c.change}
		if strings.Contains(c.change, ";disposition") || strings.Contains(c.change, ";unanswered") {
			changes = strings.Split(c.change, ";")
		}
		for _, change := range changes {
			name, value, _ := strings.Cut(change, "=")
			switch {
			case name == "user":
				cfg.User = value
			case value == "":
				delete(cfg.Options, name)
			default:
				cfg.Options[name] = value
			}
		}
		got := ""
		if err := Check(cfg); err != nil {
			got = err.Error()
		}
		if got != c.want && (c.want == "" || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%s:\n got %s\nwant %s", c.change, got, c.want)
		}
	}
}

func TestMappingPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "abc", true}, {"a*", "abc", true}, {"a*", "ba", false},
		{"*c", "abc", true}, {"a*c", "ac", true}, {"a*c", "a", false}, {"aba*aba", "aba", false}, {"a*b*c", "aXbXbXc", true}, {"a*b*c", "acb", false},
		{"*b*b*", "ab", false}, {"*b*b*", "abb", true}, {"1 SEP* SEP*", "1 SEP00 SEP01", true},
	} {
		if got := fits(c.pattern, c.text); got != c.want {
			t.Errorf("%q, %q: %v", c.pattern, c.text, got)
		}
	}
}

// TestMappingColumn: a column that an option names and the table does not have is a
// mistake, not an empty text.
func TestMappingColumn(t *testing.T) {
	cfg := described(t, "testdata/mapping/cucm.json")
	cfg.Options["correlation"] = "{globalCallID}"
	_, err := readAs(t, recordsOf(t, "csv", "testdata/mapping/cucm.csv")[1], cfg)
	const want = `globalCallID "": the table has no such column, and an option of the switch names it; correct the option, or let the switch record it`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// TestTableRows: a row ends where a line does outside quotes, whatever separates its
// columns, and each is below the header.
func TestTableRows(t *testing.T) {
	for _, c := range []struct{ payload, want string }{
		{"a,b\n1,2\n3,4\n", "a,b\n1,2|a,b\n3,4"},
		{"\ufeff\"a\";\"b\"\r\n\"1\";2\r\n\r\n\"3\";\"4\n5\"\r\n", "\"a\";\"b\"\n\"1\";2|\"a\";\"b\"\n\"3\";\"4\n5\""},
		{"a\tb\n1\t\"2 \"\"x\"\"\"\na\tb\n3\t4", "a\tb\n1\t\"2 \"\"x\"\"\"|a\tb\n3\t4"},
		{"a,b\n1,\"2\n3,4\n", "a,b\n1,\"2\n3,4"},
	} {
		if got := string(bytes.Join(cut(t, "csv", []byte(c.payload)), []byte("|"))); got != c.want {
			t.Errorf("%q:\n got %q\nwant %q", c.payload, got, c.want)
		}
	}
}

func TestMappingChanged(t *testing.T) {
	for name, file := range map[string]string{"cucm": "cucm.csv", "pbx": "pbx.csv", "edge": "edge.jsonl"} {
		cfg := described(t, "testdata/mapping/"+name+".json")
		for _, record := range recordsOf(t, cfg.Format, "testdata/mapping/"+file) {
			changedRecords(record, func(changed []byte) { mustBeSound(t, changed, cfg) })
		}
	}
}

// FuzzMapping: no record and no options make the reader panic, whether or not the
// options pass their checks; and options that pass them are read.
func FuzzMapping(f *testing.F) {
	for name, file := range map[string]string{"cucm": "cucm.csv", "pbx": "pbx.csv", "edge": "edge.jsonl"} {
		cfg := described(f, "testdata/mapping/"+name+".json")
		for i, record := range recordsOf(f, cfg.Format, "testdata/mapping/"+file) {
			f.Add(record, cfg.Format == "json", tableOptions[i%len(tableOptions)].name, "{duration}|*=answered", cfg.Options["time"])
			f.Add(record, cfg.Format == "json", "id", cfg.Options["id"], cfg.Options["time"])
		}
	}
	var bases []*domain.SwitchConfig
	for _, name := range []string{"cucm", "pbx", "edge"} {
		bases = append(bases, described(f, "testdata/mapping/"+name+".json"))
	}
	f.Fuzz(func(t *testing.T, record []byte, json bool, option, value, form string) {
		for _, base := range bases {
			if json != (base.Format == "json") {
				continue
			}
			cfg := *base
			cfg.Options = maps.Clone(base.Options)
			cfg.Options[option], cfg.Options["time"] = value, form
			if Check(&cfg) == nil {
				if _, err := newTimeReader(form, cfg.TimeZone); err != nil {
					t.Fatalf("time %q passes its check: %v", form, err)
				}
			}
			mustBeSound(t, record, &cfg)
		}
	})
}

func BenchmarkMapping(b *testing.B) {
	for name, file := range map[string]string{"cucm": "cucm.csv", "pbx": "pbx.csv", "edge": "edge.jsonl"} {
		b.Run(name, func(b *testing.B) {
			benchmarkRecords(b, filepath.Join("testdata/mapping", file), described(b, "testdata/mapping/"+name+".json"))
		})
	}
}
