package ubl_test

import (
	"bytes"
	"encoding/xml"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/projections"
	"tollbook/projections/ubl"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func at(s string) domain.Instant {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return domain.InstantOf(t)
}

func readFile(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// issued are documents that an engine issued; what is in them, and why, is in the
// story.txt beside them. The second adjusts the first.
func issued(t testing.TB, number string) []byte {
	return readFile(t, "../testdata/issued/format1/"+number+".json")
}

// parties reads testdata/parties.json, changed by pairs of old and new.
func parties(change ...string) (*ubl.Parties, error) {
	data, err := os.ReadFile("testdata/parties.json")
	if err != nil {
		return nil, err
	}
	text := string(data)
	for i := 0; i < len(change); i += 2 {
		if strings.Count(text, change[i]) == 0 {
			return nil, fmt.Errorf("testdata/parties.json has no %s", change[i])
		}
		text = strings.ReplaceAll(text, change[i], change[i+1])
	}
	return ubl.ReadParties(strings.NewReader(text))
}

const domestic = `{"category": "S", "percent": "22"}`

// TestGolden: in euros an invoice with connect fees and one with adjustments, a
// credit note in yen, which have no minor digits, and an invoice in dinars, which have three.
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		folder, number, at string
		tax                string // "": nobody is named
	}{
		{"domestic", "2026-0001", "2026-10-03T08:00:00Z", domestic},
		{"domestic", "2026-0002", "2026-11-02T08:00:00Z", domestic},
		{"reverse-charge", "2026-0002", "2026-11-02T08:00:00Z", `{"category": "AE"}`},
		{"out-of-scope", "2026-0002", "2026-11-02T08:00:00Z", `{"category": "O"}`},
		{"unnamed", "2026-0001", "2026-10-03T08:00:00Z", ""},
	} {
		t.Run(c.folder+" "+c.number, func(t *testing.T) {
			var named *ubl.Parties
			if c.tax != "" {
				var err error
				if named, err = parties(domestic, c.tax); err != nil {
					t.Fatal(err)
				}
			}
			documents, empty, err := ubl.Documents(issued(t, c.number), at(c.at), named)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]ubl.Empty{{Country: "FR", Plan: "DOMESTIC_5", Currency: "EUR"}}, empty); diff != "" {
				t.Errorf("nothing to bill (-want +got):\n%s", diff)
			}
			files, err := filepath.Glob(filepath.Join("testdata", c.folder, "contoso-"+c.number+"-*.xml"))
			if err != nil {
				t.Fatal(err)
			}
			if !*update && len(files) != len(documents) {
				t.Errorf("%d documents, and %d golden files: %v", len(documents), len(files), files)
			}
			for _, d := range documents {
				file := filepath.Join("testdata", c.folder, d.File)
				if *update {
					if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(file, d.XML, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(string(readFile(t, file)), string(d.XML)); diff != "" {
					t.Errorf("%s (-want +got; -update rewrites it):\n%s", d.File, diff)
				}
			}
		})
	}
}

// TestDocuments: what is said of the XML beside it.
func TestDocuments(t *testing.T) {
	named, err := parties()
	if err != nil {
		t.Fatal(err)
	}
	documents, _, err := ubl.Documents(issued(t, "2026-0002"), at("2026-11-02T08:00:00Z"), named)
	if err != nil {
		t.Fatal(err)
	}
	for i := range documents {
		documents[i].XML = nil
	}
	want := []ubl.Document{
		// 22 yen and 22 %: 4.84, 5 yen.
		{File: "contoso-2026-0002-1-WORLD-JPY.xml", ID: "contoso/2026-0002/-/WORLD/JPY", Type: "CreditNote", Plan: "WORLD", Currency: "JPY", Total: "-22", Payable: "27", EN16931: true},
		// 0.26 and 22 %: 0.0572, 0.06.
		{File: "contoso-2026-0002-3-IT-DOMESTIC_5-EUR.xml", ID: "contoso/2026-0002/IT/DOMESTIC_5/EUR", Type: "Invoice", Country: "IT", Plan: "DOMESTIC_5", Currency: "EUR", Total: "0.26", Payable: "0.32", EN16931: true},
		// 0.013 and 22 %: 0.00286, 0.003.
		{File: "contoso-2026-0002-4-KW-PAYG-KWD.xml", ID: "contoso/2026-0002/KW/PAYG/KWD", Type: "Invoice", Country: "KW", Plan: "PAYG", Currency: "KWD", Total: "0.013", Payable: "0.016"},
	}
	if diff := cmp.Diff(want, documents); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// --- sums

// The part of UBL that has numbers, as a reader that knows nothing of the writer sees it.
type readDocument struct {
	XMLName       xml.Name
	Customization string     `xml:"CustomizationID"`
	TypeCode      string     `xml:"InvoiceTypeCode"`
	CreditCode    string     `xml:"CreditNoteTypeCode"`
	Taxable       string     `xml:"TaxTotal>TaxSubtotal>TaxableAmount"`
	Tax           string     `xml:"TaxTotal>TaxAmount"`
	SubTax        string     `xml:"TaxTotal>TaxSubtotal>TaxAmount"`
	Lines         string     `xml:"LegalMonetaryTotal>LineExtensionAmount"`
	Exclusive     string     `xml:"LegalMonetaryTotal>TaxExclusiveAmount"`
	Inclusive     string     `xml:"LegalMonetaryTotal>TaxInclusiveAmount"`
	Payable       string     `xml:"LegalMonetaryTotal>PayableAmount"`
	Invoiced      []readLine `xml:"InvoiceLine"`
	Credited      []readLine `xml:"CreditNoteLine"`
}

type readLine struct {
	Invoiced string `xml:"InvoicedQuantity"`
	Credited string `xml:"CreditedQuantity"`
	Amount   string `xml:"LineExtensionAmount"`
	Start    string `xml:"InvoicePeriod>StartDate"`
	Charges  []struct {
		Charge bool   `xml:"ChargeIndicator"`
		Amount string `xml:"Amount"`
	} `xml:"AllowanceCharge"`
	Price string `xml:"Price>PriceAmount"`
	Base  string `xml:"Price>BaseQuantity"`
}

func number(t *rapid.T, s string) *big.Rat {
	t.Helper()
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		t.Fatalf("%q is not a number", s)
	}
	return r
}

// money reads an amount of exactly so many decimals.
func money(t *rapid.T, s string, digits int) *big.Rat {
	t.Helper()
	r := number(t, s)
	if r.FloatString(digits) != s {
		t.Fatalf("%q is not an amount of %d decimals", s, digits)
	}
	return r
}

// rounded is r to so many decimals, half away from zero.
func rounded(r *big.Rat, digits int) *big.Rat {
	scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil))
	scaled := new(big.Rat).Mul(r, scale)
	half := big.NewRat(int64(scaled.Sign()), 2)
	scaled.Add(scaled, half)
	whole := new(big.Rat).SetInt(new(big.Int).Quo(scaled.Num(), scaled.Denom())) // towards zero
	return whole.Quo(whole, scale)
}

// lines are of any price and fee; a line's amount is by R9.
func genLine(t *rapid.T, digits int, seconds, calls int64) (projections.Line, domain.Amount) {
	micros := rapid.OneOf(rapid.Int64Range(0, 300), rapid.Map(rapid.Int64Range(0, 300), func(n int64) int64 { return n * 2500 }), rapid.Int64Range(0, int64(domain.MaxMicros)))
	price, fee := domain.Micros(micros.Draw(t, "price")), domain.Micros(rapid.OneOf(rapid.Just(int64(0)), micros).Draw(t, "fee"))
	amount := domain.Charge(price, fee, calls, seconds, digits)
	l := projections.Line{
		Deck: "standard", DeckVersion: rapid.SampledFrom([]string{"1", "<&\">"}).Draw(t, "version"), DestinationCountry: "IT",
		Destination: rapid.SampledFrom([]string{"", "Italy", "Côte d’Ivoire & co"}).Draw(t, "destination"), Type: rapid.SampledFrom([]string{"", "mobile"}).Draw(t, "type"),
		Price: price.String(), ConnectFee: fee.String(), Calls: calls, Seconds: seconds, Amount: amount.String(),
	}
	return l, amount
}

// genAdjustment is by R12: the difference of two amounts, each rounded.
func genAdjustment(t *rapid.T, digits int) (projections.Adjustment, domain.Amount) {
	was, now := genSums(t), genSums(t)
	l, amount := genLine(t, digits, now.seconds, now.calls)
	price, _ := domain.ParseMicros(l.Price)
	fee, _ := domain.ParseMicros(l.ConnectFee)
	before := domain.Charge(price, fee, was.calls, was.seconds, digits)
	amount.Minor.Sub(&amount.Minor, &before.Minor)
	l.Seconds, l.Calls, l.Amount = now.seconds-was.seconds, now.calls-was.calls, amount.String()
	return projections.Adjustment{Month: rapid.SampledFrom([]string{"2026-08", "2026-09"}).Draw(t, "month"), Line: l}, amount
}

type sums struct{ seconds, calls int64 }

func genSums(t *rapid.T) sums {
	return sums{rapid.Int64Range(0, 1<<rapid.IntRange(1, 40).Draw(t, "size")).Draw(t, "seconds"), rapid.Int64Range(0, 1000).Draw(t, "calls")}
}

func genInvoice(t *rapid.T) projections.Invoice {
	i := projections.Invoice{
		Country: rapid.SampledFrom([]string{"", "IT"}).Draw(t, "country"), Plan: rapid.SampledFrom([]string{"DOMESTIC_120", "../a b/ü"}).Draw(t, "plan"),
		Currency: rapid.SampledFrom([]string{"EUR", "USD", "JPY", "KWD", "CLF", "XXX"}).Draw(t, "currency"),
		Lines:    []projections.Line{}, Adjustments: []projections.Adjustment{},
	}
	digits := domain.Currency(i.Currency).Digits()
	total := domain.Amount{Digits: digits}
	for range rapid.IntRange(0, 4).Draw(t, "lines") {
		s := genSums(t)
		l, amount := genLine(t, digits, s.seconds, s.calls)
		i.Lines = append(i.Lines, l)
		total.Add(amount)
	}
	for range rapid.IntRange(0, 4).Draw(t, "adjustments") {
		a, amount := genAdjustment(t, digits)
		i.Adjustments = append(i.Adjustments, a)
		total.Add(amount)
	}
	i.Total = total.String()
	return i
}

// TestSums: for any document by R9 and R12, the sums that EN 16931 asks for hold,
// every line and total is ours, and none is lost.
func TestSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		invoices := rapid.SliceOfN(rapid.Custom(genInvoice), 1, 4).Draw(t, "invoices")
		one := "2026-0001"
		document, err := projections.Canonical(projections.InvoiceDocument{
			Tenant: "contoso", Month: "2026-10", Status: projections.StatusIssued, Number: &one, Position: 7, Head: "sha256:00",
			Invoices: invoices, Exceptions: []projections.Exception{},
		})
		if err != nil {
			t.Fatal(err)
		}
		percent := rapid.SampledFrom([]string{"22", "8.1", "0.5", "100", ""}).Draw(t, "percent")
		tax := fmt.Sprintf(`{"category": "S", "percent": %q}`, percent)
		if percent == "" {
			tax, percent = `{"category": "AE"}`, "0"
		}
		named, err := parties(domestic, tax)
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "unnamed") {
			named, percent = nil, "0"
		}
		documents, empty, err := ubl.Documents(document, at("2026-11-02T08:00:00Z"), named)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := ubl.Documents(document, at("2026-11-02T08:00:00Z"), named)
		if err != nil || !cmp.Equal(documents, again) {
			t.Fatalf("the same made other bytes, %v", err)
		}
		files := map[string]bool{}
		for _, i := range invoices {
			if len(i.Lines)+len(i.Adjustments) == 0 {
				empty = empty[1:]
				continue
			}
			d := documents[0]
			documents = documents[1:]
			checkSums(t, &i, &d, number(t, percent))
			if files[d.File] || strings.Trim(d.File, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") != "" || len(d.File) > 255 {
				t.Fatalf("a file named %q", d.File)
			}
			files[d.File] = true
		}
		if len(documents)+len(empty) != 0 {
			t.Fatalf("more than there were: %v, %v", documents, empty)
		}
	})
}

func checkSums(t *rapid.T, i *projections.Invoice, d *ubl.Document, percent *big.Rat) {
	t.Helper()
	var x readDocument
	if err := xml.Unmarshal(d.XML, &x); err != nil {
		t.Fatalf("%v\n%s", err, d.XML)
	}
	digits := domain.Currency(i.Currency).Digits()
	sign, lines, code := big.NewRat(1, 1), x.Invoiced, x.TypeCode+x.CreditCode
	if strings.HasPrefix(i.Total, "-") {
		sign, lines = big.NewRat(-1, 1), x.Credited
	}
	turned := func(s string) *big.Rat { r := number(t, s); return r.Mul(r, sign) }
	equal := func(what string, want, got *big.Rat) {
		t.Helper()
		if want.Cmp(got) != 0 {
			t.Fatalf("%s is %s, and not %s\n%s", what, got.RatString(), want.RatString(), d.XML)
		}
	}
	want := map[bool][2]string{false: {"Invoice", "380"}, true: {"CreditNote", "381"}}[sign.Sign() < 0]
	if got := [2]string{x.XMLName.Local, code}; got != want || d.Type != want[0] || len(x.Invoiced)+len(x.Credited) != len(lines) {
		t.Fatalf("a total of %s made %v\n%s", i.Total, got, d.XML)
	}
	if claimed := x.Customization != ""; claimed != d.EN16931 || claimed && digits > 2 {
		t.Fatalf("%s claims to be by %q", i.Currency, x.Customization)
	}
	months := make([]string, len(i.Lines))
	ours := slices.Clone(i.Lines)
	for _, a := range i.Adjustments {
		ours, months = append(ours, a.Line), append(months, a.Month+"-01")
	}
	if len(ours) != len(lines) {
		t.Fatalf("%d lines and adjustments made %d lines\n%s", len(ours), len(lines), d.XML)
	}
	sum := new(big.Rat)
	for n, l := range lines {
		amount := money(t, l.Amount, digits)
		quantity, price := number(t, l.Invoiced+l.Credited), number(t, l.Price)
		equal("quantity", turned(fmt.Sprint(ours[n].Seconds)), quantity)
		equal("price", number(t, ours[n].Price), price)
		equal("a line", turned(ours[n].Amount), amount)
		if l.Start != months[n] {
			t.Fatalf("line %d begins %q, not %q\n%s", n+1, l.Start, months[n], d.XML)
		}
		net := new(big.Rat).Mul(quantity, price)
		net = rounded(net.Quo(net, number(t, l.Base)), digits)
		for _, c := range l.Charges {
			charge := money(t, c.Amount, digits)
			if charge.Sign() <= 0 {
				t.Fatalf("a charge or allowance of %s\n%s", c.Amount, d.XML)
			}
			if !c.Charge {
				charge.Neg(charge)
			}
			net.Add(net, charge)
		}
		equal("quantity × price ÷ base + charges − allowances", amount, net)
		sum.Add(sum, amount)
	}
	equal("our total", turned(i.Total), sum)
	equal("the sum of lines (BR-CO-10)", sum, money(t, x.Lines, digits))
	equal("the total without VAT (BR-CO-13)", sum, money(t, x.Exclusive, digits))
	equal("the taxable amount (BR-S-08)", sum, money(t, x.Taxable, digits))
	tax := new(big.Rat).Mul(sum, percent)
	tax = rounded(tax.Quo(tax, big.NewRat(100, 1)), digits)
	equal("VAT (BR-CO-14)", tax, money(t, x.Tax, digits))
	equal("VAT of the category (BR-CO-17)", tax, money(t, x.SubTax, digits))
	equal("the total with VAT (BR-CO-15)", sum.Add(sum, tax), money(t, x.Inclusive, digits))
	equal("the payable amount (BR-CO-16)", sum, money(t, x.Payable, digits))
	equal("the payable amount said", sum, money(t, d.Payable, digits))
}

// --- what is refused

// TestRefused: what the rules cannot have made is no invoice.
func TestRefused(t *testing.T) {
	good := issued(t, "2026-0002")
	for name, c := range map[string]struct{ old, new, want string }{
		"draft":       {`"status":"issued"`, `"status":"draft"`, "2026-10 of contoso is a draft"},
		"no number":   {`"number":"2026-0002"`, `"number":null`, "is a draft"},
		"new field":   {`"position":21`, `"position":21,"surcharge":"1.00"`, "surcharge"},
		"not JSON":    {`{"counts"`, `{{"counts"`, "can't be read"},
		"month":       {`"month":"2026-10"`, `"month":"October"`, `"October" is not a month`},
		"currency":    {`"EUR"`, `"euro"`, "currency \"euro\""},
		"line":        {`"amount":"0.11"`, `"amount":"0.13"`, "invoice IT DOMESTIC_5 EUR of document 2026-0002: line 1: 60 s at 0.105 a minute and 1 connect fees of 0 are not 0.13"},
		"one cent":    {`"amount":"0.11"`, `"amount":"0.12"`, "its lines do not come to its total, 0.26"},
		"total":       {`"total":"0.26"`, `"total":"0.27"`, "its lines do not come to its total, 0.27"},
		"empty total": {`"plan":"DOMESTIC_5","total":"0.00"`, `"plan":"DOMESTIC_5","total":"1.00"`, "its lines do not come to its total, 1.00"},
		"exponent":    {`"total":"0.26"`, `"total":"26e-2"`, `total: "26e-2" is not an amount of EUR, which has 2 decimals`},
		"digits":      {`"total":"0.26"`, `"total":"0.260"`, `total: "0.260" is not an amount of EUR`},
		"price":       {`"price":"0.105"`, `"price":"-0.105"`, `line 1: price "-0.105"`},
		"fee":         {`"connect_fee":"0.005"`, `"connect_fee":"free"`, `adjustment 2: connect fee "free"`},
		"adjusted":    {`"month":"2026-09"`, `"month":"2026-13"`, "adjustment 1"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := bytes.ReplaceAll(good, []byte(c.old), []byte(c.new))
			if bytes.Equal(bad, good) {
				t.Fatalf("the document has no %s", c.old)
			}
			documents, empty, err := ubl.Documents(bad, at("2026-11-02T08:00:00Z"), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || documents != nil || empty != nil {
				t.Errorf("%v, %v, %v; want an error with %q", documents, empty, err, c.want)
			}
		})
	}
}

// TestParties: a file that would not make invoices by EN 16931 is refused, with the field.
func TestParties(t *testing.T) {
	long := strings.Repeat("x", 301)
	for _, c := range []struct{ old, new, want string }{
		{`"supplier"`, `"seller"`, "seller"},
		{`"region"`, `"province"`, "province"},
		{`{"name": "Tollbook`, `{"name": "x", "name": "Tollbook`, "duplicate"},
		{`Tollbook Telecom S.p.A.`, ``, "supplier.name: required"},
		{`Tollbook Telecom S.p.A.`, ` x`, `supplier.name: " x" must be one line`},
		{`Via Roma 1`, `Via\nRoma`, `supplier.street: "Via\nRoma" must be one line`},
		{`Via Roma 1`, long, "supplier.street: must be at most 300 bytes"},
		{`"country": "IT"`, `"country": "Italy"`, `supplier.country: "Italy" must be a code of ISO 3166-1`},
		{`IT01234567890`, `01234567890`, `supplier.vat_id: "01234567890" must begin with its country's prefix`},
		{`"vat_id": "IT01234567890", "legal_id": "MI-1234567"`, `"vat_id": ""`, "supplier.vat_id: required, or legal_id (BR-CO-26)"},
		{`IT09876543210`, `IT 09876543210`, "customers.contoso.vat_id"},
		{`"30 days net"`, `""`, "customers.contoso.payment_terms: required"},
		{`"due_days": 30`, `"due_days": -1`, "customers.contoso.due_days: must be from 0 to 366"},
		{`"due_days": 30`, `"due_days": 0.5`, "due_days"},
		{domestic, `{}`, `customers.contoso.tax.category: "" must be S`},
		{domestic, `{"category": "S"}`, `customers.contoso.tax.percent: "" must be a decimal string above 0 and at most 100`},
		{domestic, `{"category": "S", "percent": "0"}`, "tax.percent"},
		{domestic, `{"category": "S", "percent": "100.1"}`, "tax.percent"},
		{domestic, `{"category": "S", "percent": 22}`, "percent"},
		{domestic, `{"category": "S", "percent": "22", "reason": "x"}`, "tax.reason: category S has none (BR-S-10)"},
		{domestic, `{"category": "Z", "percent": "0"}`, "tax.percent: only category S has one"},
		{domestic, `{"category": "E"}`, "tax.reason: required"},
		{`"IT01234567890"`, `""`, "tax.category: for S the supplier has to have a vat_id (BR-S-02)"},
	} {
		if _, err := parties(c.old, c.new); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s for %s: %v, want an error with %q", c.new, c.old, err, c.want)
		}
	}
	for _, c := range []struct {
		change []string
		want   string
	}{
		{[]string{domestic, `{"category": "O"}`, `, "legal_id": "MI-1234567"`, ``}, "documents of category O show no VAT numbers (BR-O-02)"},
		{[]string{domestic, `{"category": "AE"}`, `"vat_id": "IT09876543210",`, ``}, "customers.contoso.vat_id: required for AE, or legal_id (BR-AE-02)"},
	} {
		if _, err := parties(c.change...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want an error with %q", c.change, err, c.want)
		}
	}
	if _, err := ubl.ReadParties(strings.NewReader(strings.Repeat(" ", 5<<20))); err == nil || !strings.Contains(err.Error(), "more than 4194304 bytes") {
		t.Errorf("5 MiB: %v", err)
	}
	named, err := parties("contoso", "acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ubl.Documents(issued(t, "2026-0002"), 0, named); err == nil || err.Error() != "customers has no contoso: add the tenant" {
		t.Errorf("a tenant that is no customer: %v", err)
	}
}
