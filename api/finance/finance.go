// Package finance is what finance people, and programs for them, ask a running
// engine and have it do. The HTTP API and the page are two views of it, and the
// numbers are those of the documents that the commands print: nothing is added up
// a second time.
package finance

import (
	"context"
	"errors"
	"net/http"
	"time"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
	"tollbook/projections/forecast"
)

// A Desk answers from an engine. It is safe for concurrent use.
type Desk struct {
	Book      *eventstore.Book
	Months    *projections.Months
	Closer    *api.Closer
	Suspense  *api.Desk
	Gaps      *projections.Gaps
	Explainer *api.Explainer
	Key       *eventstore.SigningKey // signs proofs
	Intake    *consumers.Intake
	Clock     func() domain.Instant // when somebody decides
	Dir       string                // the data directory

	forecasts forecast.Live
	counts    counts
}

// An Error is one that whoever asks can do something about, in one line.
type Error struct {
	Status int // of HTTP: 400, 403, 404, 409 or 503
	Detail string
}

func (e *Error) Error() string { return e.Detail }

// told makes an error of package api one of this package.
func told(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	switch {
	case api.IsWrong(err):
		return &Error{http.StatusBadRequest, err.Error()}
	case errors.Is(err, eventstore.ErrClosed), errors.Is(err, eventstore.ErrUncertain):
		return &Error{http.StatusServiceUnavailable, err.Error()}
	}
	return err
}

// tell is told for the results of a function.
func tell[T any](value T, err error) (T, error) { return value, told(err) }

func monthOf(tenant, month string) (domain.Month, error) {
	if !consumers.ValidTenant(tenant) {
		return 0, &Error{http.StatusBadRequest, "tenant " + quoted(tenant) + ": must be 1 to 63 of a-z, 0-9 and -"}
	}
	id, err := domain.ParseMonth(month)
	if err != nil {
		return 0, &Error{http.StatusBadRequest, err.Error()}
	}
	return id, nil
}

// watchEvery is how often Watch looks.
const watchEvery = 250 * time.Millisecond

// Watch tells the position of the book, first as it is and then whenever it has
// moved on, at most four times a second, until ctx is done.
func (d *Desk) Watch(ctx context.Context) <-chan uint64 {
	positions := make(chan uint64)
	go func() {
		defer close(positions)
		ticker := time.NewTicker(watchEvery)
		defer ticker.Stop()
		for last, first := uint64(0), true; ; first = false {
			if now := d.Months.Head().Events; now != last || first {
				select {
				case positions <- now:
					last = now
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return positions
}
