package projections

import (
	"cmp"
	"slices"

	"tollbook/domain"
)

// Levels are what somebody watches of a tenant while calls pour in. Nobody is
// named in them: pools of one user are counted together.
type Levels struct {
	Intake     Intake
	Month      domain.Month     // the last that has calls and has begun
	Pools      []PoolLevel      // of Month, by country, plan and bucket
	Open       int              // months with calls that are not closed
	Exceptions map[string]int64 // of the open months by reason, without those waived
}

// A PoolLevel is a bucket of all pools of a country and a plan: of one pool, or of
// as many as there are users, where each has their own.
type PoolLevel struct {
	Country, Plan, Bucket  string
	Pools                  int
	Ended                  int   // pools whose bucket is used up
	Granted, Used, Overage int64 // seconds, of all pools together
	Fullest                Share // the greatest of all pools
}

// A Share is how much of a grant is used, in seconds. Of no grant nothing is used.
type Share struct{ Used, Granted int64 }

// Ratio is 0 to 1.
func (s Share) Ratio() float64 {
	if s.Granted == 0 {
		return 0
	}
	return float64(s.Used) / float64(s.Granted)
}

// Add adds a bucket of more pools.
func (l *PoolLevel) Add(o *PoolLevel) {
	l.Pools += o.Pools
	l.Ended += o.Ended
	l.Granted, l.Used, l.Overage = l.Granted+o.Granted, l.Used+o.Used, l.Overage+o.Overage
	if o.Fullest.Ratio() > l.Fullest.Ratio() {
		l.Fullest = o.Fullest
	}
}

// Levels are the tenant's at now, which chooses the month. Of months in which
// nothing has changed they cost as much as there are pools.
func (m *Months) Levels(tenant string, now domain.Instant) Levels {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := Levels{Exceptions: map[string]int64{}}
	if in := m.intake[tenant]; in != nil {
		l.Intake = *in
	}
	months := m.ledger.Months(tenant)
	if len(months) == 0 {
		return l
	}
	l.Month = months[0]
	running := m.ledger.MonthAt(tenant, now)
	for _, month := range months {
		if month <= running {
			l.Month = month
		}
		if m.open(tenant, month) {
			l.Open++
			for _, e := range m.ledger.Exceptions(tenant, month) {
				l.Exceptions[e.Reason] += max(0, e.Count-m.ledger.Waived(tenant, month, e.Reason))
			}
		}
	}
	l.Pools = m.poolLevels(tenant, l.Month)
	return l
}

// open reports whether a month can be closed yet: none up to the last that was.
func (m *Months) open(tenant string, month domain.Month) bool {
	closed := m.ledger.Closings(tenant)
	return len(closed) == 0 || month > closed[len(closed)-1].Month
}

func (m *Months) poolLevels(tenant string, month domain.Month) []PoolLevel {
	type key struct{ country, plan, bucket string }
	index := map[key]int{}
	var levels []PoolLevel
	for pool := range m.ledger.Pools(tenant, month) {
		for _, b := range pool.Buckets {
			one := PoolLevel{
				Country: pool.Country, Plan: pool.Plan, Bucket: b.Name,
				Pools: 1, Granted: b.Granted, Used: b.Used, Overage: b.Overage, Fullest: Share{b.Used, b.Granted},
			}
			if b.Used >= b.Granted {
				one.Ended = 1
			}
			k := key{pool.Country, pool.Plan, b.Name}
			i, ok := index[k]
			if !ok {
				i = len(levels)
				index[k] = i
				levels = append(levels, PoolLevel{Country: k.country, Plan: k.plan, Bucket: k.bucket})
			}
			levels[i].Add(&one)
		}
	}
	slices.SortFunc(levels, func(a, b PoolLevel) int {
		return cmp.Or(cmp.Compare(a.Country, b.Country), cmp.Compare(a.Plan, b.Plan), cmp.Compare(a.Bucket, b.Bucket))
	})
	return levels
}

// A SuspenseLevel is the records in suspense of a tenant and a reason.
type SuspenseLevel struct {
	Tenant, Reason string
	Records        int
	Oldest         domain.Instant // when the first of them came in
}

// Levels are those of all tenants, by tenant and reason.
func (s *Suspense) Levels() []SuspenseLevel {
	s.mu.Lock()
	defer s.mu.Unlock()
	type key struct{ tenant, reason string }
	index := map[key]int{}
	var levels []SuspenseLevel
	for _, r := range s.records {
		if r.resolved {
			continue
		}
		k := key{r.Tenant, r.Reason}
		i, ok := index[k]
		if !ok {
			i = len(levels)
			index[k] = i
			levels = append(levels, SuspenseLevel{Tenant: r.Tenant, Reason: r.Reason, Oldest: r.At})
		}
		levels[i].Records++
		levels[i].Oldest = min(levels[i].Oldest, r.At)
	}
	slices.SortFunc(levels, func(a, b SuspenseLevel) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Reason, b.Reason))
	})
	return levels
}

// A GapLevel is what of a tenant never came and nobody has given up.
type GapLevel struct {
	Tenant     string
	Sources    int    // with sequences
	Incomplete int    // those of them that miss numbers
	Missing    uint64 // numbers
}

// Levels are those of all tenants that have sources with sequences, by tenant.
func (g *Gaps) Levels() []GapLevel {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var levels []GapLevel
	for tenant, sources := range sorted(g.tenants) {
		l := GapLevel{Tenant: tenant, Sources: len(sources)}
		for _, s := range sources {
			if n := s.openCount(); n > 0 {
				l.Incomplete++
				l.Missing += n
			}
		}
		levels = append(levels, l)
	}
	return levels
}
