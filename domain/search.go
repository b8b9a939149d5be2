package domain

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// A CallSearch looks for calls of a month by what they say. What a call says is
// never changed, so that it is looked for without the ledger, however long that
// takes: others may go on using it. Only what is found is asked of the ledger, which
// then has the calls that came meanwhile looked at as well.
type CallSearch struct {
	tenant string
	id     Month
	month  *month // nil: no calls
	run    func(tasks []func())

	// As they were when the search began:
	calls          calls // what they say only
	users, sources []string
	dropped        []uint32
}

// CallSearch begins a search. It costs as much as the month has chunks of calls.
func (l *Ledger) CallSearch(tenant string, id Month) *CallSearch {
	s := &CallSearch{tenant: tenant, id: id, month: l.monthNow(tenant, id), run: l.run}
	if a := l.accounts[tenant]; a != nil {
		s.users = slices.Clip(a.users.names)
		s.sources = slices.Clip(a.sources.names)
	}
	if m := s.month; m != nil {
		s.calls = calls{chunked: m.calls.frozen(), users: m.calls.users.frozen(), texts: slices.Clip(m.calls.texts), sources: maps.Clone(m.calls.sources), latest: slices.Clone(m.calls.latest)}
		s.dropped = slices.Clip(m.dropped)
	}
	return s
}

// frozen is what the list has now, and goes on having whatever is added to it.
func (l *chunked[T]) frozen() chunked[T] { return chunked[T]{slices.Clone(l.chunks), l.n} }

// A Wanted is which calls are looked for: those of some users, and those to numbers
// that begin with some digits.
type Wanted struct {
	User   func(name string) bool // nil: of none
	Number NumberStart
	Before *Share // only what comes before this call by R7's order; nil: any
	Calls  int    // so many of the last
	Users  int    // so many of the first, by name
}

// A NumberStart is digits that numbers begin with. The zero value is the start of none.
type NumberStart struct {
	plus     bool
	from, to [MaxDigits + 1]uint64 // of the readable digits, [from, to), by how many there are
}

// ParseNumberStart reads the beginning of a number, such as +3906 or 11; false: no
// number begins so. Digits without + are the start of short numbers and, as people
// leave the + out, of those with one.
func ParseNumberStart(text string) (s NumberStart, ok bool) {
	if s.plus = text != "" && text[0] == '+'; s.plus {
		text = text[1:]
	}
	if text == "" || len(text) > MaxDigits {
		return NumberStart{}, false
	}
	digits := uint64(0)
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return NumberStart{}, false
		}
		digits = digits*10 + uint64(text[i]-'0')
	}
	for n := len(text); n <= MaxDigits; n++ {
		s.from[n], s.to[n] = digits*pow10[n-len(text)], (digits+1)*pow10[n-len(text)]
	}
	return s, true
}

// of reports whether a call is to a number that begins so. Digits that are masked
// are not known.
func (s *NumberStart) of(c *call) bool {
	n := c.number >> 50 & 15 // as setCalled has them
	digits := c.number & (1<<50 - 1)
	return s.from[n] <= digits && digits < s.to[n] && (!s.plus || c.has(flagPlus))
}

// A FoundCalls is what a search has found, to be asked of the ledger.
type FoundCalls struct {
	search *CallSearch
	wanted Wanted
	users  []bool // by number: wanted
	named  int    // how many of them are
	first  topOf[NumberedUser]
	last   topOf[uint32] // the last call first; one more than is wanted
}

// searchParts is how many parts of a month are looked at side by side.
const searchParts = 16

// Find looks at all calls there were when the search began. It needs no ledger.
func (s *CallSearch) Find(w Wanted) *FoundCalls {
	last := topOf[uint32]{n: w.Calls + 1, order: func(a, b *uint32) int { return s.order(*b, *a) }}
	f := &FoundCalls{
		search: s, wanted: w, last: last,
		first: topOf[NumberedUser]{n: w.Users, order: func(a, b *NumberedUser) int { return cmp.Compare(a.User, b.User) }},
	}
	gone := make([]uint64, s.calls.n/64+1)
	for _, index := range s.dropped {
		gone[index/64] |= 1 << (index % 64)
	}
	f.see(s.users)
	var parts [searchParts]topOf[uint32]
	var tasks []func()
	for i := range min(searchParts, len(s.calls.chunks)) {
		parts[i] = last
		tasks = append(tasks, func() { f.findIn(&parts[i], len(s.calls.chunks)-1-i, gone) })
	}
	s.run(tasks)
	for i := range parts {
		for _, index := range parts[i].kept {
			f.last.add(index)
		}
	}
	return f
}

// findIn looks at one chunk of so many, from this one back.
func (f *FoundCalls) findIn(last *topOf[uint32], chunk int, gone []uint64) {
	s, w, wanted := f.search, &f.wanted, f.users
	users, numbers := f.named > 0, w.Number != NumberStart{}
	// Calls come roughly in order: from the end on, what is kept soon is what stays.
	least := Instant(math.MinInt64)
	for ; chunk >= 0; chunk -= searchParts {
		if s.calls.latest[chunk] < least {
			continue
		}
		calls, callers, first := s.calls.chunks[chunk], s.calls.users.chunks[chunk], uint32(chunk)<<chunkBits
		for j := len(callers) - 1; j >= 0; j-- {
			if !(users && wanted[callers[j]] || numbers && w.Number.of(&calls[j])) || calls[j].at < least {
				continue
			}
			if index := first + uint32(j); gone[index/64]>>(index%64)&1 == 0 && f.before(&s.calls, s.sources, index) {
				if last.add(index); last.full {
					least = s.calls.at(last.kept[w.Calls]).at
				}
			}
		}
	}
}

func (f *FoundCalls) before(l *calls, sources []string, index uint32) bool {
	return f.wanted.Before == nil || l.compareTo(sources, index, f.wanted.Before) < 0
}

// see looks at the users that were not looked at yet.
func (f *FoundCalls) see(users []string) {
	for _, name := range users[len(f.users):] {
		wanted := f.wanted.User != nil && f.wanted.User(name)
		if wanted {
			f.first.add(NumberedUser{uint32(len(f.users)), name})
			f.named++
		}
		f.users = append(f.users, wanted)
	}
}

// A NumberedUser is a user of a tenant.
type NumberedUser struct {
	Number uint32
	User   string
}

// Users are the first of the users that are wanted, by name, be there calls of them
// in the month or not, as of the events added so far; all: how many there are.
func (f *FoundCalls) Users(l *Ledger) (users []NumberedUser, all int) {
	if a := l.accounts[f.search.tenant]; a != nil {
		f.see(a.users.names)
	}
	return f.first.sorted(), f.named
}

// order is R7's.
func (s *CallSearch) order(a, b uint32) int {
	x, y := s.calls.at(a), s.calls.at(b)
	if x.at != y.at {
		return cmp.Compare(x.at, y.at)
	}
	if s, t := s.sources[s.calls.source(a)], s.sources[s.calls.source(b)]; s != t {
		return cmp.Compare(s, t)
	}
	return compareIDs(&s.calls, x, &s.calls, y)
}

// Calls are the last of the calls that are wanted, the last one first, as of the
// events added so far; more: there are others before them. Where some of them have
// gone since the search began, so that others take their place, or the month's
// boundaries have moved, ok is false, and to be searched again. It is asked once.
func (f *FoundCalls) Calls(l *Ledger) (calls []MonthCall, more, ok bool) {
	s := f.search
	m := l.monthNow(s.tenant, s.id)
	switch {
	case m != s.month:
		return nil, false, false
	case m == nil:
		return nil, false, true
	}
	gone := func(index uint32) bool { return m.calls.at(index).class() == gone }
	if found := f.last.sorted(); slices.ContainsFunc(found, gone) {
		if f.last.full {
			return nil, false, false
		}
		f.last.kept = slices.DeleteFunc(found, gone)
	}
	f.last.order = func(a, b *uint32) int { return m.order(*b, *a) }
	f.see(m.account.users.names)
	w := &f.wanted
	for index := s.calls.n; index < m.calls.n; index++ {
		wanted := f.users[m.calls.user(index)] || w.Number.of(m.calls.at(index))
		if wanted && !gone(index) && f.before(&m.calls, m.account.sources.names, index) {
			f.last.add(index)
		}
	}
	found := f.last.sorted()
	for _, index := range found[:min(len(found), w.Calls)] {
		calls = append(calls, m.monthCall(index))
	}
	return calls, len(found) > w.Calls, true
}

// compareTo compares a call with another one by R7's order.
func (l *calls) compareTo(sources []string, index uint32, other *Share) int {
	c := l.at(index)
	if c.at != other.At {
		return cmp.Compare(c.at, other.At)
	}
	s := Share{At: c.at, Ref: Ref{sources[l.source(index)], l.id(c).String()}}
	return s.before(other)
}

// Sources are those that have sent calls of a tenant, at most limit.
func (l *Ledger) Sources(tenant string, limit int) []string {
	a := l.accounts[tenant]
	if a == nil {
		return nil
	}
	return slices.Clone(a.sources.names[:min(len(a.sources.names), limit)])
}
