package domain

// A Rating is one month of one tenant, by R1 to R10, in the order
// spec/outputs.md prints it.
type Rating struct {
	Tenant     string
	Month      Month
	Pools      []PoolRating // by country, plan, user
	Invoices   []Invoice    // by country, plan, currency
	Exceptions []Exception  // by reason; none with count 0
	Counts     Counts
}

// A PoolRating is what a pool was granted and what drew on it.
type PoolRating struct {
	Country     string // empty for ScopeTenant
	Plan        string
	Scope       Scope
	User        string // ScopeUser only
	Licences    int64  // those that make the grant (R5)
	Buckets     []BucketRating
	ExhaustedAt Instant // answered_at of the first call with overage; 0: none
}

// A BucketRating is in seconds.
type BucketRating struct {
	Name                   string
	Granted, Used, Overage int64
}

// An Invoice is per pool country, plan and deck currency (R9).
type Invoice struct {
	Country  string
	Plan     string
	Currency Currency
	Lines    []InvoiceLine

	Adjustments []Adjustment // of the document that carries them: by month, then as lines
	Total       Amount       // of lines and adjustments
}

// An InvoiceLine sums the overage of the calls at one price to one destination.
type InvoiceLine struct {
	Line
	Calls   int64 // with overage in the line
	Seconds int64 // their overage
	Amount  Amount
}

// A Line is what calls have in common that stand on one line of an invoice.
type Line struct {
	Deck, Version string
	Country, Name string // of the destination
	RowType       string
	Price, Fee    Micros
	Currency      Currency
}

// Reasons of an exception (R10).
const (
	Dangling   = "dangling"
	Ungranted  = "ungranted"
	Unlicensed = "unlicensed"
	Unrated    = "unrated"
)

// An Exception counts what costs nothing yet but needs somebody's attention.
type Exception struct {
	Reason  string
	Count   int64
	Seconds int64
}

// Counts has every booked call of the month once: Calls is the sum of Free,
// InPool, Overage, Outside and the calls of the exceptions unlicensed and unrated.
type Counts struct {
	Calls, Free, InPool, Overage, Outside int64
}
