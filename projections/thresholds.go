package projections

import "tollbook/domain"

// Thresholds are the shares of a bucket, in percent, whose crossing is announced.
var Thresholds = [...]int{50, 80, 95, 100}

// A Crossing says that a bucket of a pool has reached a threshold.
type Crossing struct {
	Tenant   string `json:"-"`
	Month    string `json:"month"`
	Country  string `json:"country"`
	Plan     string `json:"plan"`
	User     string `json:"user,omitzero"`
	Bucket   string `json:"bucket"`
	Percent  int    `json:"percent"`
	Granted  int64  `json:"granted_seconds"`
	Used     int64  `json:"used_seconds"`
	Position uint64 `json:"position"`
}

type levelKey struct {
	monthKey
	country, plan, user, bucket string
}

// A level is what was announced of a bucket: a share of what it granted then.
type level struct {
	percent int
	granted int64
}

// Crossings are the thresholds that pools have reached since it was last called,
// the highest of each bucket. What a correction takes back and another call
// reaches again is announced once; what more licences have made room for comes again.
func (m *Months) Crossings() []Crossing {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Crossing
	_, everybody := m.changed[domain.CatalogTenant]
	for _, tenant := range m.ledger.Tenants() {
		if _, one := m.changed[tenant]; one || everybody {
			for _, month := range m.ledger.Months(tenant) {
				m.touched[monthKey{tenant, month}] = struct{}{}
			}
		}
	}
	for key := range m.touched {
		for pool := range m.ledger.Pools(key.tenant, key.month) {
			for _, b := range pool.Buckets {
				now := level{reached(b), b.Granted}
				at := levelKey{key, pool.Country, pool.Plan, pool.User, b.Name}
				switch before := m.levels[at]; {
				case now.percent > before.percent:
					m.levels[at] = now
					all = append(all, Crossing{
						key.tenant, key.month.String(), pool.Country, pool.Plan, pool.User, b.Name, now.percent, b.Granted, b.Used, m.head.Events,
					})
				case now.percent < before.percent && b.Granted > before.granted:
					m.levels[at] = now
				}
			}
		}
	}
	clear(m.touched)
	clear(m.changed)
	return all
}

// Announced tells of thresholds that were announced before the fold was made, the
// last one of each bucket.
func (m *Months) Announced(before []Crossing) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range before {
		month, err := domain.ParseMonth(c.Month)
		if err != nil {
			return err
		}
		at := levelKey{monthKey{c.Tenant, month}, c.Country, c.Plan, c.User, c.Bucket}
		m.levels[at] = level{c.Percent, c.Granted}
	}
	return nil
}

func reached(b domain.BucketRating) (highest int) {
	if b.Granted == 0 {
		return 0
	}
	for _, percent := range Thresholds {
		if b.Used*100 >= b.Granted*int64(percent) {
			highest = percent
		}
	}
	return highest
}
