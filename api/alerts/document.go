package alerts

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"tollbook/consumers"
	"tollbook/domain"
)

// Limits of a question.
const (
	DefaultLimit = 50
	MaxLimit     = 1000
)

// A Request asks for the last alerts.
type Request struct {
	Tenant string `json:"tenant,omitzero"` // "": of all
	Limit  int    `json:"limit,omitzero"`  // 0: DefaultLimit
}

// Check refuses what can't be asked, and fills in what was left out.
func (q *Request) Check() error {
	if q.Tenant != "" && !consumers.ValidTenant(q.Tenant) {
		return fmt.Errorf("tenant %.80q: must be 1 to 63 of a-z, 0-9 and -", q.Tenant)
	}
	if q.Limit < 0 || q.Limit > MaxLimit {
		return fmt.Errorf("limit %d: must be 1 to %d alerts", q.Limit, MaxLimit)
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	return nil
}

// ErrRequest is returned for a request that [Request.Check] refuses.
var ErrRequest = errors.New("wrong request")

// A Document is the last alerts, the newest first, and what became of them.
type Document struct {
	Webhooks []Status `json:"webhooks"` // that anything was for, by name
	Alerts   []Record `json:"alerts"`
}

// A Status counts the deliveries of a webhook.
type Status struct {
	Webhook     string `json:"webhook"`
	Waiting     int64  `json:"waiting"`
	Delivered   int64  `json:"delivered"`
	Undelivered int64  `json:"undelivered"`   // given up, refused, or not wanted any more
	Gone        string `json:"gone,omitzero"` // since when it wants no more
}

// A Record is an alert.
type Record struct {
	Event      jsontext.Value `json:"event"`     // the CloudEvent
	Published  bool           `json:"published"` // NATS has it
	Deliveries []Delivery     `json:"deliveries"`
}

// A Delivery is what became of an alert for a webhook.
type Delivery struct {
	Webhook  string    `json:"webhook"`
	State    string    `json:"state"`         // waiting, delivered, given-up, gone or full
	Next     string    `json:"next,omitzero"` // of one that waits: when it is tried
	Attempts []Attempt `json:"attempts"`
}

// An Attempt is a request to a webhook.
type Attempt struct {
	At     string `json:"at"`
	TookMS int64  `json:"took_ms"`
	Status int    `json:"status,omitzero"` // of HTTP; 0: there was no answer
	Error  string `json:"error,omitzero"`

	at domain.Instant
}
