package export_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/ledongthuc/pdf"
	"github.com/parquet-go/parquet-go"
	"github.com/xuri/excelize/v2"
	"pgregory.net/rapid"

	"tollbook/api"
	"tollbook/api/export"
	"tollbook/domain"
	"tollbook/projections"
)

// A read is a file as its reader has it: by table and column name, text exact.
type read map[string][]map[string]string

func rowsOf(t fataler, records [][]string) []map[string]string {
	t.Helper()
	rows := []map[string]string{}
	for _, record := range records[1:] {
		row := map[string]string{}
		for i, cell := range record {
			row[records[0][i]] = cell
		}
		rows = append(rows, row)
	}
	return rows
}

// textColumns are those in which a CSV guards what spreadsheets would run.
var numberColumns = strings.Fields("lines adjustments calls seconds total licences granted_seconds used_seconds overage_seconds price connect_fee amount count billable_ms billed_seconds pool_seconds")

func readCSV(t fataler, data []byte) []map[string]string {
	t.Helper()
	if bytes.Count(data, []byte("\n")) != bytes.Count(data, []byte("\r\n")) {
		t.Fatalf("a row does not end in CRLF:\n%q", data)
	}
	records, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	rows := rowsOf(t, records)
	for _, row := range rows {
		for name, cell := range row {
			guarded := strings.HasPrefix(cell, "'")
			if slices.Contains(numberColumns, name) && guarded {
				t.Fatalf("number %s is guarded: %s", name, cell)
			}
			if cell != "" && strings.Contains("=@\t\r＝", string([]rune(cell)[:1])) {
				t.Fatalf("%s is a formula: %q", name, cell)
			}
			row[name] = export.Unguard(cell)
		}
	}
	return rows
}

// readXLSX reads every sheet; sheets that continue one belong to it.
func readXLSX(t fataler, data []byte) read {
	t.Helper()
	f, err := excelize.OpenReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	all := read{}
	for _, sheet := range f.GetSheetList() {
		records, err := f.GetRows(sheet, excelize.Options{RawCellValue: true})
		if err != nil {
			t.Fatal(err)
		}
		if last := records[len(records)-1]; len(last) == 1 && strings.HasPrefix(last[0], "continues on sheet ") {
			records = records[:len(records)-1]
		}
		for i := range records {
			for len(records[i]) < len(records[0]) {
				records[i] = append(records[i], "") // GetRows cuts empty cells at the end
			}
		}
		name, _, _ := strings.Cut(sheet, " ")
		rows := rowsOf(t, records)
		for n, row := range rows {
			for i, column := range records[0] {
				cell, _ := excelize.CoordinatesToCellName(i+1, n+2)
				kind, err := f.GetCellType(sheet, cell)
				if err != nil {
					t.Fatal(err)
				}
				if kind == excelize.CellTypeBool {
					row[column] = map[string]string{"0": "false", "1": "true"}[row[column]]
				}
				isNumber := slices.Contains(numberColumns, column) || strings.HasSuffix(column, "_utc")
				if v := row[column]; isNumber && v != "" && len(v) <= 15 && kind != excelize.CellTypeUnset && kind != excelize.CellTypeNumber {
					t.Fatalf("%s %s, %s: %q is no number, but %v", sheet, cell, column, v, kind)
				}
				if row[column] != "" && !isNumber && name != "Manifest" && column != "amended" && kind != excelize.CellTypeInlineString {
					t.Fatalf("%s %s, %s: %q is no text, but %v", sheet, cell, column, row[column], kind)
				}
			}
		}
		all[strings.ToLower(name)] = append(all[strings.ToLower(name)], rows...)
	}
	return all
}

// same reports a cell that is another number, or other text.
func same(column, a, b string) bool {
	if !slices.Contains(numberColumns, column) || a == "" || b == "" {
		return a == b
	}
	x, ok := new(big.Rat).SetString(a)
	y, also := new(big.Rat).SetString(b)
	return ok && also && x.Cmp(y) == 0
}

// equal compares the columns that want has.
func equal(t fataler, what string, want, got []map[string]string) {
	t.Helper()
	if len(want) != len(got) {
		t.Fatalf("%s: %d rows, not %d", what, len(got), len(want))
	}
	for i := range want {
		for column, v := range want[i] {
			if g, there := got[i][column]; !there || !same(column, v, g) {
				t.Fatalf("%s, row %d, %s: %q, not %q", what, i, column, g, v)
			}
		}
	}
}

// wanted are the tables of a statement, made of it in another way than the program does.
func wanted(s *projections.Statement) read {
	number := ""
	if s.Number != nil {
		number = *s.Number
	}
	w := read{"invoices": {}, "pools": {}, "lines": {}, "adjustments": {}, "exceptions": {}}
	put := func(table string, pairs ...string) {
		row := map[string]string{"tenant": s.Tenant, "month": s.Month, "status": s.Status, "number": number}
		for i := 0; i < len(pairs); i += 2 {
			row[pairs[i]] = pairs[i+1]
		}
		w[table] = append(w[table], row)
	}
	n := func(n int64) string { return strconv.FormatInt(n, 10) }
	for _, i := range s.Invoices {
		kind := "invoice"
		if i.Credit() {
			kind = "credit_note"
		}
		put("invoices", "country", i.Country, "plan", i.Plan, "type", kind, "currency", i.Currency, "lines", n(int64(len(i.Lines))), "adjustments", n(int64(len(i.Adjustments))), "total", i.Total)
		line := func(table, kind, of string, l projections.Line) {
			put(table, "country", i.Country, "plan", i.Plan, "currency", i.Currency, "kind", kind, "of_month", of, "deck", l.Deck, "deck_version", l.DeckVersion,
				"destination_country", l.DestinationCountry, "destination", l.Destination, "type", l.Type, "price", l.Price, "connect_fee", l.ConnectFee,
				"calls", n(l.Calls), "seconds", n(l.Seconds), "amount", l.Amount)
		}
		for _, l := range i.Lines {
			line("lines", "line", s.Month, l)
		}
		for _, a := range i.Adjustments {
			line("adjustments", "adjustment", a.Month, a.Line)
		}
	}
	for _, p := range s.Pools {
		for _, b := range p.Buckets {
			ended := ""
			if p.ExhaustedAt != nil {
				ended = *p.ExhaustedAt
			}
			put("pools", "country", p.Country, "plan", p.Plan, "scope", p.Scope, "user", p.User, "licences", n(p.Licences), "bucket", b.Name,
				"granted_seconds", n(b.Granted), "used_seconds", n(b.Used), "overage_seconds", n(b.Overage), "exhausted_at", ended)
		}
	}
	for _, e := range s.Exceptions {
		put("exceptions", "reason", e.Reason, "count", n(e.Count), "seconds", n(e.Seconds))
	}
	return w
}

// inDocumentOrder are lines and adjustments as a CSV has them.
func inDocumentOrder(w read) (all []map[string]string) {
	rest := slices.Clone(w["adjustments"])
	lines := w["lines"]
	for _, i := range w["invoices"] {
		of := func(row map[string]string) bool {
			return row["country"] == i["country"] && row["plan"] == i["plan"] && row["currency"] == i["currency"]
		}
		for len(lines) > 0 && of(lines[0]) {
			all, lines = append(all, lines[0]), lines[1:]
		}
		for len(rest) > 0 && of(rest[0]) {
			all, rest = append(all, rest[0]), rest[1:]
		}
	}
	return append(append(all, lines...), rest...)
}

// parquetRows are those of a file, as text.
func parquetRows(t fataler, data []byte) (rows []map[string]string) {
	t.Helper()
	calls, err := parquet.Read[export.ParquetCall](bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		rows = append(rows, map[string]string{
			"at": domain.InstantOf(c.At).String(), "source": c.Source, "id": c.ID, "user": c.User, "kind": c.Kind, "called": c.Called,
			"billable_ms": fmt.Sprint(c.BillableMS), "amended": fmt.Sprint(c.Amended), "class": c.Class, "pool_country": c.PoolCountry, "pool_plan": c.PoolPlan,
			"pool_user": c.PoolUser, "bucket": c.Bucket, "billed_seconds": fmt.Sprint(c.BilledSeconds), "pool_seconds": fmt.Sprint(c.PoolSeconds),
			"overage_seconds": fmt.Sprint(c.OverageSeconds), "deck": c.Deck, "deck_version": c.DeckVersion, "destination_country": c.DestinationCountry,
			"destination": c.Destination, "type": c.Type, "price": c.Price, "connect_fee": c.ConnectFee, "currency": c.Currency, "exact": c.Exact,
		})
	}
	return rows
}

// addsUp compares calls with the lines, the pools and the counts of their statement.
func addsUp(t fataler, s *projections.Statement, calls []map[string]string) {
	t.Helper()
	exact, overage, drawn := map[string]*big.Rat{}, map[string]int64{}, map[string]int64{}
	classes := map[string]int64{}
	last := ""
	for _, c := range calls {
		n := func(column string) int64 {
			v, err := strconv.ParseInt(c[column], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		at, err := time.Parse(time.RFC3339Nano, c["at"])
		if err != nil {
			t.Fatal(err)
		}
		order := at.Format("2006-01-02T15:04:05.000000000") + "\x00" + c["source"] + "\x00" + c["id"]
		if order <= last {
			t.Fatalf("%q comes after %q (R7)", order, last)
		}
		last = order
		classes[c["class"]]++
		pool := strings.Join([]string{c["pool_country"], c["pool_plan"], c["pool_user"], c["bucket"]}, "\x00")
		switch c["class"] {
		case "in_pool", "overage":
			drawn[pool] += n("pool_seconds")
			overage[pool] += n("overage_seconds")
			if n("pool_seconds")+n("overage_seconds") != n("billed_seconds") {
				t.Fatalf("%v: pool and overage are not what is billed", c)
			}
		}
		if share, ok := new(big.Rat).SetString(c["exact"]); ok {
			line := strings.Join([]string{c["pool_country"], c["pool_plan"], c["currency"], c["deck"], c["deck_version"], c["destination_country"], c["destination"], c["type"], c["price"], c["connect_fee"]}, "\x00")
			if exact[line] == nil {
				exact[line] = new(big.Rat)
			}
			exact[line].Add(exact[line], share)
		}
	}
	for _, p := range s.Pools {
		for _, b := range p.Buckets {
			pool := strings.Join([]string{p.Country, p.Plan, p.User, b.Name}, "\x00")
			if drawn[pool] != b.Used || overage[pool] != b.Overage {
				t.Fatalf("calls draw %d s of %+v and %d s beyond", drawn[pool], b, overage[pool])
			}
		}
	}
	lines := 0
	for _, i := range s.Invoices {
		for _, l := range i.Lines {
			lines++
			key := strings.Join([]string{i.Country, i.Plan, i.Currency, l.Deck, l.DeckVersion, l.DestinationCountry, l.Destination, l.Type, l.Price, l.ConnectFee}, "\x00")
			sum := exact[key]
			if sum == nil {
				t.Fatalf("no call has a share of %+v", l)
			}
			// R9: once, half away from zero, which is how FloatString rounds.
			if got := sum.FloatString(domain.Currency(i.Currency).Digits()); got != l.Amount {
				t.Fatalf("the shares of %+v come to %s, that is %s", l, sum.RatString(), got)
			}
		}
	}
	if lines != len(exact) {
		t.Fatalf("calls have shares of %d lines, of %d", len(exact), lines)
	}
	c := s.Counts
	if diff := gocmp.Diff([]int64{c.Free, c.InPool, c.Overage, c.Outside, c.Calls}, []int64{classes["free"], classes["in_pool"], classes["overage"], classes["outside"], int64(len(calls))}); diff != "" {
		t.Fatalf("counts (-statement +calls):\n%s", diff)
	}
}

// pdfText is the text of all pages, line by line, without the spaces between words.
func pdfText(t fataler, data []byte) string {
	t.Helper()
	r, err := pdf.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := r.GetPlainText()
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// TestAllFormatsAgree exports random months, drafts and issued ones, reads each
// format back by somebody else's reader, and compares it with the statement that the
// API has.
func TestAllFormatsAgree(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		d := history(r, t.TempDir())
		for _, name := range []string{"2026-10", "2026-11", "2026-12"} {
			month, _ := domain.ParseMonth(name)
			s := d.months.Statement(tenant, month)
			want := wanted(&s)

			for _, what := range []string{"invoice", "pools", "lines", "calls"} {
				data, m := d.export(export.Query{Month: name, Format: "csv", What: what})
				rows := readCSV(r, data)
				table := map[string][]map[string]string{"invoice": want["invoices"], "pools": want["pools"], "lines": inDocumentOrder(want)}[what]
				if what == "calls" {
					addsUp(r, &s, rows)
					want["calls"] = rows
				} else {
					equal(r, "csv "+what, table, rows)
				}
				if len(m.Rows) != 1 || m.Rows[0].Rows != int64(len(rows)) {
					r.Fatalf("%d rows, but the manifest says %+v", len(rows), m.Rows)
				}
				sumsAgree(r, &s, &m)
			}

			book, m := d.export(export.Query{Month: name, Format: "xlsx", What: "calls"})
			sheets := readXLSX(r, book)
			for table, rows := range want {
				equal(r, "xlsx "+table, rows, sheets[table])
			}
			for _, rows := range m.Rows {
				if rows.Rows != int64(len(want[rows.Table])) {
					r.Fatalf("the manifest of a workbook says %+v, not %d", rows, len(want[rows.Table]))
				}
			}
			for _, call := range sheets["calls"] {
				serial, err := strconv.ParseFloat(call["at_utc"], 64)
				at := time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC).Add(time.Duration(serial * 24 * float64(time.Hour)))
				exact, _ := time.Parse(time.RFC3339Nano, call["at"])
				if err != nil || at.Sub(exact).Abs() > time.Millisecond {
					r.Fatalf("%v: the date is %v", call, at)
				}
			}

			file, _ := d.export(export.Query{Month: name, Format: "parquet"})
			equal(r, "parquet", want["calls"], parquetRows(r, file))

			var invoice projections.InvoiceDocument
			data, m := d.export(export.Query{Month: name, Format: "json"})
			if err := json.Unmarshal(data, &invoice); err != nil {
				r.Fatal(err)
			}
			if diff := gocmp.Diff(s.InvoiceDocument, invoice); diff != "" || projections.Digest(data) != m.Document || m.Digest != m.Document {
				r.Fatalf("-statement +json:\n%s\n%+v", diff, m)
			}
			var pools projections.PoolsDocument
			data, _ = d.export(export.Query{Month: name, Format: "json", What: "pools"})
			if err := json.Unmarshal(data, &pools); err != nil {
				r.Fatal(err)
			}
			if diff := gocmp.Diff(s.PoolsOnly(), pools); diff != "" {
				r.Fatalf("-statement +json:\n%s", diff)
			}
			var lines export.LinesDocument
			data, _ = d.export(export.Query{Month: name, Format: "json", What: "lines"})
			if err := json.Unmarshal(data, &lines); err != nil {
				r.Fatal(err)
			}
			if len(lines.Lines) != len(want["lines"]) || len(lines.Adjustments) != len(want["adjustments"]) {
				r.Fatalf("%s has not %d lines and %d adjustments", data, len(want["lines"]), len(want["adjustments"]))
			}
			var calls projections.CallsDocument
			data, _ = d.export(export.Query{Month: name, Format: "json", What: "calls"})
			if err := json.Unmarshal(data, &calls); err != nil {
				r.Fatal(err)
			}
			if again, err := projections.Canonical(calls); err != nil || strings.Replace(string(again), `"next":null,`, "", 1) != string(data) {
				r.Fatalf("not canonical (%v):\n%s\n%s", err, data, again)
			}
			if len(calls.Calls) != len(want["calls"]) || calls.Position != s.Position {
				r.Fatalf("%d calls as of %d, not %d as of %d", len(calls.Calls), calls.Position, len(want["calls"]), s.Position)
			}

			printed(r, d, name, &s)
		}
	})
}

// sumsAgree compares a manifest with the statement.
func sumsAgree(t fataler, s *projections.Statement, m *export.Manifest) {
	t.Helper()
	totals := map[string]*big.Rat{}
	for _, i := range s.Invoices {
		total, _ := new(big.Rat).SetString(i.Total)
		if totals[i.Currency] == nil {
			totals[i.Currency] = new(big.Rat)
		}
		totals[i.Currency].Add(totals[i.Currency], total)
	}
	if len(m.Sums) != len(totals) || m.Position != s.Position || m.Head != s.Head || m.Status != s.Status {
		t.Fatalf("%+v is not of %+v", m, s)
	}
	for _, sum := range m.Sums {
		if want := totals[sum.Currency].FloatString(domain.Currency(sum.Currency).Digits()); sum.Total != want {
			t.Fatalf("%+v: the invoices come to %s", sum, want)
		}
		exact, _ := new(big.Rat).SetString(sum.Exact)
		rounding, _ := new(big.Rat).SetString(sum.Rounding)
		lines, _ := new(big.Rat).SetString(sum.Lines)
		if new(big.Rat).Add(exact, rounding).Cmp(lines) != 0 {
			t.Fatalf("%+v does not add up", sum)
		}
	}
}

// printed compares both PDFs with the statement: each amount is in it, as often as
// it must be, in the way of the language.
func printed(t fataler, d *desk, month string, s *projections.Statement) {
	t.Helper()
	for _, lang := range []string{"en", "it"} {
		data, m := d.export(export.Query{Month: month, Format: "pdf", Lang: lang})
		text := pdfText(t, data)
		amounts := map[string]int{}
		for _, i := range s.Invoices {
			amounts[localized(i.Total, lang)]++
			for _, l := range i.Lines {
				amounts[localized(l.Amount, lang)]++
			}
			for _, a := range i.Adjustments {
				amounts[localized(a.Amount, lang)]++
			}
		}
		for amount, n := range amounts {
			if got := strings.Count(text, amount); got < n {
				t.Fatalf("%s, %s: %s is printed %d times, not %d:\n%s", month, lang, amount, got, n, text)
			}
		}
		for _, must := range []string{s.Head, m.Document, tenant} {
			if !strings.Contains(text, must) {
				t.Fatalf("%s, %s: %s is not printed:\n%s", month, lang, must, text)
			}
		}
		if s.Number != nil && !strings.Contains(text, *s.Number) {
			t.Fatalf("the number %s is not printed:\n%s", *s.Number, text)
		}
		if mark := map[string]string{"en": "DRAFT", "it": "BOZZA"}[lang]; strings.Contains(text, mark) != (s.Number == nil) {
			t.Fatalf("%s of a document that is %s:\n%s", mark, s.Status, text)
		}
	}
}

// localized is a decimal with grouped thousands.
func localized(decimal, lang string) string {
	var out []byte
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(decimal, "-"), ".")
	for i := range len(whole) {
		if i > 0 && (len(whole)-i)%3 == 0 {
			out = append(out, ',')
		}
		out = append(out, whole[i])
	}
	if fraction != "" {
		out = append(append(out, '.'), fraction...)
	}
	if strings.HasPrefix(decimal, "-") {
		out = append([]byte{'-'}, out...)
	}
	if lang == "it" {
		return strings.NewReplacer(",", ".", ".", ",").Replace(string(out))
	}
	return string(out)
}

// allQueries are one of each kind.
func allQueries(month string) []export.Query {
	var all []export.Query
	for _, format := range []string{"csv", "xlsx", "json"} {
		for _, what := range []string{"invoice", "pools", "lines", "calls"} {
			all = append(all, export.Query{Month: month, Format: format, What: what})
		}
	}
	return append(all, export.Query{Month: month, Format: "parquet", What: "calls"}, export.Query{Month: month, Format: "pdf", Lang: "en"},
		export.Query{Month: month, Format: "pdf", Lang: "it"}, export.Query{Month: month, Format: "csv", What: "calls", BOM: true})
}

// TestSameBytes exports months again after they have moved on: a closed one is as it
// was issued, an open one as of its position what it was then.
func TestSameBytes(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		d := history(r, t.TempDir())
		w := &writer{d, r}
		type known struct {
			query export.Query
			file  []byte
			m     export.Manifest
		}
		var before []known
		for _, month := range []string{"2026-10", "2026-11"} {
			for _, q := range rapid.Permutation(allQueries(month)).Draw(r, "queries")[:4] {
				file, m := d.export(q)
				if q.At = m.Position; m.Status == projections.StatusIssued {
					q.At = 0
				}
				before = append(before, known{q, file, m})
			}
		}
		w.calls("2026-10", 1, 5)
		w.calls("2026-11", 1, 5)
		if rapid.Bool().Draw(r, "close") {
			w.receive(w.event("switch/mil-1", instant("2026-12-01T00:00:00Z"), &domain.Call{
				User: users[0], Kind: domain.KindUser, Calling: phone("+390281234567"), Called: phone("+390612345"), AnsweredAt: instant("2026-11-30T00:00:00Z"), BillableMS: 60_000,
			}))
			w.close("2026-11")
		}
		for _, was := range before {
			file, m := d.export(was.query)
			if diff := gocmp.Diff(was.m, m); diff != "" || !bytes.Equal(was.file, file) {
				r.Fatalf("%+v: -before +again:\n%s\n%q\n%q", was.query, diff, was.file, file)
			}
		}
	})
}

// TestPagesOfALiveMonth reads a month page by page while it changes between the pages:
// all of them are of the position of the first.
func TestPagesOfALiveMonth(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		d := history(r, t.TempDir())
		w := &writer{d, r}
		w.calls("2026-11", 10, 30)
		ctx := context.Background()
		all := func(between func()) (calls []projections.MonthCall) {
			q := api.CallsRequest{Tenant: tenant, Month: "2026-11", Limit: rapid.IntRange(1, 12).Draw(r, "page")}
			for {
				page, err := d.explainer.Calls(ctx, q)
				if err != nil {
					r.Fatal(err)
				}
				if q.At != 0 && page.Position != q.At {
					r.Fatalf("a page of position %d after one of %d", page.Position, q.At)
				}
				calls, q.At, q.After = append(calls, page.Calls...), page.Position, page.Next
				if page.Next == nil {
					return calls
				}
				between()
			}
		}
		want := all(func() {})
		got := all(func() { w.calls("2026-11", 0, 2) })
		if diff := gocmp.Diff(want, got); diff != "" {
			r.Fatalf("-at once +page by page:\n%s", diff)
		}
	})
}

// TestGuard takes any text through a CSV and back.
func TestGuard(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("=+-@'\t\r\n＝＋－＠,;\" a1.*\ufffd")))).Draw(r, "text")
		guarded := export.Guard(text)
		if back := export.Unguard(guarded); back != text {
			r.Fatalf("%q is %q, and back %q", text, guarded, back)
		}
		// Whatever a program splits at, no part begins a formula, but for a plain number.
		for _, part := range strings.FieldsFunc(guarded, func(c rune) bool { return strings.ContainsRune(",;\"\t\r\n", c) }) {
			if part = strings.TrimLeft(part, " "); part != "" && strings.ContainsRune("=+-@＝＋－＠", []rune(part)[0]) && guarded != text {
				r.Fatalf("%q: %q is a formula", guarded, part)
			}
		}
		if guarded == text && text != "" && strings.Contains("=@＝＋－＠", string([]rune(strings.TrimLeft(text, " ") + "x")[0])) {
			r.Fatalf("%q is not guarded", text)
		}
	})
}

func TestGuardExamples(t *testing.T) {
	for text, want := range map[string]string{
		"+390212345":        "+390212345",
		"+39021234***":      "+39021234***",
		"-12.50":            "-12.50",
		"+1.5":              "+1.5",
		"112":               "112",
		"Italy - mobile":    "Italy - mobile",
		"O'Brien":           "O'Brien",
		"=1+1":              "'=1+1",
		"-2+3":              "'-2+3",
		"+39 02":            "'+39 02",
		"+1*2":              "'+1*2",
		"--5":               "'--5",
		"@SUM(A1)":          "'@SUM(A1)",
		"'x":                "''x",
		"a;=1":              "a;'=1",
		"a, -b":             "a, '-b",
		"\t=1":              "'\t'=1",
		"=cmd|'/C calc'!A0": "'=cmd|'/C calc'!A0",
	} {
		if got := export.Guard(text); got != want {
			t.Errorf("%q: %q, not %q", text, got, want)
		}
	}
}

func TestRefuses(t *testing.T) {
	d := newDesk(t, t.TempDir())
	for _, c := range []struct {
		q    export.Query
		want string
	}{
		{export.Query{Format: "doc"}, `format "doc": must be csv, xlsx, pdf, parquet or json`},
		{export.Query{Format: "csv", What: "users"}, `what "users": must be invoice, pools, lines or calls`},
		{export.Query{Format: "pdf", What: "calls"}, "pdf has invoice only: ask for that, or another format"},
		{export.Query{Format: "parquet", What: "lines"}, "parquet has calls only: ask for that, or another format"},
		{export.Query{Format: "pdf", Lang: "de"}, `lang "de": must be en or it`},
	} {
		_, err := export.Begin(context.Background(), d.explainer, c.q)
		var m *export.Mistake
		if !errors.As(err, &m) || m.Detail != c.want {
			t.Errorf("%+v: %v, not %s", c.q, err, c.want)
		}
	}
	_, err := export.Begin(context.Background(), d.explainer, export.Query{Tenant: tenant, Month: "2026-10", Format: "csv", At: 9})
	if err == nil || !strings.Contains(err.Error(), "position 9 is beyond the end of the book") {
		t.Error(err)
	}
}

// other answers for a book, but has another statement.
type other struct {
	export.Book
	change func(*projections.Statement)
}

func (o other) Statement(ctx context.Context, q api.StatementRequest) (projections.Statement, error) {
	s, err := o.Book.Statement(ctx, q)
	o.change(&s)
	return s, err
}

// TestDoesNotAddUp exports calls that are not those of their statement, and documents
// that do not add up.
func TestDoesNotAddUp(t *testing.T) {
	d := newDesk(t, t.TempDir())
	example(d)
	for name, c := range map[string]struct {
		change func(*projections.Statement)
		want   string
	}{
		"count":  {func(s *projections.Statement) { s.Counts.Free++ }, "calls were read as free"},
		"line":   {func(s *projections.Statement) { s.Invoices[0].Lines[0].Calls++ }, "the export is not to be used"},
		"total":  {func(s *projections.Statement) { s.Invoices[0].Total = "1.00" }, "come to"},
		"amount": {func(s *projections.Statement) { s.Invoices[0].Lines[0].Amount = "much" }, "can't be read"},
	} {
		e, err := export.Begin(context.Background(), other{d.explainer, c.change}, export.Query{Tenant: tenant, Month: "2026-10", Format: "csv", What: "calls"})
		if err == nil {
			_, err = e.Write(context.Background(), io.Discard)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// example is a closed month with two destinations, one of them by a name that is a formula.
func example(d *desk) {
	first := instant("2026-09-01T00:00:00Z")
	events := []domain.Event{
		d.event("admin", first, &domain.TenantConfig{TimeZone: "UTC", Zone: time.UTC, Currency: "EUR", EffectiveFrom: 20260101, Decks: map[string]string{}}),
		d.event("admin", first, &domain.Plan{
			Plan: "DOMESTIC_120", Name: "Domestic", EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Deck: "standard", Increment: domain.DefaultIncrement,
			Buckets: []domain.Bucket{{Name: "domestic", Zone: domain.ZoneDomestic, Minutes: map[string]int64{domain.AnyCountry: 120}}},
		}),
		d.event("admin", first, &domain.Deck{Deck: "standard", Version: "2026-10", EffectiveFrom: first, Currency: "EUR", Part: 1, Parts: 1, Rows: []domain.Row{
			{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 16_000, Increment: domain.DefaultIncrement},
			{Prefix: "393", Country: "IT", Name: "=Italy", RowType: "mobile", Price: 125_000, ConnectFee: 5_000, Increment: domain.DefaultIncrement},
		}}),
		d.event("crm", first, &domain.Assignment{User: "ada@example.org", Plan: "DOMESTIC_120", Country: "IT", EffectiveAt: first}),
	}
	for i := range 20 {
		at := instant("2026-10-05T08:00:00Z") + domain.Instant(i)*domain.Instant(time.Hour)
		called := phone("+390612345")
		if i%3 == 0 {
			called = phone("+393331234***")
		}
		events = append(events, d.event("switch/mil-1", at, &domain.Call{
			User: "ada@example.org", Kind: domain.KindUser, Calling: phone("+390281234567"), Called: called, AnsweredAt: at, BillableMS: 600_000 + int64(i),
		}))
	}
	d.receive(events...)
	d.close("2026-10")
}

// TestZip looks at a workbook as a zip: its parts are in order, with no times.
func TestZip(t *testing.T) {
	d := newDesk(t, t.TempDir())
	example(d)
	book, _ := d.export(export.Query{Month: "2026-10", Format: "xlsx", What: "calls"})
	r, err := zip.NewReader(bytes.NewReader(book), int64(len(book)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range r.File {
		names = append(names, f.Name)
		if !f.Modified.IsZero() && f.Modified.Year() > 1980 {
			t.Errorf("%s has the time %s", f.Name, f.Modified)
		}
		part, err := f.Open()
		if err == nil {
			_, err = io.Copy(io.Discard, part) // which compares its CRC
		}
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	if names[0] != "[Content_Types].xml" || !slices.IsSorted(names[1:]) {
		t.Errorf("parts are in the order %v", names)
	}
}

// TestContinues cuts a table into sheets of five rows.
func TestContinues(t *testing.T) {
	defer export.SetSheetRows(5)()
	d := newDesk(t, t.TempDir())
	example(d)
	book, m := d.export(export.Query{Month: "2026-10", Format: "xlsx", What: "calls"})
	f, err := excelize.OpenReader(bytes.NewReader(book))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if diff := gocmp.Diff([]string{"Calls", "Calls 2", "Calls 3", "Calls 4"}, slices.DeleteFunc(f.GetSheetList(), func(s string) bool { return !strings.HasPrefix(s, "Calls") })); diff != "" {
		t.Errorf("sheets (-want +got):\n%s", diff)
	}
	if v, err := f.GetCellValue("Calls 2", "A7"); err != nil || v != "continues on sheet Calls 3" {
		t.Errorf("%q, %v", v, err)
	}
	if n := len(readXLSX(t, book)["calls"]); n != 20 || m.Rows[len(m.Rows)-1].Rows != 20 {
		t.Errorf("%d calls; %+v", n, m.Rows)
	}
	export.SetSheetRows(4)
	_, err = export.Begin(context.Background(), d.explainer, export.Query{Tenant: tenant, Month: "2026-10", Format: "xlsx", What: "calls"})
	if want := "the month has 20 calls, more than the 16 of 4 sheets: take parquet or csv"; err == nil || err.Error() != want {
		t.Errorf("%v, not %s", err, want)
	}
}

// TestBOM looks at the mark of a CSV.
func TestBOM(t *testing.T) {
	d := newDesk(t, t.TempDir())
	example(d)
	plain, _ := d.export(export.Query{Month: "2026-10", Format: "csv", What: "lines"})
	marked, _ := d.export(export.Query{Month: "2026-10", Format: "csv", What: "lines", BOM: true})
	if string(marked) != "\ufeff"+string(plain) {
		t.Errorf("%q\n%q", plain, marked)
	}
}

// longer is the example with so many lines more, of one unit each.
func longer(d *desk, lines int) other {
	return other{d.explainer, func(s *projections.Statement) {
		i := &s.Invoices[0]
		total, _ := new(big.Rat).SetString(i.Total)
		for n := range lines {
			i.Lines = append(i.Lines, projections.Line{
				Deck: "standard", DeckVersion: "2026-10", DestinationCountry: "FR", Destination: fmt.Sprintf("Place %d of a rather long name, which takes two rows", n), Type: "mobile",
				Price: "1", ConnectFee: "0", Calls: 1, Seconds: 60, Amount: "1.00",
			})
		}
		i.Total = total.Add(total, big.NewRat(int64(lines), 1)).FloatString(2)
	}}
}

// TestCarried follows the sums of an invoice from page to page.
func TestCarried(t *testing.T) {
	d := newDesk(t, t.TempDir())
	example(d)
	book := longer(d, 150)
	e, err := export.Begin(context.Background(), book, export.Query{Tenant: tenant, Month: "2026-10", Format: "pdf"})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if _, err := e.Write(context.Background(), &file); err != nil {
		t.Fatal(err)
	}
	r, err := pdf.NewReader(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.explainer.Statement(context.Background(), api.StatementRequest{Tenant: tenant, Month: "2026-10"})
	if err != nil {
		t.Fatal(err)
	}
	first, _ := new(big.Rat).SetString(s.Invoices[0].Total)
	after := func(lines []string, title string) string {
		if i := slices.Index(lines, title); i >= 0 {
			return lines[i+1]
		}
		return ""
	}
	printed, carried := 0, ""
	if r.NumPage() < 3 {
		t.Fatalf("%d pages", r.NumPage())
	}
	for n := 1; n <= r.NumPage(); n++ {
		text, err := r.Page(n).GetPlainText(nil)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
		if brought := after(lines, "Brought forward"); brought != carried {
			t.Errorf("page %d: %q was carried, %q is brought forward", n, carried, brought)
		}
		printed += strings.Count(text, "FR Place")
		want := new(big.Rat).Add(first, big.NewRat(int64(printed), 1)).FloatString(2)
		if carried = after(lines, "Carried forward"); carried != want && n < r.NumPage() {
			t.Errorf("page %d: %q is carried, not %s", n, carried, want)
		}
		if page := fmt.Sprintf("Page %d of %d", n, r.NumPage()); !slices.Contains(lines, page) {
			t.Errorf("%q is not on it:\n%s", page, text)
		}
	}
	if printed != 150 || carried != "" {
		t.Errorf("%d lines printed, %q carried at the end", printed, carried)
	}
	if _, err := export.Begin(context.Background(), longer(d, 20_000), export.Query{Tenant: tenant, Month: "2026-10", Format: "pdf"}); err == nil ||
		err.Error() != "the document has 20002 lines, more than the 20000 of a PDF: take xlsx, csv or json" {
		t.Error(err)
	}
}
