package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/projections"
)

// askTimeout is how long an answer may take: a month of ten million calls is
// brought up to date in less when its terms have changed.
const askTimeout = time.Minute

// engineAddress is how a command reaches a running engine.
type engineAddress struct {
	NATS string `name:"nats" default:"nats://127.0.0.1:4222" env:"TOLLBOOK_NATS" placeholder:"URL" help:"NATS server the engine is on."`
	natsLogin
}

func (a engineAddress) connect() (*api.Client, func(), error) {
	options, err := a.options()
	if err != nil {
		return nil, nil, err
	}
	nc, err := nats.Connect(a.NATS, append(options, nats.Name("tollbook cli"), nats.Timeout(5*time.Second), nats.ErrorHandler(giveUp))...)
	if err != nil {
		return nil, nil, fmt.Errorf("NATS at %s: %w; %s", redacted(a.NATS), err, a.advice(err))
	}
	return api.NewClient(nc), nc.Close, nil
}

// giveUp closes a connection that the server refuses a subject, as the answer
// that somebody waits for will not come.
func giveUp(nc *nats.Conn, _ *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		nc.Close()
	}
}

// monthOf is a month of a tenant, asked of a running engine or of a directory.
type monthOf struct {
	Tenant string `required:"" help:"Tenant."`
	Month  string `required:"" placeholder:"2026-10" help:"Calendar month."`
	Data   string `type:"existingdir" placeholder:"DIR" help:"Read this data directory instead of asking an engine."`
	engineAddress
	format
}

// Validate is called by kong, before anything is done.
func (m *monthOf) Validate() error { return validMonth(m.Tenant, m.Month) }

func validMonth(tenant, month string) error {
	if !consumers.ValidTenant(tenant) {
		return fmt.Errorf("--tenant %q: must be 1 to 63 of a-z, 0-9 and -", tenant)
	}
	if _, err := domain.ParseMonth(month); err != nil {
		return fmt.Errorf("--month: %w", err)
	}
	return nil
}

// ask gets a document of the month: from the directory's book where one is
// given, else from the engine.
func ask[D any](ctx context.Context, std Streams, m *monthOf, offline func(projections.Statement) D, online func(context.Context, *api.Client) (D, error)) (d D, err error) {
	if m.Data != "" {
		statement, err := replayMonth(ctx, std, m.Data, m.Tenant, m.Month, 0, "")
		if err != nil {
			return d, checkFailed(err)
		}
		return offline(statement), nil
	}
	client, done, err := m.connect()
	if err != nil {
		return d, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return online(ctx, client)
}

type poolsCmd struct{ monthOf }

func (c *poolsCmd) Run(ctx context.Context, std Streams) error {
	d, err := ask(ctx, std, &c.monthOf,
		func(s projections.Statement) projections.PoolsDocument { return s.PoolsOnly() },
		func(ctx context.Context, client *api.Client) (projections.PoolsDocument, error) {
			return client.Pools(ctx, api.MonthRequest{Tenant: c.Tenant, Month: c.Month})
		})
	if err != nil {
		return err
	}
	return c.print(std, d, func(w writer) { printPools(w, d, newPaint(std.Out)) })
}

type invoiceCmd struct {
	monthOf
	Country string `placeholder:"IT" help:"Only invoices of this pool country."`
	Plan    string `help:"Only invoices of this plan."`
}

func (c *invoiceCmd) Run(ctx context.Context, std Streams) error {
	d, err := ask(ctx, std, &c.monthOf,
		func(s projections.Statement) projections.InvoiceDocument { return s.Only(c.Country, c.Plan) },
		func(ctx context.Context, client *api.Client) (projections.InvoiceDocument, error) {
			return client.Invoice(ctx, api.MonthRequest{Tenant: c.Tenant, Month: c.Month, Country: c.Country, Plan: c.Plan})
		})
	if err != nil {
		return err
	}
	return c.print(std, d, func(w writer) { printInvoice(w, d, newPaint(std.Out)) })
}

// replayCmd computes a month from the book alone, also while an engine runs.
type replayCmd struct {
	Data   string  `required:"" type:"existingdir" placeholder:"DIR" help:"Data directory."`
	Tenant string  `required:"" help:"Tenant."`
	Month  string  `required:"" placeholder:"2026-10" help:"Calendar month."`
	At     *uint64 `xor:"at" placeholder:"POSITION" help:"As of this position of the book; without it, where the month was closed, or else the end."`
	AsOf   string  `xor:"at" placeholder:"TIME" help:"As it was known then: 2026-11-03T08:00:00Z, or a day, which is its start in UTC."`
	Check  bool    `xor:"at" help:"Compare with the document that was issued, byte for byte."`
	format
}

// Validate is called by kong, before anything is done.
func (c *replayCmd) Validate() error {
	if c.At != nil && *c.At == 0 {
		return errPositionZero
	}
	if c.AsOf != "" {
		if _, err := parseAsOf(c.AsOf); err != nil {
			return err
		}
	}
	return validMonth(c.Tenant, c.Month)
}

func (c *replayCmd) Run(ctx context.Context, std Streams) error {
	if c.Check {
		return c.check(ctx, std)
	}
	at := uint64(0)
	if c.At != nil {
		at = *c.At
	}
	statement, err := replayMonth(ctx, std, c.Data, c.Tenant, c.Month, at, c.AsOf)
	if err != nil {
		return checkFailed(err)
	}
	return c.print(std, statement, func(w writer) {
		paint := newPaint(std.Out)
		printPools(w, statement.PoolsOnly(), paint)
		fmt.Fprintln(w)
		printInvoice(w, statement.InvoiceDocument, paint)
	})
}

type statusCmd struct {
	engineAddress
	format
}

func (c *statusCmd) Run(ctx context.Context, std Streams) error {
	client, done, err := c.connect()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := client.Status(ctx)
	if err != nil {
		return err
	}
	return c.print(std, s, func(w writer) { printStatus(w, s, newPaint(std.Out)) })
}
