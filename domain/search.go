package domain

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"
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
		s.calls = calls{chunked: m.calls.frozen(), users: m.calls.users.frozen(), texts: slices.Clip(m.calls.texts), sources: maps.Clone(m.calls.sources), spans: slices.Clone(m.calls.spans)}
		s.dropped = slices.Clip(m.dropped)
	}
	return s
}

// frozen is what the list has now, and goes on having whatever is added to it.
func (l *chunked[T]) frozen() chunked[T] { return chunked[T]{slices.Clone(l.chunks), l.n} }

// A Wanted is which calls are looked for: those of some users, and those to numbers
// that begin with some digits; or any.
type Wanted struct {
	User   func(name string) bool // nil: of none
	Number NumberStart
	Any    bool
	Before *Share // only what comes before this call by R7's order; nil: any
	Calls  int    // so many of the last
	First  bool   // or of the first instead
	Users  int    // so many of the first, by name
}

// order is R7's where the first calls are wanted, and the other way round.
func (w *Wanted) order(compare func(a, b uint32) int) func(a, b *uint32) int {
	if w.First {
		return func(a, b *uint32) int { return compare(*a, *b) }
	}
	return func(a, b *uint32) int { return compare(*b, *a) }
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
	calls  topOf[uint32] // in the order that is wanted; one more than that
}

// searchParts is how many parts of a month are looked at side by side.
const searchParts = 16

// Find looks at all calls there were when the search began. It needs no ledger.
func (s *CallSearch) Find(w Wanted) *FoundCalls {
	calls := topOf[uint32]{n: w.Calls + 1, order: w.order(s.order)}
	f := &FoundCalls{
		search: s, wanted: w, calls: calls,
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
		parts[i] = calls
		tasks = append(tasks, func() { f.findIn(&parts[i], i, gone) })
	}
	s.run(tasks)
	for i := range parts {
		for _, index := range parts[i].kept {
			f.calls.add(index)
		}
	}
	return f
}

// findIn looks at one chunk of so many, from this one on.
func (f *FoundCalls) findIn(found *topOf[uint32], chunk int, gone []uint64) {
	s, w := f.search, &f.wanted
	// Calls come roughly in order: beginning at the end that is wanted, what is kept
	// soon is what stays.
	var chunks []int
	for ; chunk < len(s.calls.chunks); chunk += searchParts {
		chunks = append(chunks, chunk)
	}
	if !w.First {
		slices.Reverse(chunks)
	}
	var like []uint16
	for _, chunk := range chunks {
		if span := s.calls.spans[chunk]; found.full && f.beyond(found, span.from, span.to) {
			continue
		}
		if like = f.like(like[:0], chunk); !w.First {
			slices.Reverse(like)
		}
		for _, j := range like {
			if at := s.calls.chunks[chunk][j].at; found.full && f.beyond(found, at, at) {
				continue
			}
			if index := uint32(chunk)<<chunkBits + uint32(j); gone[index/64]>>(index%64)&1 == 0 && f.before(&s.calls, s.sources, index) {
				found.add(index)
			}
		}
	}
}

// like appends the calls of a chunk that are wanted, whenever they were.
func (f *FoundCalls) like(all []uint16, chunk int) []uint16 {
	s, w, wanted := f.search, &f.wanted, f.users
	users := s.calls.users.chunks[chunk]
	calls := s.calls.chunks[chunk][:len(users)]
	switch {
	case w.Any:
		for j := range users {
			all = append(all, uint16(j))
		}
	case w.Number == NumberStart{}:
		if f.named == 0 {
			return all
		}
		for j, user := range users {
			if wanted[user] {
				all = append(all, uint16(j))
			}
		}
	case len(users) == chunkSize: // it stays as it is
		from, to := w.Number.leads()
		for j, lead := range s.calls.spans[chunk].leads.of(calls) {
			if lead-from < to-from && w.Number.of(&calls[j]) || wanted[users[j]] {
				all = append(all, uint16(j))
			}
		}
	default:
		for j, user := range users {
			if w.Number.of(&calls[j]) || wanted[user] {
				all = append(all, uint16(j))
			}
		}
	}
	return all
}

// leads are the first digits of the numbers called by the calls of a full chunk, a
// twelfth of what the calls take, made by the first search for a number.
type leads struct {
	list atomic.Pointer[[]uint32] // leadDigits of them; a shorter number has zeros behind it
}

const leadDigits = 9

// of makes the list if nobody has; searches that do so at once make the same one.
func (l *leads) of(calls []call) []uint32 {
	if list := l.list.Load(); list != nil {
		return *list
	}
	list := make([]uint32, len(calls))
	for j := range calls {
		n := calls[j].called()
		if n.Len > leadDigits {
			list[j] = uint32(n.Digits / pow10[n.Len-leadDigits])
		} else {
			list[j] = uint32(n.Digits * pow10[leadDigits-n.Len])
		}
	}
	l.list.Store(&list)
	return list
}

// leads are those of all numbers that begin so, and of some that don't: [from, to).
func (s *NumberStart) leads() (from, to uint32) {
	for n := range s.to {
		if s.to[n] == 0 {
			continue // the start is longer
		}
		if n < leadDigits {
			return uint32(s.from[n] * pow10[leadDigits-n]), uint32(s.to[n] * pow10[leadDigits-n])
		}
		from := uint32(s.from[n] / pow10[n-leadDigits])
		return from, from + 1
	}
	return 0, 0
}

// beyond reports whether no call of this time can take the place of one that is kept.
func (f *FoundCalls) beyond(found *topOf[uint32], from, to Instant) bool {
	bound := f.search.calls.at(found.kept[f.wanted.Calls]).at
	if f.wanted.First {
		return from > bound
	}
	return to < bound
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

// Calls are the calls that are wanted, the last or the first one first, as of the
// events added so far; more: there are others. Where some of them have
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
	if found := f.calls.sorted(); slices.ContainsFunc(found, gone) {
		if f.calls.full {
			return nil, false, false
		}
		f.calls.kept = slices.DeleteFunc(found, gone)
	}
	f.calls.order = f.wanted.order(m.order)
	f.see(m.account.users.names)
	w := &f.wanted
	for index := s.calls.n; index < m.calls.n; index++ {
		wanted := w.Any || f.users[m.calls.user(index)] || w.Number.of(m.calls.at(index))
		if wanted && !gone(index) && f.before(&m.calls, m.account.sources.names, index) {
			f.calls.add(index)
		}
	}
	found := f.calls.sorted()
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

// Sources are those that have sent calls of a tenant, at most limit: the newest.
func (l *Ledger) Sources(tenant string, limit int) []string {
	a := l.accounts[tenant]
	if a == nil {
		return nil
	}
	return slices.Clone(a.sources.names[max(0, len(a.sources.names)-limit):])
}
