package consumers_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
)

// glimpsed is what is read of a record that came in on a subject.
func glimpsed(switches *consumers.Switches, subject string, raw []byte) domain.Glimpse {
	e := eventstore.Suspend("contoso", subject, raw, eventstore.ReasonSyntax, "", domain.MinInstant)
	return switches.Glimpse(&e, e.Data.(*domain.Suspended))
}

func instant(s string) domain.Instant {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return domain.InstantOf(t)
}

func TestGlimpse(t *testing.T) {
	known := consumers.NewSwitches()
	known.Follow(eventstore.Update{First: 1, Events: []domain.Event{kamA()}})
	const asterisk = "tollbook.contoso.cdr.asterisk.pbx"
	answered := instant("2026-10-05T09:00:00Z")
	whole := domain.Glimpse{Source: callSource, ID: "a", User: "ada@contoso.example", Called: number("+390612345678"), At: answered, BillableMS: 60_000}
	with := func(change func(*domain.Glimpse)) domain.Glimpse {
		g := whole
		change(&g)
		return g
	}
	flat := func(fields string) string { return "{" + fields + "}" }
	pbx := domain.Glimpse{Source: "switch/pbx"}
	of := func(called string, ms int64) domain.Glimpse {
		g := pbx
		g.BillableMS = ms
		if called != "" {
			g.Called = number(called)
		}
		return g
	}
	for name, c := range map[string]struct {
		subject, raw string
		want         domain.Glimpse
	}{
		"a call":                {callSubject, string(call("a")), whole},
		"a call in binary mode": {callSubject, "NATS/1.0\r\nce-id: a\r\nce-source: switch/mil-1\r\nce-time: x\r\n\r\n" + string(dataOf(call("a"))), whole},
		"headers that no terminal should have": {
			callSubject, "NATS/1.0\r\nce-id: a\x1b[2J\r\nce-source: switch/\x1b]0;mil\r\n\r\n" + string(dataOf(call("a"))),
			with(func(g *domain.Glimpse) { g.Source, g.ID = "", "" }),
		},
		"headers that are none":  {callSubject, "NATS/1.0\r\nce-id\r\n\r\n" + string(dataOf(call("a"))), domain.Glimpse{}},
		"headers without an end": {callSubject, "NATS/1.0\r\nce-id: a\r\n", domain.Glimpse{}},
		"a correction": {
			"tollbook.contoso.call.corrected",
			`{"id":"fix","source":"desk","time":"2026-10-06T00:00:00Z","data":{"ref":{"source":"switch/mil-1","id":"a"},"reason":"x","call":{"user":"ada","called":"+39061","billable_ms":"1500"}}}`,
			domain.Glimpse{Source: "desk", ID: "fix", User: "ada", Called: number("+39061"), At: instant("2026-10-06T00:00:00Z"), BillableMS: 1500},
		},
		"Kamailio, known": {
			kamSubject, string(kamailio("a")),
			domain.Glimpse{Source: "switch/kam-a", ID: "a", User: "1001", Called: number("+41441516204"), BillableMS: 397},
		},
		"Kamailio, of a switch nobody knows": {
			"tollbook.contoso.cdr.kamailio.kam-b", string(kamailio("a")),
			domain.Glimpse{Source: "switch/kam-b", ID: "a", User: "1001", BillableMS: 397}, // whose 0441516204 is that?
		},
		"FreeSWITCH, in strings": {asterisk, flat(`"destination_number":"+41793740681","billsec":"15","duration":"20","caller":"1001"`), domain.Glimpse{Source: "switch/pbx", User: "1001", Called: number("+41793740681"), BillableMS: 15_000}},
		"Asterisk, in numbers":   {asterisk, flat(`"dst":390612345678,"billsec":15,"src":1001`), domain.Glimpse{Source: "switch/pbx", User: "1001", Called: number("+390612345678"), BillableMS: 15_000}},
		"rang, never answered":   {asterisk, flat(`"dst":"+390612345678","billsec":"0","duration":"20"`), of("+390612345678", 0)},

		"international, 00":           {asterisk, flat(`"called":"00390612345678"`), of("+390612345678", 0)},
		"international, no prefix":    {asterisk, flat(`"called":"390612345678"`), of("+390612345678", 0)},
		"national":                    {asterisk, flat(`"called":"0612345678"`), pbx},
		"national, without its zero":  {asterisk, flat(`"called":"612345678"`), pbx},
		"another country's exit code": {asterisk, flat(`"called":"01144207939150"`), pbx},
		"a SIP address":               {asterisk, flat(`"called":"sip:+390612345678@host;user=phone"`), of("+390612345678", 0)},
		"short":                       {asterisk, flat(`"called":"112"`), of("112", 0)},
		"withheld":                    {asterisk, flat(`"called":"anonymous"`), pbx},
		"the first that is there":     {asterisk, flat(`"called":"","called_to":null,"callee":"112","dst":"113"`), of("113", 0)},

		"seconds with decimals, up": {asterisk, flat(`"billsec":"1.0001"`), of("", 1001)},
		"48 hours":                  {asterisk, flat(`"billsec":172800`), of("", 172_800_000)},
		"more":                      {asterisk, flat(`"billsec":172800.001`), pbx},
		"beyond 64 bits":            {asterisk, flat(`"billsec":"99999999999999999999"`), pbx},
		"just beyond 63 bits":       {asterisk, flat(`"billsec":9999999999999999`), pbx},
		"below zero":                {asterisk, flat(`"billsec":-15`), pbx},
		"an exponent":               {asterisk, flat(`"billsec":1e9,"billable_ms":"1e999999999"`), pbx},
		"no number":                 {asterisk, flat(`"billsec":"1:30"`), pbx},
		"points":                    {asterisk, flat(`"billsec":"1.2.3"`), pbx},
		"a fraction that is none":   {asterisk, flat(`"billsec":"1/0"`), pbx},

		// An instant of these would be another one, or make months without end.
		"the year 1677":    {callSubject, strings.Replace(string(call("a")), "2026-10-05T09:00:00Z", "1677-09-21T00:12:44Z", 1), with(func(g *domain.Glimpse) { g.At = answered + domain.Instant(time.Minute) })},
		"the year 0":       {asterisk, flat(`"answered_at":"0000-01-01T00:00:00Z"`), pbx},
		"the year 9999":    {asterisk, flat(`"answered_at":"9999-12-31T23:59:59Z"`), pbx},
		"the last instant": {asterisk, flat(`"answered_at":"2199-12-31T23:59:59Z"`), domain.Glimpse{Source: "switch/pbx", At: domain.MaxInstant - domain.Instant(time.Second)}},
		"no time":          {asterisk, flat(`"answered_at":"yesterday","start_time":"2026-10-05T09:00:00Z"`), pbx},

		"garbage":       {asterisk, "\x00\xff\x1b[2J", pbx},
		"nothing":       {asterisk, "", pbx},
		"no object":     {asterisk, `["called","+390612345678"]`, pbx},
		"data is text":  {callSubject, `{"id":"a","source":"s","data":"x","called":"112"}`, domain.Glimpse{Source: "s", ID: "a", Called: number("112")}},
		"two objects":   {callSubject, string(call("a")) + string(call("b")), domain.Glimpse{}},
		"nested deep":   {callSubject, strings.Repeat(`{"data":`, 20_000) + "1" + strings.Repeat("}", 20_000), domain.Glimpse{}},
		"names twice":   {asterisk, flat(`"called":"112","called":"113"`), of("113", 0)},
		"invalid UTF-8": {callSubject, strings.Replace(string(call("a")), "ada@", "\xff\xfe@", 1), with(func(g *domain.Glimpse) { g.User = "" })},
		"names that are too long": {
			callSubject, strings.NewReplacer("ada@", strings.Repeat("a", 200), `"id":"a"`, `"id":"`+strings.Repeat("a", 129)+`"`).Replace(string(call("a"))),
			with(func(g *domain.Glimpse) { g.User, g.ID = "", "" }),
		},
		"a source with spaces":  {callSubject, strings.Replace(string(call("a")), callSource, "switch mil", 1), with(func(g *domain.Glimpse) { g.Source = "" })},
		"a long record":         {callSubject, strings.Replace(string(call("a")), "{", "{"+strings.Repeat(" ", 60<<10), 1), whole},
		"a record that is huge": {asterisk, strings.Replace(string(call("a")), "{", "{"+strings.Repeat(" ", 64<<10), 1), pbx},
		"nobody's subject":      {"invoices", string(call("a")), whole},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := gocmp.Diff(c.want, glimpsed(known, c.subject, []byte(c.raw))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzGlimpse: whatever a record is, looking into it does not panic, and what is
// read of it is small, can be shown, and can be asked a price.
func FuzzGlimpse(f *testing.F) {
	files, err := filepath.Glob("cdr/testdata/kamailio/*.jsonl")
	if err != nil || len(files) == 0 {
		f.Fatalf("no records of Kamailio in cdr/testdata: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			f.Add(kamSubject, line)
		}
	}
	f.Add(callSubject, call("a"))
	f.Add(callSubject, []byte("NATS/1.0\r\nce-id: a\r\nce-source: s\r\n\r\n{}"))
	f.Add("tollbook.contoso.cdr.x.y", fmt.Appendf(nil, `{"data":{"call":{"dst":390612345678,"billsec":%d,"time":"1677-09-21T00:12:44Z"}}}`, uint64(1)<<63))
	known := consumers.NewSwitches()
	known.Follow(eventstore.Update{First: 1, Events: []domain.Event{kamA()}})
	ledger := domain.NewLedger()
	f.Fuzz(func(t *testing.T, subject string, raw []byte) {
		g := glimpsed(known, subject, raw)
		if g.BillableMS < 0 || g.BillableMS > domain.MaxBillableMS {
			t.Errorf("%d ms", g.BillableMS)
		}
		if !g.Called.Valid() {
			t.Errorf("called %+v", g.Called)
		}
		if g.At != 0 && (g.At < domain.MinInstant || g.At >= domain.MaxInstant) {
			t.Errorf("at %s", g.At)
		}
		if len(g.User) > domain.MaxNameBytes || len(g.ID) > domain.MaxIDBytes || len(g.Source) > domain.MaxReasonBytes+len("switch/") {
			t.Errorf("long: %+v", g)
		}
		if strings.ContainsFunc(g.ID, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("id %q", g.ID)
		}
		if _, _, ok := ledger.Estimate("contoso", g.User, g.Called, g.At, g.BillableMS); ok {
			t.Error("a price without a deck")
		}
	})
}
