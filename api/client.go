package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"tollbook/projections"
)

// A Client asks a running engine over NATS. It is safe for concurrent use.
type Client struct{ nc *nats.Conn }

// NewClient uses the connection; the caller closes it.
func NewClient(nc *nats.Conn) *Client { return &Client{nc} }

// maxAnswer bounds a decompressed answer: 1 GiB.
const maxAnswer = 1 << 30

// ErrNoEngine is returned when nobody answers on this NATS.
var ErrNoEngine = errors.New("no tollbook engine answers on this NATS: start one with 'tollbook serve', or give --nats the address it uses")

// ErrStopping is returned when the engine takes no more; the next one may.
var ErrStopping = errors.New("the engine takes no more now")

func (c *Client) ask(ctx context.Context, subject string, payload []byte, answer any) error {
	msg, err := c.nc.RequestWithContext(ctx, Prefix+subject, payload)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return ErrNoEngine
	case err != nil && errors.Is(c.nc.LastError(), nats.ErrPermissionViolation):
		return fmt.Errorf("this NATS user may not publish to %s%s: log in as one that may (--nats-user); a switch publishes with its own --tenant and --switch", Prefix, subject)
	case err != nil:
		return fmt.Errorf("asking the engine (%s): %w", subject, err)
	}
	switch code := msg.Header.Get(micro.ErrorCodeHeader); code {
	case "":
	case "503":
		return fmt.Errorf("%w: %s", ErrStopping, msg.Header.Get(micro.ErrorHeader))
	default:
		return fmt.Errorf("the engine refused (%s): %s", code, msg.Header.Get(micro.ErrorHeader))
	}
	data := msg.Data
	if msg.Header.Get("Content-Encoding") == "gzip" {
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err == nil {
			data, err = io.ReadAll(io.LimitReader(r, maxAnswer))
		}
		if err != nil {
			return fmt.Errorf("the engine's answer can't be read: %w", err)
		}
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("the engine's answer can't be read: %w", err)
	}
	return nil
}

// Publish books the payload of subject tollbook.… and returns once it is booked.
func (c *Client) Publish(ctx context.Context, subject string, payload []byte) (Receipt, error) {
	var r Receipt
	err := c.ask(ctx, "publish."+strings.TrimPrefix(subject, "tollbook."), payload, &r)
	return r, err
}

// Pools are a month's.
func (c *Client) Pools(ctx context.Context, q MonthRequest) (projections.PoolsDocument, error) {
	var d projections.PoolsDocument
	err := c.askJSON(ctx, "pools", q, &d)
	return d, err
}

// Invoice is a month's.
func (c *Client) Invoice(ctx context.Context, q MonthRequest) (projections.InvoiceDocument, error) {
	var d projections.InvoiceDocument
	err := c.askJSON(ctx, "invoice", q, &d)
	return d, err
}

// askJSON asks a question that is JSON.
func (c *Client) askJSON(ctx context.Context, subject string, q, answer any) error {
	payload, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return c.ask(ctx, subject, payload, answer)
}

// Status is how far the engine is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.ask(ctx, "status", nil, &s)
	return s, err
}
