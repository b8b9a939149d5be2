package projections

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"tollbook/domain"
)

// A SearchQuery looks for calls of a month. Text is the beginning of a called
// number, such as +3906 or, short or without its +, 3906; or a user, or a part of
// the name in upper or lower case.
type SearchQuery struct {
	Tenant string
	Month  domain.Month
	Text   string
	After  *After // the Next of the page before
	Limit  int    // calls of a page; at most MaxPage

	// Whether to go on waiting for what users draw to be counted; nil: always.
	Patient func() bool
	// The events that have Text as their id, which the book finds.
	Events []NamedEvent
}

// A NamedEvent is an event that was asked for by its id, and where it is.
type NamedEvent struct {
	Position uint64
	Event    domain.Event
}

// A SearchDocument is what of a month is like a text: the month as it is now, whatever
// was issued. All of it is of one position.
type SearchDocument struct {
	Tenant   string       `json:"tenant"`
	Month    string       `json:"month"`
	Position uint64       `json:"position"`
	Head     string       `json:"head"`
	Text     string       `json:"text"`
	Events   []FoundEvent `json:"events"`    // that have the text as their id, of any month
	Counted  bool         `json:"counted"`   // false: what users draw is being counted, ask again in a moment
	Users    []FoundUser  `json:"users"`     // the first ones like it, by name, be there calls of them in the month or not
	AllUsers int          `json:"all_users"` // how many there are
	Calls    []MonthCall  `json:"calls"`     // of these users or to such numbers, the last one first
	Next     *After       `json:"next"`      // where the next page goes on; null: this is the last
}

// A FoundEvent is an event that was found by its id.
type FoundEvent struct {
	Ref
	Type     domain.Type `json:"type"`
	Position uint64      `json:"position"` // where it is in the book
	Call     *MonthCall  `json:"call"`     // as it stands; null: it was voided, or is no call
	Month    string      `json:"month"`    // of the call; "": of none
}

// A FoundUser is a user with the pools of the month in which they hold licences.
type FoundUser struct {
	User  string     `json:"user"`
	Pools []UserPool `json:"pools"` // none while they are being counted
}

// A UserPool is what a user draws on a pool.
type UserPool struct {
	Country string `json:"country"`
	Plan    string `json:"plan"`
	User    string `json:"user,omitzero"` // of a pool of one user
	Draw
}

// Limits of a search.
const (
	ShortestText = 2   // characters
	LongestText  = 256 // bytes
	UsersFound   = 20
)

// wanted is what the query looks for.
func (q *SearchQuery) wanted() (w domain.Wanted, err error) {
	if n := utf8.RuneCountInString(q.Text); n < ShortestText || len(q.Text) > LongestText {
		return w, fmt.Errorf("text %.40q: must be %d to %d characters of a number, a user or an id", q.Text, ShortestText, LongestText)
	}
	part := strings.ToLower(q.Text)
	w.User = func(name string) bool { return strings.Contains(strings.ToLower(name), part) }
	// As people write numbers, with what is masked at the end.
	number := strings.NewReplacer(" ", "", "(", "", ")", "", "-", "", ".", "", "/", "").Replace(q.Text)
	w.Number, _ = domain.ParseNumberStart(strings.TrimRight(number, "*")) // what is no number begins none
	if q.After != nil {
		call, err := q.After.call()
		if err != nil {
			return w, err
		}
		w.Before = &domain.Share{At: call.At, Ref: call.Ref}
	}
	w.Calls, w.Users = min(max(q.Limit, 1), MaxPage), UsersFound
	return w, nil
}

// Wrong is why nothing can be looked for; nil: it can.
func (q *SearchQuery) Wrong() error {
	_, err := q.wanted()
	return err
}

// Search looks for calls. It goes through what all calls of the month say, without
// holding anybody up; others wait for what is found only.
func (m *Months) Search(ctx context.Context, q SearchQuery) (SearchDocument, error) {
	w, err := q.wanted()
	if err != nil {
		return SearchDocument{}, err
	}
	for {
		s := m.search(q)
		found := s.Find(w)
		for {
			if err := ctx.Err(); err != nil {
				return SearchDocument{}, err
			}
			r := m.found(q, found)
			if r.again {
				break
			}
			if r.ready {
				return r.document(q), nil
			}
		}
	}
}

func (m *Months) search(q SearchQuery) *domain.CallSearch {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.CallSearch(q.Tenant, q.Month)
}

// A searchReading is what was found, before it is put into words.
type searchReading struct {
	page     CallPage
	users    []domain.NumberedUser
	allUsers int
	pools    [][]domain.UserPool
	counted  bool
	events   []FoundEvent
	ready    bool // false: to be asked again
	again    bool // to be searched again
}

func (m *Months) found(q SearchQuery, found *domain.FoundCalls) (r searchReading) {
	m.mu.Lock()
	defer m.mu.Unlock()
	users, all := found.Users(m.ledger)
	numbers := make([]uint32, len(users))
	for i := range users {
		numbers[i] = users[i].Number
	}
	if r.pools, r.counted = m.ledger.UserPools(q.Tenant, q.Month, numbers, usedAtOnce); r.counted {
		users = users[:len(r.pools)]
	} else if q.Patient == nil || q.Patient() {
		return r
	}
	r.ready, r.users, r.allUsers = true, users, all
	var ok bool
	if r.page.calls, r.page.more, ok = found.Calls(m.ledger); !ok {
		r.again = true
		return r
	}
	r.page.asOf = AsOf{Tenant: q.Tenant, Month: q.Month.String(), Position: m.head.Events, Head: m.head.String()}
	for i := range q.Events {
		e := &q.Events[i].Event
		if q.Events[i].Position > m.head.Events {
			continue // not told yet
		}
		one := FoundEvent{Ref: Ref{e.Source, e.ID}, Type: e.Data.Type(), Position: q.Events[i].Position}
		if data, is := e.Data.(*domain.Call); is {
			if call, ok := m.ledger.CallOf(e.Tenant, domain.Ref(one.Ref), e.Time, data); ok {
				said := MonthCallOf(&call)
				one.Call, one.Month = &said, m.ledger.MonthAt(e.Tenant, call.At).String()
			}
		}
		r.events = append(r.events, one)
	}
	return r
}

func (r *searchReading) document(q SearchQuery) SearchDocument {
	page := r.page.Document()
	d := SearchDocument{
		Tenant: q.Tenant, Month: page.Month, Position: page.Position, Head: page.Head, Text: q.Text, Events: r.events,
		Counted: r.counted, Users: make([]FoundUser, len(r.users)), AllUsers: r.allUsers, Calls: page.Calls, Next: page.Next,
	}
	if d.Events == nil {
		d.Events = []FoundEvent{}
	}
	for i, u := range r.users {
		d.Users[i].User = u.User
		if !r.counted {
			continue
		}
		d.Users[i].Pools = []UserPool{}
		for _, p := range r.pools[i] {
			d.Users[i].Pools = append(d.Users[i].Pools, UserPool{p.Country, p.Plan, p.User, drawOf(p.UsageSum)})
		}
	}
	return d
}

// SourcesOfCalls are those that have sent calls of a tenant, at most limit: the newest.
func (m *Months) SourcesOfCalls(tenant string, limit int) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.Sources(tenant, limit)
}
