package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/micro"

	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/projections/forecast"
)

// forecast answers how a month will probably end.
func (s *Service) forecast(_ context.Context, r micro.Request) (any, error) {
	var q MonthRequest
	if err := json.Unmarshal(r.Data(), &q); err != nil {
		return nil, wrong{fmt.Errorf("the request must be JSON such as {\"tenant\":\"contoso\",\"month\":\"2026-10\"}: %w", err)}
	}
	if !consumers.ValidTenant(q.Tenant) {
		return nil, wrong{fmt.Errorf("tenant %.80q: must be 1 to 63 of a-z, 0-9 and -", q.Tenant)}
	}
	month, err := domain.ParseMonth(q.Month)
	if err != nil {
		return nil, wrong{err}
	}
	f, err := s.forecasts.Of(s.Months, q.Tenant, month, s.Clock())
	if closed, ok := errors.AsType[*forecast.ClosedError](err); ok {
		return nil, wrong{closed}
	}
	if err != nil {
		return nil, err
	}
	return f.Document, nil
}

// Forecast says how a month will probably end.
func (c *Client) Forecast(ctx context.Context, q MonthRequest) (forecast.Document, error) {
	var d forecast.Document
	err := c.askJSON(ctx, "forecast", q, &d)
	return d, err
}
