package api

import (
	"tollbook/consumers/cdr"
	"tollbook/eventstore"
	"tollbook/projections"
)

// ServiceName is the engine's name among NATS services.
const ServiceName = "tollbook"

// Prefix begins the service's subjects. It is not below tollbook., which the
// intake stream captures.
const Prefix = "tollbook-api."

// A MonthRequest asks for a month of a tenant.
type MonthRequest struct {
	Tenant  string `json:"tenant"`
	Month   string `json:"month"` // 2026-10
	Country string `json:"country,omitzero"`
	Plan    string `json:"plan,omitzero"`
}

// A Receipt says what became of the records of a request.
type Receipt struct {
	Received  int      `json:"received"`
	Booked    int      `json:"booked"`
	Duplicate int      `json:"duplicate"`
	Suspended int      `json:"suspended"`
	Position  uint64   `json:"position"` // the last of the records has in the book
	Records   []Record `json:"records"`  // those that were not booked as they are

	// Of the calls among booked and duplicate, to compare with the switch's own ledger:
	Answered   int64 `json:"answered"`
	BillableMS int64 `json:"billable_ms"`
}

// A Record is one that was duplicate or suspended.
type Record struct {
	Index    int    `json:"index"` // in the request, from 0
	Status   string `json:"status"`
	Position uint64 `json:"position"`
	Reason   string `json:"reason,omitzero"`
	Detail   string `json:"detail,omitzero"`
}

func receipt(records []eventstore.Record, results []eventstore.Result) Receipt {
	r := Receipt{Received: len(results), Records: []Record{}}
	var talk cdr.Reconcile
	for i, one := range results {
		switch one.Status {
		case eventstore.Booked:
			r.Booked++
		case eventstore.Duplicate:
			r.Duplicate++
		case eventstore.Suspended:
			r.Suspended++
		}
		r.Position = max(r.Position, one.Position)
		if one.Status != eventstore.Suspended {
			talk.Add(records[i].Event)
		}
		if one.Status != eventstore.Booked {
			r.Records = append(r.Records, Record{i, one.Status.String(), one.Position, one.Reason, one.Detail})
		}
	}
	r.Answered, r.BillableMS = talk.Answered, talk.TalkMS
	return r
}

// Status is how far the engine is, and what came in by tenant.
type Status struct {
	Position uint64         `json:"position"`
	Block    uint64         `json:"block"`
	Head     string         `json:"head"`
	Mirror   *MirrorStatus  `json:"mirror,omitzero"` // of an engine that keeps one
	Tenants  []TenantStatus `json:"tenants"`
}

// MirrorStatus is how far the standing second copy of the book is.
type MirrorStatus struct {
	Dir    string `json:"dir"`
	Block  uint64 `json:"block"`
	Behind uint64 `json:"behind"`         // blocks that the book has and it has not
	Error  string `json:"error,omitzero"` // why it is not catching up
}

// TenantStatus has received = booked + duplicate + suspended.
type TenantStatus struct {
	Tenant   string   `json:"tenant"`
	Received uint64   `json:"received"`
	Months   []string `json:"months"`
	projections.Intake
}
