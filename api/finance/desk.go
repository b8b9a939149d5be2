package finance

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/projections"
)

func quoted(s string) string { return fmt.Sprintf("%.80q", s) }

// GapsOf are the numbers of a tenant's sources that came, and that did not.
// source "": all of them.
func (d *Desk) GapsOf(tenant, source string) projections.GapsDocument {
	return d.Gaps.Document(tenant, source)
}

// WaiveGap gives missing numbers up.
func (d *Desk) WaiveGap(ctx context.Context, who string, q api.WaiveRequest) (api.WaiveDocument, error) {
	return tell(api.WaiveGap(ctx, d.Book, d.Gaps, d.Clock(), who, q))
}

// Suspended lists records in suspense.
func (d *Desk) Suspended(ctx context.Context, q api.SuspenseRequest) (api.SuspenseDocument, error) {
	return tell(d.Suspense.List(ctx, q))
}

// Record shows one of a tenant's, by its position. What else there may be at it is
// not told: it may be another's.
func (d *Desk) Record(ctx context.Context, tenant string, position uint64) (api.RecordDocument, error) {
	doc, err := d.Suspense.Show(ctx, position)
	if api.IsWrong(err) || err == nil && doc.Tenant != tenant {
		return api.RecordDocument{}, &Error{http.StatusNotFound, fmt.Sprintf("no record of %.63s was suspended at position %d: see the list of those in suspense", tenant, position)}
	}
	return tell(doc, err)
}

// Recycle reads records again, as they came or edited, and books those that are of
// tenants that who may act for.
func (d *Desk) Recycle(ctx context.Context, who Person, q api.ResolveRequest) (api.ResolveDocument, error) {
	return tell(d.Suspense.Resolve(ctx, who.Name, q, func(ctx context.Context, positions []uint64, r consumers.Resolution) ([]consumers.Outcome, error) {
		r.May = func(tenant string) bool { return who.Admit(tenant, true) == nil }
		return d.Intake.Recycle(ctx, positions, r)
	}))
}

// WriteOff gives records up.
func (d *Desk) WriteOff(ctx context.Context, who string, q api.ResolveRequest) (api.ResolveDocument, error) {
	return tell(d.Suspense.Resolve(ctx, who, q, d.Intake.WriteOff))
}

// Checklist says what keeps a month open, and what it would be issued as.
func (d *Desk) Checklist(ctx context.Context, tenant, month string) (api.CloseDocument, error) {
	return tell(d.Closer.Close(ctx, api.CloseRequest{Tenant: tenant, Month: month, DryRun: true}, ""))
}

// Close closes a month, or says what keeps it open.
func (d *Desk) Close(ctx context.Context, who string, q api.CloseRequest) (api.CloseDocument, error) {
	return tell(d.Closer.Close(ctx, q, who))
}

// WaiveException lets exceptions of a month no longer keep it open.
func (d *Desk) WaiveException(ctx context.Context, who string, q api.ExceptionRequest) (api.ExceptionDocument, error) {
	return tell(d.Closer.Waive(ctx, q, who))
}

// Documents are those issued to a tenant.
func (d *Desk) Documents(tenant string) (api.IssuesDocument, error) {
	return tell(api.IssuesOf(d.Months, tenant))
}

// Check makes an issued document again from the book alone, and says how it differs.
func (d *Desk) Check(ctx context.Context, tenant, month string) (projections.Issue, error) {
	id, err := monthOf(tenant, month)
	if err != nil {
		return projections.Issue{}, err
	}
	if !slices.ContainsFunc(d.Months.Issues(tenant), func(i *projections.Issue) bool { return i.Replayed.Month == id.String() }) {
		return projections.Issue{}, &Error{http.StatusNotFound, fmt.Sprintf("nothing was issued to %s for %s: see its documents", tenant, id)}
	}
	if err := whatIfs.Acquire(ctx, 1); err != nil { // it has the month in memory
		return projections.Issue{}, err
	}
	defer whatIfs.Release(1)
	return projections.Check(ctx, d.Book.Walk(), tenant, id, nil)
}
