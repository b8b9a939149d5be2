package domain

import (
	"cmp"
	"slices"
)

// A usage sums the calls of a pool in its buckets by user and by line. It is made
// when somebody first asks, part by part, and follows the pool from then on: so
// each part is a short one, and later questions find it ready.
type usage struct {
	upto         int32 // the calls of the slots before this one are in it; never: all are
	users, lines map[uint32]*UsageSum
}

// A UsageSum sums calls in a pool's buckets.
type UsageSum struct {
	Calls         int64
	Seconds, Over int64 // billed, and of them overage
}

// count adds to the sums of a call's user and line.
func (u *usage) count(m *month, n int32, index uint32, calls, seconds, over int64) {
	if n >= u.upto {
		return
	}
	add := func(sums map[uint32]*UsageSum, of uint32) {
		sum := sums[of]
		if sum == nil {
			sum = &UsageSum{}
			sums[of] = sum
		}
		sum.Calls += calls
		sum.Seconds += seconds
		sum.Over += over
		if sum.Calls == 0 {
			delete(sums, of)
		}
	}
	add(u.users, m.calls.user(index))
	add(u.lines, m.calls.at(index).line)
}

// usagesKept is how many pools of a month have a usage: some 60 bytes for each of
// their users. Beyond it, the one that was not asked for for longest goes.
const usagesKept = 64

// use makes the usage of a pool, or more of it, from about n calls, and takes those
// off n; false: there are others. The month is up to date.
func (m *month) use(p *pool, n *int) (ready bool) {
	if i := slices.Index(m.used, p); i >= 0 {
		m.used = slices.Delete(m.used, i, i+1)
	} else {
		if len(m.used) == usagesKept {
			m.used[0].setUsage(nil)
			m.used = slices.Delete(m.used, 0, 1)
		}
		p.setUsage(&usage{users: map[uint32]*UsageSum{}, lines: map[uint32]*UsageSum{}})
	}
	m.used = append(m.used, p)
	for u := p.usage; u.upto != never && *n > 0; {
		slot := u.upto // the first that has calls from here on
		next := never
		for _, l := range p.lanes {
			if i, _ := findSlot(l.slots, slot); i < len(l.slots) {
				next = min(next, l.slots[i].n)
			}
		}
		if u.upto = next; next == never {
			break
		}
		u.upto++
		for _, l := range p.lanes {
			i, found := findSlot(l.slots, next)
			if !found {
				continue
			}
			s := &l.slots[i]
			for _, index := range s.calls {
				seconds, over := m.calls.at(index).billed(), int64(0)
				if s.n > l.end {
					over = seconds
				}
				u.count(m, s.n, index, 1, seconds, over)
			}
			*n -= len(s.calls)
		}
	}
	return p.usage.upto == never
}

func (p *pool) setUsage(u *usage) {
	p.usage = u
	for _, l := range p.lanes {
		l.usage = u
	}
}

// A UserUsage is what a user draws on a pool.
type UserUsage struct {
	User string
	UsageSum
}

// A Destination is where calls go, whatever they cost.
type Destination struct{ Country, Name, RowType string }

// A DestinationUsage is what calls to a destination draw on a pool.
type DestinationUsage struct {
	Destination
	UsageSum
}

// A PoolUsage is who draws on a pool, and for what. The seconds of all users, and
// of all destinations, add up to what the pool's buckets have used, and over them.
type PoolUsage struct {
	Users           []UserUsage // who draws most first
	AllUsers        int         // how many there are
	Destinations    []DestinationUsage
	AllDestinations int
}

// PoolUsage is who draws most on a pool, and for what; top: how many of each. It is
// of the events added so far. About n calls are looked at for it; where that is not
// enough, as may be the first time, ready is false, and to be asked again.
func (l *Ledger) PoolUsage(tenant string, id Month, key PoolKey, top, n int) (all PoolUsage, ready bool) {
	m, p := l.poolNow(tenant, id, key)
	if p == nil {
		return all, true
	}
	if !m.use(p, &n) {
		return all, false
	}
	users, lines := map[uint32]int64{}, map[uint32]int64{}
	for index, over := range p.endingOverages() {
		users[m.calls.user(index)] += over
		lines[m.calls.at(index).line] += over
	}
	greatest := topOf[UserUsage]{n: top, order: func(a, b *UserUsage) int { return cmp.Or(a.compare(&b.UsageSum), cmp.Compare(a.User, b.User)) }}
	for user, sum := range p.usage.users {
		greatest.add(UserUsage{m.account.users.names[user], sum.with(users[user])})
	}
	all.Users, all.AllUsers = greatest.sorted(), len(p.usage.users)
	destinations := map[Destination]*UsageSum{}
	for line, sum := range p.usage.lines {
		d := Destination{m.lines[line].Country, m.lines[line].Name, m.lines[line].RowType}
		if destinations[d] == nil {
			destinations[d] = &UsageSum{}
		}
		destinations[d].Calls += sum.Calls
		destinations[d].Seconds += sum.Seconds
		destinations[d].Over += sum.Over + lines[line]
	}
	most := topOf[DestinationUsage]{n: top, order: func(a, b *DestinationUsage) int {
		return cmp.Or(a.compare(&b.UsageSum), cmp.Compare(a.Country, b.Country), cmp.Compare(a.Name, b.Name), cmp.Compare(a.RowType, b.RowType))
	}}
	for d, sum := range destinations {
		most.add(DestinationUsage{d, *sum})
	}
	all.Destinations, all.AllDestinations = most.sorted(), len(destinations)
	return all, true
}

// A UserPool is what a user draws on one pool.
type UserPool struct {
	PoolKey
	UsageSum
}

// UserPools are the pools of which some users hold licences in the month, by their
// numbers, and what each draws on them. About n calls are looked at for it; where
// that is not enough, as may be the first time, ready is false, and to be asked again.
// Users whose pools are too many to be looked at together are left out at the end.
func (l *Ledger) UserPools(tenant string, id Month, users []uint32, n int) (all [][]UserPool, ready bool) {
	m := l.monthNow(tenant, id)
	if m == nil {
		a := l.accounts[tenant]
		if a == nil {
			return nil, true
		}
		m = a.newMonth(id)
		m.refresh()
	}
	var pools []*pool
	held := make([][]*pool, 0, len(users))
	for _, user := range users {
		var own []*pool
		if licences := m.licencesOf(user); licences != nil {
			for _, list := range licences.held {
				for i := range list {
					if p := list[i].pool; p != nil && !slices.Contains(own, p) {
						own = append(own, p)
					}
				}
			}
		}
		more := slices.DeleteFunc(slices.Clone(own), func(p *pool) bool { return slices.Contains(pools, p) })
		if len(pools)+len(more) > usagesKept {
			break
		}
		pools, held = append(pools, more...), append(held, own)
	}
	for _, p := range pools {
		if !m.use(p, &n) {
			return nil, false
		}
	}
	type drawing struct {
		user uint32
		p    *pool
	}
	ending := map[drawing]int64{}
	for _, p := range pools {
		for index, over := range p.endingOverages() {
			if user := m.calls.user(index); slices.Contains(users, user) {
				ending[drawing{user, p}] += over
			}
		}
	}
	for i, own := range held {
		var sums []UserPool
		for _, p := range own {
			one := UserPool{PoolKey: PoolKey{p.key.country, p.key.plan, p.key.user}}
			if sum := p.usage.users[users[i]]; sum != nil {
				one.UsageSum = sum.with(ending[drawing{users[i], p}])
			}
			sums = append(sums, one)
		}
		all = append(all, sums)
	}
	return all, true
}

// endingOverages are the calls with overage of the slots in which lanes end, which
// a usage has without.
func (p *pool) endingOverages() func(func(uint32, int64) bool) {
	return func(yield func(uint32, int64) bool) {
		for _, l := range p.lanes {
			for _, o := range l.ending.calls {
				if !yield(o.index, o.seconds) {
					return
				}
			}
		}
	}
}

func (s *UsageSum) with(over int64) UsageSum { return UsageSum{s.Calls, s.Seconds, s.Over + over} }

// compare puts more seconds first.
func (s *UsageSum) compare(o *UsageSum) int {
	return cmp.Or(cmp.Compare(o.Seconds, s.Seconds), cmp.Compare(o.Over, s.Over), cmp.Compare(o.Calls, s.Calls))
}

// topOf keeps the first n of many by an order.
type topOf[T any] struct {
	n     int
	order func(a, b *T) int
	kept  []T
	full  bool // kept[n-1] is the last one wanted
}

func (t *topOf[T]) add(v T) {
	if t.n == 0 || t.full && t.order(&v, &t.kept[t.n-1]) > 0 {
		return
	}
	// Twice what is wanted is kept, so that it is not sorted again for each.
	if t.kept = append(t.kept, v); len(t.kept) >= 2*t.n+64 {
		t.sorted()
	}
}

// sorted are those kept, in order.
func (t *topOf[T]) sorted() []T {
	slices.SortFunc(t.kept, func(a, b T) int { return t.order(&a, &b) })
	if len(t.kept) >= t.n {
		t.kept, t.full = t.kept[:t.n], true
	}
	return t.kept
}
