package projections

import (
	"runtime"

	"golang.org/x/sync/errgroup"

	"tollbook/domain"
	"tollbook/eventstore/block"
)

// A feed gives a ledger the calls of one tenant from the columns of blocks. What a
// symbol stands for is asked once in a generation.
type feed struct {
	tenant string
	to     domain.Feed

	calls      *block.CallRows // of the block that is fed
	generation uint64
	tenants    []int8   // by common symbol: 1 it is the tenant, -1 it is not, 0 not known
	sources    []uint32 // by common symbol: the ledger's number + 1
	kinds      []uint32
	users      []uint32 // by personal symbol
	row        domain.CallRow
}

func newFeed(ledger *domain.Ledger, tenant string) *feed {
	return &feed{tenant: tenant, to: ledger.Feed(tenant)}
}

// begin is called before the calls of a block.
func (f *feed) begin(calls *block.CallRows) {
	if f.calls = calls; calls.Generation() != f.generation {
		f.generation = calls.Generation()
		f.tenants, f.sources, f.kinds, f.users = f.tenants[:0], f.sources[:0], f.kinds[:0], f.users[:0]
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

func (f *feed) mine(tenant uint32) bool {
	for int(tenant) >= len(f.tenants) {
		f.tenants = append(f.tenants, 0)
	}
	if f.tenants[tenant] == 0 {
		f.tenants[tenant] = -1
		if f.calls.Common(tenant) == f.tenant {
			f.tenants[tenant] = 1
		}
	}
	return f.tenants[tenant] == 1
}

func (f *feed) add(row *block.CallRow) {
	if !f.mine(row.Tenant) {
		return
	}
	r := &f.row
	r.Source = numbered(&f.sources, row.Source, func() uint32 { return f.to.Source(f.calls.Common(row.Source)) })
	r.User = numbered(&f.users, row.User, func() uint32 { return f.to.User(f.calls.Personal(row.User)) })
	r.Kind = uint16(numbered(&f.kinds, row.Kind, func() uint32 { return uint32(f.to.Kind(f.calls.Common(row.Kind))) }))
	r.Direction, r.Disposition, r.ID, r.Time = row.Direction, row.Disposition, row.ID, row.Time
	r.AnsweredAt, r.StartedAt, r.Called, r.BillableMS = row.AnsweredAt, row.StartedAt, row.Called, row.BillableMS
	f.to.Add(r)
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
