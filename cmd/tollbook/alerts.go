package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"tollbook/api/alerts"
	"tollbook/api/finance"
	"tollbook/domain"
	"tollbook/projections"
)

// openAlerts finds out what was announced before this start.
func (e *Engine) openAlerts() (err error) {
	c := e.config
	e.alerts, err = alerts.Open(alerts.Config{
		Dir: c.Dir, Months: e.Months, Endings: e.endings, Webhooks: c.Webhooks,
		Clock: c.Clock, Jitter: rand.Float64, Program: version(), Log: c.Log,
	})
	return err
}

// endings are the buckets that the forecasts of the running months see the end of.
// One that has ended already is no forecast.
func (e *Engine) endings(ctx context.Context) (all []alerts.Ending, err error) {
	for _, tenant := range e.Months.Tenants() {
		if tenant == domain.CatalogTenant || tenant == domain.NoTenant {
			continue
		}
		if ctx.Err() != nil {
			return all, ctx.Err()
		}
		var month domain.Month
		_, failed := e.Months.View(tenant, 0, func(v *projections.View) error {
			month = v.Ledger.MonthAt(tenant, e.config.Clock())
			return nil
		})
		if failed == nil {
			all, failed = e.endingsOf(ctx, all, tenant, month)
		}
		if status, _ := finance.StatusOf(failed); failed != nil && status != http.StatusConflict { // of a closed month there is no forecast
			err = errors.Join(err, fmt.Errorf("%s: %w", tenant, failed))
		}
	}
	return all, err
}

func (e *Engine) endingsOf(ctx context.Context, all []alerts.Ending, tenant string, month domain.Month) ([]alerts.Ending, error) {
	d, err := e.desk.Forecast(ctx, tenant, month.String())
	if err != nil {
		return all, err
	}
	for i := range d.Pools {
		p := &d.Pools[i]
		for j := range p.Buckets {
			b := &p.Buckets[j]
			if b.Ended || b.Ends == nil {
				continue
			}
			all = append(all, alerts.Ending{
				Tenant: tenant, Month: d.Month, Country: p.Country, Plan: p.Plan, User: p.User, Bucket: b.Name,
				Ends: *b.Ends, EndsLow: b.EndsLow, EndsHigh: b.EndsHigh,
				Granted: b.Granted, Used: b.Used, Expected: b.Expected, Overage: b.OverageExpected, Position: d.Position,
			})
		}
	}
	return all, nil
}

// alertsCmd prints the last alerts, the newest first, and what became of them. JSON
// has every attempt to deliver them.
type alertsCmd struct {
	Tenant string `help:"Only those of this tenant."`
	Limit  int    `default:"50" help:"How many at most."`
	Data   string `type:"existingdir" placeholder:"DIR" help:"Read this data directory instead of asking an engine."`
	engineAddress
	format
}

// Validate is called by kong, before anything is done.
func (c *alertsCmd) Validate() error {
	q := alerts.Request{Tenant: c.Tenant, Limit: c.Limit}
	if c.Limit == 0 {
		return fmt.Errorf("--limit 0: must be 1 to %d alerts", alerts.MaxLimit)
	}
	if err := q.Check(); err != nil {
		return fmt.Errorf("--%w", err)
	}
	return nil
}

func (c *alertsCmd) Run(ctx context.Context, std Streams) error {
	d, err := c.document(ctx)
	if err != nil {
		return err
	}
	return c.print(std, d, func(w writer) { printAlerts(w, d, newPaint(std.Out)) })
}

func (c *alertsCmd) document(ctx context.Context) (d alerts.Document, err error) {
	q := alerts.Request{Tenant: c.Tenant, Limit: c.Limit}
	if c.Data != "" {
		return alerts.Read(ctx, filepath.Join(c.Data, alerts.FileName), q)
	}
	client, done, err := c.connect()
	if err != nil {
		return d, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return client.Alerts(ctx, q)
}

func printAlerts(w writer, d alerts.Document, p paint) {
	if len(d.Alerts) == 0 {
		fmt.Fprintln(w, "No pool has reached a threshold since this data directory keeps alerts, and none was forecast to end.")
		return
	}
	t := newTable("at (UTC)", "tenant", "month", "pool", "alert", "webhook", "delivery")
	for _, r := range d.Alerts {
		var e struct {
			Type   domain.Type `json:"type"`
			Time   string      `json:"time"`
			Tenant string      `json:"tenant"`
			Data   struct {
				projections.Crossing
				Ends string `json:"ends"`
			} `json:"data"`
		}
		if err := json.Unmarshal(r.Event, &e); err != nil {
			continue // what an engine wrote can be read
		}
		what := strconv.Itoa(e.Data.Percent) + " % used"
		if e.Type == domain.TypePoolForecast {
			what = "ends " + minuteOf(e.Data.Ends)
		}
		pool := strings.Join(strings.Fields(e.Data.Country+" "+e.Data.Plan+" "+e.Data.User+" "+e.Data.Bucket), " ")
		cells := []string{minuteOf(e.Time), e.Tenant, e.Data.Month, pool, what}
		if len(r.Deliveries) == 0 {
			t.row(nil, append(cells, "–", "–")...)
		}
		for _, one := range r.Deliveries {
			t.row(noteOf(one.State, p), append(cells[:5:5], one.Webhook, deliveryOf(&one))...)
		}
	}
	t.print(w, p)
}

func noteOf(state string, p paint) func(string) string {
	switch state {
	case alerts.StateDelivered:
		return nil
	case alerts.StateWaiting:
		return p.warn
	}
	return p.bad
}

// deliveryOf is what became of an alert, in a few words.
func deliveryOf(d *alerts.Delivery) string {
	words := []string{d.State}
	if n := len(d.Attempts); n > 0 {
		last := d.Attempts[n-1]
		words = append(words, counted(int64(n), "attempt"))
		if last.Error != "" {
			words = append(words, last.Error)
		}
	}
	if d.Next != "" {
		words = append(words, "next "+minuteOf(d.Next))
	}
	return strings.Join(words, ", ")
}

// minuteOf is a time of a document to the minute.
func minuteOf(text string) string {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return text
	}
	return at.UTC().Format("2006-01-02 15:04")
}
