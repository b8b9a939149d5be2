package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/micro"

	"tollbook/api/alerts"
)

// alerts answers which alerts there were, and what became of them.
func (s *Service) alerts(ctx context.Context, r micro.Request) (any, error) {
	var q alerts.Request
	if len(r.Data()) > 0 {
		if err := json.Unmarshal(r.Data(), &q); err != nil {
			return nil, wrong{fmt.Errorf("the request must be JSON such as {\"tenant\":\"contoso\",\"limit\":50}: %w", err)}
		}
	}
	d, err := s.Alerts.Document(ctx, q)
	if errors.Is(err, alerts.ErrRequest) {
		err = wrong{err}
	}
	return d, err
}

// Alerts are the last ones, and what became of them.
func (c *Client) Alerts(ctx context.Context, q alerts.Request) (alerts.Document, error) {
	var d alerts.Document
	err := c.askJSON(ctx, "alerts", q, &d)
	return d, err
}
