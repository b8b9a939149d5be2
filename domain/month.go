package domain

import (
	"cmp"
	"slices"
	"time"
)

// A month is the calls of one tenant that belong to one month, and what the
// terms of the tenant make of them. The calls are given; everything derived can
// be made again from them, and is when the terms change.
type month struct {
	account    *account
	id         Month
	start, end Instant // [start, end)
	calls      calls
	dropped    []uint32 // calls that are gone, in the order in which they went

	// Derived:
	terms     uint64              // the terms that made it; 0: not made
	stale     map[uint32]struct{} // users whose licences have changed since
	pools     map[poolKey]*pool
	poolCount uint32                   // of all there have been
	used      []*pool                  // those with a usage, the last that was asked for at the end
	licences  []*userLicences          // by user; nil: none
	first     [families][]monthLicence // by user: the first that grants something, to look at in one place
	lines     []*Line                  // of all versions in use
	lineBase  map[*deckVersion]uint32  // where those of a version begin
	tariffs   map[tariffKey]*tariff
	tally
	ungranted int64
	changes   uint64              // of anything derived
	billing   map[billedLine]cell // as of billedAt; nil: not made
	billedAt  uint64
}

// A tally sums the calls of a month that are in no pool.
type tally struct {
	free       int64
	unlicensed cell
	unrated    cell
}

func (t *tally) merge(o *tally) {
	t.free += o.free
	t.unlicensed.calls, t.unlicensed.seconds = t.unlicensed.calls+o.unlicensed.calls, t.unlicensed.seconds+o.unlicensed.seconds
	t.unrated.calls, t.unrated.seconds = t.unrated.calls+o.unrated.calls, t.unrated.seconds+o.unrated.seconds
}

// userLicences are a user's licences within a month.
type userLicences struct {
	held      [families][]monthLicence
	ungranted int64
}

type monthLicence struct {
	from, to Instant
	pool     *pool // nil: grants nothing (R10 ungranted)
	tariff   *tariff
}

// order is R7's: answered_at, source, id.
func (m *month) order(a, b uint32) int { return compareCalls(m, a, m, b) }

// compareCalls is R7's order of call a of m and call b of n, of one account.
func compareCalls(m *month, a uint32, n *month, b uint32) int {
	x, y := m.calls.at(a), n.calls.at(b)
	if x.at != y.at {
		return cmp.Compare(x.at, y.at)
	}
	if s, t := m.calls.source(a), n.calls.source(b); s != t {
		return cmp.Compare(m.account.sources.names[s], m.account.sources.names[t])
	}
	return compareIDs(&m.calls, x, &n.calls, y)
}

// slot is the slot of time of R7's sums: an hour, or for pools of one user a
// day, so that thousands of small pools stay small.
func (m *month) slot(p *pool, at Instant) int32 {
	width := Instant(time.Hour)
	if p.plan.Scope == ScopeUser {
		width *= 24
	}
	return int32((at - m.start) / width)
}

// add keeps a call.
func (m *month) add(c call, user, source uint32, id CallID, said Instant) uint32 {
	c.setClass(unplaced)
	index := m.calls.add(c, user, source, id, said)
	if m.terms != 0 {
		if _, stale := m.stale[user]; !stale {
			m.place(index)
		}
	}
	return index
}

// drop takes a call out for good: a correction replaced it.
func (m *month) drop(index uint32) {
	m.unplace(index)
	m.calls.at(index).setClass(gone)
	m.dropped = append(m.dropped, index)
}

// refresh brings the derived part up to date.
func (m *month) refresh() {
	if terms := m.account.terms(); m.terms != terms {
		m.rebuild()
		m.terms = terms
	}
	if len(m.stale) > 0 {
		m.placeAgain()
	}
	clear(m.stale)
	var tasks []func()
	for _, p := range m.pools {
		if !p.settled() {
			tasks = append(tasks, func() { p.settle(m) })
		}
	}
	m.account.ledger.run(tasks)
}

// placeAgain places the calls of users whose licences have changed.
func (m *month) placeAgain() {
	var indexes []uint32
	index := uint32(0)
	for _, chunk := range m.calls.users.chunks {
		for _, user := range chunk {
			if _, stale := m.stale[user]; stale {
				m.unplace(index)
				indexes = append(indexes, index)
			}
			index++
		}
	}
	for user := range m.stale {
		m.dropLicences(user)
		m.takeLicences(user)
	}
	for _, index := range indexes {
		m.place(index)
	}
}

func (m *month) rebuild() {
	m.changes++
	m.stale = map[uint32]struct{}{}
	m.pools, m.poolCount, m.used = map[poolKey]*pool{}, 0, nil
	m.licences, m.first = nil, [families][]monthLicence{}
	m.lines, m.lineBase, m.tariffs = nil, map[*deckVersion]uint32{}, map[tariffKey]*tariff{}
	m.ungranted, m.tally = 0, tally{}
	for user := range m.account.users.names {
		m.takeLicences(uint32(user))
	}
	m.placeAll()
}

// placeAll places every call. Pieces of the month are summed apart, at the same
// time where the ledger has somebody to run them so, and then put together.
func (m *month) placeAll() {
	pieces := min(uint32(len(m.calls.chunks)), maxPieces)
	if pieces <= 1 {
		for i := range m.calls.n {
			if c := m.calls.at(i); c.class() != gone {
				c.setClass(unplaced)
				m.place(i)
			}
		}
		return
	}
	parts := make([]part, pieces)
	tasks := make([]func(), pieces)
	chunks := uint32(len(m.calls.chunks))
	for i := range pieces {
		parts[i].pools = make([]*pool, m.poolCount)
		from, to := chunks*i/pieces*chunkSize, min(chunks*(i+1)/pieces*chunkSize, m.calls.n)
		tasks[i] = func() { parts[i].place(m, from, to) }
	}
	m.account.ledger.run(tasks)
	m.changes++
	for i := range parts {
		m.tally.merge(&parts[i].tally)
		for _, p := range m.pools {
			if own := parts[i].pools[p.index]; own != nil {
				p.merge(m, own)
			}
		}
	}
}

// A part is what a piece of a month's calls comes to.
type part struct {
	tally
	pools []*pool // by index, with the lanes of the part; nil: no call draws on it
}

// place places the calls from one index to another.
func (s *part) place(m *month, from, to uint32) {
	for i := from; i < to; i++ {
		c := m.calls.at(i)
		if c.class() == gone {
			continue
		}
		p := m.classify(i)
		if p != nil {
			own := &s.pools[p.index]
			if *own == nil {
				*own = newPool(p.key, p.plan, p.index)
			}
			p = *own
		}
		s.tally.count(m, i, p, 1)
	}
}

// maxPieces is into how many pieces a month is cut at most.
const maxPieces = 16

// takeLicences adds a user's licences of the month to its pools (R3 to R5).
func (m *month) takeLicences(user uint32) {
	m.changes++
	a := m.account
	var l *userLicences
	for family, list := range a.licencesOf(user) {
		for _, interval := range list {
			from, to := max(interval.from, m.start), min(interval.to, m.end)
			if from >= to {
				continue
			}
			if l == nil {
				l = &userLicences{}
				for int(user) >= len(m.licences) {
					m.licences = append(m.licences, nil)
				}
				m.licences[user] = l
			}
			plan, ok := a.plan(interval.plan).on(m.id.FirstDay())
			if !ok || !plan.grants(interval.country) {
				l.held[family] = append(l.held[family], monthLicence{from: from, to: to})
				l.ungranted++
				m.ungranted++
				continue
			}
			key := poolKey{country: plan.poolCountry(interval.country), plan: plan.Plan}
			if plan.Scope == ScopeUser {
				key.user = a.users.names[user]
			}
			p := m.pools[key]
			if p == nil {
				p = newPool(key, plan, m.poolCount)
				m.poolCount++
				m.pools[key] = p
			}
			p.holders[user] = append(p.holders[user], held{from, to, interval.country})
			p.granted = false
			held := monthLicence{from, to, p, m.tariffOf(plan, interval.country)}
			l.held[family] = append(l.held[family], held)
			for int(user) >= len(m.first[family]) {
				m.first[family] = append(m.first[family], monthLicence{})
			}
			if first := &m.first[family][user]; first.pool == nil {
				*first = held
			}
		}
	}
}

func (m *month) dropLicences(user uint32) {
	m.changes++
	l := m.licencesOf(user)
	if l == nil {
		return
	}
	m.licences[user] = nil
	for family := range m.first {
		if int(user) < len(m.first[family]) {
			m.first[family][user] = monthLicence{}
		}
	}
	m.ungranted -= l.ungranted
	for _, list := range l.held {
		for _, h := range list {
			if h.pool == nil {
				continue
			}
			delete(h.pool.holders, user)
			h.pool.granted = false
			if len(h.pool.holders) == 0 {
				delete(m.pools, h.pool.key)
			}
		}
	}
}

func (m *month) licencesOf(user uint32) *userLicences {
	if int(user) >= len(m.licences) {
		return nil
	}
	return m.licences[user]
}

// licence is the one that grants something at an instant; nil: none.
func (m *month) licence(user uint32, kind uint16, at Instant) *monthLicence {
	family := m.account.family(kind)
	if first := m.first[family]; int(user) < len(first) {
		if l := &first[user]; l.from <= at && at < l.to {
			return l
		}
	}
	l := m.licencesOf(user)
	if l == nil || len(l.held[family]) < 2 {
		return nil
	}
	list := l.held[family]
	for i := range list {
		if list[i].from <= at && at < list[i].to && list[i].pool != nil {
			return &list[i]
		}
	}
	return nil
}

// poolOf is the pool of a call that is placed in one, or outside its buckets.
func (m *month) poolOf(index uint32) *pool {
	c := m.calls.at(index)
	return m.licence(m.calls.user(index), c.kind, c.at).pool
}

// place decides a call's class (R6) and counts it there.
func (m *month) place(index uint32) {
	c := m.calls.at(index)
	if c.class() == gone {
		return
	}
	m.count(index, m.classify(index), 1)
}

func (m *month) unplace(index uint32) {
	c := m.calls.at(index)
	switch c.class() {
	case unplaced, gone:
		return
	case pooled, outside:
		m.count(index, m.poolOf(index), -1)
	default:
		m.count(index, nil, -1)
	}
	c.setClass(unplaced)
}

func (m *month) count(index uint32, p *pool, sign int64) {
	m.changes++
	m.tally.count(m, index, p, sign)
}

// count adds a placed call to the sums, or with sign -1 takes it out. p is the
// pool of a pooled or outside call.
func (t *tally) count(m *month, index uint32, p *pool, sign int64) {
	c := m.calls.at(index)
	switch c.class() {
	case free:
		t.free += sign
	case unlicensed:
		t.unlicensed.add(sign, c.billed())
	case unrated:
		t.unrated.add(sign, c.billed())
	case outside:
		p.countOutside(m, index, sign)
	case pooled:
		l := p.lanes[c.lane()]
		if sign > 0 {
			l.add(m, p, index)
		} else {
			l.remove(m, p, index)
		}
	}
}

// classify is R6, in its order; the pool is that of a pooled or outside call.
func (m *month) classify(index uint32) *pool {
	a, c := m.account, m.calls.at(index)
	c.setClass(free)
	c.place(0, 0, 0)
	if !c.has(flagCosts) { // 1
		return nil
	}
	called := c.called()
	lic := m.licence(m.calls.user(index), c.kind, c.at)
	if lic == nil { // 2
		if !called.Short() {
			c.setClass(unlicensed)
			c.place(DefaultIncrement.Seconds(c.billableMS()), 0, 0)
		}
		return nil
	}
	t := lic.tariff
	version := t.at(c.at) // 3
	var row *rate
	found := false
	if version != nil {
		row, found = version.deck.lookup(called)
	}
	if !found {
		if !called.Short() {
			c.setClass(unrated)
			c.place(t.plan.Increment.Seconds(c.billableMS()), 0, 0)
		}
		return nil
	}
	if row.free { // 4
		return nil
	}
	c.line = version.lines + row.line
	bucket := version.bucket(a, t, c.kind, row.line) // 5
	if bucket < 0 {
		c.setClass(outside)
		c.place(row.increment.Seconds(c.billableMS()), 0, 0)
		return lic.pool
	}
	c.setClass(pooled)
	c.place(t.plan.Increment.Seconds(c.billableMS()), lic.pool.laneOf[bucket], lic.pool.posOf[bucket])
	return lic.pool
}

// rating puts the month together as spec/outputs.md orders it.
func (m *month) rating() Rating {
	m.refresh()
	r := Rating{Tenant: m.account.name, Month: m.id}
	bills := bills{}
	keys := make([]poolKey, 0, len(m.pools))
	for key := range m.pools {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b poolKey) int {
		return cmp.Or(cmp.Compare(a.country, b.country), cmp.Compare(a.plan, b.plan), cmp.Compare(a.user, b.user))
	})
	for _, key := range keys {
		p := m.pools[key]
		r.Pools = append(r.Pools, p.rating(m))
		bill := bills.of(p)
		r.Counts.Outside += bill.take(p.outside)
		for _, l := range p.lanes {
			calls := int64(0)
			for i := range l.slots {
				calls += int64(len(l.slots[i].calls))
			}
			over := bill.take(l.over) + bill.take(l.ending.over)
			r.Counts.Overage += over
			r.Counts.InPool += calls - over
		}
	}
	r.Invoices = bills.invoices(m)
	dangling := m.account.dangling(m)
	for _, e := range []Exception{
		{Dangling, dangling.calls, dangling.seconds},
		{Ungranted, m.ungranted, 0},
		{Unlicensed, m.unlicensed.calls, m.unlicensed.seconds},
		{Unrated, m.unrated.calls, m.unrated.seconds},
	} {
		if e.Count > 0 {
			r.Exceptions = append(r.Exceptions, e)
		}
	}
	r.Counts.Free = m.free
	r.Counts.Calls = r.Counts.Free + r.Counts.InPool + r.Counts.Overage + r.Counts.Outside + m.unlicensed.calls + m.unrated.calls
	return r
}

// any reports whether the month has a call. One that was voided or corrected away
// is none.
func (m *month) any() bool {
	for i := range m.calls.n {
		if m.calls.at(i).class() != gone {
			return true
		}
	}
	return false
}

// refOf is the call's identity.
func (m *month) refOf(index uint32) Ref {
	return Ref{m.account.sources.names[m.calls.source(index)], m.calls.id(m.calls.at(index)).String()}
}
