package forecast

import (
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

const tenant = "contoso"

var update = flag.Bool("update", false, "rewrite testdata")

func moment(text string) instant {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return domain.InstantOf(t)
}

func month(text string) domain.Month {
	m, err := domain.ParseMonth(text)
	if err != nil {
		panic(err)
	}
	return m
}

func phone(text string) domain.Number {
	n, err := domain.ParseNumber(text)
	if err != nil {
		panic(err)
	}
	return n
}

// A history is events of a tenant and the catalogue.
type history []domain.Event

func (h *history) add(owner string, data domain.Data) {
	*h = append(*h, domain.Event{Tenant: owner, Source: "desk", ID: fmt.Sprint(len(*h)), Time: moment("2026-01-01T00:00:00Z"), Data: data})
}

func (h *history) call(user, called string, when instant, seconds int64) {
	*h = append(*h, domain.Event{Tenant: tenant, Source: "switch", ID: fmt.Sprint(len(*h)), Time: when, Data: &domain.Call{
		User: user, Kind: domain.KindUser, Disposition: domain.Answered, Calling: phone("+390281234567"), Called: phone(called), AnsweredAt: when, BillableMS: 1000 * seconds,
	}})
}

func (h *history) config(zone string) {
	z, err := time.LoadLocation(zone)
	if err != nil {
		panic(err)
	}
	h.add(tenant, &domain.TenantConfig{TimeZone: zone, Zone: z, Currency: "EUR", EffectiveFrom: 20260101, Decks: map[string]string{}})
}

func (h *history) deck(currency domain.Currency) {
	d := &domain.Deck{Deck: "standard", Version: "1", EffectiveFrom: moment("2026-01-01T00:00:00Z"), Currency: currency, Part: 1, Parts: 1}
	for _, row := range []domain.Row{
		{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Price: 20_000},
		{Prefix: "393", Country: "IT", Name: "Italy", RowType: "mobile", Price: 125_000, ConnectFee: 5_000},
		{Prefix: "33", Country: "FR", Name: "France", RowType: "landline", Price: 16_000},
		{Prefix: "44", Country: "GB", Name: "Great Britain", RowType: "landline", Price: 30_000},
	} {
		row.Increment = domain.DefaultIncrement
		d.Rows = append(d.Rows, row)
	}
	h.add(domain.CatalogTenant, d)
}

func (h *history) plan(name string, scope domain.Scope, linked bool, minutes ...int64) {
	p := &domain.Plan{
		Plan: name, EffectiveFrom: 20260101, Kinds: []string{domain.KindUser}, Deck: "standard", Increment: domain.DefaultIncrement,
		Scope: scope, Linked: linked,
	}
	for i, n := range minutes {
		p.Buckets = append(p.Buckets, domain.Bucket{
			Name: []string{"domestic", "abroad"}[i], Zone: []domain.Zone{domain.ZoneDomestic, domain.ZoneAll}[i], Minutes: map[string]int64{domain.AnyCountry: n},
		})
	}
	h.add(domain.CatalogTenant, p)
}

func (h *history) licence(user, plan, country, from string) {
	h.add(tenant, &domain.Assignment{User: user, Plan: plan, Country: country, EffectiveAt: moment(from)})
}

func (h history) until(now instant) history {
	return slices.DeleteFunc(slices.Clone(h), func(e domain.Event) bool { return e.Source == "switch" && e.Time >= now })
}

func (h history) view() *projections.View {
	l := domain.NewLedger()
	for i := range h {
		l.Add(&h[i])
	}
	return &projections.View{Ledger: l, Head: eventstore.Head{Events: uint64(len(h))}}
}

func (h history) forecast(m domain.Month, now instant) *Forecast {
	return Read(h.view(), tenant, m, now).Forecast()
}

// TestExample is an office that calls 80 minutes each working day, and has 1,200
// minutes: testdata/example.txt is what is said of it, and can be checked by hand.
func TestExample(t *testing.T) {
	var h history
	h.config("Europe/Rome")
	h.deck("EUR")
	h.plan("OFFICE", domain.ScopeCountry, false, 120)
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	for n := range 10 {
		h.licence(fmt.Sprint("user", n), "OFFICE", "IT", "2026-01-01T00:00:00Z")
	}
	for day := time.Date(2026, 7, 1, 0, 0, 0, 0, rome); day.Before(time.Date(2027, 1, 1, 0, 0, 0, 0, rome)); day = day.AddDate(0, 0, 1) {
		if is, _ := Holiday("IT", day); is || day.Weekday() == time.Saturday || day.Weekday() == time.Sunday {
			continue
		}
		for n := range 8 {
			h.call(fmt.Sprint("user", n), "+390612345", domain.InstantOf(day.Add(time.Duration(9+n)*time.Hour+10*time.Minute)), 600)
		}
	}
	var text strings.Builder
	for _, asked := range []struct{ what, now, month string }{
		{"On the first day of the first month nothing is known: half of the grant is as good a guess as any.", "2026-07-01T00:00:00+02:00", "2026-07"},
		{"The month after, before it begins.", "2026-08-01T00:00:00+02:00", "2026-08"},
		{"October after 6 of its 22 working days. The pool ends in the 15th one, on the 21st at the end of its 8th hour of calls.", "2026-10-09T00:00:00+02:00", "2026-10"},
		{"After 13 of them.", "2026-10-20T00:00:00+02:00", "2026-10"},
		{"It has ended: 22 × 80 = 1,760 minutes are 560 too many, at 0.02 EUR.", "2026-10-28T12:00:00+01:00", "2026-10"},
		{"It is over.", "2026-11-01T00:00:00+01:00", "2026-10"},
		{"December, which has two holidays on working days in Italy: 21 days are left.", "2026-12-01T00:00:00+01:00", "2026-12"},
	} {
		d := h.until(moment(asked.now)).forecast(month(asked.month), moment(asked.now)).Document
		fmt.Fprintf(&text, "%s\n%s, asked at %s\n", asked.what, asked.month, asked.now)
		for _, p := range d.Pools {
			for _, b := range p.Buckets {
				fmt.Fprintf(&text, "  used %s of %s, expected %s (%s to %s)\n", minutes(b.Used), minutes(b.Granted), minutes(b.Expected), minutes(b.ExpectedLow), minutes(b.ExpectedHigh))
				fmt.Fprintf(&text, "  ended %t, ends %s (%s to %s)\n", b.Ended, local(rome, b.Ends), local(rome, b.EndsLow), local(rome, b.EndsHigh))
				fmt.Fprintf(&text, "  overage %s, expected %s (%s to %s), %v\n", minutes(b.Overage), minutes(b.OverageExpected), minutes(b.OverageLow), minutes(b.OverageHigh), b.Amounts)
			}
			fmt.Fprintf(&text, "  holidays %v\n", p.Holidays)
		}
		fmt.Fprintf(&text, "  totals %v\n\n", d.Totals)
	}
	const name = "testdata/example.txt"
	if *update {
		if err := os.WriteFile(name, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("%s, rewritten with -update; -want +got:\n%s", name, diff)
	}
}

func minutes(seconds int64) string { return fmt.Sprintf("%d:%02d", seconds/60, seconds%60) }

func local(zone *time.Location, text *string) string {
	if text == nil {
		return "never"
	}
	return instantOf(*text).Time().In(zone).Format("2006-01-02 15:04")
}

// someHistory is made up from few users and plans of every kind.
func someHistory(t *rapid.T) history {
	var h history
	h.config(rapid.SampledFrom([]string{"UTC", "Europe/Rome", "America/New_York"}).Draw(t, "zone"))
	h.deck(rapid.SampledFrom([]domain.Currency{"EUR", "JPY", "KWD"}).Draw(t, "currency"))
	grant := rapid.SampledFrom([]int64{0, 10, 60, 1000})
	h.plan("COUNTRY", domain.ScopeCountry, rapid.Bool().Draw(t, "linked"), grant.Draw(t, "minutes"), grant.Draw(t, "minutes"))
	h.plan("TENANT", domain.ScopeTenant, false, grant.Draw(t, "minutes"))
	h.plan("USER", domain.ScopeUser, rapid.Bool().Draw(t, "linked"), grant.Draw(t, "minutes"), grant.Draw(t, "minutes"))
	h.plan("NONE", domain.ScopeCountry, false)
	from := moment("2026-08-01T00:00:00Z")
	hours := rapid.IntRange(0, 92*24)
	for n := range 8 {
		user := fmt.Sprint("user", n)
		held := rapid.SampledFrom([]string{"2026-01-01T00:00:00Z", "2026-09-01T00:00:00Z", "2026-10-10T12:00:00Z"}).Draw(t, "held from")
		plan := rapid.SampledFrom([]string{"COUNTRY", "TENANT", "USER", "NONE"}).Draw(t, "plan")
		h.licence(user, plan, rapid.SampledFrom([]string{"IT", "FR", "SG"}).Draw(t, "country"), held)
		if rapid.IntRange(0, 5).Draw(t, "removed") == 0 {
			h.add(tenant, &domain.Removal{User: user, Plan: plan, EffectiveAt: moment("2026-10-20T00:00:00Z")})
		}
	}
	for range rapid.SampledFrom([]int{0, 3, 40, 150}).Draw(t, "calls") {
		when := from + instant(hours.Draw(t, "hour"))*instant(time.Hour) + instant(rapid.IntRange(0, 59).Draw(t, "minute"))*minute
		called := rapid.SampledFrom([]string{"+390612345", "+393331234", "+33145678", "+44201234567"}).Draw(t, "called")
		h.call(fmt.Sprint("user", rapid.IntRange(0, 7).Draw(t, "user")), called, when, rapid.SampledFrom([]int64{30, 60, 600, 3600}).Draw(t, "seconds"))
	}
	return h
}

// TestProperties: whatever the months were like, a forecast is in order, below
// nothing that has happened, the same whatever came first, and of a month that is
// over, exactly what it was.
func TestProperties(t *testing.T) {
	const asked = "2026-10"
	ends, lasts := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		h := someHistory(t)
		now := moment("2026-10-01T00:00:00Z") + instant(rapid.IntRange(-24, 34*24).Draw(t, "now"))*instant(time.Hour)
		h = h.until(now)
		f := h.forecast(month(asked), now)
		mixed := slices.Clone(h)
		order := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 0))
		order.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		first, err := json.Marshal(f.Document)
		if err != nil {
			t.Fatal(err)
		}
		second, err := json.Marshal(mixed.forecast(month(asked), now).Document)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(first), string(second)); diff != "" {
			t.Fatalf("in another order: %s", diff)
		}
		v := h.view()
		from, to := v.Ledger.Bounds(tenant, month(asked))
		rating := v.Ledger.Rating(tenant, month(asked))
		if len(rating.Pools) != len(f.Pools) {
			t.Fatalf("%d pools of %d", len(f.Pools), len(rating.Pools))
		}
		for i := range f.Pools {
			p, r := &f.Pools[i], &rating.Pools[i]
			course := f.Course(keyOf(r))
			for j := range p.Buckets {
				b := &p.Buckets[j]
				inOrder(t, "seconds", b.Used+b.Overage, b.ExpectedLow, b.Expected, b.ExpectedHigh)
				inOrder(t, "overage", b.Overage, b.OverageLow, b.OverageExpected, b.OverageHigh)
				inOrder(t, "overage of all", b.OverageHigh, b.ExpectedHigh)
				for _, a := range b.Amounts {
					amountsInOrder(t, "0", a.Low, a.Expected, a.High)
				}
				early, middle, late := orTo(b.EndsLow, domain.MaxInstant), orTo(b.Ends, domain.MaxInstant), orTo(b.EndsHigh, domain.MaxInstant)
				inOrder(t, "ends", int64(early), int64(middle), int64(late))
				if b.Ends != nil {
					ends++
					if middle < from || middle > to || !b.Ended && middle < now {
						t.Fatalf("ends at %s, asked at %s", *b.Ends, now)
					}
				} else {
					lasts++
				}
				if b.Granted == 0 && b.Ends != nil {
					t.Fatal("a bucket without minutes ends")
				}
				if now >= to {
					exactly(t, b, r)
					continue
				}
				if points := course[j]; points[len(points)-1] != (Point{to, b.Expected, b.ExpectedLow, b.ExpectedHigh}) {
					t.Fatalf("the course ends with %+v, the bucket with %+v", points[len(points)-1], b)
				}
				for n, point := range course[j][1:] {
					was := course[j][n]
					inOrder(t, "course", point.Low, point.Expected, point.High)
					inOrder(t, "course by day", was.Low, point.Low)
					inOrder(t, "course by day", was.Expected, point.Expected)
					inOrder(t, "course by day", was.High, point.High)
				}
			}
			inOrder(t, "outside", p.Outside.Seconds, p.Outside.ExpectedLow, p.Outside.Expected, p.Outside.ExpectedHigh)
		}
		for _, total := range f.Totals {
			amountsInOrder(t, total.Charged, total.Low, total.Expected, total.High)
			if now >= to && (total.Charged != total.Low || total.Charged != total.High) {
				t.Fatalf("the month is over, and its total %+v", total)
			}
		}
	})
	t.Logf("%d buckets end, %d last", ends, lasts)
	if ends == 0 || lasts == 0 {
		t.Error("nothing was looked at")
	}
}

// exactly checks a bucket of a month that is over.
func exactly(t *rapid.T, b *Bucket, r *domain.PoolRating) {
	t.Helper()
	billed := b.Used + b.Overage
	if b.ExpectedLow != billed || b.ExpectedHigh != billed || b.OverageLow != b.Overage || b.OverageHigh != b.Overage {
		t.Fatalf("the month is over, and %+v", b)
	}
	// A bucket that is linked with one without minutes has as little an end as that.
	none := slices.ContainsFunc(r.Buckets, func(b domain.BucketRating) bool { return b.Granted == 0 })
	if b.Overage > 0 && !none && (b.Ends == nil || instantOf(*b.Ends) < r.ExhaustedAt) {
		t.Fatalf("over since %s, and %+v", r.ExhaustedAt, b)
	}
}

func inOrder(t *rapid.T, what string, numbers ...int64) {
	t.Helper()
	if !slices.IsSorted(numbers) {
		t.Fatalf("%s: %d are not in order", what, numbers)
	}
}

func amountsInOrder(t *rapid.T, amounts ...string) {
	t.Helper()
	last := new(big.Rat)
	for i, text := range amounts {
		r, ok := new(big.Rat).SetString(text)
		if !ok || i > 0 && r.Cmp(last) < 0 {
			t.Fatalf("amounts %s are not in order", amounts)
		}
		last = r
	}
}

func orTo(text *string, to instant) instant {
	if text == nil {
		return to
	}
	return instantOf(*text)
}
