package projections

import (
	"runtime"

	"golang.org/x/sync/errgroup"

	"tollbook/domain"
	"tollbook/eventstore/block"
)

// A feed gives a ledger the calls of one tenant, or of all, from the columns of
// blocks. What a symbol stands for is asked once in a generation.
type feed struct {
	ledger *domain.Ledger
	only   string // "": every tenant

	calls      *block.CallRows // of the block that is fed
	generation uint64
	tenants    []*tenantFeed // by common symbol; nil: not asked yet
	row        domain.CallRow
}

// A tenantFeed is a feed's for one tenant.
type tenantFeed struct {
	tenant  string
	other   bool // its calls are not wanted
	fed     uint64
	to      domain.Feed
	sources []uint32 // by common symbol: the ledger's number + 1
	kinds   []uint32
	users   []uint32 // by personal symbol
}

// newFeed is of one tenant; "": of all.
func newFeed(ledger *domain.Ledger, tenant string) *feed {
	return &feed{ledger: ledger, only: tenant}
}

// begin is called before the calls of a block.
func (f *feed) begin(calls *block.CallRows) {
	if f.calls = calls; calls.Generation() != f.generation {
		f.generation, f.tenants = calls.Generation(), f.tenants[:0]
	}
}

// numbered is what a symbol stands for, by a list that grows.
func numbered(list *[]uint32, ordinal uint32, ask func() uint32) uint32 {
	for int(ordinal) >= len(*list) {
		*list = append(*list, 0)
	}
	if n := (*list)[ordinal]; n != 0 {
		return n - 1
	}
	n := ask()
	(*list)[ordinal] = n + 1
	return n
}

func (f *feed) tenantOf(ordinal uint32) *tenantFeed {
	if int(ordinal) < len(f.tenants) && f.tenants[ordinal] != nil {
		return f.tenants[ordinal]
	}
	for int(ordinal) >= len(f.tenants) {
		f.tenants = append(f.tenants, nil)
	}
	t := &tenantFeed{tenant: f.calls.Common(ordinal)}
	if t.other = f.only != "" && t.tenant != f.only; !t.other {
		t.to = f.ledger.Feed(t.tenant)
	}
	f.tenants[ordinal] = t
	return t
}

func (f *feed) add(row *block.CallRow) {
	t := f.tenantOf(row.Tenant)
	if t.other {
		return
	}
	t.fed++
	r := &f.row
	r.Source = numbered(&t.sources, row.Source, func() uint32 { return t.to.Source(f.calls.Common(row.Source)) })
	r.User = numbered(&t.users, row.User, func() uint32 { return t.to.User(f.calls.Personal(row.User)) })
	r.Kind = uint16(numbered(&t.kinds, row.Kind, func() uint32 { return uint32(t.to.Kind(f.calls.Common(row.Kind))) }))
	r.Direction, r.Disposition, r.ID, r.Time = row.Direction, row.Disposition, row.ID, row.Time
	r.AnsweredAt, r.StartedAt, r.Called, r.BillableMS = row.AnsweredAt, row.StartedAt, row.Called, row.BillableMS
	t.to.Add(r)
}

// fed tells each of the tenants that had calls since it was last called, and how many.
func (f *feed) fed(each func(tenant string, calls uint64)) {
	for _, t := range f.tenants {
		if t != nil && t.fed > 0 {
			each(t.tenant, t.fed)
			t.fed = 0
		}
	}
}

// inParallel runs a ledger's tasks on all cores.
func inParallel(tasks []func()) {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, task := range tasks {
		group.Go(func() error {
			task()
			return nil
		})
	}
	_ = group.Wait() // tasks return no errors
}
