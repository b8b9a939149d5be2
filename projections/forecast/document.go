package forecast

import (
	"cmp"
	"time"

	"tollbook/domain"
)

// A Document says how a month of a tenant will probably end, as of a position of
// the book and an instant. Of a month that is over it says how it ended.
type Document struct {
	Tenant   string  `json:"tenant"`
	Month    string  `json:"month"`
	Position uint64  `json:"position"`
	Now      string  `json:"now"`
	Method   string  `json:"method"`
	Interval int     `json:"interval_percent"` // from each low to its high, by the model
	Pools    []Pool  `json:"pools"`            // by country, plan, user
	Totals   []Total `json:"totals"`           // by currency
}

// A Pool is shared minutes.
type Pool struct {
	Country  string   `json:"country"`
	Plan     string   `json:"plan"`
	User     string   `json:"user,omitzero"`
	Known    bool     `json:"holidays_known"` // of the pool's country
	Holidays []string `json:"holidays"`       // days of the month that count as such
	Buckets  []Bucket `json:"buckets"`
	Outside  Outside  `json:"outside"`
}

// A Bucket is what its calls will have drawn when the month ends. Seconds that are
// expected, low or high are those in the pool and over it together; none is below
// what was billed already.
type Bucket struct {
	Name         string `json:"bucket"`
	Granted      int64  `json:"granted_seconds"`
	Used         int64  `json:"used_seconds"` // so far, as the pool has it
	Expected     int64  `json:"expected_seconds"`
	ExpectedLow  int64  `json:"expected_low"`
	ExpectedHigh int64  `json:"expected_high"`

	// When the bucket ends: its minutes, or those of a linked bucket, are used up.
	// null: not within the month. A bucket without minutes has no end, nor has one
	// that is linked with it.
	Ended    bool    `json:"ended"`     // it has, and the three are when
	Ends     *string `json:"ends"`      // to the minute
	EndsLow  *string `json:"ends_low"`  // at the earliest
	EndsHigh *string `json:"ends_high"` // at the latest

	Overage         int64    `json:"overage_seconds"` // so far
	OverageExpected int64    `json:"overage_expected"`
	OverageLow      int64    `json:"overage_low"`
	OverageHigh     int64    `json:"overage_high"`
	Amounts         []Amount `json:"overage_amounts"` // by currency; none: no overage is likely, or nothing is known of what it costs
}

// Outside are calls that the pool's licences price and none of its buckets takes.
type Outside struct {
	Seconds      int64    `json:"seconds"` // so far
	Expected     int64    `json:"expected_seconds"`
	ExpectedLow  int64    `json:"expected_low"`
	ExpectedHigh int64    `json:"expected_high"`
	Amounts      []Amount `json:"amounts"`
}

// An Amount is what overage will have cost when the month ends.
type Amount struct {
	Currency string `json:"currency"`
	Expected string `json:"expected"`
	Low      string `json:"low"`
	High     string `json:"high"`
}

// A Total is what the month's invoices in one currency are now, adjustments
// included, and will be. It is a mean over everything that may happen: many pools
// that will each probably last, some of which won't, make it more than the sum of
// what the pools expect.
type Total struct {
	Currency string `json:"currency"`
	Charged  string `json:"charged"`
	Expected string `json:"expected"`
	Low      string `json:"low"`
	High     string `json:"high"`
}

// Compare sorts buckets by what needs attention: which end, the first one first,
// then those that come nearest to it.
func (b *Bucket) Compare(o *Bucket) int {
	if (b.Ends == nil) != (o.Ends == nil) {
		return map[bool]int{true: 1, false: -1}[b.Ends == nil]
	}
	if b.Ends != nil {
		return cmp.Compare(instantOf(*b.Ends), instantOf(*o.Ends))
	}
	return cmp.Compare(o.fullest(), b.fullest())
}

// fullest is how much of the bucket may be used, as a share.
func (b *Bucket) fullest() float64 { return float64(b.ExpectedHigh) / float64(max(b.Granted, 1)) }

// instantOf is a time of a document.
func instantOf(text string) instant {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return domain.MaxInstant // documents have times only
	}
	return domain.InstantOf(t)
}
