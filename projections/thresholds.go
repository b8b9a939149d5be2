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

// Crossings are the thresholds that pools have reached since it was last called,
// the highest of each bucket. What a correction takes back and another call
// reaches again is announced once.
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
				level := reached(b)
				at := levelKey{key, pool.Country, pool.Plan, pool.User, b.Name}
				if level <= m.levels[at] {
					continue
				}
				m.levels[at] = level
				all = append(all, Crossing{
					key.tenant, key.month.String(), pool.Country, pool.Plan, pool.User, b.Name, level, b.Granted, b.Used, m.head.Events,
				})
			}
		}
	}
	clear(m.touched)
	clear(m.changed)
	return all
}

// Announced tells of thresholds that were announced before the fold was made: of
// their buckets only higher ones are crossings.
func (m *Months) Announced(before []Crossing) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range before {
		month, err := domain.ParseMonth(c.Month)
		if err != nil {
			return err
		}
		at := levelKey{monthKey{c.Tenant, month}, c.Country, c.Plan, c.User, c.Bucket}
		m.levels[at] = max(m.levels[at], c.Percent)
	}
	return nil
}

func reached(b domain.BucketRating) (level int) {
	if b.Granted == 0 {
		return 0
	}
	for _, percent := range Thresholds {
		if b.Used*100 >= b.Granted*int64(percent) {
			level = percent
		}
	}
	return level
}
