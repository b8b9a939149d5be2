package alerts

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/projections"
)

// An Ending says that, as it looks now, a bucket will be used up before its month
// is over.
type Ending struct {
	Tenant  string `json:"-"`
	Month   string `json:"month"`
	Country string `json:"country"`
	Plan    string `json:"plan"`
	User    string `json:"user,omitzero"`
	Bucket  string `json:"bucket"`

	Ends     string  `json:"ends"`      // to the minute
	EndsLow  *string `json:"ends_low"`  // at the earliest
	EndsHigh *string `json:"ends_high"` // at the latest; null: perhaps not within the month

	Granted  int64  `json:"granted_seconds"`
	Used     int64  `json:"used_seconds"`     // so far
	Expected int64  `json:"expected_seconds"` // in the pool and over it, at the end of the month
	Overage  int64  `json:"overage_expected"` // of those, seconds over it
	Position uint64 `json:"position"`
}

// An alert is a CloudEvent of the engine, and what it says about which bucket.
type alert struct {
	id      string
	at      domain.Instant
	kind    domain.Type
	of      projections.Crossing // of a forecast without Percent
	subject string
	body    []byte
}

// idSpace makes the ids of alerts: the same crossing has the same id whoever
// announces it and however often, so that a listener can tell repeats.
var idSpace = uuid.MustParse("6f1c9a52-5f0e-4f7e-9a42-2d6f3a1f6f0b")

// ofCrossing is the alert of a threshold.
func ofCrossing(c projections.Crossing, at domain.Instant) (alert, error) {
	return newAlert(domain.TypeThresholdReached, c, fmt.Sprint(c.Percent, " of ", c.Granted), c, at)
}

// ofEnding is the alert of a forecast. There is one for each bucket and month.
func ofEnding(e Ending, at domain.Instant) (alert, error) {
	of := projections.Crossing{Tenant: e.Tenant, Month: e.Month, Country: e.Country, Plan: e.Plan, User: e.User, Bucket: e.Bucket}
	return newAlert(domain.TypePoolForecast, of, "forecast", e, at)
}

func newAlert(kind domain.Type, of projections.Crossing, what string, data any, at domain.Instant) (alert, error) {
	name := fmt.Sprintf("%q", []string{of.Tenant, of.Month, of.Country, of.Plan, of.User, of.Bucket, what})
	a := alert{
		id: uuid.NewSHA1(idSpace, []byte(name)).String(), at: at, kind: kind, of: of,
		subject: consumers.AnnouncementSubject(of.Tenant, kind),
	}
	var err error
	a.body, err = json.Marshal(struct {
		SpecVersion string      `json:"specversion"`
		ID          string      `json:"id"`
		Source      string      `json:"source"`
		Type        domain.Type `json:"type"`
		Time        string      `json:"time"`
		Tenant      string      `json:"tenant"`
		Data        any         `json:"data"`
	}{"1.0", a.id, "tollbook", kind, at.String(), of.Tenant, data})
	return a, err
}
