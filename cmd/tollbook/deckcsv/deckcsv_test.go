package deckcsv

import (
	"bytes"
	"encoding/csv"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/projections/decks"
)

var update = flag.Bool("update", false, "rewrite testdata")

func options() Options {
	return Options{
		Tenant: "contoso", Deck: "standard", Version: "2026-10",
		EffectiveFrom: domain.InstantOf(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)),
		Time:          domain.InstantOf(time.Date(2026, 9, 15, 8, 0, 0, 0, time.UTC)),
	}
}

func read(t *testing.T, csv string, opts Options) []domain.Event {
	t.Helper()
	events, err := Read(strings.NewReader(csv), opts)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

const small = `prefix,destination,country,type,rate_per_min,connect_fee,increment,currency
39,Italy,IT,landline,0.0160,0,60/60,EUR
393,Italy - Mobile,IT,mobile,0.125,0.01,1/1,EUR
=4242,Directory,IT,special,0.9,0.15,60/30,EUR
`

func TestRead(t *testing.T) {
	opts := options()
	want := []domain.Event{{
		Tenant: "contoso", Source: decks.DefaultSource, ID: "deck/standard/2026-10/1-ID", Time: opts.Time,
		Data: &domain.Deck{
			Deck: "standard", Version: "2026-10", EffectiveFrom: opts.EffectiveFrom, Currency: "EUR", Part: 1, Parts: 1,
			Rows: []domain.Row{
				{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 16000, Increment: domain.Increment{First: 60, Step: 60}},
				{Prefix: "393", Country: "IT", Name: "Italy - Mobile", RowType: "mobile", Price: 125000, ConnectFee: 10000, Increment: domain.Increment{First: 1, Step: 1}},
				{Prefix: "=4242", Country: "IT", Name: "Directory", RowType: "special", Price: 900000, ConnectFee: 150000, Increment: domain.Increment{First: 60, Step: 30}},
			},
		},
	}}
	got := read(t, small, opts)
	want[0].ID = strings.Replace(want[0].ID, "ID", got[0].ID[len(got[0].ID)-16:], 1)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The same rows are the same events whatever the file looks like: that is what
// makes the second import of a deck all duplicates.
func TestSameRowsSameEvents(t *testing.T) {
	want := read(t, small, options())
	eur := options()
	eur.Currency = "EUR"
	for name, c := range map[string]struct {
		csv  string
		opts Options
	}{
		"again":              {small, options()},
		"byte order mark":    {"\xef\xbb\xbf" + small, options()},
		"CRLF":               {strings.ReplaceAll(small, "\n", "\r\n"), options()},
		"semicolons":         {strings.ReplaceAll(small, ",", ";"), options()},
		"tabs":               {strings.ReplaceAll(small, ",", "\t"), options()},
		"no closing newline": {strings.TrimSuffix(small, "\n"), options()},
		"other names, order, quotes, spelling of numbers": {`Rate;Name;Dial Code;ISO2;Note;Type;Connection-Fee;Billing Increment;CCY
0.90;Directory;=4242;it;;special;0.150;60/30;eur
0.016;"Italy";+39;IT;x;landline;;;EUR
 0.125 ; Italy - Mobile ;+393;It;;mobile;0.01;1/1;EUR
`, options()},
		"currency said beside the file": {"prefix,name,country,type,price,connect_fee,increment\n" +
			"39,Italy,IT,landline,0.016,,\n393,Italy - Mobile,IT,mobile,0.125,0.01,1/1\n=4242,Directory,IT,special,0.9,0.15,60/30\n", eur},
		"currency said above the file's": {strings.ReplaceAll(small, "EUR", "USD"), eur},
	} {
		if diff := cmp.Diff(want, read(t, c.csv, c.opts)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// Whatever is said otherwise is another event: under an old id it would be a
// conflict, and under no id a deck nobody can tell from the first.
func TestOtherContentOtherID(t *testing.T) {
	base := read(t, small, options())[0].ID
	change := func(f func(*Options)) Options {
		o := options()
		f(&o)
		return o
	}
	seen := map[string]string{base: "the deck itself"}
	for name, id := range map[string]string{
		"price":          read(t, strings.Replace(small, "0.0160", "0.0161", 1), options())[0].ID,
		"name":           read(t, strings.Replace(small, "Italy,", "Italia,", 1), options())[0].ID,
		"fee":            read(t, strings.Replace(small, "0.15", "0.16", 1), options())[0].ID,
		"increment":      read(t, strings.Replace(small, "1/1", "6/6", 1), options())[0].ID,
		"type":           read(t, strings.Replace(small, "special", "toll_free", 1), options())[0].ID,
		"country":        read(t, strings.Replace(small, "Directory,IT", "Directory,CH", 1), options())[0].ID,
		"currency":       read(t, strings.ReplaceAll(small, "EUR", "CHF"), options())[0].ID,
		"effective_from": read(t, small, change(func(o *Options) { o.EffectiveFrom++ }))[0].ID,
	} {
		if other, ok := seen[id]; ok {
			t.Errorf("another %s has the id of %s: %s", name, other, id)
		}
		seen[id] = "another " + name
	}
	if id := read(t, small, change(func(o *Options) { o.Time++ }))[0].ID; id != base {
		t.Errorf("published at another time: id %s, want %s: time is not content", id, base)
	}
}

// testdata/refused.txt has a file and what is said about it a paragraph.
func TestRefused(t *testing.T) {
	const path = "testdata/refused.txt"
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var now bytes.Buffer
	for i, paragraph := range strings.Split(strings.TrimSpace(string(old)), "\n\n") {
		csv, _, _ := strings.Cut(paragraph, "=> ")
		_, err := Read(strings.NewReader(unescape.Replace(csv)), options())
		if err == nil {
			t.Fatalf("taken:\n%s", csv)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("more than one line: %q", err)
		}
		if i > 0 {
			now.WriteByte('\n')
		}
		fmt.Fprintf(&now, "%s=> %v\n", csv, err)
	}
	if *update {
		if err := os.WriteFile(path, now.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(old), now.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// unescape writes in testdata what an editor would not show.
var unescape = strings.NewReplacer(`\xe9`, "\xe9", `\x81`, "\x81", `\x03`, "\x03", `\x04`, "\x04", `\t`, "\t", `\a`, "\a")

func TestOptionsRefused(t *testing.T) {
	long := strings.Repeat("d", 110)
	for want, change := range map[string]func(*Options){
		"refused: tenant:":              func(o *Options) { o.Tenant = "Contoso" },
		"refused: source:":              func(o *Options) { o.Source = "import deck" },
		"refused: data.deck:":           func(o *Options) { o.Deck = "" },
		"refused: data.version:":        func(o *Options) { o.Version = "a\nb" },
		"refused: data.effective_from:": func(o *Options) { o.EffectiveFrom = 0 },
		"refused: time:":                func(o *Options) { o.Time = 0 },
		"refused: data.currency:":       func(o *Options) { o.Currency = "euro" },
		"deck \"" + long + "\", version \"2026-10\": shorten them by 18 bytes": func(o *Options) { o.Deck = long },
	} {
		opts := options()
		change(&opts)
		_, err := Read(strings.NewReader(small), opts)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want …%s…", err, want)
		}
	}
}

// An id is visible ASCII whatever the deck is called.
func TestIDOfOddNames(t *testing.T) {
	opts := options()
	opts.Deck, opts.Version = "Großhandel/EU", "v 1"
	id := read(t, small, opts)[0].ID
	if !strings.HasPrefix(id, "deck/Gro%C3%9Fhandel%2FEU/v%201/1-") {
		t.Error(id)
	}
}

// many is a deck of n rows with names that JSON makes longer.
func many(n int) string {
	var b strings.Builder
	b.WriteString("prefix,name,country,type,rate,currency\n")
	for i := range n {
		fmt.Fprintf(&b, "%d,\"%s\",IT,\"%s\",%d.%06d,EUR\n", 1_000_000+i, strings.Repeat(`\`, i%120+1), strings.Repeat(`""`, i%60+1), i, i)
	}
	return b.String()
}

func TestParts(t *testing.T) {
	const rows = 20_000
	csv := many(rows)
	events := read(t, csv, options())
	if len(events) < 10 {
		t.Fatalf("%d parts; the deck was to be large", len(events))
	}
	ids := map[string]bool{}
	last, total := "", 0
	for i, e := range events {
		d := e.Data.(*domain.Deck)
		if d.Part != i+1 || d.Parts != len(events) || !strings.HasPrefix(e.ID, fmt.Sprintf("deck/standard/2026-10/%d-", i+1)) {
			t.Errorf("event %d: part %d of %d, id %s", i, d.Part, d.Parts, e.ID)
		}
		ids[e.ID] = true
		text := cloudevents.Append(nil, &e)
		if len(text) > decks.MaxPartBytes || len(text) < decks.MaxPartBytes*3/4 && i < len(events)-1 {
			t.Errorf("part %d has %d bytes; the most is %d", d.Part, len(text), decks.MaxPartBytes)
		}
		decoded, err := cloudevents.Decode(text, "contoso")
		if diff := cmp.Diff(e, decoded); err != nil || diff != "" {
			t.Errorf("part %d: decoded: %v, -want +got:\n%s", d.Part, err, diff)
		}
		for _, row := range d.Rows {
			if row.Prefix <= last {
				t.Fatalf("part %d: %s after %s", d.Part, row.Prefix, last)
			}
			last = row.Prefix
		}
		total += len(d.Rows)
	}
	if total != rows || len(ids) != len(events) {
		t.Errorf("%d rows under %d ids, want %d under %d", total, len(ids), rows, len(events))
	}

	lines := strings.SplitAfter(csv, "\n")
	shuffled := lines[1 : rows+1]
	const seed = 7
	rand.New(rand.NewPCG(seed, seed)).Shuffle(rows, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	if diff := cmp.Diff(events, read(t, strings.Join(lines, ""), options())); diff != "" {
		t.Errorf("rows in another order (seed %d): -want +got:\n%s", seed, diff)
	}
}

// A reader that fails, or goes on for ever, is an error and not a short deck.
func TestReaderFails(t *testing.T) {
	for _, c := range []struct {
		left int64
		want string
	}{{int64(len(small)) - 60, "the file has more than 536870912 bytes"}, {0, "the file has more than 536870912 bytes"}} {
		in := &limited{r: strings.NewReader(small), left: c.left}
		_, err := Read(in, options())
		if err == nil || err.Error() != c.want {
			t.Errorf("%d bytes: %v, want %s", c.left, err, c.want)
		}
	}
}

func TestTooManyRows(t *testing.T) {
	f := file{csv: csv.NewReader(strings.NewReader(small)), max: 2, charset: &charset{}, seen: map[string]string{}}
	const want = "line 4: the deck has more than 2 rows; split it into decks of fewer"
	if err := f.read(0); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(small)
	f.Add(strings.ReplaceAll(small, ",", ";"))
	f.Add("\xef\xbb\xbfcode\tname\tiso\ttype\trate\tccy\n+1\t\"a \"\"b\"\"\"\tus\tx\t1\tusd\n")
	f.Add("Listino\n\nPrefissi;Destinazione;Paese;Tipo;Prezzo;Valuta\n39,390-392;It\xe0lia;IT;x;\"1.234,5\";EUR\n;;;;;\n")
	f.Add("cc|codes|name|country code|type|rate|first increment|next increment|ccy\n0039||a|IT|x|1.6E-2|60|1|EUR\n39|06/02|a|IT|x|€ .5|6|6|EUR\n")
	f.Add("\xff\xfep\x00r\x00e\x00f\x00i\x00x\x00\n\x00")
	f.Fuzz(func(t *testing.T, csv string) {
		events, err := Read(strings.NewReader(csv), options())
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("more than one line: %q", err)
			}
			return
		}
		for _, e := range events {
			if _, err := cloudevents.Decode(cloudevents.Append(nil, &e), ""); err != nil {
				t.Fatalf("intake would refuse it: %v", err)
			}
		}
		// What was taken, written out and read again, is the same deck.
		again, err := Read(strings.NewReader(write(events)), options())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(events, again); diff != "" {
			t.Errorf("-first +second:\n%s", diff)
		}
	})
}

func write(events []domain.Event) string {
	var b strings.Builder
	quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
	b.WriteString("prefix,destination,country,type,rate_per_min,connect_fee,increment,currency\n")
	for _, e := range events {
		d := e.Data.(*domain.Deck)
		for _, r := range d.Rows {
			fmt.Fprintf(&b, "%s,%s,%s,%s,%s,%s,%s,%s\n", r.Prefix, quote(r.Name), r.Country, quote(r.RowType), r.Price, r.ConnectFee, r.Increment, d.Currency)
		}
	}
	return b.String()
}

func BenchmarkRead(b *testing.B) {
	const rows = 20_000
	csv := many(rows)
	for b.Loop() {
		if _, err := Read(strings.NewReader(csv), options()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
