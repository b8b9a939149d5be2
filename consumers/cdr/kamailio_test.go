package cdr

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"tollbook/domain"
)

// rig is the switch that wrote testdata/kamailio.
func rig() *domain.SwitchConfig {
	return &domain.SwitchConfig{
		Switch: "kam-a", Format: "kamailio", Country: "CH", NationalPrefix: "0",
		InternationalPrefixes: []string{"00", "011"}, InternalDigits: []int{3, 4},
		TimeZone: "Europe/Zurich", User: "{caller}@{tenant}|{caller_pai}",
	}
}

func read(t testing.TB, record []byte, cfg *domain.SwitchConfig) (domain.Event, error) {
	t.Helper()
	format, ok := Lookup("kamailio")
	if !ok {
		t.Fatal("there is no format kamailio")
	}
	return format.Read(record, "contoso", cfg)
}

// TestKamailioGolden shows every record beside what is made of it. acc_json*.jsonl
// are what a Kamailio 5.6.3 published; edges.jsonl is written by hand.
func TestKamailioGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/kamailio/*.jsonl")
	if err != nil || len(files) < 4 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			var sum Reconcile
			for line := range bytes.Lines(text) {
				e, err := read(t, line, rig())
				if err == nil {
					mustBeCanonical(t, e)
					sum.Add(e)
				}
				out.WriteString(summary(e, err) + "\n")
			}
			fmt.Fprintln(&out, sum.String())
			golden(t, strings.TrimSuffix(file, ".jsonl")+".golden.txt", out.String())
		})
	}
}

// summary is an event, or a refusal, on one line.
func summary(e domain.Event, err error) string {
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return "REFUSED " + refusal.Code + ": " + refusal.Error()
	case err != nil:
		return "ERROR " + err.Error()
	}
	c := e.Data.(*domain.Call)
	sequence := "-"
	if e.Sequence.Has {
		sequence = fmt.Sprint(e.Sequence.N)
	}
	instant := func(i domain.Instant) string {
		if i == 0 {
			return "-"
		}
		return i.Time().Format("15:04:05.999999999")
	}
	correlation := ""
	if !strings.HasPrefix(e.ID, c.Correlation+";") || c.Correlation == "" {
		correlation = fmt.Sprintf(" correlation=%q", c.Correlation)
	}
	return fmt.Sprintf("%s %s %s %d %s: %s -> %s, %d ms, start %s answer %s end %s, %s %s %s%s",
		sequence, c.Direction, c.Disposition, c.SIPStatus, c.User, c.Calling, c.Called, c.BillableMS,
		instant(c.StartedAt), instant(c.AnsweredAt), instant(c.EndedAt), e.Time, e.Source, e.ID, correlation)
}

// TestKamailioTalkAgreesWithLedger: the rig ran with cdr_start_on_confirmed=1, so
// the talk time of each file is the sum of duration.
func TestKamailioTalkAgreesWithLedger(t *testing.T) {
	for file, want := range map[string]Reconcile{
		"acc_json":            {Records: 60, Answered: 49, TalkMS: 65368, Dispositions: [5]int64{49, 0, 5, 3, 3}},
		"acc_json_duplicates": {Records: 44, Answered: 35, TalkMS: 44073, Dispositions: [5]int64{35, 0, 5, 2, 2}},
		"acc_json_gap":        {Records: 31, Answered: 27, TalkMS: 43097, Dispositions: [5]int64{27, 0, 2, 0, 2}},
	} {
		text, err := os.ReadFile("testdata/kamailio/" + file + ".jsonl")
		if err != nil {
			t.Fatal(err)
		}
		var got Reconcile
		for line := range bytes.Lines(text) {
			e, err := read(t, line, rig())
			if err != nil {
				t.Fatalf("%s: %v\n%s", file, err, line)
			}
			got.Add(e)
		}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", file, got, want)
		}
	}
}

// TestKamailioRepeats: a record delivered again is the same event, whatever is around it.
func TestKamailioRepeats(t *testing.T) {
	text, err := os.ReadFile("testdata/kamailio/acc_json_duplicates.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[domain.Ref]domain.Event)
	repeats := 0
	for line := range bytes.Lines(text) {
		e, err := read(t, line, rig())
		if err != nil {
			t.Fatal(err)
		}
		again, err := read(t, append([]byte(" "), bytes.TrimSpace(line)...), rig())
		if err != nil || !reflect.DeepEqual(e, again) {
			t.Errorf("read again: %v\n got %v\nwant %v", err, again, e)
		}
		ref := domain.Ref{Source: e.Source, ID: e.ID}
		if first, ok := seen[ref]; ok {
			repeats++
			if !reflect.DeepEqual(e, first) {
				t.Errorf("%v differs from its first delivery", ref)
			}
		}
		seen[ref] = e
	}
	if repeats != 4 || len(seen) != 40 {
		t.Errorf("%d calls and %d repeats, want 40 and 4", len(seen), repeats)
	}
}

// TestKamailioToTagIsNoIdentity: the to_tag is not known for every outcome.
func TestKamailioToTagIsNoIdentity(t *testing.T) {
	const record = `{"start_time":"1795383635.709","end_time":"1795383636.106","duration":"0.397","callid":"c","from_tag":"f","to_tag":"%s",` +
		`"direction":"outbound","caller":"1001","called":"117","answer_time":"1795383635.701959","sip_code":"200"}`
	a, err := read(t, fmt.Appendf(nil, record, "x"), rig())
	if err != nil {
		t.Fatal(err)
	}
	b, err := read(t, fmt.Appendf(nil, record, "y"), rig())
	if err != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("%v: %v and %v differ", err, a, b)
	}
}

func TestRecordLimit(t *testing.T) {
	record := []byte(`{"x":"` + strings.Repeat("x", MaxRecordBytes) + `"}`)
	_, err := read(t, record, rig())
	if refusal := (*Refusal)(nil); !errors.As(err, &refusal) || refusal.Code != CodeSyntax || !strings.Contains(refusal.Rule, "at most") {
		t.Errorf("got %v", err)
	}
}

// TestRefusalIsOneShortLine whatever the record quotes.
func TestRefusalIsOneShortLine(t *testing.T) {
	long := strings.Repeat("é\\n", 10000)
	for _, record := range []string{
		`{"` + long + `":1,"` + long + `":1}`, `{"callid":"` + long + `","from_tag":"","direction":"` + long + `"}`, `{"callid":"c","from_tag":"","boot":"` + long + `"}`,
		"{\"" + strings.Repeat("\xff", 1000), strings.Repeat("[", 20000),
	} {
		_, err := read(t, []byte(record), rig())
		if err == nil {
			t.Fatalf("%.40s was taken", record)
		}
		if text := err.Error(); len(text) > domain.MaxReasonBytes || strings.ContainsAny(text, "\n\r") {
			t.Errorf("%d bytes: %.300q", len(text), text)
		}
	}
}

func TestFormats(t *testing.T) {
	for _, name := range Names() {
		if f, ok := Lookup(name); !ok || f.Name() != name {
			t.Errorf("%s: %v, %v", name, f.Name(), ok)
		}
	}
	if len(Names()) == 0 {
		t.Error("there are no formats")
	}
	if _, ok := Lookup("nonsense"); ok {
		t.Error("nonsense is no format")
	}
}

func BenchmarkKamailio(b *testing.B) {
	text, err := os.ReadFile("testdata/kamailio/acc_json.jsonl")
	if err != nil {
		b.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	cfg := rig()
	b.ReportAllocs()
	calls := 0
	for b.Loop() {
		if _, err := read(b, lines[calls%len(lines)], cfg); err != nil {
			b.Fatal(err)
		}
		calls++
	}
	b.ReportMetric(float64(calls)/b.Elapsed().Seconds(), "calls/s")
}

// TestKamailioInboundUser: the licence of an inbound call is the called user's, by the same template.
func TestKamailioInboundUser(t *testing.T) {
	const record = `{"end_time":"1795383636.106","duration":"0","callid":"c","from_tag":"f","direction":"%s","sip_code":"487",` +
		`"caller":"1001","caller_pai":"%%2B41445551001","called":"2002","called_to":"%%2B41445551002"}`
	for _, c := range []struct{ direction, template, want string }{
		{"outbound", "{caller}@{tenant}", "1001@contoso"},
		{"inbound", "{caller}@{tenant}", "2002@contoso"},
		{"outbound", "{caller_pai}", "+41445551001"},
		{"inbound", "{caller_pai}", "+41445551002"},
		{"inbound", "{called}/{called_to}", "1001/+41445551001"},
	} {
		cfg := rig()
		cfg.User = c.template
		e, err := read(t, fmt.Appendf(nil, record, c.direction), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Data.(*domain.Call).User; got != c.want {
			t.Errorf("%s %s: got %q, want %q", c.direction, c.template, got, c.want)
		}
	}
}
