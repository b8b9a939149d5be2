package catalog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/domain"
)

const (
	basic = `{"plan":"BASIC","name":"Basic","effective_from":"2026-01-01","buckets":[{"name":"domestic","zone":"domestic","minutes":{"*":100}}],"deck":"standard"}`
	flat  = `{"plan":"FLAT","name":"Flat","effective_from":"2026-01-01","buckets":[{"name":"all","zone":"all","minutes":{"*":10000}}],"deck":"standard"}`
	whole = `{"specversion":"1.0","source":"admin","id":"p1","type":"tollbook.plan.published.v1","time":"2026-09-01T00:00:00Z","tenant":"contoso","data":` + flat + `}`
)

func readString(s string) ([]domain.Event, error) {
	return ReadPlans(strings.NewReader(s), "contoso", "tollbook/import-catalog", published)
}

func TestReadPlans(t *testing.T) {
	want, err := readString("[" + basic + "," + flat + "]")
	if err != nil {
		t.Fatal(err)
	}
	if len(want) != 2 {
		t.Fatalf("%d events", len(want))
	}
	for i, plan := range []string{"BASIC", "FLAT"} {
		e := want[i]
		if e.Tenant != "contoso" || e.Source != "tollbook/import-catalog" || e.Time != published ||
			e.Data.(*domain.Plan).Plan != plan || !strings.HasPrefix(e.ID, "plan/"+plan+"/2026-01-01-") {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	spaced := strings.NewReplacer(`:`, ` : `, `,`, " ,\n\t").Replace(basic)
	for name, file := range map[string]string{
		"one a line":                basic + "\n" + flat + "\n",
		"no newline between":        basic + flat,
		"byte order mark, CRLF":     "\xef\xbb\xbf" + basic + "\r\n\r\n" + flat,
		"spaces and lines":          "\n[ " + spaced + ",\n" + flat + "\n]\n",
		"two arrays":                "[" + basic + "]\n[" + flat + "]",
		"other order of the fields": `{"effective_from":"2026-01-01",` + strings.Replace(basic[1:], `"effective_from":"2026-01-01",`, "", 1) + flat,
	} {
		got, err := readString(file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// Empty is the same as absent, and a plan may say it.
func TestReadEmptyFields(t *testing.T) {
	want, err := readString(`{"plan":"PAYG","effective_from":"2026-01-01"}`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readString(`{"plan":"PAYG","name":"","effective_from":"2026-01-01","buckets":[],"domestic":{},"shared_pools":null,"deck": "" }`)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

// What the caller says beside the file is judged as well.
func TestReadPlansForNobody(t *testing.T) {
	for want, read := range map[string]func() ([]domain.Event, error){
		"line 1: tenant: ": func() ([]domain.Event, error) { return ReadPlans(strings.NewReader(basic), "Contoso", "x", published) },
		"line 1: source: ": func() ([]domain.Event, error) { return ReadPlans(strings.NewReader(basic), "contoso", "", published) },
		"line 1: time: ":   func() ([]domain.Event, error) { return ReadPlans(strings.NewReader(basic), "contoso", "x", 0) },
	} {
		if _, err := read(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s…", err, want)
		}
	}
}

func TestReadWholeEvents(t *testing.T) {
	events, err := readString(whole + basic)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 2 || events[0].Source != "admin" || events[0].ID != "p1" || events[0].Data.(*domain.Plan).Plan != "FLAT" {
		t.Errorf("%+v", events)
	}
}

// A plan put right is another event: under the id of the first it would be a
// conflict, and the first would stand.
func TestCorrectedPlanIsAnotherEvent(t *testing.T) {
	first, err := readString(basic)
	if err != nil {
		t.Fatal(err)
	}
	second, err := readString(strings.Replace(basic, "100", "120", 1))
	if err != nil {
		t.Fatal(err)
	}
	if first[0].ID == second[0].ID {
		t.Errorf("both are %s", first[0].ID)
	}
}

func TestReadPlansRefuses(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"empty":           {"", "the catalogue has no plans"},
		"empty array":     {"[]\n", "the catalogue has no plans"},
		"not JSON":        {basic + "\nplan: FLAT\n", "line 2: "},
		"cut short":       {"[\n" + basic + ",\n" + flat[:40], "line 3: "},
		"array not shut":  {"[" + basic, "line 1: "},
		"number":          {"\n\n17", `line 3: must be a plan, an object; found "17"`},
		"array in array":  {"[[" + basic + "]]", `line 1: must be a plan, an object; found "[{`},
		"twice":           {basic + "\n" + strings.Replace(basic, "100", "120", 1), "line 2: plan BASIC from 2026-01-01 is on line 1 already; give one of them another effective_from"},
		"unknown zone":    {flat + "\n" + strings.Replace(basic, `"zone":"domestic"`, `"zone":"here"`, 1), "line 2: "},
		"slip":            {basic + "\n" + strings.Replace(flat, `"deck"`, `"dek"`, 1), "line 2: dek: a plan has no such field"},
		"slip, nested":    {strings.Replace(basic, `"zone"`, `"destination":["IT"],"zone"`, 1), "line 1: buckets[0].destination: a plan has no such field"},
		"slip, enveloped": {strings.Replace(whole, `"deck"`, `"dek"`, 1), "line 1: dek: a plan has no such field"},
		"other tenant":    {strings.Replace(whole, "contoso", "fabrikam", 1), "line 1: "},
		"other event": {
			`{"specversion":"1.0","source":"admin","id":"l1","type":"tollbook.license.removed.v1","time":"2026-09-01T00:00:00Z","tenant":"contoso",` +
				`"data":{"user":"ann","plan":"FLAT","effective_at":"2026-09-01T00:00:00Z"}}`,
			"line 1: is a tollbook.license.removed.v1; a catalogue has plans only, publish other events as they are",
		},
		"long name": {strings.Replace(basic, "BASIC", strings.Repeat("B", 100), 1), fmt.Sprintf("line 1: plan %q: shorten the name by 5 bytes", strings.Repeat("B", 100))},
		"large":     {strings.Repeat(" ", MaxFileBytes) + basic, "the catalogue has more than 16777216 bytes; split it into files of fewer"},
	} {
		_, err := readString(c.file)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q, want %s", name, fmt.Sprint(err), c.want)
		}
	}
}
