package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"tollbook/api"
	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// demoCmd shows the main job on a machine with nothing prepared: it starts an
// engine in a temporary directory, publishes the built-in catalogue, 100 Italian
// licences of 120 minutes and a month of calls over NATS as switches do, and
// prints the pool of 12,000 minutes that ends inside the month, and the invoice.
type demoCmd struct {
	Exit  bool   `help:"Leave afterwards instead of keeping the page up."`
	Calls int    `default:"6000" help:"How many calls the month has."`
	Seed  uint64 `default:"1" help:"Seed of the calls: the same seed is the same month."`
	HTTP  string `name:"http" default:"127.0.0.1:0" help:"Where the page listens."`
}

const (
	demoTenant = "contoso"
	demoMonth  = "2026-10"
	demoUsers  = 100
)

// Validate is called by kong, before anything is done.
func (c *demoCmd) Validate() error {
	if c.Calls < 1 || c.Calls > 1_000_000 {
		return fmt.Errorf("--calls %d: must be from 1 to 1000000", c.Calls)
	}
	return nil
}

func (c *demoCmd) Run(ctx context.Context, std Streams) (err error) {
	dir, err := os.MkdirTemp("", "tollbook-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	engine, err := StartEngine(ctx, EngineConfig{
		Dir: filepath.Join(dir, "data"), NATSListen: "127.0.0.1:0", NATSSync: time.Minute, HTTPListen: c.HTTP, HTTPOpen: true, // all its data is made up
		Clock: clock, Log: slog.New(slog.NewTextHandler(std.Err, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Stop()) }()
	paint := newPaint(std.Out)
	fmt.Fprintf(std.Out, "An engine is up: NATS %s, page %s\n", engine.NATSAddress, engine.HTTPAddress)

	nc, err := nats.Connect(engine.NATSAddress, nats.Name("tollbook demo"))
	if err != nil {
		return err
	}
	defer nc.Close()
	client := api.NewClient(nc)

	total, err := publishEvents(ctx, client, append(builtinCatalog(), demoLicences()...))
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "The catalogue, a deck of %s prefixes and %d licences are booked: %d events.\n", grouped(6592), demoUsers, total.Booked)

	started := time.Now()
	calls := demoCalls(c.Seed, c.Calls)
	if err := publishAsSwitch(ctx, std, nc, calls); err != nil {
		return err
	}
	want := total.Position + uint64(len(calls))
	for engine.Months.Head().Events < want {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	fmt.Fprintf(std.Out, "%s calls were published, one message each, kept by JetStream and booked, in %.1f s.\n\n",
		grouped(int64(len(calls))), time.Since(started).Seconds())

	q := api.MonthRequest{Tenant: demoTenant, Month: demoMonth}
	pools, err := client.Pools(ctx, q)
	if err != nil {
		return err
	}
	printPools(std.Out, pools, paint)
	invoice, err := client.Invoice(ctx, q)
	if err != nil {
		return err
	}
	fmt.Fprintln(std.Out)
	printInvoice(std.Out, invoice, paint)
	if c.Exit {
		return nil
	}
	fmt.Fprintf(std.Out, "\nThe same on a page: %s   (Ctrl-C ends the demo and removes its data)\n", engine.HTTPAddress)
	return engine.Wait(ctx)
}

func demoUser(i int) string { return fmt.Sprintf("user%03d@contoso.example", i) }

func demoEvent(source, id string, at time.Time, data domain.Data) domain.Event {
	return domain.Event{Tenant: demoTenant, Source: source, ID: id, Time: domain.InstantOf(at), Data: data}
}

func demoLicences() []domain.Event {
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		panic(err) // time/tzdata is in the binary
	}
	start := time.Date(2026, 10, 1, 0, 0, 0, 0, rome)
	said := start.AddDate(0, 0, -2)
	events := []domain.Event{demoEvent("licence-desk", "tenant", said, &domain.TenantConfig{
		TimeZone: "Europe/Rome", Zone: rome, Currency: "EUR", EffectiveFrom: 20261001,
	})}
	for i := range demoUsers {
		events = append(events, demoEvent("licence-desk", fmt.Sprintf("licence-%03d", i), said, &domain.Assignment{
			User: demoUser(i), Plan: "DOMESTIC_120", Country: "IT", EffectiveAt: domain.InstantOf(start),
		}))
	}
	return events
}

// demoDestinations have the first digits of a number, how many follow, and how
// often it is called.
var demoDestinations = []struct {
	prefix string
	digits int
	weight int
}{
	{"+3906", 7, 30}, {"+3902", 7, 22}, {"+39348", 7, 25}, {"+39320", 7, 14},
	{"+44207", 7, 3}, {"+4989", 7, 2}, {"+1212", 7, 2}, {"+4179", 7, 1}, {"112", 0, 1},
}

// demoCalls are the month's calls in the order in which they ended: in office
// hours, most short, one in ten unanswered, one in eight inbound.
func demoCalls(seed uint64, n int) []domain.Event {
	r := rand.New(rand.NewPCG(seed, 2026))
	start := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	var events []domain.Event
	for i := range n {
		// Evenly through the month, at random within working hours.
		day := i * 31 / n
		answered := start.AddDate(0, 0, day).Add(6*time.Hour + time.Duration(r.Int64N(int64(11*time.Hour))).Truncate(time.Millisecond))
		call := &domain.Call{
			User: demoUser(r.IntN(demoUsers)), Kind: domain.KindUser, Disposition: domain.Answered,
			Calling: mustNumber("+390281234567"), Called: demoNumber(r), AnsweredAt: domain.InstantOf(answered),
			BillableMS: 1000 + int64(r.ExpFloat64()*150_000),
		}
		ended := answered.Add(time.Duration(call.BillableMS) * time.Millisecond)
		if r.IntN(8) == 0 {
			call.Direction = domain.Inbound
			call.Calling, call.Called = call.Called, call.Calling
		}
		if r.IntN(10) == 0 {
			call.Disposition, call.BillableMS, call.AnsweredAt = domain.NoAnswer, 0, 0
			call.StartedAt = domain.InstantOf(answered)
			ended = answered.Add(20 * time.Second)
		}
		e := demoEvent("switch/mil-1/1", fmt.Sprintf("call-%d", i+1), ended, call)
		e.Sequence = domain.Sequence{N: uint64(i + 1), Has: true}
		events = append(events, e)
	}
	return events
}

func demoNumber(r *rand.Rand) domain.Number {
	total := 0
	for _, d := range demoDestinations {
		total += d.weight
	}
	pick := r.IntN(total)
	for _, d := range demoDestinations {
		if pick -= d.weight; pick < 0 {
			text := d.prefix
			for range d.digits {
				text += string(rune('0' + r.IntN(10)))
			}
			return mustNumber(text)
		}
	}
	panic("unreachable")
}

func mustNumber(s string) domain.Number {
	n, err := domain.ParseNumber(s)
	if err != nil {
		panic(fmt.Sprintf("number %s: %v", s, err))
	}
	return n
}

// publishAsSwitch sends every call as its own message, as a switch does, and
// returns once JetStream has acknowledged all of them.
func publishAsSwitch(ctx context.Context, std Streams, nc *nats.Conn, calls []domain.Event) error {
	js, err := natsjs.New(nc, natsjs.WithPublishAsyncMaxPending(512))
	if err != nil {
		return err
	}
	bar := newProgress(std, "calls", int64(len(calls)), "calls")
	defer bar.finish()
	acks := make([]natsjs.PubAckFuture, len(calls))
	for i := range calls {
		acks[i], err = js.PublishAsync("tollbook."+demoTenant+".call.completed", cloudevents.Append(nil, &calls[i]))
		if err != nil {
			return fmt.Errorf("call %d: %w", i+1, err)
		}
		bar.set(uint64(i))
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	for i, ack := range acks {
		select {
		case err := <-ack.Err():
			return fmt.Errorf("call %d: %w", i+1, err)
		default:
		}
	}
	return nil
}
