package domain

// A Glimpse is what can be read of a record in suspense without deciding
// anything: who sent it, and what the call in it may cost. Each part may be
// missing.
type Glimpse struct {
	Source, ID string // of the event
	User       string
	Called     Number
	At         Instant // 0: not readable
	BillableMS int64   // 0: not readable, or not answered
}
