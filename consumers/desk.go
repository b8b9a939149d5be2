package consumers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/nats-io/nats.go"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
)

// A Resolution is what somebody decides about records in suspense.
type Resolution struct {
	By     string // who; required
	Reason string // why; required to write off
	DryRun bool   // say what would come of it, and book nothing

	// Of recycling:
	Edited  []byte // read this instead of the record; nil: the record as it came
	Subject string // read it as if it had come in here; "": where it did
	// May reports whether records may become a tenant's: edited, one can name another
	// than it came for. nil: any.
	May func(tenant string) bool
}

// What became of a record in suspense.
const (
	OutcomeBooked     = "booked"      // it is an event of the book now
	OutcomeDuplicate  = "duplicate"   // its event was booked already
	OutcomeWrittenOff = "written-off" // it is given up
	OutcomeRefused    = "refused"     // it stays in suspense, and Detail says why
)

// An Outcome is what became of one record in suspense.
type Outcome struct {
	Position uint64 `json:"position"` // of the record.suspended
	Status   string `json:"status"`
	Reason   string `json:"reason,omitzero"` // of a refused one: a code
	Detail   string `json:"detail,omitzero"`

	// Of a booked or duplicate one, the event it became:
	BookedAt uint64 `json:"booked_at,omitzero"` // its position
	Tenant   string `json:"tenant,omitzero"`
	Source   string `json:"source,omitzero"`
	ID       string `json:"id,omitzero"`
}

// How many records, and bytes of them, are resolved in one turn of the book.
const (
	resolveRecords = 1000
	resolveBytes   = 2 << 20
)

var errDryRun = errors.New("dry run")

// Why a position is refused that holds no record in suspense.
const (
	ReasonResolved = "resolved" // it is in suspense no more
	ReasonPosition = "position" // there is no such record
)

// Recycle reads records in suspense again, by what is configured now, and books
// what comes of each together with a note of it, or leaves it where it is. The
// outcomes are one for each position, in ascending order. After an error some of
// the records may be resolved, and asking again is safe.
func (in *Intake) Recycle(ctx context.Context, positions []uint64, r Resolution) ([]Outcome, error) {
	if len(positions) != 1 && (r.Edited != nil || r.Subject != "") {
		return nil, fmt.Errorf("%d records can't become one: name a single record to edit", len(positions))
	}
	tried := trial{}
	return in.resolve(ctx, positions, r, func(turn *eventstore.Turn, e *domain.Event, data *domain.Suspended) Outcome {
		event, refused := in.readAgain(e, data, r)
		if refused != nil {
			return Outcome{Reason: refused.Reason, Detail: refused.Detail}
		}
		if r.May != nil && !r.May(event.Tenant) {
			return Outcome{Reason: eventstore.ReasonSubject, Detail: fmt.Sprintf("it would be of tenant %s, of which %s may book nothing: ask an operator of it", event.Tenant, r.By)}
		}
		if position, same, known := turn.Look(&event); known && !same {
			return Outcome{Reason: eventstore.ReasonConflict, Detail: fmt.Sprintf("source %s id %s is booked at position %d with other content", event.Source, domain.MaskNumbers(event.ID), position)}
		}
		o := Outcome{Status: OutcomeBooked, Tenant: event.Tenant, Source: event.Source, ID: event.ID}
		if r.DryRun {
			same, known := tried.book(&event)
			if known && !same {
				return Outcome{Reason: eventstore.ReasonConflict, Detail: fmt.Sprintf("source %s id %s would be booked before, from another record with other content", event.Source, event.ID)}
			}
			if known {
				o.Status = OutcomeDuplicate
			}
		}
		result := turn.Book(event)
		if result.Status == eventstore.Duplicate {
			o.Status = OutcomeDuplicate
		}
		if !r.DryRun || result.Position <= turn.Head().Events {
			o.BookedAt = result.Position
		}
		note := &domain.Recycled{
			Ref: domain.Ref{Source: e.Source, ID: e.ID}, Booked: domain.Ref{Source: event.Source, ID: event.ID},
			By: r.By, Reason: r.Reason, Edited: r.Edited, Subject: r.Subject,
		}
		if event.Tenant != e.Tenant {
			note.Tenant = event.Tenant
		}
		turn.Book(in.note(e, note))
		return o
	})
}

// A trial is what the turns of a dry run would have booked so far: identities
// and what of. Each turn forgets it.
type trial map[[3]string][sha256.Size]byte

func (t trial) book(e *domain.Event) (same, known bool) {
	key, content := [3]string{e.Tenant, e.Source, e.ID}, sha256.Sum256(cloudevents.Append(nil, e))
	before, known := t[key]
	if !known {
		t[key] = content
	}
	return before == content, known
}

// WriteOff gives records in suspense up, as Recycle does.
func (in *Intake) WriteOff(ctx context.Context, positions []uint64, r Resolution) ([]Outcome, error) {
	if r.Reason == "" {
		return nil, errors.New("why: writing off needs a reason")
	}
	return in.resolve(ctx, positions, r, func(turn *eventstore.Turn, e *domain.Event, _ *domain.Suspended) Outcome {
		turn.Book(in.note(e, &domain.WrittenOff{Ref: domain.Ref{Source: e.Source, ID: e.ID}, By: r.By, Reason: r.Reason}))
		return Outcome{Status: OutcomeWrittenOff}
	})
}

// note is the event that resolves a record in suspense. Its id is made of the
// record's, so that a record is resolved once.
func (in *Intake) note(suspended *domain.Event, data domain.Data) domain.Event {
	return domain.Event{
		Tenant: suspended.Tenant, Source: eventstore.SuspenseSource, ID: "resolved/" + suspended.ID,
		Time: in.clock(), Data: data,
	}
}

// resolved reports whether a record is in suspense no more. Version 0.1.0 named
// the notes of what it took up by itself recycled/.
func (in *Intake) resolved(turn *eventstore.Turn, suspended *domain.Event) bool {
	note := in.note(suspended, nil)
	before := note
	before.ID = "recycled/" + suspended.ID
	return turn.Known(&note) || turn.Known(&before)
}

// resolve decides about records in turns of the book. What decide leaves without
// a status is refused, and then it must have booked nothing.
func (in *Intake) resolve(ctx context.Context, positions []uint64, r Resolution, decide func(*eventstore.Turn, *domain.Event, *domain.Suspended) Outcome) ([]Outcome, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	var outcomes []Outcome
	var batch []suspendedAt
	size := 0
	flush := func() error {
		decided := make([]Outcome, len(batch))
		err := in.book.Act(ctx, func(turn *eventstore.Turn) error {
			for i, s := range batch {
				decided[i] = in.decide(turn, s, decide)
			}
			if r.DryRun {
				return errDryRun
			}
			return nil
		})
		if err != nil && !errors.Is(err, errDryRun) {
			return err
		}
		outcomes, batch, size = append(outcomes, decided...), batch[:0], 0
		return nil
	}
	add := func(s suspendedAt) error {
		bytes := 0
		if s.data != nil {
			bytes = len(s.data.Raw)
		}
		if len(batch) == resolveRecords || len(batch) > 0 && size+bytes > resolveBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		batch, size = append(batch, s), size+bytes
		return nil
	}
	// Positions that are named twice count once; those not in the book, at its ends, are not called.
	rest := slices.Compact(slices.Sorted(slices.Values(positions)))
	missing := func(n int) (err error) {
		for ; n > 0 && err == nil; n-- {
			err = add(suspendedAt{position: rest[0], why: "the book has no such position"})
			rest = rest[1:]
		}
		return err
	}
	err := in.book.Events(ctx, rest, func(position uint64, e *domain.Event) error {
		if err := missing(slices.Index(rest, position)); err != nil {
			return err
		}
		rest = rest[1:]
		data, ok := e.Data.(*domain.Suspended)
		if !ok {
			return add(suspendedAt{position: position, why: fmt.Sprintf("it is a %s, no record in suspense; see 'tollbook suspense list'", e.Data.Type())})
		}
		return add(suspendedAt{position: position, event: *e, data: data})
	})
	if err == nil {
		err = missing(len(rest))
	}
	if err == nil && len(batch) > 0 {
		err = flush()
	}
	return outcomes, err
}

// decide decides about one record, which may be resolved by now.
func (in *Intake) decide(turn *eventstore.Turn, s suspendedAt, decide func(*eventstore.Turn, *domain.Event, *domain.Suspended) Outcome) Outcome {
	o := Outcome{Reason: ReasonPosition, Detail: s.why}
	if s.data != nil {
		if in.resolved(turn, &s.event) {
			o = Outcome{Reason: ReasonResolved, Detail: "it was recycled or written off before"}
		} else {
			o = decide(turn, &s.event, s.data)
		}
	}
	o.Position = s.position
	if o.Status == "" {
		o.Status = OutcomeRefused
	}
	return o
}

// check refuses what the book could not keep with the note of it.
func (r *Resolution) check() error {
	switch {
	case r.By == "" || len(r.By) > domain.MaxNameBytes:
		return fmt.Errorf("by %.40q: must say who decides, in at most %d bytes", r.By, domain.MaxNameBytes)
	case r.Reason != "" && strings.TrimSpace(r.Reason) == "":
		return errors.New("why: says nothing")
	case len(r.Reason) > domain.MaxReasonBytes:
		return fmt.Errorf("why: must have at most %d bytes, this one has %d", domain.MaxReasonBytes, len(r.Reason))
	case strings.ContainsFunc(r.By+r.Reason, unicode.IsControl):
		return errors.New("why: must be one line of text, without control characters")
	}
	return nil
}

// suspendedAt is a record in suspense, or why the position is none's.
type suspendedAt struct {
	position uint64
	event    domain.Event
	data     *domain.Suspended // nil: none, and why says so
	why      string
}

// readAgain reads a suspended record, or its edited form, as it would be read
// now. What can't be is returned as it would be suspended.
func (in *Intake) readAgain(e *domain.Event, data *domain.Suspended, r Resolution) (domain.Event, *domain.Suspended) {
	subject, raw := data.Subject, data.Raw
	if r.Subject != "" {
		subject = r.Subject
	}
	if r.Edited != nil {
		raw = r.Edited
	} else if eventstore.Cut(data) {
		return domain.Event{}, &domain.Suspended{Reason: eventstore.ReasonTooLarge, Detail: "only the beginning of the record was kept: have its sender send it again in parts, and write this off"}
	}
	message, err := messageAgain(subject, raw)
	if data.Reason == eventstore.ReasonSubject && r.Subject == "" {
		message.AnyTenant = false // it came where nobody may speak for all tenants
	}
	if err != nil {
		return domain.Event{}, &domain.Suspended{Reason: eventstore.ReasonSyntax, Detail: err.Error()}
	}
	records := in.Records(message)
	if len(records) != 1 {
		return domain.Event{}, &domain.Suspended{Reason: eventstore.ReasonSyntax, Detail: fmt.Sprintf("it holds %d records: publish them with 'tollbook publish', and write this off", len(records))}
	}
	event := records[0].Event
	if refused, ok := event.Data.(*domain.Suspended); ok {
		return domain.Event{}, refused
	}
	return event, nil
}

// messageAgain is a record as the message it came in. Of binary mode the
// attributes were kept before the data, as NATS has headers on the wire.
func messageAgain(subject string, raw []byte) (Message, error) {
	m := Message{
		Subject: subject, Payload: raw, Header: func(string) string { return "" },
		AnyTenant: strings.HasPrefix(subject, SubjectPrefix+domain.NoTenant+"."),
	}
	end := bytes.Index(raw, []byte("\r\n\r\n"))
	if !bytes.HasPrefix(raw, []byte(wireHeader)) || end < 0 {
		return m, nil
	}
	headers, err := nats.DecodeHeadersMsg(raw[:end+4])
	if err != nil {
		return m, fmt.Errorf("the headers before the data can't be read: %w", err)
	}
	m.Payload = raw[end+4:]
	m.Header = HeaderIn(func(yield func(string, string) bool) {
		for name, values := range maps.All(headers) {
			for _, value := range values {
				if !yield(name, value) {
					return
				}
			}
		}
	})
	return m, nil
}
