package domain

// A Feed adds calls of one tenant whose texts come by number, as a book keeps
// them: each text is looked at once.
type Feed struct{ account *account }

// A CallRow is what the rating needs of a call and of the event that reported it.
type CallRow struct {
	Source, User uint32 // by [Feed.Source] and [Feed.User]
	Kind         uint16 // by [Feed.Kind]
	Direction    Direction
	Disposition  Disposition
	ID           CallID
	Time         Instant // of the event
	AnsweredAt   Instant
	StartedAt    Instant
	Called       Number
	BillableMS   int64
}

// Feed is of a tenant. It must not be used with another ledger.
func (l *Ledger) Feed(tenant string) Feed { return Feed{l.account(tenant)} }

// Source numbers a source.
func (f Feed) Source(name string) uint32 { return f.account.sources.of(name) }

// User numbers a user.
func (f Feed) User(name string) uint32 { return f.account.user(name) }

// Kind numbers a kind of call.
func (f Feed) Kind(name string) uint16 { return f.account.kind(name) }

// Add takes a call in, as [Ledger.Add] does its event.
func (f Feed) Add(r *CallRow) { f.account.addCall(r) }

// at is [Call.At] of the call.
func (r *CallRow) at() Instant {
	switch {
	case r.AnsweredAt != 0:
		return r.AnsweredAt
	case r.StartedAt != 0:
		return r.StartedAt
	}
	return r.Time
}
