package decks

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
)

var update = flag.Bool("update", false, "rewrite testdata")

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: -want +got:\n%s", path, diff)
	}
}

func on(year int, month time.Month, day int) domain.Instant {
	return domain.InstantOf(time.Date(year, month, day, 0, 0, 0, 0, time.UTC))
}

// rowsOf reads rows as the tests write them: prefix, country, name, type, price,
// and where they are not 0 and 60/60, fee and increment.
func rowsOf(t *testing.T, text string) []domain.Row {
	t.Helper()
	var rows []domain.Row
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSpace(line), " ")
		if len(cells) < 5 {
			t.Fatalf("%q is no row", line)
		}
		row := domain.Row{Prefix: cells[0], Country: cells[1], Name: cells[2], RowType: cells[3], Increment: domain.DefaultIncrement}
		var err error
		if row.Price, err = domain.ParseMicros(cells[4]); err != nil {
			t.Fatal(err)
		}
		if len(cells) > 5 {
			if row.ConnectFee, err = domain.ParseMicros(cells[5]); err != nil {
				t.Fatal(err)
			}
		}
		if len(cells) > 6 {
			if row.Increment, err = domain.ParseIncrement(cells[6]); err != nil {
				t.Fatal(err)
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func sheetOf(version string, from domain.Instant, currency domain.Currency, rows []domain.Row) *Sheet {
	s := &Sheet{Options: Options{Tenant: "contoso", Deck: "standard", Version: version, EffectiveFrom: from, Currency: currency, Time: from}}
	lines := make([]int32, len(rows))
	for i := range lines {
		lines[i] = int32(i + 2)
	}
	s.Sort(rows, lines)
	return s
}

// testdata/lint.txt has a case a paragraph: the version in force and behind --- the
// one that is looked at, and what is found.
func TestLint(t *testing.T) {
	const path = "testdata/lint.txt"
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var now []string
	for _, paragraph := range strings.Split(strings.TrimSpace(string(old)), "\n\n") {
		given, _, _ := strings.Cut(paragraph, "=> ")
		_, rows, _ := strings.Cut(given, "\n")
		before, after, both := strings.Cut(rows, "---\n")
		terms := Terms{Now: on(2026, 9, 15)}
		if both {
			terms.Book, terms.InForce = true, sheetOf("2026-09", on(2026, 9, 1), "EUR", rowsOf(t, before))
		} else {
			after = before
		}
		report := Lint(sheetOf("2026-10", on(2026, 10, 1), "EUR", rowsOf(t, after)), terms)
		now = append(now, given+found(report))
	}
	golden(t, path, []byte(strings.Join(now, "\n")))
}

func found(r *Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "=> %s, %s", f.Severity, f.Code)
		if f.Line > 0 {
			fmt.Fprintf(&b, ", line %d, %s", f.Line, f.Prefix)
		}
		fmt.Fprintf(&b, ": %s\n", f.Text)
	}
	if len(r.Findings) == 0 {
		b.WriteString("=> nothing\n")
	}
	return b.String()
}

// What is found of a version as a whole, against what the book knows.
func TestLintVersion(t *testing.T) {
	rows := rowsOf(t, "39 IT Italy landline 0.016")
	published := func(version string, from domain.Instant, currency domain.Currency, price string) domain.DeckVersion {
		part := &domain.Deck{Deck: "standard", Version: version, EffectiveFrom: from, Currency: currency, Part: 1, Parts: 1, Rows: rowsOf(t, "39 IT Italy landline "+price)}
		return domain.DeckVersion{Deck: "standard", Own: true, Version: version, EffectiveFrom: from, Currency: currency, Rows: 1, Parts: []*domain.Deck{part}, State: domain.DeckValid}
	}
	var out bytes.Buffer
	common := func(v domain.DeckVersion) domain.DeckVersion {
		v.Own = false
		return v
	}
	for _, c := range []struct {
		what  string
		terms Terms
	}{
		{"nothing is known", Terms{}},
		{"it takes effect before now", Terms{Now: on(2026, 10, 2)}},
		{"in a closed month", Terms{Now: on(2026, 12, 1), Closed: on(2026, 11, 1), Whose: "contoso"}},
		{"of another currency than the deck", Terms{Known: []domain.DeckVersion{published("2026-09", on(2026, 9, 1), "USD", "0.016")}}},
		{"published with other rows", Terms{Known: []domain.DeckVersion{published("2026-10", on(2026, 10, 1), "EUR", "0.017")}}},
		{"published, and the same", Terms{Known: []domain.DeckVersion{published("2026-10", on(2026, 10, 1), "EUR", "0.016")}}},
		{"published to take effect at another time", Terms{Known: []domain.DeckVersion{published("2026-10", on(2026, 11, 1), "EUR", "0.016")}}},
		{"another name is in force", Terms{Known: []domain.DeckVersion{published("2026-10b", on(2026, 10, 1), "EUR", "0.016")}}},
		{"the catalogue's is hidden", Terms{Known: []domain.DeckVersion{common(published("2026-09", on(2026, 9, 1), "EUR", "0.016"))}}},
		{"a later one follows", Terms{Known: []domain.DeckVersion{published("2026-11", on(2026, 11, 1), "EUR", "0.016")}}},
	} {
		report := Lint(sheetOf("2026-10", on(2026, 10, 1), "EUR", rows), c.terms)
		fmt.Fprintf(&out, "%s: %d errors", c.what, report.Errors())
		if report.Identical {
			out.WriteString(", identical")
		}
		fmt.Fprintf(&out, "\n%s\n", found(report))
	}
	golden(t, "testdata/version.txt", out.Bytes())
}

// All findings are counted, and only so many listed.
func TestLintListsSome(t *testing.T) {
	var rows []domain.Row
	for i := range 100 {
		rows = append(rows, domain.Row{Prefix: fmt.Sprint(39300 + i), Country: "IT", Name: "Italy", RowType: "mobile", Increment: domain.DefaultIncrement})
	}
	report := Lint(sheetOf("1", on(2026, 10, 1), "EUR", rows), Terms{Listed: 3})
	i := slices.IndexFunc(report.Counts, func(c Count) bool { return c.Code == FoundZeroPrice })
	if i < 0 || report.Counts[i].Count != 100 {
		t.Errorf("counts %v", report.Counts)
	}
	listed := 0
	for _, f := range report.Findings {
		if f.Code == FoundZeroPrice {
			listed++
		}
	}
	if listed != 3 {
		t.Errorf("%d listed", listed)
	}
}

// drawnSheet has prefixes of few digits, so that they hold one another.
func drawnSheet(t *rapid.T, version string) *Sheet {
	prefixes := rapid.SliceOfNDistinct(rapid.StringMatching(`[1-3][0-3]{0,4}|=[0-3]{2,3}`), 0, 25, rapid.ID[string]).Draw(t, version)
	rows := make([]domain.Row, len(prefixes))
	for i, p := range prefixes {
		rows[i] = domain.Row{
			Prefix: p, Country: "IT", Name: rapid.SampledFrom([]string{"A", "B"}).Draw(t, "name"), RowType: "mobile",
			Price: domain.Micros(rapid.Int64Range(0, 3).Draw(t, "price") * 10_000), Increment: domain.DefaultIncrement,
		}
	}
	return sheetOf(version, on(2026, 10, 1), "EUR", rows)
}

// longest is the row with the longest prefix of a number, looked for in all of them.
func longest(s *Sheet, number string) *domain.Row {
	var best *domain.Row
	for i := range s.Rows {
		r := &s.Rows[i]
		match := strings.HasPrefix(number, r.Prefix)
		if r.Prefix[0] == '=' {
			match = r.Prefix == number
		}
		if match && (best == nil || len(r.Prefix) > len(best.Prefix)) {
			best = r
		}
	}
	return best
}

// The cells of a walk say of every number by which rows it was and is priced, and
// a diff lists exactly those for which that makes a difference.
func TestDiffIsWhatNumbersSee(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := drawnSheet(t, "before"), drawnSheet(t, "after")
		cells := map[string]Cell{}
		var order []string
		Walk(before, after, func(c *Cell) {
			cells[c.Prefix] = *c
			order = append(order, c.Prefix)
		})
		if !slices.IsSorted(order) || len(cells) != len(order) {
			t.Fatalf("cells %v", order)
		}
		diff := Compare(before, after, DiffPage{Limit: MaxPage})
		changes := map[string]Change{}
		for _, c := range diff.Changes {
			changes[c.Prefix] = c
		}
		if int(diff.Unchanged)+len(changes) != len(cells) {
			t.Fatalf("%d unchanged, %d changes, %d cells", diff.Unchanged, len(changes), len(cells))
		}
		for range 30 {
			number := rapid.StringMatching(`[1-3][0-3]{0,6}|=[0-3]{2,3}`).Draw(t, "number")
			was, is := longest(before, number), longest(after, number)
			cell := was
			if is != nil && (was == nil || len(is.Prefix) > len(was.Prefix)) {
				cell = is
			}
			if cell == nil {
				continue
			}
			c := cells[cell.Prefix]
			if c.Before != was || c.After != is {
				t.Fatalf("%s: cell %s has %v → %v, looked up %v → %v", number, c.Prefix, c.Before, c.After, was, is)
			}
			if got := newIndex(after).find([]byte(number)); got != is {
				t.Fatalf("%s: the index finds %v, want %v", number, got, is)
			}
			change, listed := changes[cell.Prefix]
			if differs := len(c.differs(nil)) > 0; differs && (!listed || len(change.Differs) == 0) {
				t.Fatalf("%s: %v → %v is not in the diff", number, was, is)
			}
		}
		if same := Compare(before, before, DiffPage{}); len(same.Changes) != 0 || int(same.Unchanged) != len(before.Rows) {
			t.Fatalf("a deck differs from itself: %v", same)
		}
	})
}

// Pages put together are the whole list.
func TestDiffPages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := drawnSheet(t, "before"), drawnSheet(t, "after")
		only := rapid.SampledFrom(append([]string{""}, OnlyOf...)).Draw(t, "only")
		all := Compare(before, after, DiffPage{Limit: MaxPage, Only: only})
		var pages []Change
		page := DiffPage{Limit: rapid.IntRange(1, 5).Draw(t, "limit"), Only: only}
		for {
			d := Compare(before, after, page)
			pages = append(pages, d.Changes...)
			if page.After = d.Next; page.After == "" {
				break
			}
		}
		if diff := cmp.Diff(all.Changes, append([]Change{}, pages...)); diff != "" {
			t.Errorf("-whole +pages:\n%s", diff)
		}
	})
}

// A sheet in the book is what was read, whatever the parts.
func TestSheetOfBook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawnSheet(t, "2026-10")
		if len(s.Rows) == 0 {
			return
		}
		ledger := domain.NewLedger()
		cut := rapid.IntRange(0, len(s.Rows)).Draw(t, "cut")
		parts := [][]domain.Row{s.Rows[:cut], s.Rows[cut:]}
		for _, i := range rapid.Permutation([]int{0, 1}).Draw(t, "order") {
			ledger.Add(&domain.Event{Tenant: "contoso", Source: "test", ID: fmt.Sprint(i), Time: s.Time, Data: &domain.Deck{
				Deck: s.Deck, Version: s.Version, EffectiveFrom: s.EffectiveFrom, Currency: s.Currency, Part: i + 1, Parts: 2, Rows: parts[i],
			}})
		}
		v, ok := ledger.DeckAt("contoso", "standard", s.EffectiveFrom)
		if !ok || v.State != domain.DeckValid {
			t.Fatalf("not in force: %v", ledger.Decks("contoso"))
		}
		if diff := cmp.Diff(s.Rows, SheetOf("contoso", &v).Rows); diff != "" {
			t.Errorf("-read +booked:\n%s", diff)
		}
	})
}

// What the numbering plans say of some prefixes.
func TestNumbering(t *testing.T) {
	n := numbering{}
	for _, c := range []struct{ prefix, code, owners, zero string }{
		{"39", "39", "IT VA", ""},
		{"3906", "39", "IT VA", ""},
		{"39061", "39", "IT", ""},
		{"39066982", "39", "VA", ""},
		{"396", "39", "IT VA", "06"},
		{"1", "1", "", ""},
		{"1242", "1", "BS", ""},
		{"1212", "1", "US", ""},
		{"1416", "1", "CA", ""},
		{"77", "7", "KZ", ""},
		{"379", "", "", ""},
		{"4", "", "", ""},
	} {
		code := CallingCode(c.prefix)
		if code != c.code {
			t.Errorf("%s: calling code %q, want %q", c.prefix, code, c.code)
		}
		if code == "" {
			continue
		}
		plan := callingPlans()[code]
		if got := strings.Join(n.owners(plan, c.prefix[len(code):]), " "); c.owners != "" && got != c.owners {
			t.Errorf("%s: of %s, want %s", c.prefix, got, c.owners)
		}
		if got := n.lostZero(plan, c.prefix[len(code):]); got != c.zero {
			t.Errorf("%s: lost zero %q, want %q", c.prefix, got, c.zero)
		}
	}
}

// A connect fee jumps as a price does, and so does what a type makes free.
func TestLintFeesAndFreeTypes(t *testing.T) {
	row := func(prefix, rowType string, price, fee domain.Micros) domain.Row {
		return domain.Row{Prefix: prefix, Country: "IT", Name: "Italy", RowType: rowType, Price: price, ConnectFee: fee, Increment: domain.DefaultIncrement}
	}
	before := sheetOf("1", on(2026, 9, 1), "EUR", []domain.Row{row("3902", "landline", 16_000, 0), row("3906", "landline", 16_000, 0), row("39348", "mobile", 100_000, 0), row("39800", "toll_free", 16_000, 0)})
	after := sheetOf("2", on(2026, 10, 1), "EUR", []domain.Row{row("3902", "landline", 16_000, 0), row("3906", "landline", 16_000, 500_000), row("39348", "toll_free", 100_000, 0), row("39800", "landline", 16_000, 0)})
	var got []string
	for _, f := range Lint(after, Terms{InForce: before}).Findings {
		if f.Code == FoundDearer || f.Code == FoundCheaper {
			got = append(got, f.Code+": "+f.Text)
		}
	}
	if diff := cmp.Diff([]string{
		FoundDearer + ": Italy: connect fee 0 → 0.5",
		FoundDearer + ": Italy: 0 → 0.016, as type toll_free becomes landline",
		FoundCheaper + ": Italy: 0.1 → 0, as type mobile becomes toll_free",
	}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
