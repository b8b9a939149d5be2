package finance

import (
	"context"
	"errors"
	"net/http"

	"golang.org/x/sync/semaphore"

	"tollbook/projections"
	"tollbook/projections/whatif"
)

// MaxWhatIfs is how many what-ifs and sizings a process works on at once; others
// wait. Each reads the book and has the tenant's calls in memory, some 60 bytes a call.
const MaxWhatIfs = 2

var whatIfs = semaphore.NewWeighted(MaxWhatIfs)

// Progress is told how much is done of how much: events read, then, of a sizing,
// the ratings that were tried of those that may be.
type Progress func(done, of uint64)

// WhatIf is what a scenario makes of its month. It reads the book, not the live
// months, so it holds nobody up; when ctx is done it stops.
func (d *Desk) WhatIf(ctx context.Context, s whatif.Scenario, progress ...Progress) (whatif.Document, error) {
	if _, err := monthOf(s.Tenant, s.Month); err != nil {
		return whatif.Document{}, err
	}
	return supposed(ctx, d, s.At, func(end uint64) (whatif.Document, error) {
		return whatif.Evaluate(ctx, d.Book.Walk(), s, func(events, _ uint64) { tellAll(progress, events, end) })
	})
}

// RightSize is the cheapest licences for the calls of some months. It works as
// [Desk.WhatIf] does.
func (d *Desk) RightSize(ctx context.Context, q whatif.Sizing, progress ...Progress) (whatif.SizingDocument, error) {
	for _, month := range q.Months {
		if _, err := monthOf(q.Tenant, month); err != nil {
			return whatif.SizingDocument{}, err
		}
	}
	return supposed(ctx, d, q.At, func(end uint64) (whatif.SizingDocument, error) {
		return whatif.RightSize(ctx, d.Book.Walk(), q, func(events uint64, trials int) {
			if trials == 0 {
				tellAll(progress, events, end)
				return
			}
			tellAll(progress, uint64(trials), uint64(q.MaxTrials()))
		})
	})
}

// supposed works on a question in its turn. end is up to where the book is read.
func supposed[D any](ctx context.Context, d *Desk, at uint64, work func(end uint64) (D, error)) (doc D, err error) {
	end := d.Months.Head().Events
	if at > end {
		return doc, &Error{http.StatusBadRequest, projections.BeyondEnd(at, end).Error()}
	}
	if at != 0 {
		end = at
	}
	if err := whatIfs.Acquire(ctx, 1); err != nil {
		return doc, err
	}
	defer whatIfs.Release(1)
	doc, err = work(end)
	if refusal, ok := errors.AsType[*whatif.Refusal](err); ok {
		return doc, &Error{http.StatusBadRequest, refusal.Detail}
	}
	return tell(doc, err)
}

func tellAll(to []Progress, done, of uint64) {
	for _, progress := range to {
		progress(done, of)
	}
}
