package domain

import "time"

// An Event is one fact somebody published. (Tenant, Source, ID) identifies it for ever.
type Event struct {
	Tenant string // [a-z0-9][a-z0-9-]{0,62}
	Source string // 1 to 128 bytes of visible ASCII
	ID     string // 1 to 128 bytes of visible ASCII
	Time   Instant
	Sequence
	Data Data
}

// Sequence is the CloudEvents sequence extension: the source's counter without holes.
type Sequence struct {
	N   uint64
	Has bool
}

// Ref names an event of the same tenant.
type Ref struct{ Source, ID string }

// Data is the content of an event: one of the pointer types of this file.
type Data interface{ Type() Type }

// Type is a CloudEvents type, such as tollbook.call.completed.v1.
type Type string

// The event types, by spec/events.md.
const (
	TypeCall             Type = "tollbook.call.completed.v1"
	TypeCorrection       Type = "tollbook.call.corrected.v1"
	TypeVoid             Type = "tollbook.call.voided.v1"
	TypeAssignment       Type = "tollbook.license.assigned.v1"
	TypeRemoval          Type = "tollbook.license.removed.v1"
	TypePlan             Type = "tollbook.plan.published.v1"
	TypeDeck             Type = "tollbook.deck.published.v1"
	TypeTenantConfig     Type = "tollbook.tenant.configured.v1"
	TypeSwitchConfig     Type = "tollbook.switch.configured.v1"
	TypeSuspended        Type = "tollbook.record.suspended.v1"
	TypeRecycled         Type = "tollbook.record.recycled.v1"
	TypeWrittenOff       Type = "tollbook.record.written-off.v1"
	TypeGapWaived        Type = "tollbook.gap.waived.v1"
	TypeMonthClosed      Type = "tollbook.month.closed.v1"
	TypeExceptionWaived  Type = "tollbook.exception.waived.v1"
	TypeThresholdReached Type = "tollbook.pool.threshold.v1" // published on NATS only, never booked
	TypePoolForecast     Type = "tollbook.pool.forecast.v1"  // as well
)

// CatalogTenant is the reserved tenant whose plans and decks hold for every
// tenant that has not published its own of that name.
const CatalogTenant = "catalog"

// NoTenant is the tenant of a suspended record whose subject names none. It can
// belong to nobody: a tenant does not begin with a hyphen.
const NoTenant = "-"

// Limits of text in an event, in bytes.
const (
	MaxNameBytes   = 128 // user, kind, plan, deck, version, correlation, …
	MaxSourceBytes = 128
	MaxIDBytes     = 128
	MaxReasonBytes = 1024
)

// MaxBillableMS is the longest call taken: 48 hours. What is longer is a
// broken record, not a call.
const MaxBillableMS = 48 * 3600 * 1000

// Direction of a call, seen from the licence's user.
type Direction uint8

// Directions.
const (
	Outbound Direction = iota
	Inbound
)

// Directions names them as events do.
var Directions = [...]string{"outbound", "inbound"}

func (d Direction) String() string { return Directions[d] }

// Disposition is how a call ended.
type Disposition uint8

// Dispositions.
const (
	Answered Disposition = iota
	NoAnswer
	Busy
	Failed
	Cancelled
)

// Dispositions names them as events do.
var Dispositions = [...]string{"answered", "no_answer", "busy", "failed", "cancelled"}

func (d Disposition) String() string { return Dispositions[d] }

// Kinds of a call that have a meaning of their own; others are allowed.
const (
	KindUser       = "user"
	KindConference = "conference" // a dial-out from a meeting
	KindForward    = "forward"
	KindTransfer   = "transfer"
)

// A Call is one leg that the switch has finished, answered or not.
type Call struct {
	User        string
	Direction   Direction
	Kind        string
	Calling     Number
	Called      Number
	AnsweredAt  Instant // 0: not answered
	BillableMS  int64   // talk time, 0 to MaxBillableMS
	Disposition Disposition
	StartedAt   Instant // 0: not said
	EndedAt     Instant // 0: not said
	Q850        int32   // Q.850 cause 1 to 127; 0: not said
	SIPStatus   int32   // SIP status 100 to 699; 0: not said
	Correlation string
}

// A Correction replaces what a call said; a later one replaces it in turn.
type Correction struct {
	Ref    Ref
	Call   Call
	Reason string
}

// A Void makes a call count nowhere.
type Void struct {
	Ref    Ref
	Reason string
}

// An Assignment gives a user a plan from an instant on, and ends what the user
// held in the plan's family.
type Assignment struct {
	User        string
	Plan        string
	Country     string // usage location, ISO 3166-1 alpha-2
	EffectiveAt Instant
}

// A Removal ends the plan, if the user holds it at that instant.
type Removal struct {
	User        string
	Plan        string
	EffectiveAt Instant
}

// Scope says who shares a pool.
type Scope uint8

// Scopes.
const (
	ScopeCountry Scope = iota // users of the plan in the same pool country
	ScopeTenant               // all users of the plan
	ScopeUser                 // each user alone
)

// Scopes names them as events do.
var Scopes = [...]string{"country", "tenant", "user"}

func (s Scope) String() string { return Scopes[s] }

// Family separates licences that do not end one another.
type Family uint8

// Families.
const (
	Calling Family = iota
	Conferencing
	families
)

// Families names them as events do.
var Families = [...]string{"calling", "conferencing"}

func (f Family) String() string { return Families[f] }

// Grant says which licences of a month make the pool (R5).
type Grant uint8

// Grants.
const (
	GrantPeak Grant = iota
	GrantAny
	GrantStart
	GrantProrated
)

// Grants names them as events do.
var Grants = [...]string{"peak", "any", "start", "prorated"}

func (g Grant) String() string { return Grants[g] }

// Zone says which destinations a bucket pays for (R6).
type Zone uint8

// Zones.
const (
	ZoneDomestic Zone = iota
	ZoneListed
	ZoneAll
)

// Zones names them as events do.
var Zones = [...]string{"domestic", "listed", "all"}

func (z Zone) String() string { return Zones[z] }

// AnyCountry is the key of Bucket.Minutes for countries it does not name.
const AnyCountry = "*"

// A Bucket is a named part of a plan's minutes.
type Bucket struct {
	Name         string
	Zone         Zone
	Destinations []string         // of ZoneListed, sorted
	Minutes      map[string]int64 // per licence, by its country or AnyCountry; 0 to MaxMinutes
}

// MaxMinutes is the most a bucket grants per licence: 10 million minutes, 19 years.
const MaxMinutes = 10_000_000

// MaxBuckets is how many buckets a plan may have.
const MaxBuckets = 16

// A Plan is a calling plan of the catalogue, in force from a day on.
type Plan struct {
	Plan          string
	Name          string
	Family        Family
	EffectiveFrom Date
	Scope         Scope
	Kinds         []string // sorted
	Buckets       []Bucket // in the order they are tried
	Linked        bool
	Domestic      map[string][]string // by licence country; sorted lists
	SharedPools   map[string]string
	Increment     Increment
	Grant         Grant
	Deck          string // may be empty: the tenant's decks decide

	// What a licence costs for a month, by its country or AnyCountry; nil: nobody
	// said. No invoice has it: it is for comparing plans.
	LicencePrice map[string]LicencePrice
}

// A LicencePrice is what one licence costs for a month.
type LicencePrice struct {
	Price    Micros
	Currency Currency
}

// A Deck is a rate deck's version, or a part of one.
type Deck struct {
	Deck          string
	Version       string
	EffectiveFrom Instant
	Currency      Currency
	Part, Parts   int // 1 of 1 where the deck comes whole
	Rows          []Row
}

// MaxDeckParts is how many parts a deck version may come in.
const MaxDeckParts = 10_000

// A Row is the price of the numbers that begin with Prefix.
type Row struct {
	Prefix     string // digits without +, or = and a short number
	Country    string // ISO 3166-1 alpha-2
	Name       string
	RowType    string // landline, mobile, …; three of them are never charged
	Price      Micros // per minute
	ConnectFee Micros
	Increment  Increment // of calls outside every bucket
}

// Types of a row that are never charged and never draw on a pool.
const (
	RowTollFree  = "toll_free"
	RowEmergency = "emergency"
	RowOnNet     = "onnet"
)

// A TenantConfig is how a tenant is billed from a day on.
type TenantConfig struct {
	TimeZone       string
	Zone           *time.Location // what TimeZone names; never nil
	Currency       Currency
	Decks          map[string]string // licence country → deck
	CloseAfterDays int               // 0: months are closed by hand
	EffectiveFrom  Date
}

// A SwitchConfig is how the records of one switch are to be read.
type SwitchConfig struct {
	Switch                string
	Format                string
	Country               string
	InternationalPrefixes []string // sorted
	NationalPrefix        string
	InternalDigits        []int // lengths of internal numbers, ascending
	TimeZone              string
	User                  string            // template over the record's fields and {tenant}
	Options               map[string]string // what else its format has to know, by name; nil: nothing
}

// Limits of SwitchConfig.Options.
const (
	MaxOptions     = 64
	MaxOptionBytes = 1024 // of one of them; its name is a name
)

// Suspended is a record that could not be booked, whole.
type Suspended struct {
	Reason  string // a code: one word
	Detail  string // one line: what, where, what to do
	Subject string // where it came in
	Raw     []byte // the record as it came, up to the size a message may have

	// Whose number the record carries, where its format has numbers and that much of
	// it could be read. The envelope of a CloudEvent says it itself.
	Source   string
	Sequence Sequence
}

// Recycled says that a suspended record was taken up after all. The event that
// came of it is booked beside it, or was already.
type Recycled struct {
	Ref     Ref    // the record.suspended, with the record as it came
	Booked  Ref    // the event it became
	Tenant  string // whose event that is; "": that of this one. Records of [NoTenant] become somebody's
	By      string // who saw to it
	Reason  string // why, where somebody said so
	Edited  []byte // the record as it was read this time; nil: as it came
	Subject string // where it was read as having come in; "": where it did
}

// WrittenOff says that a suspended record is given up.
type WrittenOff struct {
	Ref    Ref // the record.suspended
	By     string
	Reason string
}

// GapWaived says that numbers missing in a source's sequence are known to be
// lost, and no longer keep a month open (R11).
type GapWaived struct {
	Source   string
	From, To uint64 // both missing, and all between
	By       string
	Reason   string
}

// MonthClosed says that a month's document was issued (R12).
type MonthClosed struct {
	Month    Month
	Number   string // of the document, such as 2026-0010
	Position uint64 // the document knows the events up to it
	Head     string // the hash of the block that holds that position, as documents print it
	Digest   string // of Document, as documents print hashes
	Document []byte // RFC 8785 JSON
	By       string
}

// ExceptionWaived says that exceptions of a month no longer keep it open: so many
// of one reason as there were (R10).
type ExceptionWaived struct {
	Month     Month
	Exception string // its reason
	Count     int64
	By        string
	Reason    string
}

// Type returns the CloudEvents type of the content.
func (*Call) Type() Type            { return TypeCall }
func (*Correction) Type() Type      { return TypeCorrection }
func (*Void) Type() Type            { return TypeVoid }
func (*Assignment) Type() Type      { return TypeAssignment }
func (*Removal) Type() Type         { return TypeRemoval }
func (*Plan) Type() Type            { return TypePlan }
func (*Deck) Type() Type            { return TypeDeck }
func (*TenantConfig) Type() Type    { return TypeTenantConfig }
func (*SwitchConfig) Type() Type    { return TypeSwitchConfig }
func (*Suspended) Type() Type       { return TypeSuspended }
func (*Recycled) Type() Type        { return TypeRecycled }
func (*WrittenOff) Type() Type      { return TypeWrittenOff }
func (*GapWaived) Type() Type       { return TypeGapWaived }
func (*MonthClosed) Type() Type     { return TypeMonthClosed }
func (*ExceptionWaived) Type() Type { return TypeExceptionWaived }

// Own reports whether only the engine itself writes events of this type. They
// are facts about records, not records that somebody sent.
func (t Type) Own() bool {
	switch t {
	case TypeSuspended, TypeRecycled, TypeWrittenOff, TypeGapWaived, TypeMonthClosed, TypeExceptionWaived, TypeThresholdReached, TypePoolForecast:
		return true
	}
	return false
}

// At is the instant that decides a call's month (R1): when it was answered;
// unanswered, when it started; else when the switch said it.
func (c *Call) At(said Instant) Instant {
	switch {
	case c.AnsweredAt != 0:
		return c.AnsweredAt
	case c.StartedAt != 0:
		return c.StartedAt
	}
	return said
}
