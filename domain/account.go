package domain

import "time"

// An account is one tenant: its terms (plans, decks, configuration, licences)
// and its calls by month.
type account struct {
	ledger  *Ledger
	name    string
	own     publications
	configs versions[*TenantConfig]

	revision uint64 // of own and configs
	users    interned
	licences []userHistory // by user
	sources  interned
	kinds    interned
	families []Family // by kind

	months map[Month]*month
	last   *month // into which the last call came; nil: none of months
	bounds bool   // the months' boundaries are as the configurations have them
	closings
	amended map[Ref]*amendment
	sought  []Ref // of the amended, those that are new: their calls may be among those here
}

// userHistory is what was said about a user's licences, and what it amounts to.
type userHistory struct {
	events []licenceEvent
	held   [families][]licence
	terms  uint64 // under which held was made; 0: not made
}

// An amendment is what corrections and voids have said about one call.
type amendment struct {
	latest stamp // the standing one
	call   *Call // nil: voided
	events []amendmentEvent
	found  bool    // the call is here
	said   Instant // found: when the call was
	month  *month  // where the standing call is kept; nil: nowhere
	index  uint32
}

// amendmentEvent is what a correction without its call is listed as (R10).
type amendmentEvent struct {
	at      Instant
	seconds int64
}

// interned gives strings small numbers.
type interned struct {
	names []string
	index map[string]uint32
}

func (t *interned) of(name string) uint32 {
	i, ok := t.index[name]
	if !ok {
		if t.index == nil {
			t.index = map[string]uint32{}
		}
		i = uint32(len(t.names))
		t.names = append(t.names, name)
		t.index[name] = i
	}
	return i
}

func newAccount(l *Ledger, name string) *account {
	a := &account{ledger: l, name: name, own: newPublications(), months: map[Month]*month{}, amended: map[Ref]*amendment{}, bounds: true}
	for _, kind := range []string{KindUser, KindConference, KindForward, KindTransfer} {
		a.kind(kind) // so that tariffs know them from the beginning
	}
	return a
}

func (a *account) add(e *Event) {
	switch data := e.Data.(type) {
	case *Call:
		row := a.row(e.Source, e.ID, e.Time, data)
		a.addCall(&row)
	case *Correction:
		a.amend(e, data.Ref, &data.Call)
	case *Void:
		a.amend(e, data.Ref, nil)
	case *Assignment:
		a.addLicence(data.User, licenceEvent{stamp{int64(data.EffectiveAt), e.Time, e.Source, e.ID}, data.Plan, data.Country})
	case *Removal:
		a.addLicence(data.User, licenceEvent{stamp{int64(data.EffectiveAt), e.Time, e.Source, e.ID}, data.Plan, ""})
	case *Plan:
		a.own.addPlan(e, data)
		a.revision++
	case *Deck:
		a.own.addDeck(data)
		a.revision++
	case *MonthClosed:
		a.close(data)
	case *ExceptionWaived:
		a.waive(data)
	case *TenantConfig:
		a.configs.add(stamp{int64(data.EffectiveFrom), e.Time, e.Source, e.ID}, data)
		a.revision++
		a.bounds = false
	}
}

// terms numbers the plans, decks and configurations that hold now.
func (a *account) terms() uint64 { return 1 + a.revision + a.ledger.revision }

func (a *account) plan(name string) *versions[*Plan] {
	if v := a.own.plans[name]; v != nil {
		return v
	}
	return a.ledger.catalog.plans[name]
}

func (a *account) deck(name string) *deckHistory {
	if h := a.own.decks[name]; h != nil {
		return h
	}
	return a.ledger.catalog.decks[name]
}

// deckFor is the deck that prices the calls of a licence (R6.3).
func (a *account) deckFor(id Month, plan *Plan, country string) *deckHistory {
	if name, ok := a.config(id).Decks[country]; ok {
		return a.deck(name)
	}
	return a.deck(plan.Deck)
}

var defaultConfig = TenantConfig{TimeZone: "UTC", Zone: time.UTC, Currency: NoCurrency}

func (a *account) config(id Month) *TenantConfig {
	if c, ok := a.configs.on(id.FirstDay()); ok {
		return c
	}
	return &defaultConfig
}

// defaultCurrency is that of an invoice without lines (R9).
func (a *account) defaultCurrency(id Month, plan *Plan, country string) Currency {
	if c, ok := a.deckFor(id, plan, country).currency(); ok {
		return c
	}
	return a.config(id).Currency
}

// start is the month's first instant. A month ends where the next one starts,
// so that every instant is in one month even if the tenant's zone changes.
func (a *account) start(id Month) Instant { return id.Start(a.config(id).Zone) }

func (a *account) monthOf(t Instant) Month {
	id := MonthOf(t.Time()) + 1
	for a.start(id) > t {
		id--
	}
	return id
}

func (a *account) month(id Month) *month {
	m := a.months[id]
	if m == nil {
		m = a.newMonth(id)
		a.months[id] = m
	}
	return m
}

func (a *account) newMonth(id Month) *month {
	return &month{account: a, id: id, start: a.start(id), end: a.start(id + 1)}
}

func (a *account) family(kind uint16) Family { return a.families[kind] }

func (a *account) kind(name string) uint16 {
	i := a.kinds.of(name)
	if i >= manyKinds {
		// No plan can list a kind among so many: all that come later are one unlisted kind.
		return manyKinds
	}
	if int(i) == len(a.families) {
		family := Calling
		if name == KindConference {
			family = Conferencing
		}
		a.families = append(a.families, family)
	}
	return uint16(i)
}

func (a *account) user(name string) uint32 {
	i := a.users.of(name)
	if int(i) == len(a.licences) {
		a.licences = append(a.licences, userHistory{})
	}
	return i
}

func (a *account) addLicence(name string, e licenceEvent) {
	user := a.user(name)
	h := &a.licences[user]
	h.events = insertLicence(h.events, e)
	h.terms = 0
	for _, m := range a.months {
		if m.terms != 0 {
			m.stale[user] = struct{}{}
		}
	}
}

// licencesOf are a user's intervals by family (R3).
func (a *account) licencesOf(user uint32) [families][]licence {
	h := &a.licences[user]
	if terms := a.terms(); h.terms != terms {
		h.held = intervals(h.events, a.familyOf)
		h.terms = terms
	}
	return h.held
}

func (a *account) familyOf(plan string) Family {
	if v := a.plan(plan); v != nil {
		return v.values[0].Family
	}
	return Calling
}

// row is a call by numbers.
func (a *account) row(source, id string, said Instant, data *Call) CallRow {
	return CallRow{
		Source: a.sources.of(source), User: a.user(data.User), Kind: a.kind(data.Kind), Direction: data.Direction, Disposition: data.Disposition,
		ID: ParseCallID(id), Time: said, AnsweredAt: data.AnsweredAt, StartedAt: data.StartedAt, Called: data.Called, BillableMS: data.BillableMS,
	}
}

func (a *account) addCall(r *CallRow) {
	if len(a.amended) > 0 {
		ref := Ref{a.sources.names[r.Source], r.ID.String()}
		if am := a.amended[ref]; am != nil && !am.found {
			am.found, am.said = true, r.Time
			a.stand(am, ref)
			return
		}
	}
	a.keep(r, 0)
}

// keep puts a call into its month.
func (a *account) keep(r *CallRow, flags callFlags) (*month, uint32) {
	c := call{at: r.at(), kind: r.Kind, talk: uint32(r.BillableMS)}
	c.setCalled(r.Called)
	c.setFlags(flags)
	if r.Direction == Outbound && r.Disposition == Answered && r.BillableMS > 0 {
		c.setFlags(flagCosts)
	}
	a.settleBounds() // so that every call here is in a month whose boundaries put it there
	m := a.last
	if m == nil || c.at < m.start || c.at >= m.end {
		m = a.month(a.monthOf(c.at))
		a.last = m
	}
	return m, m.add(c, r.User, r.Source, r.ID, r.Time)
}

// amend takes in a correction, or with call nil a void.
func (a *account) amend(e *Event, ref Ref, data *Call) {
	am := a.amended[ref]
	if am == nil {
		am = &amendment{}
		a.amended[ref] = am
		a.sought = append(a.sought, ref)
	}
	var seconds int64
	if data != nil && data.Disposition == Answered {
		seconds = DefaultIncrement.Seconds(data.BillableMS)
	}
	am.events = append(am.events, amendmentEvent{e.Time, seconds})
	s := stamp{int64(e.Time), e.Time, e.Source, e.ID}
	if len(am.events) > 1 && s.compare(am.latest) < 0 {
		return
	}
	am.latest, am.call = s, data
	if am.found {
		a.stand(am, ref)
	}
}

// stand makes the latest correction of a call that is here what counts.
func (a *account) stand(am *amendment, ref Ref) {
	if am.month != nil {
		am.month.drop(am.index)
		am.month = nil
	}
	if am.call != nil {
		row := a.row(ref.Source, ref.ID, am.said, am.call)
		am.month, am.index = a.keep(&row, flagAmended)
	}
}

// resolve settles what may touch calls of any month: corrections that came
// after their call, and months whose boundaries have moved.
func (a *account) resolve() {
	a.settleBounds() // first: findAmended remembers where calls are
	if len(a.sought) > 0 {
		a.findAmended()
	}
}

func (a *account) settleBounds() {
	if !a.bounds {
		a.bounds = true
		a.moveMonths()
	}
}

// findAmended looks for the calls of new amendments among those that came before
// them. Those that come after them are asked about one by one.
func (a *account) findAmended() {
	type found struct {
		m     *month
		index uint32
	}
	hits := map[Ref]found{}
	wanted := newIDFilter(a.sought)
	for _, m := range a.months {
		index := uint32(0)
		for _, chunk := range m.calls.chunks {
			for i := range chunk {
				if c := &chunk[i]; wanted.may(c) && c.class() != gone && !c.has(flagAmended) {
					if ref := m.refOf(index); a.amended[ref] != nil && !a.amended[ref].found {
						hits[ref] = found{m, index}
					}
				}
				index++
			}
		}
	}
	for _, ref := range a.sought {
		hit, ok := hits[ref]
		if !ok {
			continue
		}
		am := a.amended[ref]
		am.found, am.said = true, hit.m.calls.saidAt(hit.index)
		hit.m.drop(hit.index)
		a.stand(am, ref)
	}
	a.sought = nil
}

// moveMonths puts every call into the month it belongs to now.
func (a *account) moveMonths() {
	same := true
	for id, m := range a.months {
		same = same && m.start == a.start(id) && m.end == a.start(id+1)
	}
	if same {
		return
	}
	old := a.months
	a.months, a.last = map[Month]*month{}, nil
	for _, m := range old {
		for i := range m.calls.n {
			c := *m.calls.at(i)
			if c.class() == gone {
				continue
			}
			to := a.month(a.monthOf(c.at))
			id := m.calls.id(&c)
			index := to.add(c, m.calls.user(i), m.calls.source(i), id, m.calls.saidAt(i))
			if c.has(flagAmended) {
				am := a.amended[m.refOf(i)]
				am.month, am.index = to, index
			}
		}
	}
}

// dangling are the corrections without their call, said in the month (R10).
func (a *account) dangling(m *month) (sum cell) {
	for _, am := range a.amended {
		if am.found {
			continue
		}
		for _, e := range am.events {
			if m.start <= e.at && e.at < m.end {
				sum.add(1, e.seconds)
			}
		}
	}
	return sum
}

func (a *account) rating(id Month) Rating {
	a.resolve()
	m := a.months[id]
	if m == nil {
		m = a.newMonth(id) // not kept: asking must not cost memory
	}
	return m.rating()
}
