// Package ubl writes issued documents in the vocabulary of accounting software:
// UBL 2.1 (ISO/IEC 19845), with the semantics of EN 16931.
//
// The model: each invoice of a document, which is of one pool country, plan and
// currency, is one UBL document: a CreditNote (381) with its signs turned where
// its total is negative, else an Invoice (380). One without lines and adjustments
// is left out, as EN 16931 has no invoice without a line (BR-16); every other one
// is written. Its UBL number names tenant, document, country, plan and currency, as
// the documents of each tenant are numbered from 1.
//
// The guarantee: a line's net amount is exactly the amount of ours, and is
// quantity × price ÷ base, rounded half away from zero to the currency's minor
// unit, plus charges less allowances; all sums hold to the minor unit, and the
// total without VAT is ours. So connect fees are a charge of their line, and the
// minor unit by which the rounded parts may miss the rounded whole is a charge or
// allowance too. TestSums shows it.
//
// The assumption: supplier, customer and VAT are not in the book. They come from
// [Parties]; without them the XML is UBL but no invoice by EN 16931, and does not
// say it is one (CustomizationID). Nor does it in a currency of three or four minor
// digits, such as KWD: UBL has them, EN 16931 allows two (BR-DEC). Bank accounts,
// Peppol's addresses and references to the documents that an adjustment corrects
// are left to whoever sends it.
//
// The same document, day and parties make the same bytes.
package ubl

import (
	"encoding/xml"
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"tollbook/domain"
	"tollbook/projections"
)

// Types of a Document.
const (
	TypeInvoice    = "Invoice"
	TypeCreditNote = "CreditNote"
)

// en16931 says that a document is an invoice by EN 16931, maxMinorDigits how many
// digits that allows in an amount (BR-DEC).
const (
	en16931        = "urn:cen.eu:en16931:2017"
	maxMinorDigits = 2
)

// A Document is one UBL document.
type Document struct {
	File     string // a name for its file, of at most 220 of A-Z a-z 0-9 _ - and ., unique in the tenant
	ID       string // its UBL number: contoso/2026-0001/IT/DOMESTIC_120/USD
	Type     string // Invoice or CreditNote
	Country  string
	Plan     string
	Currency string
	Total    string // by our document: without VAT, negative of a CreditNote
	Payable  string // by the XML: with VAT; of a CreditNote, what the customer gets
	EN16931  bool   // it says that it is an invoice by EN 16931
	XML      []byte
}

// An Empty invoice has nothing to bill: there is no Document of it.
type Empty struct {
	Country  string `json:"country"`
	Plan     string `json:"plan"`
	Currency string `json:"currency"`
}

// Documents are those of a document as it was issued, in RFC 8785 JSON, at an
// instant, whose day in UTC is the issue date. parties nil: nobody is named but the
// tenant, and there is no VAT.
func Documents(issued []byte, at domain.Instant, parties *Parties) (documents []Document, empty []Empty, err error) {
	var d projections.InvoiceDocument
	// What a later program says in a document may be money.
	if err := json.Unmarshal(issued, &d, json.RejectUnknownMembers(true)); err != nil {
		return nil, nil, fmt.Errorf("the document can't be read: %w", err)
	}
	if d.Status != projections.StatusIssued || d.Number == nil {
		return nil, nil, fmt.Errorf("%s of %s is a draft: only what was issued is an invoice; close the month first", d.Month, d.Tenant)
	}
	month, err := domain.ParseMonth(d.Month)
	if err != nil {
		return nil, nil, err
	}
	deal, err := parties.deal(d.Tenant)
	if err != nil {
		return nil, nil, err
	}
	note := fmt.Sprintf("Document %s of %s as of position %d of the book, %s", *d.Number, d.Tenant, d.Position, projections.Digest(issued))
	for n := range d.Invoices {
		i := &d.Invoices[n]
		if len(i.Lines) == 0 && len(i.Adjustments) == 0 && strings.Trim(i.Total, "0.") == "" {
			empty = append(empty, Empty{i.Country, i.Plan, i.Currency})
			continue
		}
		b := builder{deal: deal, invoice: i, month: month, at: at.Time(), note: note}
		one, err := b.build()
		if err != nil {
			return nil, nil, fmt.Errorf("invoice %s %s %s of document %s: %w", i.Country, i.Plan, i.Currency, *d.Number, err)
		}
		one.ID = strings.Join([]string{d.Tenant, *d.Number, orDash(i.Country), i.Plan, i.Currency}, "/")
		one.File = fileName(d.Tenant, *d.Number, strconv.Itoa(n+1), i.Country, i.Plan, i.Currency)
		if one.XML, err = b.xml(&one); err != nil {
			return nil, nil, err
		}
		documents = append(documents, one)
	}
	return documents, empty, nil
}

// A builder makes the UBL document of one invoice.
type builder struct {
	deal
	invoice *projections.Invoice
	month   domain.Month
	at      time.Time
	note    string

	digits  int
	sign    int64 // −1 where the signs are turned
	lines   []line
	sum     big.Rat // of the lines, as signed in the XML
	tax     *big.Rat
	payable *big.Rat
}

// build makes the lines and their sums.
func (b *builder) build() (Document, error) {
	currency, err := domain.ParseCurrency(b.invoice.Currency)
	if err != nil {
		return Document{}, fmt.Errorf("currency %.40q: %w", b.invoice.Currency, err)
	}
	b.digits, b.sign = currency.Digits(), 1
	d := Document{
		Type: TypeInvoice, Country: b.invoice.Country, Plan: b.invoice.Plan, Currency: b.invoice.Currency, Total: b.invoice.Total,
		EN16931: b.named && b.digits <= maxMinorDigits,
	}
	if b.invoice.Credit() {
		d.Type, b.sign = TypeCreditNote, -1
	}
	total, err := b.amount(b.invoice.Total)
	if err != nil {
		return d, fmt.Errorf("total: %w", err)
	}
	for i := range b.invoice.Lines {
		if err := b.add(&b.invoice.Lines[i], b.month); err != nil {
			return d, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	for i := range b.invoice.Adjustments {
		a := &b.invoice.Adjustments[i]
		month, err := domain.ParseMonth(a.Month)
		if err == nil {
			err = b.add(&a.Line, month)
		}
		if err != nil {
			return d, fmt.Errorf("adjustment %d: %w", i+1, err)
		}
	}
	if b.sum.Cmp(total) != 0 {
		return d, fmt.Errorf("its lines do not come to its total, %s: rules R9 and R12 did not make it", b.invoice.Total)
	}
	b.tax = b.round(new(big.Rat).Mul(&b.sum, b.customer.Tax.rate()))
	b.payable = new(big.Rat).Add(&b.sum, b.tax)
	d.Payable = b.text(b.payable)
	return d, nil
}

// add adds a line or an adjustment, of the month it belongs to.
func (b *builder) add(l *projections.Line, month domain.Month) error {
	perMinute, err := domain.ParseMicros(l.Price)
	if err != nil {
		return fmt.Errorf("price %.40q: %w", l.Price, err)
	}
	fee, err := domain.ParseMicros(l.ConnectFee)
	if err != nil {
		return fmt.Errorf("connect fee %.40q: %w", l.ConnectFee, err)
	}
	amount, err := b.amount(l.Amount)
	if err != nil {
		return fmt.Errorf("amount: %w", err)
	}
	talk := b.round(b.times(l.Seconds, perMinute, pricedSeconds))
	fees := b.round(b.times(l.Calls, fee, 1))
	rest := new(big.Rat).Sub(amount, talk)
	rest.Sub(rest, fees)
	// Talk, fees and both amounts of an adjustment are each rounded by at most half a
	// unit, and the amounts not both at their worst, as halves of both go up: what is
	// left is less than two.
	if unit := new(big.Rat).SetFrac(big.NewInt(1), tenTo(b.digits)); new(big.Rat).Abs(rest).Cmp(unit) > 0 {
		return fmt.Errorf("%d s at %s a minute and %d connect fees of %s are not %s: rules R8 and R9 did not make it", l.Seconds, l.Price, l.Calls, l.ConnectFee, l.Amount)
	}
	x := line{
		ID: strconv.Itoa(len(b.lines) + 1), Amount: b.money(amount), Item: b.item(l),
		Price: price{money{b.invoice.Currency, l.Price}, quantity{unitSeconds, strconv.Itoa(pricedSeconds)}},
	}
	seconds := &quantity{unitSeconds, b.signed(l.Seconds)}
	if b.sign < 0 {
		x.Credited = seconds
	} else {
		x.Invoiced = seconds
	}
	if month != b.month {
		x.Note, x.Period = "Adjusts "+month.String(), new(periodOf(month))
	}
	x.Charges = b.charge(x.Charges, fees, fmt.Sprintf("Connect fees, %s × %s", strings.TrimPrefix(strconv.FormatInt(l.Calls, 10), "-"), l.ConnectFee))
	x.Charges = b.charge(x.Charges, rest, "Rounding")
	b.lines = append(b.lines, x)
	b.sum.Add(&b.sum, amount)
	return nil
}

// charge adds a charge, or an allowance where it is negative, or nothing.
func (b *builder) charge(charges []charge, amount *big.Rat, reason string) []charge {
	if amount.Sign() == 0 {
		return charges
	}
	return append(charges, charge{amount.Sign() > 0, reason, b.money(new(big.Rat).Abs(amount))})
}

func (b *builder) item(l *projections.Line) item {
	name := strings.TrimSpace(l.Destination + " " + l.Type)
	if name == "" {
		name = "Calls" // BR-25
	}
	i := item{Name: name, Category: b.customer.Tax.category(false)}
	for _, p := range []property{
		{"Destination country", l.DestinationCountry}, {"Deck", l.Deck}, {"Deck version", l.DeckVersion},
		{"Plan", b.invoice.Plan}, {"Pool country", b.invoice.Country}, {"Calls", b.signed(l.Calls)},
	} {
		if p.Value != "" { // BR-54
			i.Properties = append(i.Properties, p)
		}
	}
	return i
}

// xml puts the document together.
func (b *builder) xml(d *Document) ([]byte, error) {
	tax := &b.customer.Tax
	sum, payable, taxed := b.money(&b.sum), b.money(b.payable), b.money(b.tax)
	x := document{
		Namespace: "urn:oasis:names:specification:ubl:schema:xsd:" + d.Type + "-2", Aggregate: cacNamespace, Basic: cbcNamespace,
		ID: d.ID, IssueDate: b.at.Format(time.DateOnly), Note: b.note, Currency: d.Currency, BuyerReference: b.customer.Reference,
		Period: periodOf(b.month), Supplier: partyOf(&b.supplier, tax), Customer: partyOf(&b.customer.Party, tax),
		PaymentTerms: b.customer.PaymentTerms,
		Tax:          taxTotal{taxed, taxSubtotal{sum, taxed, tax.category(true)}},
		Total:        monetaryTotal{sum, sum, payable, payable},
	}
	x.XMLName.Local = d.Type
	if d.EN16931 {
		x.Customization = en16931
	}
	if d.Type == TypeCreditNote {
		x.CreditNoteTypeCode, x.CreditNoteLines = "381", b.lines
	} else {
		x.InvoiceTypeCode, x.InvoiceLines = "380", b.lines
		if b.customer.DueDays > 0 { // a CreditNote has no DueDate
			x.DueDate = b.at.AddDate(0, 0, b.customer.DueDays).Format(time.DateOnly)
		}
	}
	text, err := xml.MarshalIndent(x, "", "  ")
	if err != nil {
		return nil, err
	}
	return append([]byte(xml.Header), append(text, '\n')...), nil
}

// Prices are for so many seconds.
const pricedSeconds = 60

// unitSeconds is the second, by UNECE Recommendation 20.
const unitSeconds = "SEC"

// times is n × price ÷ per, signed as in the XML.
func (b *builder) times(n int64, price domain.Micros, per int64) *big.Rat {
	product := new(big.Int).Mul(big.NewInt(n), big.NewInt(int64(price)*b.sign))
	return new(big.Rat).SetFrac(product, big.NewInt(1_000_000*per))
}

// signed is n, signed as in the XML.
func (b *builder) signed(n int64) string {
	return new(big.Int).Mul(big.NewInt(n), big.NewInt(b.sign)).String()
}

var decimal = regexp.MustCompile(`^-?[0-9]{1,40}(\.[0-9]{1,4})?$`)

// amount reads an amount of our document, and signs it as in the XML.
func (b *builder) amount(s string) (*big.Rat, error) {
	_, minor, _ := strings.Cut(s, ".")
	if !decimal.MatchString(s) || len(minor) != b.digits {
		return nil, fmt.Errorf("%.60q is not an amount of %s, which has %d decimals", s, b.invoice.Currency, b.digits)
	}
	r, _ := new(big.Rat).SetString(s)
	return r.Mul(r, new(big.Rat).SetInt64(b.sign)), nil
}

// round is r to the currency's minor unit, half away from zero.
func (b *builder) round(r *big.Rat) *big.Rat {
	rounded, _ := new(big.Rat).SetString(b.text(r))
	return rounded
}

// text is r with the currency's minor digits. The last is rounded half away from zero.
func (b *builder) text(r *big.Rat) string { return r.FloatString(b.digits) }

func (b *builder) money(r *big.Rat) money { return money{b.invoice.Currency, b.text(r)} }

func tenTo(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_.-]`)

// fileName joins parts to a name that every file system takes. The place of an
// invoice in its document makes it unique whatever becomes of the others.
func fileName(parts ...string) string {
	const maxPart = 64 // bytes
	var kept []string
	for _, p := range parts {
		if p = notInNames.ReplaceAllString(p, "_"); p != "" {
			kept = append(kept, p[:min(len(p), maxPart)])
		}
	}
	return strings.Join(kept, "-") + ".xml"
}
