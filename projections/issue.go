package projections

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"

	"tollbook/domain"
	"tollbook/eventstore"
)

// Statuses of a document.
const (
	StatusDraft  = "draft"
	StatusIssued = "issued"
)

// An Issue is a month's document as it was issued (R12).
type Issue struct {
	Number   string
	Digest   string // sha256:…
	Position uint64 // the document knows the events up to it
	Head     string // sha256:… of the block that holds the position
	Document []byte // RFC 8785 JSON, by the book

	// What the events up to the position make now. Unless the book or the program
	// was tampered with, its document is Document byte for byte (R13).
	Replayed Statement
	Bytes    []byte // the document of Replayed, canonical
	turn     error  // not nil: another month was to close then

	// Of an Issue that [Check] made:
	BookedAt uint64          // the position of its month.closed
	made     map[string]Made // what makes the lines that were issued otherwise, by where they stand
}

// Check is nil when the events still make the document.
func (i *Issue) Check() error {
	switch {
	case Digest(i.Document) != i.Digest:
		return fmt.Errorf("document %s has digest %s, but the book says it was issued with %s", i.Number, Digest(i.Document), i.Digest)
	case i.turn != nil:
		return i.turn
	case i.booked() != i.replayed():
		return fmt.Errorf("document %s is booked as %s, but is %s", i.Number, i.booked(), i.replayed())
	case !bytes.Equal(i.Document, i.Bytes):
		return fmt.Errorf("document %s is not what the events up to position %d make", i.Number, i.Position)
	}
	return nil
}

// booked is what the book says of the document beside it, replayed what it should.
func (i *Issue) booked() string {
	return fmt.Sprintf("%s, as of position %d, %s", i.Number, i.Position, i.Head)
}

func (i *Issue) replayed() string {
	return fmt.Sprintf("%s, as of position %d, %s", *i.Replayed.Number, i.Replayed.Position, i.Replayed.Head)
}

// Digest is the SHA-256 of a document's bytes, as documents print hashes.
func Digest(document []byte) string {
	sum := sha256.Sum256(document)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// numberOf is the number of a tenant's next document, of a month: they run without
// holes in each year of the months.
func numberOf(ledger *domain.Ledger, tenant string, month domain.Month) string {
	n := 1
	for _, closed := range ledger.Closings(tenant) {
		if closed.Month/12 == month/12 {
			n++
		}
	}
	return fmt.Sprintf("%04d-%04d", month/12, n)
}

// issue makes the document that closing the month now issues. head is the
// ledger's.
func issue(ledger *domain.Ledger, tenant string, month domain.Month, head eventstore.Head) (Issue, error) {
	s := statement(ledger.Draft(tenant, month), head)
	number := numberOf(ledger, tenant, month)
	s.Status, s.Number = StatusIssued, &number
	document, err := Canonical(s.InvoiceDocument)
	if err != nil {
		return Issue{}, err
	}
	return Issue{Number: number, Digest: Digest(document), Position: s.Position, Head: s.Head, Document: document, Replayed: s, Bytes: document}, nil
}

// issued makes the Issue of a month.closed, whose ledger knows exactly the events
// before it and head is that of the last of them.
func issued(ledger *domain.Ledger, tenant string, data *domain.MonthClosed, head eventstore.Head) (Issue, error) {
	i, err := issue(ledger, tenant, data.Month, head)
	i.Number, i.Digest, i.Position, i.Head, i.Document = data.Number, data.Digest, data.Position, data.Head, data.Document
	if bytes.Equal(i.Bytes, i.Document) {
		i.Bytes = i.Document // kept once
	}
	if next, any := ledger.NextToClose(tenant); !any || next != data.Month {
		i.turn = fmt.Errorf("document %s is of %s, which was not the month to close then: months close in order, each once", i.Number, data.Month)
	}
	return i, err
}

// Statement is the month as it was issued: the document by the book, the pools
// as they were then.
func (i *Issue) Statement() (Statement, error) {
	s := Statement{Pools: i.Replayed.Pools}
	if err := json.Unmarshal(i.Document, &s.InvoiceDocument); err != nil {
		return s, fmt.Errorf("document %s can't be read: %w", i.Number, err)
	}
	return s, nil
}

// A Difference is where an issued document and its replay say other things. What
// makes a replayed line is there if [Check] made the issue.
type Difference struct {
	Where    string `json:"where"`
	Issued   string `json:"issued"` // "": not there
	Replayed string `json:"replayed"`
	Made
}

// Differences are where the issued document is not what its events make.
func (i *Issue) Differences() []Difference {
	was, err := i.Statement()
	if err != nil {
		return []Difference{{Where: "document", Issued: err.Error(), Replayed: "can be read"}}
	}
	before, now := lay(&was.InvoiceDocument), lay(&i.Replayed.InvoiceDocument)
	before["booked"], now["booked"] = i.booked(), i.replayed()
	before["digest"], now["digest"] = i.Digest, Digest(i.Document)
	differences := []Difference{}
	if i.turn != nil {
		differences = append(differences, Difference{Where: "order", Issued: i.turn.Error(), Replayed: "months close in order"})
	}
	for _, where := range slices.Sorted(maps.Keys(union(before, now))) {
		if before[where] != now[where] {
			differences = append(differences, Difference{where, before[where], now[where], i.made[where]})
		}
	}
	if len(differences) == 0 && !bytes.Equal(i.Document, i.Bytes) {
		// The same in other words, or something that no document says.
		differences = append(differences, Difference{Where: "bytes", Issued: Digest(i.Document), Replayed: Digest(i.Bytes)})
	}
	return differences
}

func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// lay spreads a document out: each thing it says, by where it stands.
func lay(d *InvoiceDocument) map[string]string {
	number := "none"
	if d.Number != nil {
		number = *d.Number
	}
	said := map[string]string{
		"document": fmt.Sprintf("%s %s, %s, %s, as of position %d, %s", d.Tenant, d.Month, d.Status, number, d.Position, d.Head),
		"counts":   fmt.Sprintf("%+v", d.Counts),
	}
	for _, e := range d.Exceptions {
		said["exception "+e.Reason] = fmt.Sprintf("%d, %d s", e.Count, e.Seconds)
	}
	for _, i := range d.Invoices {
		name := whereInvoice(i.Country, i.Plan, i.Currency)
		said[name+", total"] = i.Total
		lay := func(where string, l Line) {
			said[where] = fmt.Sprintf("%d calls, %d s, %s", l.Calls, l.Seconds, l.Amount)
		}
		for _, l := range i.Lines {
			lay(whereLine(name, l), l)
		}
		for _, a := range i.Adjustments {
			lay(whereAdjustment(name, a), a.Line)
		}
	}
	return said
}

func whereInvoice(country, plan, currency string) string {
	return fmt.Sprintf("invoice %s %s %s", country, plan, currency)
}

func whereLine(invoice string, l Line) string { return where(invoice+", line", l) }

func whereAdjustment(invoice string, a Adjustment) string {
	return where(invoice+", adjustment of "+a.Month, a.Line)
}

func where(what string, l Line) string {
	return fmt.Sprintf("%s %s %s %s at %s + %s, deck %s %s", what, l.DestinationCountry, l.Destination, l.Type, l.Price, l.ConnectFee, l.Deck, l.DeckVersion)
}
