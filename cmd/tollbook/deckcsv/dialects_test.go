package deckcsv

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/projections/decks"
)

// encodings are those that files come in.
var encodings = map[string]func(string) (string, error){
	"utf-8":     func(s string) (string, error) { return s, nil },
	"utf-8 bom": func(s string) (string, error) { return "\ufeff" + s, nil },
	"utf-16": func(s string) (string, error) {
		return unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String(s)
	},
	"utf-16 big, no mark": func(s string) (string, error) {
		return unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewEncoder().String(s)
	},
	"windows-1252": func(s string) (string, error) { return charmap.Windows1252.NewEncoder().String(s) },
}

// testdata/dialects.txt has a file a paragraph, how it is encoded, and what is read.
func TestDialects(t *testing.T) {
	const path = "testdata/dialects.txt"
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var now []string
	for _, paragraph := range strings.Split(strings.TrimSpace(string(old)), "\n\n") {
		given, _, _ := strings.Cut(paragraph, "=> ")
		title, rest, _ := strings.Cut(given, "\n")
		as, text, _ := strings.Cut(rest, "\n")
		encode := encodings[strings.TrimPrefix(as, "as ")]
		if encode == nil {
			t.Fatalf("%s: no encoding %q", title, as)
		}
		file, err := encode(text)
		if err != nil {
			t.Fatal(err)
		}
		sheet, err := Parse(strings.NewReader(file), options())
		if err != nil {
			t.Fatalf("%s: %v", title, err)
		}
		now = append(now, given+described(sheet))
	}
	got := strings.Join(now, "\n")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(old), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func described(s *decks.Sheet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "=> %s, %s, decimal %s, in %s\n", s.Form.Encoding, s.Form.Separator, s.Form.Decimal, s.Currency)
	for i, r := range s.Rows {
		fmt.Fprintf(&b, "=> line %d: %s is %s %s, %s: %s + %s, %s\n", s.Lines[i], r.Prefix, r.Country, r.Name, r.RowType, r.Price, r.ConnectFee, r.Increment)
	}
	for _, n := range s.Normalised {
		fmt.Fprintf(&b, "=> %s: %d", n.What, n.Count)
		for _, e := range n.Examples {
			fmt.Fprintf(&b, "; line %d %s %q as %q", e.Line, e.Column, e.From, e.To)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// drawnRows are of a deck whose texts Windows-1252 has too, and which are not UTF-8
// in it: ß– would be.
func drawnRows(t *rapid.T) []domain.Row {
	prefixes := rapid.SliceOfNDistinct(rapid.StringMatching(`[1-9][0-9]{0,8}|=[0-9]{2,6}`), 1, 30, rapid.ID[string]).Draw(t, "prefixes")
	slices.Sort(prefixes)
	name := rapid.StringMatching(`[A-Za-zàéüß€–]([A-Za-z0-9 ,;|"'àéüß.-]| [€–]){0,20}[A-Za-zàéüß]`)
	var rows []domain.Row
	for _, p := range prefixes {
		rows = append(rows, domain.Row{
			Prefix: p, Country: rapid.StringMatching(`[A-Z]{2}`).Draw(t, "country"), Name: name.Draw(t, "name"), RowType: name.Draw(t, "type"),
			Price:      domain.Micros(rapid.Int64Range(0, 3_000_000_000).Draw(t, "price")),
			ConnectFee: domain.Micros(rapid.Int64Range(0, 9_999_999).Draw(t, "fee")),
			Increment:  domain.Increment{First: rapid.Int32Range(1, 90).Draw(t, "first"), Step: rapid.Int32Range(1, 90).Draw(t, "step")},
		})
	}
	return rows
}

// A dialect is how rows are written.
type dialect struct {
	separator, encoding, newline string
	comma, grouped               bool // decimal comma; marks between thousands
	prefix, increment            int  // spellings
	header                       []string
	preamble, emptyRows          bool
}

func drawnDialect(t *rapid.T) dialect {
	d := dialect{
		separator: rapid.SampledFrom([]string{",", ";", "\t", "|"}).Draw(t, "separator"),
		encoding:  rapid.SampledFrom([]string{"utf-8", "utf-8 bom", "utf-16", "utf-16 big, no mark", "windows-1252"}).Draw(t, "encoding"),
		newline:   rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "newline"),
		comma:     rapid.Bool().Draw(t, "decimal comma"), grouped: rapid.Bool().Draw(t, "grouped"),
		prefix: rapid.IntRange(0, 4).Draw(t, "spelling of prefixes"), increment: rapid.IntRange(0, 2).Draw(t, "spelling of increments"),
		preamble: rapid.Bool().Draw(t, "preamble"), emptyRows: rapid.Bool().Draw(t, "empty rows"),
	}
	for _, c := range []Column{Prefix, Destination, Country, Type, Rate, ConnectFee, Increment, Currency} {
		name := rapid.SampledFrom(Columns[c]).Draw(t, "name of the column")
		if rapid.Bool().Draw(t, "capitals") {
			name = strings.ToUpper(strings.ReplaceAll(name, "_", " "))
		}
		d.header = append(d.header, name)
	}
	return d
}

func (d dialect) line(cells ...string) string {
	for i, c := range cells {
		if strings.ContainsAny(c, d.separator+"\"\n") || i%2 == 1 {
			cells[i] = `"` + strings.ReplaceAll(c, `"`, `""`) + `"`
		}
	}
	return strings.Join(cells, d.separator) + d.newline
}

func (d dialect) number(m domain.Micros) string {
	whole, frac, has := strings.Cut(m.String(), ".")
	group, mark := ",", "."
	if d.comma {
		group, mark = ".", ","
	}
	if d.grouped && len(whole) > 3 && has { // without decimals, a mark between thousands may be a decimal one
		whole = whole[:len(whole)-3] + group + whole[len(whole)-3:]
	}
	if !has {
		return whole
	}
	return whole + mark + frac
}

func (d dialect) spelledPrefix(p string) string {
	switch {
	case p[0] == '=':
		return p
	case d.prefix == 1:
		return "+" + p
	case d.prefix == 2:
		return "00" + p
	case d.prefix == 3:
		return p + ".0"
	case d.prefix == 4:
		return `="` + p + `"`
	}
	return p
}

func (d dialect) write(t *rapid.T, rows []domain.Row) string {
	var b strings.Builder
	if d.preamble {
		b.WriteString(d.line("Rates of a carrier") + d.line("valid", "from now on"))
	}
	b.WriteString(d.line(slices.Clone(d.header)...))
	for _, r := range rows {
		increment := r.Increment.String()
		switch {
		case d.increment == 1:
			increment = strings.Replace(increment, "/", "+", 1)
		case d.increment == 2 && r.Increment.First == r.Increment.Step:
			increment = fmt.Sprint(r.Increment.First)
		}
		b.WriteString(d.line(d.spelledPrefix(r.Prefix), r.Name, r.Country, r.RowType, d.number(r.Price), d.number(r.ConnectFee), increment, "EUR"))
		if d.emptyRows {
			b.WriteString(strings.Repeat(d.separator, len(d.header)-1) + d.newline)
		}
	}
	text, err := encodings[d.encoding](b.String())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Any deck written in any dialect reads back the same.
func TestAnyDialectReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, d := drawnRows(t), drawnDialect(t)
		text := d.write(t, rows)
		sheet, err := Parse(strings.NewReader(text), options())
		if err != nil {
			t.Fatalf("%v\n%q", err, text)
		}
		if diff := cmp.Diff(rows, sheet.Rows); diff != "" {
			t.Errorf("-written +read:\n%s\n%q", diff, text)
		}
		// Nothing is read otherwise in silence.
		plain := d.prefix == 0 && !d.comma && !d.grouped && d.increment == 0 && !d.preamble && !d.emptyRows && d.encoding != "windows-1252"
		if plain && len(sheet.Normalised) > 0 {
			t.Errorf("plain, and read otherwise: %v", sheet.Normalised)
		}
	})
}
