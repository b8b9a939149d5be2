package finance

import (
	"context"
	"errors"
	"io"
	"net/http"

	"tollbook/api/export"
)

// BeginExport finds the state of a month to export.
func (d *Desk) BeginExport(ctx context.Context, q export.Query) (*export.Export, error) {
	e, err := export.Begin(ctx, d.Explainer, q)
	if mistake, ok := errors.AsType[*export.Mistake](err); ok {
		return nil, &Error{http.StatusBadRequest, mistake.Detail}
	}
	return tell(e, err)
}

// Export writes a file of a month, and says what is in it.
func (d *Desk) Export(ctx context.Context, q export.Query, w io.Writer) (export.Manifest, error) {
	e, err := d.BeginExport(ctx, q)
	if err != nil {
		return export.Manifest{}, err
	}
	return tell(e.Write(ctx, w))
}

// ExportHandler serves exports by [export.Handler]; program is its version. fail
// answers what came to nothing.
func (d *Desk) ExportHandler(program string, fail func(http.ResponseWriter, *http.Request, error)) http.Handler {
	return export.Handler(func(ctx context.Context, q export.Query) (*export.Export, error) {
		q.Program = program
		return d.BeginExport(ctx, q)
	}, func(w http.ResponseWriter, r *http.Request, err error) {
		if mistake, ok := errors.AsType[*export.Mistake](err); ok { // of its parameters
			err = &Error{http.StatusBadRequest, mistake.Detail}
		}
		fail(w, r, err)
	})
}
