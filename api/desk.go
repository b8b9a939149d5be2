package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/micro"

	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// A Desk answers what is in suspense. Its parts come from an engine, or from the
// walk of a book.
type Desk struct {
	Suspense *projections.Suspense
	Months   *projections.Months
	// Events reads events of the book by position, as eventstore.Book.Events does.
	Events func(ctx context.Context, positions []uint64, each func(uint64, *domain.Event) error) error
}

// SuspenseRequest asks for records in suspense; empty fields: all.
type SuspenseRequest struct {
	Tenant string `json:"tenant,omitzero"`
	Reason string `json:"reason,omitzero"` // a code
	Source string `json:"source,omitzero"` // of the event, or switch/<switch>
	UpTo   uint64 `json:"up_to,omitzero"`  // the last position looked at
	After  uint64 `json:"after,omitzero"`  // the next page: after this position
	Limit  int    `json:"limit,omitzero"`  // of records listed, 1 to 1000; 0: 50
}

func (q *SuspenseRequest) filter() projections.SuspenseFilter {
	return projections.SuspenseFilter{Tenant: q.Tenant, Reason: q.Reason, Source: q.Source, UpTo: q.UpTo}
}

// SuspenseDocument is what `tollbook suspense list` prints.
type SuspenseDocument struct {
	Position uint64            `json:"position"`
	Groups   []SuspenseGroup   `json:"groups"`  // all that were asked for
	Records  []SuspendedRecord `json:"records"` // a page of them, by position
	Next     uint64            `json:"next"`    // After of the next page; 0: there is none
}

// A SuspenseGroup sums records of one tenant, reason and source.
type SuspenseGroup struct {
	Tenant  string    `json:"tenant"`
	Reason  string    `json:"reason"`
	Source  string    `json:"source"` // "" where none can be read
	Records int       `json:"records"`
	Bytes   int64     `json:"bytes"`
	Oldest  string    `json:"oldest"` // when it was suspended
	Newest  string    `json:"newest"`
	AtStake []AtStake `json:"at_stake"`
}

// AtStake is what records would cost if all of it were overage: an estimate from
// those of which a number and a duration can be read.
type AtStake struct {
	Currency domain.Currency `json:"currency"`
	Amount   string          `json:"amount"`
	Records  int             `json:"records"`
}

// A SuspendedRecord is one record in suspense.
type SuspendedRecord struct {
	Position    uint64   `json:"position"` // what commands name it by
	Tenant      string   `json:"tenant"`
	Reason      string   `json:"reason"`
	Detail      string   `json:"detail"`
	Subject     string   `json:"subject"`
	SuspendedAt string   `json:"suspended_at"`
	Bytes       int      `json:"bytes"`
	Source      string   `json:"source,omitzero"`
	ID          string   `json:"id,omitzero"`
	Called      string   `json:"called,omitzero"` // its last digits masked
	BillableMS  int64    `json:"billable_ms,omitzero"`
	AtStake     *AtStake `json:"at_stake,omitzero"`
}

// A RecordDocument is what `tollbook suspense show` prints.
type RecordDocument struct {
	SuspendedRecord
	Raw        []byte    `json:"raw"`        // in base64
	Resolution string    `json:"resolution"` // "open", or what became of it: "recycled", "written-off"
	By         string    `json:"by,omitzero"`
	Why        string    `json:"why,omitzero"`
	ResolvedAt string    `json:"resolved_at,omitzero"`
	Became     *Identity `json:"became,omitzero"` // of a recycled one
	Edited     []byte    `json:"edited,omitzero"` // as what it was recycled, if not as it came
}

// An Identity is that of an event.
type Identity struct {
	Tenant string `json:"tenant"`
	Source string `json:"source"`
	ID     string `json:"id"`
}

// MaxListed is how many records a list has at most.
const MaxListed = 1000

const defaultListed = 50

// List answers a request.
func (d *Desk) List(ctx context.Context, q SuspenseRequest) (SuspenseDocument, error) {
	switch {
	case q.Limit == 0:
		q.Limit = defaultListed
	case q.Limit < 1 || q.Limit > MaxListed:
		return SuspenseDocument{}, wrong{fmt.Errorf("limit %d: must be 1 to %d", q.Limit, MaxListed)}
	}
	doc := SuspenseDocument{Position: d.Months.Head().Events, Groups: []SuspenseGroup{}, Records: []SuspendedRecord{}}
	for _, g := range d.Suspense.Groups(q.filter()) {
		doc.Groups = append(doc.Groups, d.group(g))
	}
	page := d.Suspense.Records(q.filter(), q.After, q.Limit+1)
	if len(page) > q.Limit {
		page = page[:q.Limit]
		doc.Next = page[q.Limit-1].Position
	}
	positions := make([]uint64, len(page))
	for i := range page {
		positions[i] = page[i].Position
		doc.Records = append(doc.Records, d.record(&page[i]))
	}
	err := d.Events(ctx, positions, func(position uint64, e *domain.Event) error {
		i, _ := slices.BinarySearch(positions, position)
		if data, ok := e.Data.(*domain.Suspended); ok {
			doc.Records[i].Detail = data.Detail
		}
		return nil
	})
	return doc, err
}

func (d *Desk) group(g projections.SuspenseGroup) SuspenseGroup {
	sum := SuspenseGroup{
		Tenant: g.Tenant, Reason: g.Reason, Source: g.Source, Records: len(g.Records), AtStake: []AtStake{},
		Oldest: g.Records[0].At.String(), Newest: g.Records[len(g.Records)-1].At.String(),
	}
	type total struct {
		amount  domain.Amount
		records int
	}
	totals := map[domain.Currency]*total{}
	for i := range g.Records {
		r := &g.Records[i]
		sum.Bytes += int64(r.Bytes)
		if amount, currency, ok := d.estimate(r); ok {
			t := totals[currency]
			if t == nil {
				t = &total{}
				totals[currency] = t
			}
			t.amount.Add(amount)
			t.records++
		}
	}
	for currency, t := range totals {
		sum.AtStake = append(sum.AtStake, AtStake{currency, t.amount.String(), t.records})
	}
	slices.SortFunc(sum.AtStake, func(a, b AtStake) int { return strings.Compare(string(a.Currency), string(b.Currency)) })
	return sum
}

func (d *Desk) estimate(r *projections.SuspendedRecord) (domain.Amount, domain.Currency, bool) {
	if r.Called.Anonymous() || r.BillableMS == 0 {
		return domain.Amount{}, "", false
	}
	at := r.Glimpse.At
	if at == 0 {
		at = r.At
	}
	return d.Months.Estimate(r.Tenant, r.User, r.Called, at, r.BillableMS)
}

func (d *Desk) record(r *projections.SuspendedRecord) SuspendedRecord {
	one := SuspendedRecord{
		Position: r.Position, Tenant: r.Tenant, Reason: r.Reason, Subject: r.Subject, SuspendedAt: r.At.String(),
		Bytes: r.Bytes, Source: r.Source, ID: r.ID, BillableMS: r.BillableMS,
	}
	if !r.Called.Anonymous() {
		one.Called = domain.MaskNumbers(r.Called.String())
	}
	if amount, currency, ok := d.estimate(r); ok {
		one.AtStake = &AtStake{currency, amount.String(), 1}
	}
	return one
}

// Show answers one record, whole, also after it was resolved.
func (d *Desk) Show(ctx context.Context, position uint64) (RecordDocument, error) {
	var doc RecordDocument
	found := false
	err := d.Events(ctx, []uint64{position}, func(_ uint64, e *domain.Event) error {
		data, ok := e.Data.(*domain.Suspended)
		if !ok {
			return wrong{fmt.Errorf("position %d is a %s, no record in suspense; see 'tollbook suspense list'", position, e.Data.Type())}
		}
		found = true
		doc.SuspendedRecord = SuspendedRecord{
			Position: position, Tenant: e.Tenant, Reason: data.Reason, Subject: data.Subject,
			SuspendedAt: e.Time.String(), Bytes: len(data.Raw),
		}
		doc.Raw = data.Raw
		if open := d.Suspense.Records(projections.SuspenseFilter{UpTo: position}, position-1, 1); len(open) == 1 {
			doc.SuspendedRecord, doc.Resolution = d.record(&open[0]), "open"
		}
		doc.Detail = data.Detail
		return nil
	})
	if err == nil && !found {
		err = wrong{fmt.Errorf("position %d: the book has no such position; see 'tollbook suspense list'", position)}
	}
	if err != nil || doc.Resolution == "open" {
		return doc, err
	}
	return doc, d.resolution(ctx, &doc)
}

// resolution says what became of a record that is in suspense no more.
func (d *Desk) resolution(ctx context.Context, doc *RecordDocument) error {
	doc.Resolution = "open" // where the book has it and its followers have not, yet
	return d.Events(ctx, []uint64{d.Suspense.ResolvedBy(doc.Position)}, func(_ uint64, e *domain.Event) error {
		doc.ResolvedAt = e.Time.String()
		switch data := e.Data.(type) {
		case *domain.Recycled:
			doc.Resolution, doc.By, doc.Why, doc.Edited = "recycled", data.By, data.Reason, data.Edited
			doc.Became = &Identity{cmp.Or(data.Tenant, e.Tenant), data.Booked.Source, data.Booked.ID}
		case *domain.WrittenOff:
			doc.Resolution, doc.By, doc.Why = "written-off", data.By, data.Reason
		}
		return nil
	})
}

// ResolveRequest says which records to recycle or to write off: those at
// Positions, or those that Of takes, with no Limit unless it names one.
type ResolveRequest struct {
	Positions []uint64         `json:"positions,omitzero"`
	Of        *SuspenseRequest `json:"of,omitzero"`
	Why       string           `json:"why,omitzero"`
	DryRun    bool             `json:"dry_run,omitzero"`
	Edited    []byte           `json:"edited,omitzero"`  // read this instead; one record only
	Subject   string           `json:"subject,omitzero"` // as if it had come in here; one record only
}

// ResolveDocument is what became of them.
type ResolveDocument struct {
	DryRun   bool                `json:"dry_run"`
	UpTo     uint64              `json:"up_to"` // the last of the records: the same choice again ends there
	Counts   map[string]int      `json:"counts"`
	Outcomes []consumers.Outcome `json:"outcomes"` // the first of them
}

// positions are the records a request names.
func (q *ResolveRequest) positions(suspense *projections.Suspense) ([]uint64, error) {
	switch {
	case len(q.Positions) > 0 && q.Of != nil:
		return nil, errors.New("name records by position or by what they have in common, not both")
	case len(q.Positions) > 0:
		return q.Positions, nil
	case q.Of == nil || q.Of.Tenant == "" && q.Of.Reason == "" && q.Of.Source == "":
		return nil, errors.New("name records by position, or by tenant, reason or source")
	case q.Of.Limit < 0:
		return nil, fmt.Errorf("limit %d: must be 1 or more, or left out", q.Of.Limit)
	}
	var positions []uint64
	for _, r := range suspense.Records(q.Of.filter(), q.Of.After, q.Of.Limit) {
		positions = append(positions, r.Position)
	}
	return positions, nil
}

// maxOutcomes is how many outcomes an answer lists; all are counted.
const maxOutcomes = 1000

func (s *Service) resolve(ctx context.Context, r micro.Request, do func(context.Context, []uint64, consumers.Resolution) ([]consumers.Outcome, error)) (any, error) {
	var q ResolveRequest
	who, err := actor(r.Subject())
	if err != nil {
		return nil, wrong{err}
	}
	if err := asked(r, &q, `{"positions":[18231],"why":"…"}`); err != nil {
		return nil, err
	}
	return s.Desk.Resolve(ctx, who, q, do)
}

// Resolve recycles records or writes them off, which do does.
func (d *Desk) Resolve(ctx context.Context, who string, q ResolveRequest, do func(context.Context, []uint64, consumers.Resolution) ([]consumers.Outcome, error)) (doc ResolveDocument, err error) {
	positions, err := q.positions(d.Suspense)
	if err != nil {
		return doc, wrong{err}
	}
	outcomes, err := do(ctx, positions, consumers.Resolution{By: who, Reason: q.Why, DryRun: q.DryRun, Edited: q.Edited, Subject: q.Subject})
	switch {
	case errors.Is(err, eventstore.ErrClosed) || errors.Is(err, eventstore.ErrUncertain) || errors.Is(err, eventstore.ErrCorrupt) || ctx.Err() != nil:
		return doc, err
	case err != nil:
		return doc, wrong{err}
	}
	doc = ResolveDocument{DryRun: q.DryRun, Counts: map[string]int{}, Outcomes: outcomes}
	if doc.Outcomes == nil {
		doc.Outcomes = []consumers.Outcome{}
	}
	for _, o := range outcomes {
		doc.Counts[o.Status]++
		doc.UpTo = max(doc.UpTo, o.Position)
	}
	doc.Outcomes = doc.Outcomes[:min(len(doc.Outcomes), maxOutcomes)]
	return doc, nil
}

// who can act: a token of a subject, short enough to be kept with what was done.
var actorName = regexp.MustCompile(`^[A-Za-z0-9_@-]{1,64}$`)

// actor is who acts by a request on tollbook-api.as.<who>.…; NATS lets users
// publish below their own name only, where it knows them.
func actor(subject string) (string, error) {
	who, _, _ := strings.Cut(strings.TrimPrefix(subject, Prefix+"as."), ".")
	if !actorName.MatchString(who) {
		return "", fmt.Errorf("%.80q: who decides must be a name of 1 to 64 letters, digits, -, _ and @", who)
	}
	return who, nil
}

// asked reads the JSON of a request.
func asked(r micro.Request, q any, such string) error {
	if err := json.Unmarshal(r.Data(), q); err != nil {
		return wrong{fmt.Errorf("the request must be JSON such as %s: %w", such, err)}
	}
	return nil
}

func (s *Service) suspenseList(ctx context.Context, r micro.Request) (any, error) {
	var q SuspenseRequest
	if err := asked(r, &q, `{"tenant":"contoso"}, or {} for all`); err != nil {
		return nil, err
	}
	return s.Desk.List(ctx, q)
}

func (s *Service) suspenseShow(ctx context.Context, r micro.Request) (any, error) {
	var q struct {
		Position uint64 `json:"position"`
	}
	if err := asked(r, &q, `{"position":18231}`); err != nil {
		return nil, err
	}
	return s.Desk.Show(ctx, q.Position)
}

func (s *Service) suspenseRecycle(ctx context.Context, r micro.Request) (any, error) {
	return s.resolve(ctx, r, s.Intake.Recycle)
}

func (s *Service) suspenseWriteOff(ctx context.Context, r micro.Request) (any, error) {
	return s.resolve(ctx, r, s.Intake.WriteOff)
}

// Suspense lists records in suspense.
func (c *Client) Suspense(ctx context.Context, q SuspenseRequest) (SuspenseDocument, error) {
	var d SuspenseDocument
	err := c.askJSON(ctx, "suspense.list", q, &d)
	return d, err
}

// SuspendedRecord shows the record at a position.
func (c *Client) SuspendedRecord(ctx context.Context, position uint64) (RecordDocument, error) {
	var d RecordDocument
	err := c.askJSON(ctx, "suspense.show", map[string]uint64{"position": position}, &d)
	return d, err
}

// Recycle reads records in suspense again, as who.
func (c *Client) Recycle(ctx context.Context, who string, q ResolveRequest) (ResolveDocument, error) {
	var d ResolveDocument
	err := c.askJSON(ctx, "as."+who+".suspense.recycle", q, &d)
	return d, err
}

// WriteOff gives records in suspense up, as who.
func (c *Client) WriteOff(ctx context.Context, who string, q ResolveRequest) (ResolveDocument, error) {
	var d ResolveDocument
	err := c.askJSON(ctx, "as."+who+".suspense.write-off", q, &d)
	return d, err
}
