package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"tollbook/consumers"
	"tollbook/domain/cloudevents"
	"tollbook/projections"
)

// What finance looks at while calls pour in.
const (
	deskRate   = 5000 // calls a second
	deskEach   = 10   // a message
	deskRounds = 40
	deskPause  = 5 * time.Millisecond // between two questions
)

// desk is how long the HTTP API takes to answer.
func (b *bench) desk(ctx context.Context) (float64, string, error) {
	return b.underLoad(ctx, func(a *asks) []string {
		tenant := "/api/v1/tenants/" + b.shape.Tenant
		month := tenant + "/months/" + a.month
		paths := []string{
			month, month + "/pool?" + a.pool, month + "/grant?" + a.pool, month + "/overflow?" + a.pool, month + "/calls?limit=50",
			month + "/search?limit=50&text=" + a.user, month + "/search?limit=50&text=" + a.number, month + "/forecast", month + "/checklist",
			tenant + "/call?" + a.call, tenant + "/gaps", tenant + "/suspense", tenant + "/documents",
		}
		if a.line != "" {
			paths = append(paths, month+"/line?"+a.line)
		}
		return paths
	}, 0.99)
}

// page is how long the page takes at most, from the question to the last byte.
func (b *bench) page(ctx context.Context) (float64, string, error) {
	return b.underLoad(ctx, func(a *asks) []string {
		tenant := "/" + b.shape.Tenant
		month := tenant + "/" + a.month
		paths := []string{
			tenant, month, month + "/pool?" + a.pool, month + "/invoice", month + "/close", month + "/call?" + a.call,
			tenant + "/search?q=" + a.user, tenant + "/search?q=" + a.number, tenant + "/suspense", tenant + "/gaps",
		}
		if a.line != "" {
			paths = append(paths, month+"/line?"+a.line)
		}
		return paths
	}, 1)
}

// asks are what is asked for, as addresses have them.
type asks struct {
	month, pool, call, user, number string

	line string // the longest; "": none is over its pool
}

// underLoad asks the engine of the live month for paths, one after the other, while
// calls of that month are published: the milliseconds within which so many of the
// answers, a share of 1, are read.
func (b *bench) underLoad(ctx context.Context, paths func(*asks) []string, share float64) (value float64, unit string, err error) {
	engine, _, err := b.live(ctx)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, engine.Stop()) }()
	ask := func(path string) (body []byte, err error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, engine.HTTPAddress+path, nil)
		if err != nil {
			return nil, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, response.Body.Close()) }()
		if body, err = io.ReadAll(response.Body); err == nil && response.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s: %.500s", path, response.Status, body)
		}
		return body, err
	}
	a, err := b.asks(engine, ask)
	if err != nil {
		return 0, "", err
	}
	list := paths(a)
	for _, path := range list { // what is kept for the next time is
		if _, err := ask(path); err != nil {
			return 0, "", err
		}
	}

	// Calls pour in until the last answer.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var load errgroup.Group
	load.Go(func() error {
		more := b.shape
		more.Seed = uint64(time.Now().UnixNano()) // calls that the month has not
		subject := consumers.SubjectPrefix + b.shape.Tenant + ".call.completed"
		began, sent := time.Now(), 0
		var batch []byte
		for e := range more.Events() {
			batch = append(cloudevents.Append(batch, &e), '\n')
			if sent++; sent%deskEach > 0 {
				continue
			}
			if err := engine.Conn.PublishMsg(&nats.Msg{Subject: subject, Data: batch}); err != nil {
				return err
			}
			batch = nil
			if err := sleep(ctx, time.Duration(sent)*time.Second/deskRate-time.Since(began)); err != nil {
				return nil // the last answer is there
			}
		}
		return nil
	})
	var times []time.Duration
	before, began := engine.Months.Head().Events, time.Now()
	for range deskRounds {
		for _, path := range list {
			asked := time.Now()
			if _, err := ask(path); err != nil {
				return 0, "", errors.Join(err, ctx.Err())
			}
			times = append(times, time.Since(asked))
			if err := sleep(ctx, deskPause); err != nil {
				return 0, "", err
			}
		}
	}
	booked := float64(engine.Months.Head().Events-before) / time.Since(began).Seconds()
	stop()
	if err := load.Wait(); err != nil {
		return 0, "", err
	}
	slices.Sort(times)
	at := min(int(float64(len(times))*share), len(times)-1)
	return float64(times[at].Microseconds()) / 1000, fmt.Sprintf("ms, %.0f calls/s", booked), nil
}

// asks finds out what there is to ask for.
func (b *bench) asks(engine *Engine, ask func(path string) ([]byte, error)) (*asks, error) {
	a := &asks{month: b.shape.Month.String()}
	statement := engine.Months.Statement(b.shape.Tenant, b.shape.Month) // places what the start left to the first question
	if len(statement.Pools) == 0 {
		return nil, errors.New("the month has no pools")
	}
	a.pool = url.Values{"country": {statement.Pools[0].Country}, "plan": {statement.Pools[0].Plan}}.Encode()
	calls := int64(0)
	for _, i := range statement.Invoices {
		for _, l := range i.Lines {
			if l.Calls > calls {
				calls = l.Calls
				a.pool = url.Values{"country": {i.Country}, "plan": {i.Plan}}.Encode()
				a.line = url.Values{
					"country": {i.Country}, "plan": {i.Plan}, "currency": {i.Currency}, "destination_country": {l.DestinationCountry}, "destination": {l.Destination}, "type": {l.Type},
					"price": {l.Price}, "connect_fee": {l.ConnectFee}, "deck": {l.Deck}, "deck_version": {l.DeckVersion},
				}.Encode()
			}
		}
	}
	body, err := ask("/api/v1/tenants/" + b.shape.Tenant + "/months/" + a.month + "/calls?limit=1")
	if err != nil {
		return nil, err
	}
	var page projections.CallsDocument
	if err := json.Unmarshal(body, &page); err != nil || len(page.Calls) == 0 {
		return nil, fmt.Errorf("the month has no calls: %.200s %v", body, err)
	}
	first := page.Calls[0]
	a.call = url.Values{"source": {first.Source}, "id": {first.ID}}.Encode()
	a.user, a.number = url.QueryEscape(first.User), url.QueryEscape(first.Called)
	return a, nil
}
