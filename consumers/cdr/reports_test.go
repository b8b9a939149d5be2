package cdr

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/domain"
)

// teamsTenant is a tenant whose numbers are Microsoft's.
func teamsTenant(format string) *domain.SwitchConfig {
	return &domain.SwitchConfig{Switch: "teams-1", Format: format, Country: "IT", TimeZone: "UTC"}
}

// recordsOf are the records of a file as its format cuts it.
func recordsOf(t testing.TB, format, file string) [][]byte {
	t.Helper()
	payload, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return cut(t, format, payload)
}

func cut(t testing.TB, format string, payload []byte) (records [][]byte) {
	t.Helper()
	f, ok := Lookup(format)
	if !ok {
		t.Fatalf("there is no format %s", format)
	}
	if err := f.Split(payload, func(raw []byte) error { records = append(records, bytes.Clone(raw)); return nil }); err != nil {
		t.Fatal(err)
	}
	return records
}

func readAs(t testing.TB, record []byte, cfg *domain.SwitchConfig) (domain.Event, error) {
	t.Helper()
	f, ok := Lookup(cfg.Format)
	if !ok {
		t.Fatalf("there is no format %s", cfg.Format)
	}
	return f.Read(record, "contoso", cfg)
}

// goldenRecords shows every record of a file beside what is made of it.
func goldenRecords(t *testing.T, file string, cfg *domain.SwitchConfig) {
	t.Helper()
	if err := Check(cfg); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	var sum Reconcile
	for _, record := range recordsOf(t, cfg.Format, file) {
		e, err := readAs(t, record, cfg)
		line := summary(e, err)
		if err == nil {
			mustBeCanonical(t, e)
			sum.Add(e)
			if kind := e.Data.(*domain.Call).Kind; kind != domain.KindUser {
				line += " kind=" + kind
			}
		}
		out.WriteString(line + "\n")
	}
	fmt.Fprintln(&out, sum.String())
	golden(t, strings.TrimSuffix(file, filepath.Ext(file))+".golden.txt", out.String())
}

// TestReportsGolden: the rows are written after Microsoft's own examples, two pages
// and the exports after the columns its documentation lists.
func TestReportsGolden(t *testing.T) {
	for format, pattern := range map[string]string{"graph": "testdata/graph/*.json*", "teams": "testdata/teams/*.csv"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) < 3 {
			t.Fatalf("found %v, %v", files, err)
		}
		for _, file := range files {
			t.Run(format+"/"+filepath.Base(file), func(t *testing.T) { goldenRecords(t, file, teamsTenant(format)) })
		}
	}
}

// TestGraphPages: the rows of a page are the same however the pages stand in a file.
func TestGraphPages(t *testing.T) {
	payload, err := os.ReadFile("testdata/graph/pages.json")
	if err != nil {
		t.Fatal(err)
	}
	want := cut(t, "graph", payload)
	if len(want) != 13 {
		t.Fatalf("found %d rows", len(want))
	}
	second := bytes.LastIndex(payload, []byte("}\n{")) + 2
	for name, again := range map[string][]byte{
		"with a byte order mark": append([]byte("\ufeff"), payload...),
		"without a line between": append(bytes.Clone(payload[:second-1]), payload[second:]...),
		"an array of pages":      slices.Concat([]byte("["), payload[:second], []byte(","), payload[second:], []byte("]")),
		"an array of rows":       slices.Concat([]byte("["), bytes.Join(want, []byte(",")), []byte("]")),
		"a row after the other":  bytes.Join(want, []byte("\n")),
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(want, cut(t, "graph", again)); diff != "" {
				t.Error(diff)
			}
		})
	}
	// What is cut off is refused as a whole, not in lines.
	if got := cut(t, "graph", payload[:second/2]); len(got) != 1 || !bytes.Equal(got[0], payload[:second/2]) {
		t.Errorf("half a page is %d records", len(got))
	}
	if got := cut(t, "graph", []byte(`{"@odata.count":0,"value":[]}`)); len(got) != 0 {
		t.Errorf("an empty page has %d rows", len(got))
	}
}

// TestGraphOverlap: the row on the boundary of two requests is the same event.
func TestGraphOverlap(t *testing.T) {
	seen := map[domain.Ref]domain.Event{}
	repeats := 0
	for _, record := range recordsOf(t, "graph", "testdata/graph/pages.json") {
		e, err := readAs(t, record, teamsTenant("graph"))
		if err != nil {
			continue // a bot's, which names no user
		}
		ref := domain.Ref{Source: e.Source, ID: e.ID}
		if first, ok := seen[ref]; ok {
			repeats++
			if !reflect.DeepEqual(first, e) {
				t.Errorf("%v differs from its first delivery", ref)
			}
		}
		seen[ref] = e
	}
	if repeats != 1 || len(seen) != 11 {
		t.Errorf("%d calls and %d repeats, want 11 and 1", len(seen), repeats)
	}
}

// TestTeamsColumns: neither the number of columns nor their order, nor the report
// the call comes from, makes another event of it.
func TestTeamsColumns(t *testing.T) {
	cfg := teamsTenant("teams")
	events := func(records [][]byte, cfg *domain.SwitchConfig) map[string]domain.Event {
		byID := map[string]domain.Event{}
		for _, record := range records {
			if e, err := readAs(t, record, cfg); err == nil {
				byID[e.ID] = e
			}
		}
		return byID
	}
	want := events(recordsOf(t, "teams", "testdata/teams/25_columns.csv"), cfg)
	if len(want) != 11 {
		t.Fatalf("%d calls, want 11", len(want))
	}
	if diff := cmp.Diff(want, events(recordsOf(t, "graph", "testdata/graph/pages.json"), teamsTenant("graph"))); diff != "" {
		t.Errorf("from Graph: %s", diff)
	}
	payload, err := os.ReadFile("testdata/teams/25_columns.csv")
	if err != nil {
		t.Fatal(err)
	}
	const seed = 25
	random := rand.New(rand.NewSource(seed))
	for range 50 {
		rows, err := csv.NewReader(bytes.NewReader(payload)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		order := random.Perm(len(rows[0]))
		for i, row := range rows {
			shuffled := make([]string, len(row))
			for to, from := range order {
				shuffled[to] = row[from]
			}
			rows[i] = shuffled
		}
		for i, name := range rows[0] {
			rows[0][i] = []string{name, strings.ToUpper(name), " " + strings.ReplaceAll(name, " ", "") + " "}[random.Intn(3)]
		}
		var out bytes.Buffer
		if err := csv.NewWriter(&out).WriteAll(rows); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, events(cut(t, "teams", out.Bytes()), cfg)); diff != "" {
			t.Fatalf("seed %d, columns in the order %v: %s", seed, rows[0], diff)
		}
	}
	twenty := events(recordsOf(t, "teams", "testdata/teams/20_columns.csv"), cfg)
	if len(twenty) != 10 {
		t.Errorf("%d calls of 20 columns, want 10", len(twenty))
	}
	for id, e := range twenty {
		if diff := cmp.Diff(want[id], e); diff != "" {
			t.Errorf("20 columns: %s", diff)
		}
	}
}

// TestReportUser: a bot's calls name no user, and a template may name one.
func TestReportUser(t *testing.T) {
	const row = `{"id":"r","callType":"%s","startDateTime":"2026-11-04T08:00:00Z","endDateTime":"2026-11-04T08:02:00Z","duration":120,` +
		`"callerNumber":"%s","calleeNumber":"%s","userPrincipalName":%s}`
	const own, other = "+390281234567", "+390612345678"
	for _, c := range []struct{ callType, calling, called, upn, template, want string }{
		{"user_out", own, other, `"ada@contoso.example"`, "", "ada@contoso.example"},
		{"user_in", other, own, "null", "", ""},
		{"ucap_in", other, own, "null", "{userPrincipalName}|{callerNumber}", own},
		{"ucap_out", own, other, "null", "{userPrincipalName}|{callerNumber}", own},
		{"ucap_out", own, other, "null", "{userPrincipalName}|bots@{tenant}", "bots@contoso"},
		{"ucap_out", own, other, "null", "", `REFUSED user: user "{userPrincipalName}|{userId}": the row names no user, as none of a bot's (auto attendant, call queue) does; add an alternative to the switch's user, such as |{callerNumber}, and give that user a licence`},
		{"ucap_out", "+39028123****", other, "null", "{callerNumber}|bots", "bots"},
		{"ucap_out", "anonymous", other, "null", "{callerNumber}|bots", "bots"},
	} {
		cfg := teamsTenant("graph")
		cfg.User = c.template
		e, err := readAs(t, fmt.Appendf(nil, row, c.callType, c.calling, c.called, c.upn), cfg)
		got := summary(e, err)
		if err == nil {
			got = e.Data.(*domain.Call).User
		}
		if got != c.want {
			t.Errorf("%s %s by %q:\n got %s\nwant %s", c.callType, c.upn, c.template, got, c.want)
		}
	}
}

// TestReportChecks: a template without its braces is refused when it is published.
func TestReportChecks(t *testing.T) {
	for _, format := range []string{"graph", "teams"} {
		cfg := teamsTenant(format)
		if cfg.User = "{UPN"; Check(cfg) == nil {
			t.Errorf("%s took %q", format, cfg.User)
		}
		if cfg.User, cfg.Options = "", map[string]string{"id": "{x}"}; Check(cfg) == nil {
			t.Errorf("%s has no options", format)
		}
	}
}

// changedRecords calls each with every prefix of a record and with each of its
// bytes changed in several ways.
func changedRecords(record []byte, each func(changed []byte)) {
	for i := range record {
		each(record[:i])
		changed := bytes.Clone(record)
		for _, c := range []byte{record[i] ^ 1, record[i] ^ 0x80, '"', '9', 0} {
			changed[i] = c
			each(changed)
		}
	}
}

// mustBeSound: an event that passes the checks of every other, or a refusal on one line.
func mustBeSound(t *testing.T, record []byte, cfg *domain.SwitchConfig) {
	t.Helper()
	e, err := readAs(t, record, cfg)
	if err == nil {
		mustBeCanonical(t, e)
		return
	}
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("%v is no refusal", err)
	}
	codes := []string{CodeSyntax, CodeField, CodeNumber, CodeTime, CodeUser, CodeExcluded}
	if !slices.Contains(codes, refusal.Code) || strings.ContainsAny(err.Error(), "\r\n") || len(err.Error()) > domain.MaxReasonBytes || !reflect.DeepEqual(e, domain.Event{}) {
		t.Fatalf("refusal %s %q with event %v", refusal.Code, err, e)
	}
}

func TestReportsChanged(t *testing.T) {
	for format, files := range map[string][]string{
		"graph": {"testdata/graph/pages.json", "testdata/graph/direct_routing.json"},
		"teams": {"testdata/teams/25_columns.csv", "testdata/teams/direct_routing.csv"},
	} {
		for _, file := range files {
			for _, record := range recordsOf(t, format, file) {
				changedRecords(record, func(changed []byte) { mustBeSound(t, changed, teamsTenant(format)) })
			}
		}
	}
}

// FuzzReports: no row and no template makes a reader panic, and no payload the cutter.
func FuzzReports(f *testing.F) {
	for format, pattern := range map[string]string{"graph": "testdata/graph/*.json*", "teams": "testdata/teams/*.csv"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatal(err)
		}
		for _, file := range files {
			payload, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(payload, format == "teams", "")
			for _, record := range recordsOf(f, format, file) {
				f.Add(record, format == "teams", "{callerNumber}|{UPN}|bots")
			}
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte, teams bool, template string) {
		cfg := teamsTenant("graph")
		if teams {
			cfg = teamsTenant("teams")
		}
		cfg.User = template
		mustBeSound(t, payload, cfg)
		format, _ := Lookup(cfg.Format)
		_ = format.Split(payload, func(raw []byte) error { mustBeSound(t, raw, cfg); return nil })
	})
}

func benchmarkRecords(b *testing.B, file string, cfg *domain.SwitchConfig) {
	var good [][]byte
	for _, record := range recordsOf(b, cfg.Format, file) {
		if _, err := readAs(b, record, cfg); err == nil {
			good = append(good, record)
		}
	}
	if len(good) == 0 {
		b.Fatalf("no record of %s is a call", file)
	}
	b.ReportAllocs()
	records := 0
	for b.Loop() {
		if _, err := readAs(b, good[records%len(good)], cfg); err != nil {
			b.Fatal(err)
		}
		records++
	}
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkGraph(b *testing.B) {
	benchmarkRecords(b, "testdata/graph/pages.json", teamsTenant("graph"))
}

func BenchmarkTeams(b *testing.B) {
	benchmarkRecords(b, "testdata/teams/25_columns.csv", teamsTenant("teams"))
}
