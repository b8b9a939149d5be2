package domain

// A tariff is what licences of one plan and country have in common for a month:
// where their calls draw, and what they cost.
type tariff struct {
	plan     *Plan
	country  string
	versions []tariffVersion // of the deck, by when they come into force
}

type tariffKey struct{ plan, country string }

// A tariffVersion is a version of a tariff's deck.
type tariffVersion struct {
	deck    *deckVersion
	lines   uint32 // where its lines begin among those of the month
	kinds   int
	buckets []int8 // for each of the first kinds, by country of the version: R6.5's, or -1
}

func (m *month) tariffOf(plan *Plan, country string) *tariff {
	key := tariffKey{plan.Plan, country}
	t := m.tariffs[key]
	if t != nil {
		return t
	}
	t = &tariff{plan: plan, country: country}
	m.tariffs[key] = t
	for _, v := range m.account.deckFor(m.id, plan, country).versions() {
		t.versions = append(t.versions, m.tariffVersion(t, v))
	}
	return t
}

func (m *month) tariffVersion(t *tariff, v *deckVersion) tariffVersion {
	base, known := m.lineBase[v]
	if !known {
		base = uint32(len(m.lines))
		m.lineBase[v] = base
		for i := range v.lines {
			m.lines = append(m.lines, &v.lines[i])
		}
	}
	kinds := m.account.kinds.names
	out := tariffVersion{deck: v, lines: base, kinds: len(kinds), buckets: make([]int8, 0, len(kinds)*len(v.countries))}
	for _, kind := range kinds {
		for _, destination := range v.countries {
			out.buckets = append(out.buckets, int8(t.plan.bucketFor(kind, t.country, destination)))
		}
	}
	return out
}

// at is the version in force at an instant; nil: none.
func (t *tariff) at(at Instant) *tariffVersion {
	for i := len(t.versions) - 1; i >= 0; i-- {
		if t.versions[i].deck.from <= at {
			return &t.versions[i]
		}
	}
	return nil
}

// bucket is R6.5's for a call of a kind to where a line of the version is.
func (v *tariffVersion) bucket(a *account, t *tariff, kind uint16, line uint32) int {
	country := v.deck.countryOf[line]
	if int(kind) < v.kinds {
		return int(v.buckets[int(kind)*len(v.deck.countries)+int(country)])
	}
	return t.plan.bucketFor(a.kinds.names[kind], t.country, v.deck.countries[country])
}
