package projections

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"tollbook/domain"
	"tollbook/eventstore"
)

// A Statement is a month as Replay makes it: the invoice document with the pools
// added.
type Statement struct {
	InvoiceDocument
	Pools []Pool `json:"pools"`
}

// InvoiceDocument is what `tollbook invoice` prints, by spec/outputs.md.
type InvoiceDocument struct {
	Tenant     string      `json:"tenant"`
	Month      string      `json:"month"`
	Status     string      `json:"status"` // draft or issued
	Number     *string     `json:"number"` // of an issued document
	Position   uint64      `json:"position"`
	Head       string      `json:"head"`
	Invoices   []Invoice   `json:"invoices"`
	Exceptions []Exception `json:"exceptions"`
	Counts     Counts      `json:"counts"`
}

// PoolsDocument is what `tollbook pools` prints.
type PoolsDocument struct {
	Tenant   string `json:"tenant"`
	Month    string `json:"month"`
	Position uint64 `json:"position"`
	Pools    []Pool `json:"pools"`
}

// A Pool is shared minutes, in seconds.
type Pool struct {
	Country     string   `json:"country"`
	Plan        string   `json:"plan"`
	Scope       string   `json:"scope"`
	User        string   `json:"user,omitzero"`
	Licences    int64    `json:"licences"`
	Buckets     []Bucket `json:"buckets"`
	ExhaustedAt *string  `json:"exhausted_at"`
}

// A Bucket is a part of a pool.
type Bucket struct {
	Name    string `json:"name"`
	Granted int64  `json:"granted_seconds"`
	Used    int64  `json:"used_seconds"`
	Overage int64  `json:"overage_seconds"`
}

// An Invoice is what one plan in one country owes.
type Invoice struct {
	Country     string       `json:"country"`
	Plan        string       `json:"plan"`
	Currency    string       `json:"currency"`
	Lines       []Line       `json:"lines"`
	Adjustments []Adjustment `json:"adjustments"`
	Total       string       `json:"total"`
}

// Credit reports whether the invoice gives money back: then it is a credit note.
func (i *Invoice) Credit() bool { return strings.HasPrefix(i.Total, "-") }

// A Line is the overage to one destination at one price.
type Line struct {
	Deck               string `json:"deck"`
	DeckVersion        string `json:"deck_version"`
	DestinationCountry string `json:"destination_country"`
	Destination        string `json:"destination"`
	Type               string `json:"type"`
	Price              string `json:"price"`
	ConnectFee         string `json:"connect_fee"`
	Calls              int64  `json:"calls"`
	Seconds            int64  `json:"seconds"`
	Amount             string `json:"amount"`
}

// An Adjustment is a line of an earlier month that has changed since it was issued.
type Adjustment struct {
	Month string `json:"month"`
	Line
}

// An Exception needs somebody's attention before the month can close.
type Exception struct {
	Reason  string `json:"reason"`
	Count   int64  `json:"count"`
	Seconds int64  `json:"seconds"`
}

// Counts have every booked call of the month once.
type Counts struct {
	Calls   int64 `json:"calls"`
	Free    int64 `json:"free"`
	InPool  int64 `json:"in_pool"`
	Overage int64 `json:"overage"`
	Outside int64 `json:"outside"`
}

func line(l domain.InvoiceLine) Line {
	return Line{l.Deck, l.Version, l.Country, l.Name, l.RowType, l.Price.String(), l.Fee.String(), l.Calls, l.Seconds, l.Amount.String()}
}

func statement(r domain.Rating, head eventstore.Head) Statement {
	s := Statement{
		InvoiceDocument: InvoiceDocument{
			Tenant: r.Tenant, Month: r.Month.String(), Status: StatusDraft, Position: head.Events, Head: head.String(),
			Invoices: []Invoice{}, Exceptions: []Exception{}, Counts: Counts(r.Counts),
		},
		Pools: []Pool{},
	}
	for i := range r.Pools {
		s.Pools = append(s.Pools, pool(&r.Pools[i]))
	}
	for _, i := range r.Invoices {
		invoice := Invoice{
			Country: i.Country, Plan: i.Plan, Currency: string(i.Currency),
			Lines: []Line{}, Adjustments: []Adjustment{}, Total: i.Total.String(),
		}
		for _, l := range i.Lines {
			invoice.Lines = append(invoice.Lines, line(l))
		}
		for _, a := range i.Adjustments {
			invoice.Adjustments = append(invoice.Adjustments, Adjustment{a.Month.String(), line(a.InvoiceLine)})
		}
		s.Invoices = append(s.Invoices, invoice)
	}
	for _, e := range r.Exceptions {
		s.Exceptions = append(s.Exceptions, Exception(e))
	}
	return s
}

func pool(p *domain.PoolRating) Pool {
	d := Pool{Country: p.Country, Plan: p.Plan, Scope: p.Scope.String(), User: p.User, Licences: p.Licences, Buckets: []Bucket{}}
	for _, b := range p.Buckets {
		d.Buckets = append(d.Buckets, Bucket(b))
	}
	if p.ExhaustedAt != 0 {
		at := p.ExhaustedAt.String()
		d.ExhaustedAt = &at
	}
	return d
}

// PoolsOnly is the statement's pools.
func (s *Statement) PoolsOnly() PoolsDocument {
	return PoolsDocument{s.Tenant, s.Month, s.Position, s.Pools}
}

// Only is the document with the invoices of a country and a plan, where they are
// given. Exceptions and counts are always the whole month's.
func (d InvoiceDocument) Only(country, plan string) InvoiceDocument {
	d.Invoices = slices.DeleteFunc(slices.Clone(d.Invoices), func(i Invoice) bool {
		return country != "" && i.Country != country || plan != "" && i.Plan != plan
	})
	return d
}

// Canonical is v, one of the documents, as RFC 8785 JSON: equal documents have
// equal bytes.
func Canonical(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	text := jsontext.Value(data)
	if err := text.Canonicalize(); err != nil {
		return nil, err
	}
	return text, nil
}
