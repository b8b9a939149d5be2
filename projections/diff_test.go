package projections_test

import (
	"context"
	"fmt"
	"math/big"
	"os"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/memlog"
	"tollbook/projections"
)

// every is more than any of the histories has.
var every = projections.DiffLimits{Calls: 1 << 20, Events: 1 << 20}

func (s *story) diff(tenant string, m domain.Month, before, after uint64, limits projections.DiffLimits) projections.DiffDocument {
	s.t.Helper()
	var read []uint64
	d, err := projections.Diff(context.Background(), eventstore.Walk{Log: s.log.Reopen()}, tenant, m, before, after, limits, func(n uint64) { read = append(read, n) })
	if err != nil {
		s.t.Fatal(err)
	}
	if !slices.IsSorted(read) || read[len(read)-1] > 2*uint64(len(s.events)) {
		s.t.Fatalf("progress of %d events, twice: %v", len(s.events), read)
	}
	return d
}

// said spreads out what [story.expected] says of a month at a position: lines,
// totals, pools, exceptions. A month that is closed keeps its adjustments.
func (s *story) said(tenant string, m domain.Month, at uint64) map[string]string {
	var statement projections.Statement
	if err := json.Unmarshal([]byte(s.expected(tenant, m, at)), &statement); err != nil {
		s.t.Fatal(err)
	}
	said, totals := map[string]string{}, map[string]*big.Rat{}
	invoice := func(i *projections.Invoice, lines []projections.Line, adjustments []projections.Adjustment) {
		name := fmt.Sprint(i.Country, "/", i.Plan, "/", i.Currency)
		if totals[name] == nil {
			totals[name] = new(big.Rat)
		}
		add := func(adjusts string, l projections.Line) {
			amount, _ := new(big.Rat).SetString(l.Amount)
			totals[name].Add(totals[name], amount)
			said[lineName(name, adjusts, l.Deck, l.DeckVersion, l.DestinationCountry, l.Destination, l.Type, l.Price, l.ConnectFee)] = fmt.Sprint(projections.LineState{Calls: l.Calls, Seconds: l.Seconds, Amount: l.Amount})
		}
		for _, l := range lines {
			add("", l)
		}
		for _, a := range adjustments {
			add(a.Month, a.Line)
		}
	}
	for _, i := range statement.Invoices {
		invoice(&i, i.Lines, i.Adjustments)
	}
	for _, closed := range s.issued[tenant] {
		if closed.month == m && closed.position <= at {
			var document projections.InvoiceDocument
			if err := json.Unmarshal(closed.data.Document, &document); err != nil {
				s.t.Fatal(err)
			}
			for _, i := range document.Invoices {
				if len(i.Adjustments) > 0 {
					invoice(&i, nil, i.Adjustments)
				}
			}
		}
	}
	for name, total := range totals {
		said["total "+name] = total.RatString()
	}
	for _, p := range statement.Pools {
		for _, b := range p.Buckets {
			said[fmt.Sprint("pool ", p.Country, "/", p.Plan, "/", p.User, "/", b.Name)] = fmt.Sprint(projections.PoolState{Licences: p.Licences, Granted: b.Granted, Used: b.Used, Overage: b.Overage})
		}
	}
	for _, e := range statement.Exceptions {
		said["exception "+e.Reason] = fmt.Sprint(projections.ExceptionState{Count: e.Count, Seconds: e.Seconds})
	}
	return said
}

func lineName(parts ...string) string { return fmt.Sprintf("line %q", parts) }

// changes are those of a document, as before and after by [story.said]'s names.
func changes(t *rapid.T, d *projections.DiffDocument) (before, after map[string]string) {
	before, after = map[string]string{}, map[string]string{}
	put := func(name string, was, is any) {
		for _, one := range []struct {
			to    map[string]string
			value any
		}{{before, was}, {after, is}} {
			switch v := one.value.(type) {
			case *string:
				if v != nil {
					total, _ := new(big.Rat).SetString(*v)
					one.to[name] = total.RatString()
				}
			case *projections.LineState:
				if v != nil {
					one.to[name] = fmt.Sprint(*v)
				}
			case *projections.PoolState:
				if v != nil {
					one.to[name] = fmt.Sprint(*v)
				}
			case *projections.ExceptionState:
				if v != nil {
					one.to[name] = fmt.Sprint(*v)
				}
			}
		}
		if before[name] == after[name] {
			t.Fatalf("%s has not changed: %s", name, before[name])
		}
	}
	for _, c := range d.Totals {
		put(fmt.Sprint("total ", c.Country, "/", c.Plan, "/", c.Currency), c.Before, c.After)
	}
	for _, c := range d.Lines {
		invoice := fmt.Sprint(c.Country, "/", c.Plan, "/", c.Currency)
		put(lineName(invoice, c.Adjusts, c.Deck, c.DeckVersion, c.DestinationCountry, c.Destination, c.Type, c.Price, c.ConnectFee), c.Before, c.After)
	}
	for _, c := range d.Pools {
		put(fmt.Sprint("pool ", c.Country, "/", c.Plan, "/", c.User, "/", c.Bucket), c.Before, c.After)
	}
	for _, c := range d.Exceptions {
		put("exception "+c.Reason, c.Before, c.After)
	}
	return before, after
}

// only are the entries of a map that another has otherwise, or not.
func only(m, other map[string]string) map[string]string {
	d := map[string]string{}
	for k, v := range m {
		if w, ok := other[k]; !ok || w != v {
			d[k] = v
		}
	}
	return d
}

// addsUp makes sure that what changed call by call is what changed line by line,
// exactly, in each invoice, and that the moves are those of the calls.
func addsUp(t *rapid.T, d *projections.DiffDocument) {
	sums := map[[3]string]*big.Rat{}
	add := func(country, plan, currency string, exact *big.Rat, sign int64) {
		key := [3]string{country, plan, currency}
		if sums[key] == nil {
			sums[key] = new(big.Rat)
		}
		sums[key].Add(sums[key], exact.Mul(exact, big.NewRat(sign, 1)))
	}
	moves := map[[2]string]int64{}
	class := func(c *projections.CallState) string {
		if c == nil {
			return ""
		}
		return c.Class
	}
	for _, c := range d.Calls {
		moves[[2]string{class(c.Before), class(c.After)}]++
		for sign, state := range map[int64]*projections.CallState{-1: c.Before, 1: c.After} {
			if state != nil && state.Currency != "" {
				exact, ok := new(big.Rat).SetString(state.Exact)
				if !ok {
					t.Fatalf("%+v", state)
				}
				add(state.Country, state.Plan, state.Currency, exact, sign)
			}
		}
	}
	for _, l := range d.Lines {
		price, err1 := domain.ParseMicros(l.Price)
		fee, err2 := domain.ParseMicros(l.ConnectFee)
		if err1 != nil || err2 != nil {
			t.Fatalf("%+v", l)
		}
		if l.Adjusts != "" {
			continue
		}
		for sign, state := range map[int64]*projections.LineState{1: l.Before, -1: l.After} {
			if state != nil {
				add(l.Country, l.Plan, l.Currency, domain.ExactCharge(price, fee, state.Calls, state.Seconds), sign)
			}
		}
	}
	for key, sum := range sums {
		if sum.Sign() != 0 {
			t.Fatalf("calls and lines of %v differ by %s: %+v", key, sum.RatString(), d)
		}
	}
	listed := map[[2]string]int64{}
	for _, m := range d.Moves {
		name := func(s *string) string {
			if s == nil {
				return ""
			}
			return *s
		}
		listed[[2]string{name(m.Before), name(m.After)}] = m.Calls
	}
	if diff := gocmp.Diff(moves, listed); diff != "" || d.CallsChanged != int64(len(d.Calls)) {
		t.Fatalf("%d calls changed (-calls +moves):\n%s", d.CallsChanged, diff)
	}
}

// enough makes sure that nothing but the events that a document names changed the
// month: without the others it is the same. Adjustments are other months'.
func (s *story) enough(tenant string, m domain.Month, d *projections.DiffDocument) {
	base := s.events[:d.Before.Position]
	var named []domain.Event
	last := d.Before.Position
	for _, e := range d.Events {
		if e.Position <= last || e.Position > d.After.Position {
			s.t.Fatalf("event %+v after position %d", e, last)
		}
		last = e.Position
		event := s.events[e.Position-1]
		if e.Ref != (projections.Ref{Source: event.Source, ID: event.ID}) || e.Tenant != event.Tenant || e.Type != event.Data.Type() || e.About == "" {
			s.t.Fatalf("position %d has %+v, not %+v", e.Position, event, e)
		}
		named = append(named, event)
	}
	rated := func(lists ...[]domain.Event) string {
		l := domain.NewLedger()
		for _, list := range lists {
			for i := range list {
				if list[i].Data.Type() != domain.TypeMonthClosed {
					l.Add(&list[i])
				}
			}
		}
		r := l.Rating(tenant, m)
		return fmt.Sprintf("%+v %+v %+v %+v", r.Pools, r.Invoices, r.Exceptions, r.Counts)
	}
	if diff := gocmp.Diff(rated(s.events[:d.After.Position]), rated(base, named)); diff != "" {
		s.t.Fatalf("the events it names do not make %s of %s what it is at position %d (-all +named):\n%s\n%+v", m, tenant, d.After.Position, diff, d)
	}
	for _, c := range d.Calls {
		if (c.Why == projections.WhyItself) != (len(c.By) > 0) {
			s.t.Fatalf("%+v", c)
		}
		var about []uint64
		for position := d.Before.Position + 1; position <= d.After.Position; position++ {
			if e := &s.events[position-1]; e.Tenant == tenant && isAbout(e, domain.Ref(c.Ref)) {
				about = append(about, position)
			}
		}
		if diff := gocmp.Diff(about, c.By, cmpopts.EquateEmpty()); diff != "" {
			s.t.Fatalf("%+v (-events about it +said):\n%s", c, diff)
		}
	}
}

func isAbout(e *domain.Event, ref domain.Ref) bool {
	switch data := e.Data.(type) {
	case *domain.Call:
		return ref == domain.Ref{Source: e.Source, ID: e.ID}
	case *domain.Correction:
		return ref == data.Ref
	case *domain.Void:
		return ref == data.Ref
	}
	return false
}

// crowds are calls of December that all want the minutes of few, licences that come
// late, and a call that is voided.
var crowds = rapid.Custom(func(t *rapid.T) []domain.Event {
	w := &writer{t: t, ids: map[string]int{}}
	tenant := historyTenants[0]
	for _, user := range historyUsers[:w.number(1, 3)] {
		w.add(tenant, "crowd", instant("2026-12-31T00:00:00Z"), &domain.Assignment{User: user, Plan: "NATIONAL", Country: "IT", EffectiveAt: instant("2026-10-15T00:00:00Z")})
	}
	var last domain.Ref
	for range w.number(5, 15) {
		c := w.call()
		c.User, c.Called = pick(w, historyUsers...), phone("+390612345678")
		c.AnsweredAt = instant("2026-12-10T00:00:00Z") + domain.Instant(w.number(0, 20))*hour
		last = w.add(tenant, "crowd", c.AnsweredAt+hour, &c)
	}
	w.add(tenant, "crowd", instant("2026-12-31T00:00:00Z"), &domain.Void{Ref: last, Reason: "a test call"})
	return rapid.Permutation(w.events).Draw(t, "order")
})

// TestDiff compares months of random books, in which months are closed while
// events come, at any two positions. What the document says has changed, and
// nothing else, is what differs between the two statements; what changed call by
// call adds up to it exactly; and the events it names are all that did it.
func TestDiff(t *testing.T) {
	base := t.TempDir()
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		crowd := crowds.Draw(t, "crowd")
		events := append(histories.Draw(t, "history"), crowd...)
		dir, err := os.MkdirTemp(base, "book")
		if err != nil {
			t.Fatal(err)
		}
		s := &story{t: t, dir: dir, log: memlog.New(t), issued: map[string][]issuedThen{}}
		s.open()
		defer func() { _ = s.book.Close() }()
		for len(events) > 0 {
			n := min(rapid.IntRange(1, 12).Draw(t, "batch"), len(events))
			s.receive(events[:n])
			events = events[n:]
			if rapid.IntRange(0, 2).Draw(t, "close") == 0 {
				s.closeNext(rapid.SampledFrom(historyTenants).Draw(t, "closes"))
			}
		}
		end := uint64(len(s.events))
		for range 6 {
			tenant, m := rapid.SampledFrom(historyTenants).Draw(t, "tenant"), rapid.SampledFrom(shownMonths()).Draw(t, "month")
			low := uint64(1)
			if rapid.Bool().Draw(t, "crowded") {
				tenant, m, low = historyTenants[0], month("2026-12"), end-uint64(len(crowd))
			}
			some := []uint64{1, end}
			for _, i := range s.issued[tenant] {
				some = append(some, i.data.Position, i.position)
			}
			position := rapid.OneOf(rapid.SampledFrom(some), rapid.Uint64Range(low, end))
			before, after := position.Draw(t, "before"), position.Draw(t, "after")
			before, after = min(before, after), max(before, after)

			d := s.diff(tenant, m, before, after, every)
			was, is := s.said(tenant, m, before), s.said(tenant, m, after)
			gotWas, gotIs := changes(t, &d)
			if diff := gocmp.Diff([]map[string]string{only(was, is), only(is, was)}, []map[string]string{gotWas, gotIs}); diff != "" {
				t.Fatalf("%s of %s from position %d to %d (-statements +document):\n%s", m, tenant, before, after, diff)
			}
			addsUp(t, &d)
			s.enough(tenant, m, &d)
			for _, c := range d.Calls {
				seen[c.Why]++
			}

			same := s.diff(tenant, m, after, after, every)
			if len(same.Totals)+len(same.Lines)+len(same.Pools)+len(same.Exceptions)+len(same.Calls)+len(same.Moves)+len(same.Events) != 0 || same.CallsChanged != 0 || same.EventsFound != 0 {
				t.Fatalf("position %d and itself: %+v", after, same)
			}
			if diff := gocmp.Diff([]projections.StateOf{d.After, same.After}, []projections.StateOf{same.Before, same.Before}); diff != "" {
				t.Fatalf("position %d is another one by itself:\n%s", after, diff)
			}
			if after == end {
				if diff := gocmp.Diff(d, s.diff(tenant, m, before, 0, every)); diff != "" {
					t.Fatalf("position %d is the end (-named +not):\n%s", end, diff)
				}
			}
			for _, i := range s.issued[tenant] {
				if i.month == m && i.data.Position == before {
					if diff := gocmp.Diff(d, s.diff(tenant, m, 0, after, every)); diff != "" || d.Before.Number == nil {
						t.Fatalf("position %d is where %s was closed (-named +not):\n%s", before, m, diff)
					}
				}
			}

			limits := projections.DiffLimits{Calls: rapid.IntRange(0, 5).Draw(t, "calls"), Events: rapid.IntRange(0, 5).Draw(t, "events")}
			few := s.diff(tenant, m, before, after, limits)
			d.Calls, d.Events = d.Calls[:min(len(d.Calls), limits.Calls)], d.Events[:min(len(d.Events), limits.Events)]
			if diff := gocmp.Diff(d, few); diff != "" {
				t.Fatalf("with limits of %+v (-beginning of all +few):\n%s", limits, diff)
			}
		}
	})
	t.Logf("calls changed by: %v", seen)
	for _, why := range []string{projections.WhyItself, projections.WhyPool, projections.WhyTerms} {
		if seen[why] == 0 {
			t.Errorf("no call changed by %s", why)
		}
	}
}
