package projections_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// seen stands for what a glimpse reads: here it is in the record itself.
func seen(e *domain.Event, data *domain.Suspended) domain.Glimpse {
	return domain.Glimpse{Source: string(data.Raw), ID: e.ID, User: data.Detail, BillableMS: int64(len(data.Raw))}
}

// A naiveDesk has every record that was ever in suspense, and what resolved it.
type naiveDesk struct {
	records  []naiveRecord
	position uint64
}

type naiveRecord struct {
	projections.SuspendedRecord
	id         string
	resolvedBy uint64
}

func (n *naiveDesk) add(e *domain.Event) {
	n.position++
	var ref string
	switch data := e.Data.(type) {
	case *domain.Suspended:
		n.records = append(n.records, naiveRecord{id: e.ID, SuspendedRecord: projections.SuspendedRecord{
			Position: n.position, Tenant: e.Tenant, Reason: data.Reason, Subject: data.Subject, At: e.Time, Bytes: len(data.Raw), Glimpse: seen(e, data),
		}})
		return
	case *domain.Recycled:
		ref = data.Ref.ID
	case *domain.WrittenOff:
		ref = data.Ref.ID
	}
	for i := range n.records {
		if r := &n.records[i]; r.Tenant == e.Tenant && r.id == ref && r.resolvedBy == 0 {
			r.resolvedBy = n.position
		}
	}
}

func (n *naiveDesk) list(f projections.SuspenseFilter, after uint64, limit int) (found []projections.SuspendedRecord) {
	for _, r := range n.records {
		switch {
		case r.resolvedBy != 0, r.Position <= after:
		case f.Tenant != "" && f.Tenant != r.Tenant, f.Reason != "" && f.Reason != r.Reason, f.Source != "" && f.Source != r.Source:
		case f.UpTo != 0 && r.Position > f.UpTo:
		default:
			found = append(found, r.SuspendedRecord)
		}
	}
	if limit > 0 && len(found) > limit {
		found = found[:limit]
	}
	return found
}

func (n *naiveDesk) groups(f projections.SuspenseFilter) (groups []projections.SuspenseGroup) {
	for _, tenant := range suspenseTenants {
		for _, reason := range suspenseReasons {
			for _, source := range suspenseSources {
				g := projections.SuspenseGroup{Tenant: tenant, Reason: reason, Source: source}
				for _, r := range n.list(f, 0, 0) {
					if r.Tenant == tenant && r.Reason == reason && r.Source == source {
						g.Records = append(g.Records, r)
					}
				}
				if len(g.Records) > 0 {
					groups = append(groups, g)
				}
			}
		}
	}
	return groups
}

// Sorted, as groups are.
var (
	suspenseTenants = []string{domain.NoTenant, "contoso", "fabrikam"}
	suspenseReasons = []string{"conflict", "syntax"}
	suspenseSources = []string{"", "switch/mil-1", "switch/mil-2"}
)

func suspendedEvent(tenant, id, reason, source string) domain.Event {
	return domain.Event{Tenant: tenant, Source: eventstore.SuspenseSource, ID: id, Time: gapStart, Data: &domain.Suspended{
		Reason: reason, Detail: "detail " + id, Subject: "tollbook." + tenant + ".x", Raw: []byte(source),
	}}
}

func resolvedEvent(tenant, id string, writtenOff bool) domain.Event {
	e := domain.Event{Tenant: tenant, Source: eventstore.SuspenseSource, ID: "resolved/" + id, Time: gapStart}
	ref := domain.Ref{Source: eventstore.SuspenseSource, ID: id}
	if e.Data = (&domain.Recycled{Ref: ref, Booked: domain.Ref{Source: "s", ID: id}}); writtenOff {
		e.Data = &domain.WrittenOff{Ref: ref, By: "ada", Reason: "x"}
	}
	return e
}

// compareDesk asks both the same questions.
func compareDesk(t *rapid.T, desk *projections.Suspense, naive *naiveDesk) {
	position := func(name string) uint64 { return rapid.Uint64Range(0, naive.position+1).Draw(t, name) }
	either := func(name string, of []string) string {
		return rapid.SampledFrom(append([]string{"", "other"}, of...)).Draw(t, name)
	}
	for range 4 {
		f := projections.SuspenseFilter{
			Tenant: either("tenant", suspenseTenants), Reason: either("reason", suspenseReasons), Source: either("source", suspenseSources),
			UpTo: position("up to"),
		}
		after, limit := position("after"), rapid.IntRange(0, 5).Draw(t, "limit")
		sameRecords(t, naive.list(f, after, limit), desk.Records(f, after, limit))
		// All pages, one after the other, are the list.
		var paged []projections.SuspendedRecord
		for after := uint64(0); ; {
			page := desk.Records(f, after, limit+1)
			paged = append(paged, page...)
			if len(page) <= limit {
				break
			}
			after = page[limit].Position
		}
		sameRecords(t, naive.list(f, 0, 0), paged)
		if diff := cmp.Diff(naive.groups(f), desk.Groups(f), cmpopts.IgnoreUnexported(projections.SuspendedRecord{})); diff != "" {
			t.Fatalf("groups of %+v (-naive +desk):\n%s", f, diff)
		}
	}
	for _, r := range naive.records {
		if got := desk.ResolvedBy(r.Position); got != r.resolvedBy {
			t.Fatalf("position %d is resolved by %d, want %d", r.Position, got, r.resolvedBy)
		}
	}
	if desk.ResolvedBy(0) != 0 || desk.ResolvedBy(naive.position+1) != 0 {
		t.Fatal("what is no record is resolved")
	}
}

func sameRecords(t rapid.TB, want, got []projections.SuspendedRecord) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(projections.SuspendedRecord{})); diff != "" {
		t.Fatalf("records (-naive +desk):\n%s", diff)
	}
}

// again has to begin where the snapshot of from ends.
func again(t rapid.TB, from, to eventstore.Resumer) {
	t.Helper()
	var b bytes.Buffer
	if err := from.Snapshot(true)(&b); err != nil {
		t.Fatal(err)
	}
	accept, err := to.Resume(&b)
	if err != nil {
		t.Fatal(err)
	}
	accept()
}

// TestSuspense: whatever comes, in whatever batches, the desk lists what a naive
// list of all records has.
func TestSuspense(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		naive := &naiveDesk{}
		desk, atOnce := projections.NewSuspense(seen), projections.NewSuspense(seen)
		var all []domain.Event
		for range rapid.IntRange(1, 8).Draw(t, "batches") {
			first := naive.position + 1
			var batch []domain.Event
			for range rapid.IntRange(0, 6).Draw(t, "events") {
				var e domain.Event
				switch kind := rapid.IntRange(0, 5).Draw(t, "kind"); {
				case kind <= 2:
					e = suspendedEvent(rapid.SampledFrom(suspenseTenants).Draw(t, "tenant"), fmt.Sprint("id-", naive.position),
						rapid.SampledFrom(suspenseReasons).Draw(t, "reason"), rapid.SampledFrom(suspenseSources).Draw(t, "source"))
				case kind <= 4: // perhaps of a record that is not there, or not any more
					e = resolvedEvent(rapid.SampledFrom(suspenseTenants).Draw(t, "tenant"), fmt.Sprint("id-", rapid.Uint64Range(0, naive.position).Draw(t, "id")), kind == 4)
				default:
					e = domain.Event{Tenant: "contoso", Source: "s", ID: fmt.Sprint(naive.position), Time: gapStart, Data: &domain.Void{Ref: domain.Ref{Source: "s", ID: "x"}}}
				}
				naive.add(&e)
				batch = append(batch, e)
			}
			desk.Follow(eventstore.Update{First: first, Events: batch})
			all = append(all, batch...)
			if rapid.Bool().Draw(t, "begins again") {
				before := desk
				desk = projections.NewSuspense(seen)
				again(t, before, desk)
			}
			compareDesk(t, desk, naive)
		}
		atOnce.Follow(eventstore.Update{First: 1, Events: all})
		compareDesk(t, atOnce, naive)
	})
}

// TestSuspenseForgets: resolved records are forgotten by the thousand, and nobody
// sees it.
func TestSuspenseForgets(t *testing.T) {
	const n, seed = 2600, 1
	random := rand.New(rand.NewPCG(seed, 0))
	naive := &naiveDesk{}
	desk := projections.NewSuspense(seen)
	follow := func(events ...domain.Event) {
		first := naive.position + 1
		for i := range events {
			naive.add(&events[i])
		}
		desk.Follow(eventstore.Update{First: first, Events: events})
	}
	open := make([]string, n)
	for i := range open {
		open[i] = fmt.Sprint("id-", i)
		follow(suspendedEvent("contoso", open[i], suspenseReasons[i%2], suspenseSources[i%3]))
	}
	// Around where it forgets: more than 1,000, and more than half.
	for _, keep := range []int{1601, 1599, 1301, 1300, 1299, 1298, 200, 0} {
		var events []domain.Event
		for len(open) > keep {
			i := random.IntN(len(open))
			events = append(events, resolvedEvent("contoso", open[i], i%2 == 0))
			open = slices.Delete(open, i, i+1)
		}
		follow(events...)
		for _, f := range []projections.SuspenseFilter{{}, {Reason: "syntax"}, {Source: "switch/mil-1", UpTo: n / 2}} {
			after := uint64(random.IntN(n))
			sameRecords(t, naive.list(f, 0, 0), desk.Records(f, 0, 0))
			sameRecords(t, naive.list(f, after, 50), desk.Records(f, after, 50))
		}
		for _, r := range naive.records {
			if got := desk.ResolvedBy(r.Position); got != r.resolvedBy {
				t.Fatalf("seed %d: position %d is resolved by %d, want %d", seed, r.Position, got, r.resolvedBy)
			}
		}
	}
	follow(suspendedEvent("contoso", "late", "syntax", ""), resolvedEvent("contoso", "id-0", true))
	sameRecords(t, naive.list(projections.SuspenseFilter{}, 0, 0), desk.Records(projections.SuspenseFilter{}, 0, 0))
}
