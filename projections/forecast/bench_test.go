package forecast

import (
	"fmt"
	"testing"
	"time"

	"tollbook/domain"
)

// BenchmarkManyPools forecasts 100,000 pools of one user each, with three months
// before them: read is what is done while nobody else can ask the months.
func BenchmarkManyPools(b *testing.B) {
	const pools = 100_000
	var h history
	h.config("Europe/Rome")
	h.deck("EUR")
	h.plan("USER", domain.ScopeUser, false, 120)
	for n := range pools {
		h.licence(fmt.Sprint("user", n), "USER", "IT", "2026-01-01T00:00:00Z")
	}
	v := h.view()
	calls := 0
	for day := moment("2026-07-01T08:00:00Z"); day < moment("2026-10-16T00:00:00Z"); day += 24 * instant(time.Hour) {
		if w := day.Time().Weekday(); w == time.Saturday || w == time.Sunday {
			continue
		}
		for n := range pools {
			if (n+int(day/instant(time.Hour)))%3 == 0 {
				calls++
				v.Ledger.Add(&domain.Event{Tenant: tenant, Source: "switch", ID: fmt.Sprint(calls), Time: day, Data: &domain.Call{
					User: fmt.Sprint("user", n), Kind: domain.KindUser, Disposition: domain.Answered, Calling: phone("+390281234567"), Called: phone("+390612345"), AnsweredAt: day, BillableMS: 700_000,
				}})
			}
		}
	}
	now := moment("2026-10-16T00:00:00Z")
	Read(v, tenant, month("2026-10"), now) // places the calls
	known := map[domain.Month]*sums{}
	for _, c := range []struct {
		name string
		past func(domain.Month, int) *sums
	}{
		{"anew", func(id domain.Month, n int) *sums { return sum(v.Ledger, tenant, id, domain.MaxInstant, n) }},
		{"past known", func(id domain.Month, n int) *sums { // as Live has it
			if known[id] == nil {
				known[id] = sum(v.Ledger, tenant, id, domain.MaxInstant, n)
			}
			return known[id]
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			reading := time.Duration(0)
			for b.Loop() {
				began := time.Now()
				in := read(v, tenant, month("2026-10"), now, c.past)
				reading += time.Since(began)
				if d := in.Forecast(); len(d.Pools) != pools {
					b.Fatal(len(d.Pools))
				}
			}
			b.ReportMetric(reading.Seconds()/float64(b.N), "s-read/op")
		})
	}
}
