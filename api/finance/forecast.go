package finance

import (
	"context"
	"errors"
	"net/http"

	"tollbook/projections/forecast"
)

// Forecast says how a month will probably end. It is made when it is asked for, and
// again when the book has moved on or an hour is over.
func (d *Desk) Forecast(ctx context.Context, tenant, month string) (forecast.Document, error) {
	f, err := d.Foresee(ctx, tenant, month)
	if err != nil {
		return forecast.Document{}, err
	}
	return f.Document, nil
}

// Foresee is Forecast with what courses are drawn from.
func (d *Desk) Foresee(_ context.Context, tenant, month string) (*forecast.Forecast, error) {
	id, err := monthOf(tenant, month)
	if err != nil {
		return nil, err
	}
	f, err := d.forecasts.Of(d.Months, tenant, id, d.Clock())
	if closed, ok := errors.AsType[*forecast.ClosedError](err); ok {
		return nil, &Error{http.StatusConflict, closed.Error()}
	}
	return tell(f, err)
}
