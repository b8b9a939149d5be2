package whatif

import (
	"cmp"
	"maps"
	"slices"

	"tollbook/domain"
)

const (
	methodAll  = "Every way to give the users plans that have a price was rated. "
	methodMove = "Moves from what is are rated, and the one that saves most is taken, until none saves: all users of a plan to another plan, the heaviest or the lightest half of them, quarter, and so on; " +
		"then single users, the heaviest first. What saves only after moves that each cost more is not found. "
)

// A group is the users of a family whose licences are priced in one currency: they
// may share pools, and are sized together.
type group struct {
	family   domain.Family
	currency domain.Currency
	users    []*mover // the heaviest first
}

// A mover is a user to whom another plan may be given.
type mover struct {
	user    string
	was     []domain.Holding // as in the book
	country string           // of the first licence
	from    string           // the plan of it
	seconds int64
	may     []string // plans; sorted
	plan    string   // given; "": as it was
}

// users finds the cheapest plan of each user.
func (z *sizer) users() error {
	groups := z.groups()
	z.doc.Exact = true
	tried := map[string]bool{}
	for i, g := range groups {
		if i > 0 && groups[i-1].family == g.family {
			z.doc.Exact = false
			z.note("prices are in several currencies: users of each were sized one after the other")
		}
		ways := 1
		for _, m := range g.users {
			if ways *= 1 + len(m.may); ways > maxExhaustive {
				break
			}
		}
		find := z.all
		if ways > maxExhaustive || z.doc.Trials+ways-1 > z.limit {
			find = z.moves
			z.doc.Exact = false
			tried[methodMove] = true
		} else {
			tried[methodAll] = true
		}
		if err := find(g); err != nil {
			return err
		}
		for _, m := range g.users {
			if m.plan != "" {
				z.doc.Users = append(z.doc.Users, UserAdvice{m.user, m.country, m.from, m.plan})
			}
		}
	}
	for _, text := range slices.Sorted(maps.Keys(tried)) {
		z.doc.Method += text
	}
	slices.SortFunc(z.doc.Users, func(a, b UserAdvice) int { return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.To, b.To)) })
	byPlan := map[string][]string{}
	for _, u := range z.doc.Users {
		byPlan[u.To] = append(byPlan[u.To], u.User)
	}
	for _, plan := range slices.Sorted(maps.Keys(byPlan)) {
		z.proposal.Plans = append(z.proposal.Plans, PlanChange{Users: byPlan[plan], To: plan})
	}
	slices.Sort(z.doc.Notes)
	return nil
}

// groups are the users whose licences of the months all have a price, with the
// plans each may have: those with a price of the same currency and with minutes,
// in all months, for each of the user's countries.
func (z *sizer) groups() []*group {
	type key struct {
		family   domain.Family
		currency domain.Currency
	}
	groups := map[key]*group{}
	names := slices.DeleteFunc(z.world.ledger.PlanNames(z.world.tenant), func(plan string) bool { return z.plans != nil && !z.plans[plan] })
	for _, user := range z.world.users() {
		for family := range z.used {
			m := &mover{user: user, was: z.world.held[user], seconds: z.used[family][user].Seconds}
			seats := map[seat]bool{}
			for _, s := range z.spans {
				for _, h := range s.of(m.was, domain.Family(family)) {
					if m.from == "" {
						m.from, m.country = h.Plan, h.Country
					}
					seats[seat{h.Plan, h.Country}] = true
				}
			}
			if len(seats) == 0 {
				continue
			}
			currency, ok := domain.Currency(""), true
			for s := range seats {
				c, priced := z.priced(s)
				if !priced {
					z.note("users of %s in %s keep it: it has no price of one currency in all months; --prices gives one", s.plan, s.country)
				}
				ok = ok && priced && (currency == "" || currency == c)
				currency = c
			}
			if !ok {
				continue
			}
			k := key{domain.Family(family), currency}
			if groups[k] == nil {
				groups[k] = &group{family: k.family, currency: currency}
			}
			for _, plan := range names {
				if z.world.ledger.FamilyOf(z.world.tenant, plan) == k.family && z.possible(plan, seats, currency) {
					m.may = append(m.may, plan)
				}
			}
			groups[k].users = append(groups[k].users, m)
		}
	}
	var list []*group
	for _, k := range slices.SortedFunc(maps.Keys(groups), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(a.currency, b.currency))
	}) {
		g := groups[k]
		slices.SortStableFunc(g.users, func(a, b *mover) int { return cmp.Compare(b.seconds, a.seconds) })
		list = append(list, g)
	}
	return list
}

// possible reports whether a user with licences of some seats may have a plan
// instead. What the user has is none.
func (z *sizer) possible(plan string, seats map[seat]bool, currency domain.Currency) bool {
	other := false
	for s := range seats {
		other = other || s.plan != plan
		if c, ok := z.priced(seat{plan, s.country}); !ok || c != currency {
			return false
		}
		for _, month := range z.months {
			if z.world.grantsIn(plan, s.country, month) != nil {
				return false
			}
		}
	}
	return other
}

// give changes the world so that a user has a plan in the months; "": as it was.
func (z *sizer) give(g *group, m *mover, plan string) {
	if m.plan == plan {
		return
	}
	m.plan = plan
	want := slices.DeleteFunc(slices.Clone(m.was), func(h domain.Holding) bool { return h.Family != g.family })
	if plan != "" {
		for _, s := range z.spans {
			inside := s.of(want, g.family)
			for i := range inside {
				inside[i].Plan = plan
			}
			want = s.with(want, g.family, inside)
		}
	}
	z.world.hold(m.user, g.family, want, z.spans[0].from)
}

// all rates every way to give the users plans.
func (z *sizer) all(g *group) error {
	best, bestWay := z.now, make([]int, len(g.users))
	way := make([]int, len(g.users)) // of each user: 0 as it was, or which plan
	moved := func(way []int) (n int) {
		for _, choice := range way {
			n += min(choice, 1)
		}
		return n
	}
	choose := func(i, choice int) {
		way[i] = choice
		plan := ""
		if choice > 0 {
			plan = g.users[i].may[choice-1]
		}
		z.give(g, g.users[i], plan)
	}
	for {
		i := 0
		for ; i < len(way) && way[i] == len(g.users[i].may); i++ {
			choose(i, 0)
		}
		if i == len(way) {
			break
		}
		choose(i, way[i]+1)
		s, _, err := z.try()
		if err != nil {
			return err
		}
		if order := s.sum(g.currency).Cmp(best.sum(g.currency)); z.now.allows(&s) && (order < 0 || order == 0 && moved(way) < moved(bestWay)) {
			best, bestWay = s, slices.Clone(way)
		}
	}
	for i, choice := range bestWay {
		choose(i, choice)
	}
	z.now = best
	return nil
}

// A move gives some users of a group a plan.
type move struct {
	users []*mover
	to    string
}

// moves takes the moves that save, the best of many first.
func (z *sizer) moves(g *group) error {
	for {
		var best *move
		var after state
		for _, m := range z.manyMoves(g) {
			s, ok, err := z.judge(g, &m)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if saves(&z.now, &s, g.currency) && (best == nil || s.sum(g.currency).Cmp(after.sum(g.currency)) < 0) {
				best, after = &m, s
			}
		}
		if best == nil {
			break
		}
		z.make(g, best)
		z.now = after
	}
	for again := true; again; {
		again = false
		for _, m := range g.users {
			for _, plan := range append([]string{""}, m.may...) {
				if plan == m.plan {
					continue
				}
				one := move{[]*mover{m}, plan}
				s, ok, err := z.judge(g, &one)
				if err != nil {
					return err
				}
				if !ok {
					z.stop()
					return nil
				}
				if saves(&z.now, &s, g.currency) {
					z.make(g, &one)
					z.now, again = s, true
				}
			}
		}
	}
	return nil
}

func saves(now, then *state, c domain.Currency) bool {
	return now.allows(then) && then.sum(c).Cmp(now.sum(c)) < 0
}

// manyMoves are those of the heaviest and the lightest users of each plan to each other.
func (z *sizer) manyMoves(g *group) []move {
	type from struct{ plan, country string }
	have := map[from][]*mover{} // the heaviest first
	for _, m := range g.users {
		key := from{cmp.Or(m.plan, m.from), m.country}
		have[key] = append(have[key], m)
	}
	var list []move
	for _, key := range slices.SortedFunc(maps.Keys(have), func(a, b from) int {
		return cmp.Or(cmp.Compare(a.country, b.country), cmp.Compare(a.plan, b.plan))
	}) {
		users := have[key]
		to := map[string]bool{}
		for _, m := range users {
			for _, plan := range m.may {
				to[plan] = true
			}
		}
		for _, plan := range slices.Sorted(maps.Keys(to)) {
			able := slices.DeleteFunc(slices.Clone(users), func(m *mover) bool { return m.plan == plan || !slices.Contains(m.may, plan) })
			for n := len(able); n > 1; n /= 2 {
				list = append(list, move{able[:n], plan})
				if n < len(able) {
					list = append(list, move{able[len(able)-n:], plan})
				}
			}
		}
	}
	return list
}

// judge rates a move and takes it back.
func (z *sizer) judge(g *group, m *move) (state, bool, error) {
	if z.doc.Trials >= z.limit {
		return state{}, false, nil
	}
	before := z.make(g, m)
	s, ok, err := z.try()
	for i, user := range m.users {
		z.give(g, user, before[i])
	}
	return s, ok, err
}

// make has the users of a move have its plan, and says what they had.
func (z *sizer) make(g *group, m *move) (before []string) {
	for _, user := range m.users {
		before = append(before, user.plan)
		z.give(g, user, m.to)
	}
	return before
}
