package finance

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"tollbook/api/export"
	"tollbook/domain"
)

// BeginExport finds the state of a month to export.
func (d *Desk) BeginExport(ctx context.Context, q export.Query) (*export.Export, error) {
	e, err := export.Begin(ctx, d.Explainer, q)
	if mistake, ok := errors.AsType[*export.Mistake](err); ok {
		return nil, &Error{http.StatusBadRequest, mistake.Detail}
	}
	return tell(e, err)
}

// ExportHandler serves exports by [export.Handler]; program is its version. fail
// answers what came to nothing, and the log has why a file broke off.
func (d *Desk) ExportHandler(program string, log *slog.Logger, fail func(http.ResponseWriter, *http.Request, error)) http.Handler {
	return export.Handler(func(ctx context.Context, q export.Query) (*export.Export, error) {
		q.Program = program
		return d.BeginExport(ctx, q)
	}, func(w http.ResponseWriter, r *http.Request, err error) {
		if mistake, ok := errors.AsType[*export.Mistake](err); ok { // of its parameters
			err = &Error{http.StatusBadRequest, mistake.Detail}
		}
		fail(w, r, err)
	}, func(err error) { log.Error("an export broke off", "error", domain.MaskNumbers(err.Error())) })
}
