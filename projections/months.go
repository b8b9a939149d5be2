package projections

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
)

// Months are the live months of every tenant. It is safe for concurrent use.
type Months struct {
	mu      sync.Mutex // a query may bring sums up to date, so readers write too
	ledger  *domain.Ledger
	head    eventstore.Head
	intake  map[string]*Intake
	touched map[monthKey]struct{} // since thresholds were last looked at
	changed map[string]struct{}   // tenants whose terms have, and with them any month
	levels  map[levelKey]level
	issues  map[string][]*Issue // by tenant, in order
	feed    *feed               // of the blocks that Load takes in
}

type monthKey struct {
	tenant string
	month  domain.Month
}

// Intake is what became of what a tenant sent: at every position
// received = booked + duplicate + suspended (R10).
type Intake struct {
	Booked    uint64 `json:"booked"`    // events in the book that somebody published
	Duplicate uint64 `json:"duplicate"` // repeats of booked events
	Suspended uint64 `json:"suspended"` // records that were not booked, nor recycled since

	WrittenOff uint64 `json:"written_off"` // those of the suspended that were given up
}

// Received is the sum that conservation is about.
func (i Intake) Received() uint64 { return i.Booked + i.Duplicate + i.Suspended }

// NewMonths returns the fold of an empty book.
func NewMonths() *Months {
	ledger := domain.NewLedger()
	ledger.Run = inParallel
	return &Months{
		ledger: ledger, intake: map[string]*Intake{},
		touched: map[monthKey]struct{}{}, changed: map[string]struct{}{}, levels: map[levelKey]level{}, issues: map[string][]*Issue{},
	}
}

// Follow takes in what comes next; it is an eventstore.Follower.
func (m *Months) Follow(u eventstore.Update) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range u.Events {
		e := &u.Events[i]
		if data, ok := e.Data.(*domain.MonthClosed); ok {
			m.close(e.Tenant, data)
		}
		m.add(e)
		// The hash is the block's, as Replay has it: a month.closed knows the events
		// before it, also those of its own block.
		m.head = eventstore.Head{Block: u.Head.Block, Hash: u.Head.Hash, Events: u.First + uint64(i)}
	}
	m.repeated(u.Duplicates)
	m.head = u.Head
}

// Load takes in a block that was there before; it is an eventstore.Loader.
func (m *Months) Load(p *eventstore.Piece) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.feed == nil {
		m.feed = newFeed(m.ledger, "")
	}
	m.feed.begin(p.Calls)
	// Neither function returns an error, so neither does Each.
	_ = p.Each(func(row *block.CallRow) error {
		m.feed.add(row)
		return nil
	}, func(position uint64, e *domain.Event) error {
		if data, ok := e.Data.(*domain.MonthClosed); ok {
			if position > p.First {
				m.head = eventstore.Head{Block: p.Head.Block, Hash: p.Head.Hash, Events: position - 1}
			}
			m.close(e.Tenant, data)
		}
		m.add(e)
		return nil
	})
	m.feed.fed(func(tenant string, calls uint64) {
		m.intakeOf(tenant).Booked += calls
		m.changed[tenant] = struct{}{}
	})
	m.repeated(p.Duplicates)
	m.head = p.Head
}

func (m *Months) repeated(counts []block.Duplicates) {
	for _, d := range counts {
		m.intakeOf(d.Tenant).Duplicate += d.N
	}
}

func (m *Months) add(e *domain.Event) {
	in := m.intakeOf(e.Tenant)
	switch data := e.Data.(type) {
	case *domain.Suspended:
		in.Suspended++
	case *domain.Recycled:
		in.Suspended--
	case *domain.WrittenOff:
		in.WrittenOff++
	case *domain.Call:
		in.Booked++
		m.touch(e, data)
	case *domain.Correction:
		in.Booked++
		m.touch(e, &data.Call)
	default:
		if e.Data.Type().Own() {
			break // a decision, not a record
		}
		in.Booked++
		m.changed[e.Tenant] = struct{}{}
	}
	m.ledger.Add(e)
}

func (m *Months) touch(e *domain.Event, c *domain.Call) {
	m.touched[monthKey{e.Tenant, m.ledger.MonthAt(e.Tenant, c.At(e.Time))}] = struct{}{}
}

func (m *Months) intakeOf(tenant string) *Intake {
	in := m.intake[tenant]
	if in == nil {
		in = &Intake{}
		m.intake[tenant] = in
	}
	return in
}

// Statement is the month of a tenant as of the position the fold has reached.
func (m *Months) Statement(tenant string, month domain.Month) Statement {
	draft, i := m.draftOrIssue(tenant, month)
	if i == nil {
		return draft
	}
	if s, err := i.Statement(); err == nil { // not under the lock: a document may be long
		return s
	}
	return i.Replayed
}

func (m *Months) draftOrIssue(tenant string, month domain.Month) (Statement, *Issue) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.issue(tenant, month); i != nil {
		return Statement{}, i
	}
	return statement(m.ledger.Draft(tenant, month), m.head), nil
}

// close takes in that a month was closed, before the ledger does.
func (m *Months) close(tenant string, data *domain.MonthClosed) {
	i, err := issued(m.ledger, tenant, data, m.head)
	if err != nil {
		// A document of known fields always is JSON.
		panic(fmt.Sprintf("projections: document of %s, %s: %v", tenant, data.Month, err))
	}
	m.issues[tenant] = append(m.issues[tenant], &i)
}

func (m *Months) issue(tenant string, month domain.Month) *Issue {
	for i, closed := range m.ledger.Closings(tenant) {
		if closed.Month == month && i < len(m.issues[tenant]) {
			return m.issues[tenant][i]
		}
	}
	return nil
}

// Estimate is what a call in suspense would cost, by domain.Ledger.
func (m *Months) Estimate(tenant, user string, called domain.Number, at domain.Instant, billableMS int64) (domain.Amount, domain.Currency, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.Estimate(tenant, user, called, at, billableMS)
}

// Intake is what became of a tenant's records up to the fold's position, and that position.
func (m *Months) Intake(tenant string) (Intake, eventstore.Head) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if in := m.intake[tenant]; in != nil {
		return *in, m.head
	}
	return Intake{}, m.head
}

// Tenants are those with anything in the book, sorted.
func (m *Months) Tenants() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.intake))
}

// MonthsOf are the months in which the tenant has calls, in order.
func (m *Months) MonthsOf(tenant string) []domain.Month {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.Months(tenant)
}

// Head is the position the fold has reached.
func (m *Months) Head() eventstore.Head {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head
}
