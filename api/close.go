package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/micro"

	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// A Closer closes months and waives what keeps them open.
type Closer struct {
	Book   *eventstore.Book
	Months *projections.Months
	Clock  func() domain.Instant
	// Others say what else keeps a month open.
	Others []Blockers
}

// Blockers say what keeps a tenant's month open that begins at from and ends
// before to.
type Blockers func(tenant string, from, to domain.Instant) []projections.Blocker

// CloseRequest asks to close a month.
type CloseRequest struct {
	Tenant string `json:"tenant"`
	Month  string `json:"month"`
	DryRun bool   `json:"dry_run,omitzero"`
}

// A CloseDocument says what came of it: a document, or why not.
type CloseDocument struct {
	Tenant   string                `json:"tenant"`
	Month    string                `json:"month"`
	Closed   bool                  `json:"closed"`
	Blockers []projections.Blocker `json:"blockers"`

	// Of a closed month, and of a dry run that found nothing open:
	Number   string    `json:"number,omitzero"`
	Digest   string    `json:"digest,omitzero"`
	Position uint64    `json:"position,omitzero"` // the document knows the events up to it
	Head     string    `json:"head,omitzero"`
	Totals   []Payable `json:"totals,omitzero"`
}

// A Payable is the total of the invoices of one country and plan.
type Payable struct {
	Country  string `json:"country"`
	Plan     string `json:"plan"`
	Currency string `json:"currency"`
	Total    string `json:"total"`
}

// GapBlockers are the gaps that began before a month's end and that nobody has
// waived: not only in it, as a late record can move where an earlier gap began.
func GapBlockers(gaps *projections.Gaps) Blockers {
	return func(tenant string, _, to domain.Instant) []projections.Blocker {
		const listed = 20
		var blockers []projections.Blocker
		open, total := gaps.Open(tenant, 0, to, listed)
		for _, g := range open {
			numbers := fmt.Sprintf("number %d", g.From)
			if g.From != g.To {
				numbers = fmt.Sprintf("numbers %d to %d", g.From, g.To)
			}
			blockers = append(blockers, projections.Blocker{
				What: projections.BlockedByGap, Detail: fmt.Sprintf("%s: %s never came", g.Source, numbers),
				Do: fmt.Sprintf("send them again, or: tollbook gaps waive --tenant %s --source=%s --from %d --to %d --why TEXT", tenant, Quoted(g.Source), g.From, g.To),
			})
		}
		if total > listed {
			blockers = append(blockers, projections.Blocker{
				What: projections.BlockedByGap, Detail: fmt.Sprintf("%d more gaps", total-listed), Do: "tollbook gaps --tenant " + tenant,
			})
		}
		return blockers
	}
}

// SuspenseBlockers are the tenant's records in suspense from before a month's end.
func SuspenseBlockers(suspense *projections.Suspense) Blockers {
	return func(tenant string, _, to domain.Instant) []projections.Blocker {
		n := suspense.Before(tenant, to)
		if n == 0 {
			return nil
		}
		return []projections.Blocker{{
			What: projections.BlockedBySuspense, Detail: fmt.Sprintf("%d in suspense may belong to it or to a month before", n),
			Do: "recycle or write off: tollbook suspense --tenant " + tenant,
		}}
	}
}

// Quoted is a word as a shell reads it.
func Quoted(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

var errNotClosed = errors.New("not closed")

// Close closes a month and issues its document, or says what keeps it open. The
// number, the position and the document are decided and booked in one turn of
// the book, so that nothing comes between.
func (c *Closer) Close(ctx context.Context, q CloseRequest, who string) (CloseDocument, error) {
	doc := CloseDocument{Tenant: q.Tenant, Month: q.Month, Blockers: []projections.Blocker{}}
	month, err := monthOf(q.Tenant, q.Month)
	if err != nil {
		return doc, err
	}
	err = c.Book.Act(ctx, func(turn *eventstore.Turn) error {
		now := c.Clock()
		doc.Blockers = append(doc.Blockers, c.Months.Blockers(q.Tenant, month, now)...)
		if len(doc.Blockers) == 0 || doc.Blockers[0].What != projections.BlockedByOrder {
			from, to := c.Months.MonthBounds(q.Tenant, month)
			for _, other := range c.Others {
				doc.Blockers = append(doc.Blockers, other(q.Tenant, from, to)...)
			}
		}
		if len(doc.Blockers) > 0 {
			return errNotClosed
		}
		issue, err := c.Months.Issue(q.Tenant, month)
		if err != nil {
			return err
		}
		doc.Number, doc.Digest, doc.Position, doc.Head = issue.Number, issue.Digest, issue.Position, issue.Replayed.Head
		for _, i := range issue.Replayed.Invoices {
			doc.Totals = append(doc.Totals, Payable{i.Country, i.Plan, i.Currency, i.Total})
		}
		if q.DryRun {
			return errNotClosed
		}
		turn.Book(domain.Event{
			Tenant: q.Tenant, Source: eventstore.MonthsSource, ID: "closed/" + month.String(), Time: now,
			Data: &domain.MonthClosed{
				Month: month, Number: issue.Number, Position: issue.Position, Head: issue.Replayed.Head,
				Digest: issue.Digest, Document: issue.Document, By: who,
			},
		})
		return nil
	})
	if err != nil && !errors.Is(err, errNotClosed) {
		return CloseDocument{}, err // the turn may be deciding still: doc is its own
	}
	doc.Closed = err == nil
	return doc, nil
}

// ExceptionRequest asks to let exceptions be: as many of the reason as there are now.
type ExceptionRequest struct {
	Tenant    string `json:"tenant"`
	Month     string `json:"month"`
	Exception string `json:"exception"` // unlicensed, unrated, ungranted or dangling
	Why       string `json:"why"`
}

// ExceptionDocument says how many were waived.
type ExceptionDocument struct {
	Tenant    string `json:"tenant"`
	Month     string `json:"month"`
	Exception string `json:"exception"`
	Count     int64  `json:"count"`
}

// Waive lets the exceptions of a month no longer keep it open.
func (c *Closer) Waive(ctx context.Context, q ExceptionRequest, who string) (ExceptionDocument, error) {
	doc := ExceptionDocument{Tenant: q.Tenant, Month: q.Month, Exception: q.Exception}
	month, err := monthOf(q.Tenant, q.Month)
	if err != nil {
		return doc, err
	}
	if err := checkWhy(q.Why); err != nil {
		return doc, wrong{err}
	}
	err = c.Book.Act(ctx, func(turn *eventstore.Turn) error {
		for _, i := range c.Months.Issues(q.Tenant) {
			if i.Replayed.Month == q.Month {
				return wrong{fmt.Errorf("%s of %s is closed, by document %s: nothing keeps it open", month, q.Tenant, i.Number)}
			}
		}
		count, waived := c.Months.Exceptions(q.Tenant, month, q.Exception)
		switch {
		case count == 0:
			return wrong{fmt.Errorf("%s of %s has no exceptions %.40q", month, q.Tenant, q.Exception)}
		case count <= waived:
			return wrong{fmt.Errorf("%d %s of %s are waived already", waived, q.Exception, month)}
		}
		doc.Count = count
		turn.Book(domain.Event{
			Tenant: q.Tenant, Source: eventstore.MonthsSource, ID: fmt.Sprintf("waived/%s/%s/%d", month, q.Exception, count), Time: c.Clock(),
			Data: &domain.ExceptionWaived{Month: month, Exception: q.Exception, Count: count, By: who, Reason: q.Why},
		})
		return nil
	})
	if err != nil {
		return ExceptionDocument{}, err // the turn may be deciding still: doc is its own
	}
	return doc, nil
}

// monthOf checks what names a month of a tenant.
func monthOf(tenant, name string) (domain.Month, error) {
	if !consumers.ValidTenant(tenant) {
		return 0, wrong{fmt.Errorf("tenant %.80q: must be 1 to 63 of a-z, 0-9 and -", tenant)}
	}
	month, err := domain.ParseMonth(name)
	if err != nil {
		return 0, wrong{err}
	}
	return month, nil
}

// IssuesDocument is what `tollbook documents` prints.
type IssuesDocument struct {
	Tenant    string           `json:"tenant"`
	Documents []IssuedDocument `json:"documents"` // in order
}

// An IssuedDocument names one issued document.
type IssuedDocument struct {
	Number   string `json:"number"`
	Month    string `json:"month"`
	Position uint64 `json:"position"`
	Digest   string `json:"digest"`
	Problem  string `json:"problem,omitzero"` // why it is not what its events make
}

// IssuesOf are a tenant's issued documents.
func IssuesOf(months *projections.Months, tenant string) (IssuesDocument, error) {
	doc := IssuesDocument{Tenant: tenant, Documents: []IssuedDocument{}}
	if !consumers.ValidTenant(tenant) {
		return doc, wrong{fmt.Errorf("tenant %.80q: must be 1 to 63 of a-z, 0-9 and -", tenant)}
	}
	for _, i := range months.Issues(tenant) {
		one := IssuedDocument{Number: i.Number, Month: i.Replayed.Month, Position: i.Position, Digest: i.Digest}
		if err := i.Check(); err != nil {
			one.Problem = err.Error()
		}
		doc.Documents = append(doc.Documents, one)
	}
	return doc, nil
}

func (s *Service) documents(_ context.Context, r micro.Request) (any, error) {
	var q struct {
		Tenant string `json:"tenant"`
	}
	if err := asked(r, &q, `{"tenant":"contoso"}`); err != nil {
		return nil, err
	}
	return IssuesOf(s.Months, q.Tenant)
}

func (s *Service) close(ctx context.Context, r micro.Request) (any, error) {
	var q CloseRequest
	who, err := actor(r.Subject())
	if err != nil {
		return nil, wrong{err}
	}
	if err := asked(r, &q, `{"tenant":"contoso","month":"2026-10"}`); err != nil {
		return nil, err
	}
	return s.Closer.Close(ctx, q, who)
}

func (s *Service) exceptionsWaive(ctx context.Context, r micro.Request) (any, error) {
	var q ExceptionRequest
	who, err := actor(r.Subject())
	if err != nil {
		return nil, wrong{err}
	}
	if err := asked(r, &q, `{"tenant":"contoso","month":"2026-10","exception":"unlicensed","why":"…"}`); err != nil {
		return nil, err
	}
	return s.Closer.Waive(ctx, q, who)
}

// Close closes a month, as who.
func (c *Client) Close(ctx context.Context, who string, q CloseRequest) (CloseDocument, error) {
	var d CloseDocument
	err := c.askJSON(ctx, "as."+who+".close", q, &d)
	return d, err
}

// WaiveExceptions lets exceptions be, as who.
func (c *Client) WaiveExceptions(ctx context.Context, who string, q ExceptionRequest) (ExceptionDocument, error) {
	var d ExceptionDocument
	err := c.askJSON(ctx, "as."+who+".exceptions.waive", q, &d)
	return d, err
}

// Documents are a tenant's issued documents.
func (c *Client) Documents(ctx context.Context, tenant string) (IssuesDocument, error) {
	var d IssuesDocument
	err := c.askJSON(ctx, "documents", map[string]string{"tenant": tenant}, &d)
	return d, err
}
