package projections_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// A liveRig is months that a test goes on adding to.
type liveRig struct {
	t      *rapid.T
	months *projections.Months
	head   eventstore.Head
}

func newLiveRig(t *rapid.T) *liveRig { return &liveRig{t: t, months: projections.NewMonths()} }

func (r *liveRig) follow(events ...domain.Event) {
	first := r.head.Events + 1
	r.head.Block, r.head.Events = r.head.Block+1, r.head.Events+uint64(len(events))
	r.months.Follow(eventstore.Update{Head: r.head, First: first, Events: events})
}

// call is one more of a tenant.
func (r *liveRig) call(tenant string, at domain.Instant) {
	r.follow(domain.Event{Tenant: tenant, Source: "switch/tor-1", ID: fmt.Sprint("more-", r.head.Events), Time: at + hour, Data: &domain.Call{
		User: rapid.SampledFrom(historyUsers).Draw(r.t, "user"), Kind: domain.KindUser,
		Called: phone(rapid.SampledFrom([]string{"+390612345", "+39333123"}).Draw(r.t, "called")), AnsweredAt: at, BillableMS: 600_000,
	}})
}

// month is a month in which there are some calls more.
func (r *liveRig) month(tenant string) domain.Month {
	month := rapid.SampledFrom(historyMonths).Draw(r.t, "month")
	for range rapid.IntRange(0, 30).Draw(r.t, "more calls") {
		r.call(tenant, month.Start(time.UTC)+domain.Instant(rapid.IntRange(0, 27*24).Draw(r.t, "hour"))*hour)
	}
	return month
}

// view asks the months as they are.
func (r *liveRig) view(tenant string, month domain.Month, ask func(*projections.View) error) {
	r.t.Helper()
	if _, err := r.months.View(tenant, month, ask); err != nil {
		r.t.Fatal(err)
	}
}

// calls are all of a month.
func (r *liveRig) calls(tenant string, month domain.Month) (d projections.CallsDocument) {
	r.view(tenant, month, func(v *projections.View) error {
		page, ready, err := v.Reading(tenant, month).Page(nil, projections.MaxPage)
		if !ready || err != nil {
			r.t.Fatalf("ready %v, %v", ready, err)
		}
		d = page.Document()
		return nil
	})
	return d
}

func (r *liveRig) poolView(tenant string, month domain.Month, q projections.PoolQuery) projections.PoolView {
	var reading projections.PoolReading
	r.view(tenant, month, func(v *projections.View) (err error) {
		for ready := false; !ready && err == nil; {
			reading, ready, err = v.PoolView(tenant, month, q, projections.MaxTop, true)
		}
		return err
	})
	return reading.Document()
}

func (r *liveRig) overflow(tenant string, month domain.Month, q projections.PoolQuery, after *projections.After, limit int) (d projections.OverflowPage) {
	r.view(tenant, month, func(v *projections.View) error {
		page, pool, err := v.Overflow(tenant, month, q, after, limit)
		d = page.Overflow(pool)
		return err
	})
	return d
}

// inPool are the calls in the buckets of a pool.
func inPool(calls []projections.MonthCall, p *projections.Pool) (own []projections.MonthCall) {
	for _, c := range calls {
		if c.Bucket != "" && c.PoolCountry == p.Country && c.PoolPlan == p.Plan && c.PoolUser == p.User {
			own = append(own, c)
		}
	}
	return own
}

// TestPoolViewAddsUp: whatever came in whatever order, a view of a pool is that of the
// statement of its position, and its hours, users, destinations and calls are those
// of the month's calls.
func TestPoolViewAddsUp(t *testing.T) {
	views, over := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		r := newLiveRig(t)
		events := histories.Draw(t, "events")
		for len(events) > 0 {
			n := min(rapid.IntRange(1, 30).Draw(t, "batch"), len(events))
			r.follow(events[:n]...)
			events = events[n:]
			tenant, month := rapid.SampledFrom(historyTenants).Draw(t, "tenant"), rapid.SampledFrom(historyMonths).Draw(t, "month")
			statement, calls := r.months.Statement(tenant, month), r.calls(tenant, month)
			for i := range statement.Pools {
				pool := &statement.Pools[i]
				own := inPool(calls.Calls, pool)
				v := r.poolView(tenant, month, projections.PoolQuery{Country: pool.Country, Plan: pool.Plan, User: pool.User})
				checkPoolView(t, &statement, pool, own, &v)
				views += len(v.Users)
				over += len(v.Overflow)
			}
		}
	})
	t.Logf("%d users, %d calls with overage", views, over)
	if views == 0 || over == 0 {
		t.Error("nothing was looked at")
	}
}

func checkPoolView(t *rapid.T, s *projections.Statement, pool *projections.Pool, own []projections.MonthCall, v *projections.PoolView) {
	if diff := gocmp.Diff(*pool, v.Pool); diff != "" || v.Position != s.Position || v.Head != s.Head || !v.Counted {
		t.Fatalf("the view of position %d is of %d, counted %v (-statement +view):\n%s", s.Position, v.Position, v.Counted, diff)
	}
	type bucket struct{ Used, Over int64 }
	want, got := make([]bucket, len(pool.Buckets)), make([]bucket, len(pool.Buckets))
	for i, b := range pool.Buckets {
		want[i] = bucket{b.Used, b.Overage}
	}
	for _, s := range v.Slots {
		for i := range got {
			got[i].Used += s.Billed[i] - s.Overage[i]
			got[i].Over += s.Overage[i]
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Fatalf("(-buckets +slots):\n%s", diff)
	}
	users, destinations := map[string]projections.Draw{}, map[string]projections.Draw{}
	add := func(draws map[string]projections.Draw, name string, c *projections.MonthCall) {
		d := draws[name]
		draws[name] = projections.Draw{Calls: d.Calls + 1, Billed: d.Billed + c.Billed, Overage: d.Overage + c.Overage}
	}
	var overflow []projections.MonthCall
	for i := range own {
		c := &own[i]
		add(users, c.User, c)
		add(destinations, fmt.Sprint(c.Country, c.Destination, c.Type), c)
		if c.Overage > 0 {
			overflow = append(overflow, *c)
		}
	}
	gotUsers, gotDestinations := map[string]projections.Draw{}, map[string]projections.Draw{}
	for _, u := range v.Users {
		gotUsers[u.User] = u.Draw
	}
	for _, d := range v.Destinations {
		gotDestinations[fmt.Sprint(d.Country, d.Destination, d.Type)] = d.Draw
	}
	if diff := gocmp.Diff([]any{users, destinations}, []any{gotUsers, gotDestinations}); diff != "" || v.AllUsers != len(users) || v.AllDestinations != len(destinations) {
		t.Fatalf("%d users, %d destinations (-calls +view):\n%s", v.AllUsers, v.AllDestinations, diff)
	}
	shown := overflow[:min(len(overflow), len(v.Overflow))]
	if diff := gocmp.Diff(shown, v.Overflow, cmpopts.EquateEmpty()); diff != "" || (v.Next == nil) != (len(shown) == len(overflow)) {
		t.Fatalf("%d calls with overage, goes on at %v (-calls +view):\n%s", len(overflow), v.Next, diff)
	}
	checkHeld(t, v)
}

// checkHeld: the steps begin with the month and are in order, each another number.
func checkHeld(t *rapid.T, v *projections.PoolView) {
	if len(v.Held) == 0 || v.Held[0].From != v.From {
		t.Fatalf("held %+v of a month from %s", v.Held, v.From)
	}
	for i, h := range v.Held[1:] {
		before := v.Held[i]
		if instant(h.From) <= instant(before.From) || h.Licences == before.Licences || h.Licences < 0 || h.From >= v.To {
			t.Fatalf("%+v comes after %+v", h, before)
		}
	}
}

// TestOverflowWhileCallsCome: pages of any size are together the calls with overage
// as they are in the end, in order, while later calls come.
func TestOverflowWhileCallsCome(t *testing.T) {
	pages, came := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		r := newLiveRig(t)
		r.follow(histories.Draw(t, "events")...)
		tenant := rapid.SampledFrom(historyTenants).Draw(t, "tenant")
		month := r.month(tenant)
		statement := r.months.Statement(tenant, month)
		if len(statement.Pools) == 0 {
			return
		}
		pool := rapid.SampledFrom(statement.Pools).Draw(t, "pool")
		q := projections.PoolQuery{Country: pool.Country, Plan: pool.Plan, User: pool.User}
		var got []projections.MonthCall
		var after *projections.After
		for {
			limit := rapid.IntRange(1, 3).Draw(t, "limit")
			page := r.overflow(tenant, month, q, after, limit)
			if page.Position != r.head.Events || len(page.Calls) > limit {
				t.Fatalf("a page of %d calls of position %d, want %d at most of %d", len(page.Calls), page.Position, limit, r.head.Events)
			}
			pages++
			got = append(got, page.Calls...)
			if after = page.Next; after == nil {
				break
			}
			for range rapid.IntRange(0, 2).Draw(t, "calls") {
				r.call(tenant, instant(after.At)+1+domain.Instant(rapid.IntRange(0, 200).Draw(t, "hours"))*hour)
				came++
			}
		}
		var want []projections.MonthCall
		for _, c := range inPool(r.calls(tenant, month).Calls, &pool) {
			if c.Overage > 0 {
				want = append(want, c)
			}
		}
		if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s %s %+v (-in the end +pages):\n%s", tenant, month, q, diff)
		}
	})
	t.Logf("%d pages, %d calls came", pages, came)
	if came == 0 {
		t.Error("no calls came between pages")
	}
}

// TestSearchFinds: a search finds what a filter over all calls does, page by page, and
// says of users what their calls come to.
func TestSearchFinds(t *testing.T) {
	found, drawn := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		r := newLiveRig(t)
		events := histories.Draw(t, "events")
		r.follow(events...)
		tenant := rapid.SampledFrom(historyTenants).Draw(t, "tenant")
		month := r.month(tenant)
		text := rapid.SampledFrom([]string{"ada@", "EVE", "example.org", "stranger", "+39", "390612345", "+39 06-123", "+3906****", "112", "+4", "11", "nobody", "+7495"}).Draw(t, "text")
		calls := r.calls(tenant, month)
		number := strings.TrimPrefix(strings.NewReplacer(" ", "", "-", "", "*", "").Replace(text), "+")
		users := map[string]map[[3]string]projections.Draw{}
		var want []projections.MonthCall
		for _, c := range calls.Calls {
			digits, plus := strings.CutPrefix(c.Called, "+")
			if strings.Contains(c.User, strings.ToLower(text)) || strings.HasPrefix(digits, number) && (plus || !strings.HasPrefix(text, "+")) {
				want = append(want, c)
			}
			if c.Bucket == "" {
				continue
			}
			if users[c.User] == nil {
				users[c.User] = map[[3]string]projections.Draw{}
			}
			pool := [3]string{c.PoolCountry, c.PoolPlan, c.PoolUser}
			d := users[c.User][pool]
			users[c.User][pool] = projections.Draw{Calls: d.Calls + 1, Billed: d.Billed + c.Billed, Overage: d.Overage + c.Overage}
		}
		slices.Reverse(want)
		q := projections.SearchQuery{Tenant: tenant, Month: month, Text: text}
		var got []projections.MonthCall
		for more := true; more; {
			q.Limit = rapid.IntRange(1, 5).Draw(t, "limit")
			d, err := r.months.Search(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if d.Position != r.head.Events || len(d.Calls) > q.Limit || !d.Counted {
				t.Fatalf("a page of %d calls of position %d, counted %v", len(d.Calls), d.Position, d.Counted)
			}
			drawn += checkFoundUsers(t, text, &d, users)
			got = append(got, d.Calls...)
			q.After, more = d.Next, d.Next != nil
		}
		if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s %s %q (-filter +search):\n%s", tenant, month, text, diff)
		}
		found += len(got)
	})
	t.Logf("%d calls, %d pools of users", found, drawn)
	if found == 0 || drawn == 0 {
		t.Error("nothing was found")
	}
}

func checkFoundUsers(t *rapid.T, text string, d *projections.SearchDocument, draws map[string]map[[3]string]projections.Draw) (n int) {
	if len(d.Users) != d.AllUsers || !slices.IsSortedFunc(d.Users, func(a, b projections.FoundUser) int { return cmp.Compare(a.User, b.User) }) {
		t.Fatalf("%d users: %+v", d.AllUsers, d.Users)
	}
	for _, u := range d.Users {
		if !strings.Contains(u.User, strings.ToLower(text)) {
			t.Fatalf("%q finds %s", text, u.User)
		}
		got := map[[3]string]projections.Draw{}
		for _, p := range u.Pools {
			if p.Calls > 0 {
				got[[3]string{p.Country, p.Plan, p.User}] = p.Draw
			}
		}
		if diff := gocmp.Diff(draws[u.User], got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s (-calls +search):\n%s", u.User, diff)
		}
		n += len(got)
	}
	for _, user := range slices.Sorted(maps.Keys(draws)) {
		if strings.Contains(user, strings.ToLower(text)) && !slices.ContainsFunc(d.Users, func(u projections.FoundUser) bool { return u.User == user }) {
			t.Fatalf("%q does not find %s", text, user)
		}
	}
	return n
}

// TestSearchRefused: what can't be looked for is said.
func TestSearchRefused(t *testing.T) {
	months := projections.NewMonths()
	for text, after := range map[string]*projections.After{"a": nil, "": nil, strings.Repeat("a", projections.LongestText+1): nil, "ada": {At: "yesterday"}} {
		if d, err := months.Search(t.Context(), projections.SearchQuery{Tenant: "contoso", Month: 2026*12 + 9, Text: text, After: after}); err == nil {
			t.Errorf("%.20q: %+v", text, d)
		}
	}
	d, err := months.Search(t.Context(), projections.SearchQuery{Tenant: "nobody", Month: 2026*12 + 9, Text: "+39"})
	if err != nil || len(d.Calls) != 0 || len(d.Users) != 0 || d.Next != nil {
		t.Errorf("a tenant without calls: %+v, %v", d, err)
	}
}

// TestImpatient: who does not wait gets what is known without counting, and the
// next answer has all.
func TestImpatient(t *testing.T) {
	months := projections.NewMonths()
	at := instant("2026-10-01T00:00:00Z")
	events := []domain.Event{
		{Source: "admin", Data: &domain.Plan{Plan: "OWN", Name: "Own", EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Deck: "standard", Increment: domain.DefaultIncrement,
			Buckets: []domain.Bucket{{Name: "all", Zone: domain.ZoneAll, Minutes: map[string]int64{domain.AnyCountry: 10}}}}},
		{Source: "admin", Data: &domain.Deck{Deck: "standard", Version: "1", EffectiveFrom: at, Currency: "EUR", Part: 1, Parts: 1, Rows: []domain.Row{
			{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 5000, Increment: domain.DefaultIncrement}}}},
		{Source: "crm", Data: &domain.Assignment{User: "ada", Plan: "OWN", Country: "IT", EffectiveAt: at}},
	}
	const calls = 20_000 // in so many hours that it is more than is counted at once
	for i := range calls {
		answered := at + domain.Instant(i)*domain.Instant(2*time.Minute)
		events = append(events, domain.Event{Source: "switch/mil-1", Data: &domain.Call{User: "ada", Kind: domain.KindUser, Called: phone("+390612345"), AnsweredAt: answered, BillableMS: 60_000}})
	}
	for i := range events {
		events[i].Tenant, events[i].ID, events[i].Time = "contoso", fmt.Sprint(i), at
	}
	months.Follow(eventstore.Update{Head: eventstore.Head{Block: 1, Events: uint64(len(events))}, First: 1, Events: events})
	q := projections.SearchQuery{Tenant: "contoso", Month: 2026*12 + 9, Text: "ada", Limit: 1, Patient: func() bool { return false }}
	d, err := months.Search(t.Context(), q)
	if err != nil || d.Counted || len(d.Users) != 1 || len(d.Users[0].Pools) != 0 || len(d.Calls) != 1 {
		t.Errorf("without patience: %+v, %v", d, err)
	}
	q.Patient = nil
	d, err = months.Search(t.Context(), q)
	want := []projections.UserPool{{Country: "IT", Plan: "OWN", Draw: projections.Draw{Calls: calls, Billed: calls * 60, Overage: (calls - 10) * 60}}}
	if diff := gocmp.Diff(want, d.Users[0].Pools); diff != "" || err != nil || !d.Counted {
		t.Errorf("with patience: %v (-want +got):\n%s", err, diff)
	}
}
