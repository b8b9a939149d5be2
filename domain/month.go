package domain

import (
	"bytes"
	"cmp"
	"encoding/binary"
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
	calls      []call
	ids        []byte            // the calls' ids, each followed by when the call was said; see add
	lastOf     map[uint32]uint32 // user → its newest call + 1

	// Derived:
	terms      uint64              // the terms that made it; 0: not made
	stale      map[uint32]struct{} // users whose licences have changed since
	pools      map[poolKey]*pool
	licences   map[uint32]*userLicences
	lines      []*Line
	lineOf     map[*Line]uint32
	free       int64
	unlicensed cell
	unrated    cell
	ungranted  int64
	changes    uint64              // of anything derived
	billing    map[billedLine]cell // as of billedAt; nil: not made
	billedAt   uint64
}

// A call as a month keeps it: fixed size and without pointers.
type call struct {
	at         Instant
	digits     uint64 // of the called number
	id         uint64 // offset in ids << 8 | length
	user       uint32
	source     uint32
	next       uint32 // the same user's call before this one + 1
	billableMS int32

	// Derived:
	licence uint32 // pooled and outside: which of the user's licences of the family
	line    uint32
	billed  int32 // seconds
	lane    uint8 // pooled: of the licence's pool
	bucket  uint8 // position in the lane
	class   class

	digitsLen uint8
	masked    uint8
	kind      uint16
	flags     callFlags
}

type callFlags uint8

const (
	flagPlus    callFlags = 1 << iota
	flagCosts             // outbound, answered and longer than nothing: all else is free (R6.1)
	flagAmended           // what a correction made of the call
)

// class is R6's.
type class uint8

const (
	unplaced class = iota
	gone           // replaced by a correction, or voided
	free
	unlicensed
	unrated
	pooled
	outside
)

// userLicences are a user's licences within a month.
type userLicences struct {
	held      [families][]monthLicence
	ungranted int64
}

type monthLicence struct {
	from, to Instant
	country  string
	pool     *pool // nil: grants nothing (R10 ungranted)
}

func (c *call) called() Number {
	return Number{Digits: c.digits, Len: c.digitsLen, Masked: c.masked, Plus: c.flags&flagPlus != 0}
}

func (m *month) idOf(c *call) []byte {
	offset := c.id >> 8
	return m.ids[offset : offset+c.id&0xff]
}

// order is R7's: answered_at, source, id.
func (m *month) order(a, b uint32) int {
	x, y := &m.calls[a], &m.calls[b]
	if x.at != y.at {
		return cmp.Compare(x.at, y.at)
	}
	if x.source != y.source {
		return cmp.Compare(m.account.sources.names[x.source], m.account.sources.names[y.source])
	}
	return bytes.Compare(m.idOf(x), m.idOf(y))
}

// slot is the slot of time of R7's sums: an hour, or for pools of one user a
// day, so that thousands of small pools stay small.
func (m *month) slot(c *call) int32 {
	width := Instant(time.Hour)
	if m.licence(c).pool.plan.Scope == ScopeUser {
		width *= 24
	}
	return int32((c.at - m.start) / width)
}

// saidAt is the time of the event that reported the call.
func (m *month) saidAt(c *call) Instant {
	late, _ := binary.Varint(m.ids[c.id>>8+c.id&0xff:])
	return c.expectedAt() + Instant(late)
}

// expectedAt is when a switch reports a call: at its end.
func (c *call) expectedAt() Instant { return c.at + Instant(c.billableMS)*Instant(time.Millisecond) }

// add keeps a call; its id is copied. When it was said is hardly ever asked
// for, so it is kept beside the id, as the difference from the call's end.
func (m *month) add(c call, id string, said Instant) uint32 {
	index := uint32(len(m.calls))
	c.id = uint64(len(m.ids))<<8 | uint64(len(id))
	m.ids = append(m.ids, id...)
	m.ids = binary.AppendVarint(m.ids, int64(said-c.expectedAt()))
	c.next = m.lastOf[c.user]
	m.lastOf[c.user] = index + 1
	c.class = unplaced
	m.calls = append(m.calls, c)
	if m.terms != 0 {
		if _, stale := m.stale[c.user]; !stale {
			m.place(index)
		}
	}
	return index
}

// drop takes a call out for good: a correction replaced it.
func (m *month) drop(index uint32) {
	m.unplace(index)
	m.calls[index].class = gone
}

// refresh brings the derived part up to date.
func (m *month) refresh() {
	if terms := m.account.terms(); m.terms != terms {
		m.rebuild()
		m.terms = terms
	}
	for user := range m.stale {
		for i := m.lastOf[user]; i != 0; i = m.calls[i-1].next {
			m.unplace(i - 1)
		}
		m.dropLicences(user)
		m.takeLicences(user)
		for i := m.lastOf[user]; i != 0; i = m.calls[i-1].next {
			m.place(i - 1)
		}
	}
	clear(m.stale)
	for _, p := range m.pools {
		p.settle(m)
	}
}

func (m *month) rebuild() {
	m.changes++
	m.stale = map[uint32]struct{}{}
	m.pools = map[poolKey]*pool{}
	m.licences = map[uint32]*userLicences{}
	m.lines, m.lineOf = nil, map[*Line]uint32{}
	m.free, m.ungranted = 0, 0
	m.unlicensed, m.unrated = cell{}, cell{}
	for user := range m.account.users.names {
		m.takeLicences(uint32(user))
	}
	for i := range m.calls {
		if m.calls[i].class != gone {
			m.calls[i].class = unplaced
			m.place(uint32(i))
		}
	}
}

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
				p = newPool(key, plan)
				m.pools[key] = p
			}
			p.holders[user] = append(p.holders[user], held{from, to, interval.country})
			p.granted = false
			l.held[family] = append(l.held[family], monthLicence{from, to, interval.country, p})
		}
	}
}

func (m *month) dropLicences(user uint32) {
	m.changes++
	l := m.licences[user]
	if l == nil {
		return
	}
	delete(m.licences, user)
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

// licence is the one a placed call uses.
func (m *month) licence(c *call) *monthLicence {
	l := m.licences[c.user]
	return &l.held[m.account.family(c.kind)][c.licence]
}

// place decides a call's class (R6) and counts it there.
func (m *month) place(index uint32) {
	c := &m.calls[index]
	if c.class == gone {
		return
	}
	m.classify(c)
	m.count(index, 1)
}

func (m *month) unplace(index uint32) {
	if c := &m.calls[index]; c.class != unplaced && c.class != gone {
		m.count(index, -1)
		c.class = unplaced
	}
}

func (m *month) count(index uint32, sign int64) {
	m.changes++
	c := &m.calls[index]
	seconds := int64(c.billed)
	switch c.class {
	case free:
		m.free += sign
	case unlicensed:
		m.unlicensed.add(sign, seconds)
	case unrated:
		m.unrated.add(sign, seconds)
	case outside:
		cells := m.licence(c).pool.outside
		sum := cells[c.line]
		if sum.add(sign, seconds); sum.calls == 0 {
			delete(cells, c.line)
		} else {
			cells[c.line] = sum
		}
	case pooled:
		l := m.licence(c).pool.lanes[c.lane]
		if sign > 0 {
			l.add(m, index)
		} else {
			l.remove(m, index)
		}
	}
}

// classify is R6, in its order.
func (m *month) classify(c *call) {
	a := m.account
	c.class, c.billed = free, 0
	if c.flags&flagCosts == 0 { // 1
		return
	}
	called := c.called()
	var lic *monthLicence
	if l := m.licences[c.user]; l != nil {
		list := l.held[a.family(c.kind)]
		for i := range list {
			if list[i].from <= c.at && c.at < list[i].to && list[i].pool != nil {
				lic, c.licence = &list[i], uint32(i)
				break
			}
		}
	}
	if lic == nil { // 2
		if !called.Short() {
			c.class, c.billed = unlicensed, int32(DefaultIncrement.Seconds(int64(c.billableMS)))
		}
		return
	}
	plan := lic.pool.plan
	var row rate
	found := false
	if deck := a.deckFor(m.id, plan, lic.country).at(c.at); deck != nil { // 3
		row, found = deck.lookup(called)
	}
	if !found {
		if !called.Short() {
			c.class, c.billed = unrated, int32(plan.Increment.Seconds(int64(c.billableMS)))
		}
		return
	}
	if row.free { // 4
		return
	}
	c.line = m.lineIndex(row.line)
	bucket := plan.bucketFor(a.kinds.names[c.kind], lic.country, row.line.Country) // 5
	if bucket < 0 {
		c.class, c.billed = outside, int32(row.increment.Seconds(int64(c.billableMS)))
		return
	}
	c.class, c.billed = pooled, int32(plan.Increment.Seconds(int64(c.billableMS)))
	c.lane, c.bucket = lic.pool.laneOf[bucket], lic.pool.posOf[bucket]
}

func (m *month) lineIndex(l *Line) uint32 {
	i, ok := m.lineOf[l]
	if !ok {
		i = uint32(len(m.lines))
		m.lines = append(m.lines, l)
		m.lineOf[l] = i
	}
	return i
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
