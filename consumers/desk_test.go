package consumers_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/eventstore/memlog"
	"tollbook/projections"
)

// A counter is a book in memory with its intake, and the projections that say
// what became of records.
type counter struct {
	t        testing.TB
	dir      string
	log      *memlog.Log
	book     *eventstore.Book
	intake   *consumers.Intake
	months   *projections.Months
	suspense *projections.Suspense
	ticks    atomic.Int64
	received atomic.Int64 // records, as their senders count them
}

func newCounter(t testing.TB, events ...domain.Event) *counter {
	t.Helper()
	c := &counter{t: t, dir: t.TempDir(), log: memlog.New(t)}
	c.open()
	t.Cleanup(func() { _ = c.book.Close() })
	for i := range events {
		c.books(events[i])
	}
	return c
}

// clock goes on by a second each time somebody looks.
func (c *counter) clock() domain.Instant {
	return domain.MinInstant + domain.Instant(c.ticks.Add(1)*int64(time.Second))
}

func (c *counter) open() {
	c.t.Helper()
	switches := consumers.NewSwitches()
	c.months, c.suspense = projections.NewMonths(), projections.NewSuspense(switches.Glimpse)
	book, err := eventstore.Open(c.t.Context(), c.dir, func(string) (eventstore.Log, error) { return c.log, nil }, eventstore.Options{
		Clock: c.clock, Resume: []eventstore.Resumer{switches, c.months, c.suspense},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.book, c.intake = book, consumers.NewIntake(book, switches, c.clock)
}

// reopen is a restart of the engine. After a failure, some of the records may not
// have been booked, and were not acknowledged.
func (c *counter) reopen() {
	c.t.Helper()
	if err := c.book.Close(); err != nil {
		c.t.Fatal(err)
	}
	c.log = c.log.Reopen()
	c.open()
}

// books books one event, as the file of an operator.
func (c *counter) books(e domain.Event) {
	c.t.Helper()
	results, err := c.book.Submit(c.t.Context(), []eventstore.Record{{Event: e}})
	if err != nil || results[0].Status != eventstore.Booked {
		c.t.Fatalf("%v, %v", results, err)
	}
	c.received.Add(1)
}

// comes takes a message in, and returns the position of its last record.
func (c *counter) comes(m consumers.Message) uint64 {
	c.t.Helper()
	if m.Header == nil {
		m.Header = func(string) string { return "" }
	}
	results, err := c.intake.Receive(c.t.Context(), m)
	if err != nil {
		c.t.Fatal(err)
	}
	c.received.Add(int64(len(results)))
	return results[len(results)-1].Position
}

// suspended are the positions of all records in suspense.
func (c *counter) suspended() (positions []uint64) {
	for _, r := range c.suspense.Records(projections.SuspenseFilter{}, 0, 0) {
		positions = append(positions, r.Position)
	}
	return positions
}

func (c *counter) recycle(r consumers.Resolution, positions ...uint64) []consumers.Outcome {
	c.t.Helper()
	return c.outcomes(c.intake.Recycle(c.t.Context(), positions, c.by(r)))
}

func (c *counter) writeOff(r consumers.Resolution, positions ...uint64) []consumers.Outcome {
	c.t.Helper()
	return c.outcomes(c.intake.WriteOff(c.t.Context(), positions, c.by(r)))
}

func (c *counter) by(r consumers.Resolution) consumers.Resolution {
	r.By, r.Reason = cmp.Or(r.By, "ada"), cmp.Or(r.Reason, "looked into")
	return r
}

func (c *counter) outcomes(outcomes []consumers.Outcome, err error) []consumers.Outcome {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
	return outcomes
}

// all are the sums of all tenants.
func (c *counter) all(months *projections.Months) (sum projections.Intake) {
	for _, tenant := range months.Tenants() {
		in, _ := months.Intake(tenant)
		sum.Booked += in.Booked
		sum.Duplicate += in.Duplicate
		sum.Suspended += in.Suspended
		sum.WrittenOff += in.WrittenOff
	}
	return sum
}

// check checks that nothing was lost and nothing counted twice: all that was
// received is booked, duplicate or suspended, each record is resolved at most
// once, and the blocks alone say the same. It returns the book's events.
func (c *counter) check() (events []domain.Event) {
	c.t.Helper()
	// Repeats are durable with the next block.
	c.books(domain.Event{Tenant: "nobody", Source: "check", ID: fmt.Sprint(c.book.Head().Events), Time: domain.MinInstant, Data: &domain.Removal{User: "x", Plan: "x", EffectiveAt: domain.MinInstant}})

	switches, months := consumers.NewSwitches(), projections.NewMonths()
	suspense := projections.NewSuspense(switches.Glimpse)
	var received, suspended, writtenOff uint64
	open := map[domain.Ref]bool{}
	_, err := eventstore.Walk{Log: c.log, Leaves: true}.Run(c.t.Context(), func(b *block.Block, head eventstore.Head, _ int) error {
		u := eventstore.Update{Head: head, First: b.First, Events: b.Events, Duplicates: b.Duplicates}
		switches.Follow(u)
		months.Follow(u)
		suspense.Follow(u)
		events = append(events, b.Events...)
		for _, d := range b.Duplicates {
			received += d.N
		}
		for i := range b.Events {
			key := domain.Ref{Source: b.Events[i].Tenant, ID: b.Events[i].ID}
			switch data := b.Events[i].Data.(type) {
			case *domain.Suspended:
				suspended++
				received++
				open[key] = true
			case *domain.Recycled:
				suspended--
				received-- // the record counts as what it became
				c.resolves(open, domain.Ref{Source: key.Source, ID: data.Ref.ID})
			case *domain.WrittenOff:
				writtenOff++
				c.resolves(open, domain.Ref{Source: key.Source, ID: data.Ref.ID})
			default:
				received++
			}
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if want := uint64(c.received.Load()); received != want {
		c.t.Errorf("%d records were received; the book has %d", want, received)
	}
	live := c.all(c.months)
	if live.Received() != received || live.Suspended != suspended || live.WrittenOff != writtenOff {
		c.t.Errorf("live: %+v; the book has %d received, %d suspended, %d of them written off", live, received, suspended, writtenOff)
	}
	if got, _ := c.months.Intake(domain.NoTenant); got.Suspended > suspended {
		c.t.Errorf("nobody's intake is %+v", got)
	}
	if diff := gocmp.Diff(live, c.all(months)); diff != "" {
		c.t.Errorf("months rebuilt from the blocks (-live +rebuilt):\n%s", diff)
	}
	if got := c.suspended(); len(got) != len(open) || uint64(len(got)) != suspended-writtenOff {
		c.t.Errorf("the desk lists %d records of %d", len(got), len(open))
	}
	all := projections.SuspenseFilter{}
	if diff := gocmp.Diff(c.suspense.Records(all, 0, 0), suspense.Records(all, 0, 0), gocmp.AllowUnexported(projections.SuspendedRecord{})); diff != "" {
		c.t.Errorf("suspense rebuilt from the blocks (-live +rebuilt):\n%s", diff)
	}
	return events
}

func (c *counter) resolves(open map[domain.Ref]bool, key domain.Ref) {
	if !open[key] {
		c.t.Errorf("%s %s is resolved and was not in suspense", key.Source, key.ID)
	}
	delete(open, key)
}

// unread is a call whose number no switch has.
func unread(id string) []byte {
	return bytes.Replace(call(id), []byte(`"+390612345678"`), []byte(`"0612345678"`), 1)
}

// longer is a call of the id with other content.
func longer(id string) []byte {
	return bytes.Replace(call(id), []byte(`60000`), []byte(`61000`), 1)
}

func kamailio(id string) []byte {
	return fmt.Appendf(nil, `{"callid":%q,"from_tag":"f","direction":"outbound","sip_code":"200","caller":"1001","called":"0441516204",`+
		`"start_time":"1795383635.709","answer_time":"1795383635.701959","end_time":"1795383636.106","duration":"0.397"}`, id)
}

const kamSubject = "tollbook.contoso.cdr.kamailio.kam-a"

// binaryCall is a call in binary mode.
func binaryCall(id, tenant string) func(string) string {
	attributes := map[string]string{
		"ce-specversion": "1.0", "ce-id": id, "ce-source": callSource, "ce-type": string(domain.TypeCall), "ce-time": "2026-10-05T09:01:00Z", "ce-tenant": tenant,
	}
	return func(name string) string { return attributes[name] }
}

func dataOf(call []byte) []byte {
	_, data, _ := bytes.Cut(call, []byte(`"data":`))
	end := bytes.IndexByte(data, '}')
	return data[:end+1]
}

// TestRecycle takes one record through the desk: tried first, which must change
// nothing and say the same; then done; then done again.
func TestRecycle(t *testing.T) {
	here := func(payload []byte) consumers.Message {
		return consumers.Message{Subject: callSubject, Payload: payload}
	}
	booked := func(id string) consumers.Outcome {
		return consumers.Outcome{Status: consumers.OutcomeBooked, Tenant: "contoso", Source: callSource, ID: id}
	}
	duplicate := booked("a")
	duplicate.Status = consumers.OutcomeDuplicate
	refused := func(reason, detail string) consumers.Outcome {
		return consumers.Outcome{Status: consumers.OutcomeRefused, Reason: reason, Detail: detail}
	}
	elsewhere := booked("a")
	elsewhere.Tenant = "fabrikam"
	huge := bytes.Repeat([]byte("x"), 17<<20)

	for name, c := range map[string]struct {
		before []consumers.Message // what came earlier
		record consumers.Message
		then   []domain.Event // what is booked since
		how    consumers.Resolution
		want   consumers.Outcome // Detail: a part of it
		became string            // Recycled.Tenant
	}{
		"the cause stands":          {record: here(unread("a")), want: refused("syntax", "data.called")},
		"no JSON, the cause stands": {record: here([]byte("not JSON\n")), want: refused("syntax", "not valid JSON")},
		"a conflict, the cause stands": {
			before: []consumers.Message{here(call("a"))}, record: here(longer("a")),
			want: refused("conflict", "source switch/mil-1 id a is booked at position 1 with other content"),
		},
		"an unknown switch": {
			record: consumers.Message{Subject: kamSubject, Payload: kamailio("a")}, want: refused("switch", "is not configured"),
		},
		"a switch that is known now": {
			record: consumers.Message{Subject: kamSubject, Payload: kamailio("a")}, then: []domain.Event{kamA()},
			want: consumers.Outcome{Status: consumers.OutcomeBooked, Tenant: "contoso", Source: "switch/kam-a", ID: "a;f"},
		},
		"a switch that had another format": {
			before: []consumers.Message{{Subject: "tollbook.contoso.switch.configured", Payload: []byte(`{"specversion":"1.0","type":"tollbook.switch.configured.v1","source":"ops","id":"wrong","time":"2026-10-01T00:00:00Z","data":{"switch":"kam-a","format":"asterisk","country":"CH","user":"{caller}"}}`)}},
			record: consumers.Message{Subject: kamSubject, Payload: kamailio("a")}, then: []domain.Event{kamA()},
			want: consumers.Outcome{Status: consumers.OutcomeBooked, Tenant: "contoso", Source: "switch/kam-a", ID: "a;f"},
		},
		"edited": {record: here(unread("a")), how: consumers.Resolution{Edited: call("a")}, want: booked("a")},
		"edited, and still unread": {
			record: here([]byte("not JSON\n")), how: consumers.Resolution{Edited: unread("a")}, want: refused("syntax", "data.called"),
		},
		"edited to nothing": {
			record: here(unread("a")), how: consumers.Resolution{Edited: []byte{}}, want: refused("syntax", "the message is empty"),
		},
		"edited into a conflict": {
			before: []consumers.Message{here(call("a"))}, record: here(unread("b")), how: consumers.Resolution{Edited: longer("a")},
			want: refused("conflict", "position 1"),
		},
		"edited into what is booked": {
			before: []consumers.Message{here(call("a"))}, record: here(unread("b")), how: consumers.Resolution{Edited: call("a")}, want: duplicate,
		},
		"edited into two": {
			record: here(unread("a")), how: consumers.Resolution{Edited: slices.Concat(call("a"), []byte("\n"), call("b"))},
			want: refused("syntax", "it holds 2 records"),
		},
		"edited into what only the engine writes": {
			record: here(unread("a")), how: consumers.Resolution{Edited: []byte(`{"specversion":"1.0","type":"tollbook.record.written-off.v1","source":"x","id":"x","time":"2026-10-05T09:01:00Z","data":{"ref":{"source":"x","id":"x"},"by":"x","reason":"x"}}`)},
			want: refused("syntax", "written by the engine itself"),
		},
		"edited into the desk's own source": {
			record: here(unread("a")), how: consumers.Resolution{Edited: bytes.Replace(call("a"), []byte(callSource), []byte(eventstore.SuspenseSource), 1)},
			want: refused("syntax", "engine's own"),
		},
		"binary mode, the cause stands": {
			record: consumers.Message{Subject: callSubject, Header: binaryCall("a", ""), Payload: dataOf(unread("a"))}, want: refused("syntax", "data.called"),
		},
		"binary mode, of another tenant's subject": {
			record: consumers.Message{Subject: callSubject, Header: binaryCall("a", "fabrikam"), Payload: dataOf(call("a"))},
			how:    consumers.Resolution{Subject: "tollbook.fabrikam.call.completed"}, want: elsewhere, became: "fabrikam",
		},
		"binary mode, edited with its headers": {
			record: consumers.Message{Subject: callSubject, Header: binaryCall("a", ""), Payload: dataOf(unread("a"))},
			how: consumers.Resolution{Edited: slices.Concat(
				[]byte("NATS/1.0\r\nce-specversion: 1.0\r\nce-id: a\r\nce-source: switch/mil-1\r\nce-type: tollbook.call.completed.v1\r\nce-time: 2026-10-05T09:01:00Z\r\n\r\n"), dataOf(call("a")))},
			want: booked("a"),
		},
		"binary mode, headers that can't be read": {
			record: here(unread("a")), how: consumers.Resolution{Edited: slices.Concat([]byte("NATS/1.0\r\nce-id\r\n\r\n"), dataOf(call("a")))},
			want: refused("syntax", "headers before the data"),
		},
		"nobody's": {
			record: consumers.Message{Subject: "tollbook.Contoso.call.completed", Payload: call("a")}, want: refused("subject", "the tenant must be"),
		},
		"nobody's, given a subject": {
			record: consumers.Message{Subject: "tollbook.Contoso.call.completed", Payload: call("a")},
			how:    consumers.Resolution{Subject: callSubject}, want: booked("a"), became: "contoso",
		},
		"of a file, edited": {
			record: consumers.Message{Subject: "tollbook.-.events", Payload: []byte("not JSON\n"), AnyTenant: true},
			how:    consumers.Resolution{Edited: call("a")}, want: booked("a"), became: "contoso",
		},
		"as of a file, where nobody may speak for all": {
			record: consumers.Message{Subject: "tollbook.-.events", Payload: call("a")}, want: refused("subject", "the tenant must be"),
		},
		"as of a file, where nobody may speak for all, vouched for": {
			record: consumers.Message{Subject: "tollbook.-.events", Payload: call("a")},
			how:    consumers.Resolution{Subject: "tollbook.-.events"}, want: booked("a"), became: "contoso",
		},
		"given a subject that is none": {
			record: here(unread("a")), how: consumers.Resolution{Subject: "invoices"}, want: refused("subject", "must be tollbook.<tenant>"),
		},
		"cut": {record: here(huge), want: refused("size", "only the beginning of the record was kept")},
		"cut, edited": {
			record: here(huge), how: consumers.Resolution{Edited: call("a")}, want: booked("a"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			desk := newCounter(t)
			for _, m := range c.before {
				desk.comes(m)
			}
			position := desk.comes(c.record)
			if got := desk.suspended(); !slices.Equal(got, []uint64{position}) {
				t.Fatalf("in suspense: %d, want %d alone", got, position)
			}
			for _, e := range c.then {
				desk.books(e)
			}
			head := desk.book.Head()
			c.want.Position = position

			try := c.how
			try.DryRun = true
			tried := desk.recycle(try, position)
			if desk.book.Head() != head {
				t.Errorf("a dry run changed the book: %v, before %v", desk.book.Head(), head)
			}
			got := desk.recycle(c.how, position)
			wantOutcome(t, "tried", tried, c.want)
			wantOutcome(t, "done", got, c.want)
			events := desk.check()
			if c.want.Status == consumers.OutcomeRefused {
				if !slices.Equal(desk.suspended(), []uint64{position}) || desk.book.Head().Events != head.Events+1 {
					t.Errorf("refused, and yet the book is at %v with %d in suspense", desk.book.Head(), desk.suspended())
				}
				return
			}
			// The event, its note, and nothing else.
			at := got[0].BookedAt
			became := events[at-1]
			if became.Tenant != got[0].Tenant || became.Source != got[0].Source || became.ID != got[0].ID || (at > head.Events) != (c.want.Status == consumers.OutcomeBooked) {
				t.Errorf("position %d has %s %s %s", at, became.Tenant, became.Source, became.ID)
			}
			suspended := events[position-1]
			if desk.suspense.ResolvedBy(position) == 0 {
				t.Fatal("nothing says what became of the record")
			}
			note, ok := events[desk.suspense.ResolvedBy(position)-1].Data.(*domain.Recycled)
			want := &domain.Recycled{
				Ref: domain.Ref{Source: suspended.Source, ID: suspended.ID}, Booked: domain.Ref{Source: became.Source, ID: became.ID},
				Tenant: c.became, By: "ada", Reason: "looked into", Edited: c.how.Edited, Subject: c.how.Subject,
			}
			if diff := gocmp.Diff(want, note); !ok || diff != "" {
				t.Errorf("the note (-want +got):\n%s", diff)
			}
			// Once is enough, however often it is asked, and whoever sends it again.
			before := desk.book.Head()
			wantOutcome(t, "again", desk.recycle(c.how, position), consumers.Outcome{Position: position, Status: consumers.OutcomeRefused, Reason: consumers.ReasonResolved, Detail: "before"})
			wantOutcome(t, "given up", desk.writeOff(consumers.Resolution{}, position), consumers.Outcome{Position: position, Status: consumers.OutcomeRefused, Reason: consumers.ReasonResolved, Detail: "before"})
			desk.comes(c.record)
			if len(c.then) == 0 && desk.book.Head() != before {
				t.Errorf("asked again, the book went on from %v to %v", before, desk.book.Head())
			}
			desk.check()
			desk.reopen()
			desk.check()
		})
	}
}

// wantOutcome compares one outcome; want.Detail is a part of it, and positions in
// the book are not compared.
func wantOutcome(t *testing.T, when string, got []consumers.Outcome, want consumers.Outcome) {
	t.Helper()
	if len(got) != 1 {
		t.Fatalf("%s: %d outcomes", when, len(got))
	}
	o := got[0]
	if !strings.Contains(o.Detail, want.Detail) || (o.Detail == "") != (want.Detail == "") {
		t.Errorf("%s: detail %q, want %q in it", when, o.Detail, want.Detail)
	}
	o.Detail, o.BookedAt = want.Detail, 0
	if diff := gocmp.Diff(want, o); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// TestWriteOff gives records up; nothing can be made of them then.
func TestWriteOff(t *testing.T) {
	desk := newCounter(t)
	position := desk.comes(consumers.Message{Subject: callSubject, Payload: unread("a")})
	kept := desk.comes(consumers.Message{Subject: callSubject, Payload: unread("b")})
	head := desk.book.Head()
	wantOutcome(t, "tried", desk.writeOff(consumers.Resolution{DryRun: true}, position), consumers.Outcome{Position: position, Status: consumers.OutcomeWrittenOff})
	if desk.book.Head() != head {
		t.Errorf("a dry run changed the book")
	}
	wantOutcome(t, "done", desk.writeOff(consumers.Resolution{Reason: "a test call", By: "grace"}, position), consumers.Outcome{Position: position, Status: consumers.OutcomeWrittenOff})
	events := desk.check()
	note, ok := events[desk.suspense.ResolvedBy(position)-1].Data.(*domain.WrittenOff)
	if !ok || note.By != "grace" || note.Reason != "a test call" || note.Ref.ID != events[position-1].ID {
		t.Errorf("the note is %+v", note)
	}
	resolved := consumers.Outcome{Position: position, Status: consumers.OutcomeRefused, Reason: consumers.ReasonResolved, Detail: "before"}
	wantOutcome(t, "recycled", desk.recycle(consumers.Resolution{Edited: call("a")}, position), resolved)
	wantOutcome(t, "again", desk.writeOff(consumers.Resolution{}, position), resolved)
	if in, _ := desk.months.Intake("contoso"); in.Suspended != 2 || in.WrittenOff != 1 || in.Booked != 0 {
		t.Errorf("%+v", in)
	}
	if got := desk.suspended(); !slices.Equal(got, []uint64{kept}) {
		t.Errorf("in suspense: %d", got)
	}
	desk.check()
}

// TestPositions names what is no record in suspense among what is.
func TestPositions(t *testing.T) {
	desk := newCounter(t)
	booked := desk.comes(consumers.Message{Subject: callSubject, Payload: call("a")})
	b := desk.comes(consumers.Message{Subject: callSubject, Payload: unread("b")})
	d := desk.comes(consumers.Message{Subject: callSubject, Payload: unread("d")})
	none := func(position uint64) string { return fmt.Sprintf("%d refused position", position) }
	for _, c := range []struct {
		positions []uint64
		want      []string
	}{
		{nil, nil},
		{[]uint64{0}, []string{none(0)}},
		{[]uint64{99}, []string{none(99)}},
		{[]uint64{booked}, []string{none(booked)}},
		{[]uint64{99, b, b, 0, 100, booked, 99}, []string{none(0), none(booked), fmt.Sprintf("%d refused syntax", b), none(99), none(100)}},
		{[]uint64{d, b}, []string{fmt.Sprintf("%d refused syntax", b), fmt.Sprintf("%d refused syntax", d)}},
		{[]uint64{1<<64 - 1, d}, []string{fmt.Sprintf("%d refused syntax", d), none(1<<64 - 1)}},
	} {
		var got []string
		for _, o := range desk.recycle(consumers.Resolution{}, c.positions...) {
			got = append(got, fmt.Sprintf("%d %s %s", o.Position, o.Status, o.Reason))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%d: %q, want %q", c.positions, got, c.want)
		}
	}
	got := desk.writeOff(consumers.Resolution{}, 0, b, booked, d, b, 99)
	if len(got) != 5 || got[2].Status != consumers.OutcomeWrittenOff || got[3].Status != consumers.OutcomeWrittenOff {
		t.Errorf("%+v", got)
	}
	desk.check()
}

// TestWhoAndWhy refuses a decision that the book could not keep as it is.
func TestWhoAndWhy(t *testing.T) {
	desk := newCounter(t)
	position := desk.comes(consumers.Message{Subject: callSubject, Payload: unread("a")})
	head := desk.book.Head()
	for want, c := range map[string]struct {
		positions []uint64
		r         consumers.Resolution
	}{
		"must say who decides":                      {[]uint64{position}, consumers.Resolution{Reason: "why"}},
		"in at most 128 bytes":                      {[]uint64{position}, consumers.Resolution{By: strings.Repeat("x", 129), Reason: "why"}},
		"must have at most 1024 bytes":              {[]uint64{position}, consumers.Resolution{By: "ada", Reason: strings.Repeat("x", 1025)}},
		"without control characters":                {[]uint64{position}, consumers.Resolution{By: "ada", Reason: "one\ntwo"}},
		"0 records can't become one":                {nil, consumers.Resolution{By: "ada", Reason: "why", Edited: call("a")}},
		"2 records can't become one":                {[]uint64{position, 99}, consumers.Resolution{By: "ada", Reason: "why", Subject: callSubject}},
		"2 records can't become one: name a single": {[]uint64{position, 99}, consumers.Resolution{By: "ada", Reason: "why", Edited: call("a")}},
	} {
		outcomes, err := desk.intake.Recycle(t.Context(), c.positions, c.r)
		if err == nil || !strings.Contains(err.Error(), want) || outcomes != nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, %v; want %q", outcomes, err, want)
		}
	}
	if _, err := desk.intake.WriteOff(t.Context(), []uint64{position}, consumers.Resolution{By: "ada"}); err == nil || !strings.Contains(err.Error(), "needs a reason") {
		t.Errorf("%v", err)
	}
	if desk.book.Head() != head {
		t.Error("the book has changed")
	}
	longest := consumers.Resolution{By: strings.Repeat("é", 64), Reason: strings.Repeat("é", 512), Edited: call("a")}
	wantOutcome(t, "the longest", desk.recycle(longest, position), consumers.Outcome{Position: position, Status: consumers.OutcomeBooked, Tenant: "contoso", Source: callSource, ID: "a"})
	desk.check()
}

// waitingRecords fills a book with n records of a switch that is not known, then
// makes it known.
func waitingRecords(t testing.TB, n int) *counter {
	t.Helper()
	desk := newCounter(t)
	var payload []byte
	for i := range n {
		payload = append(append(payload, kamailio(fmt.Sprint("call-", i))...), '\n')
	}
	desk.comes(consumers.Message{Subject: kamSubject, Payload: payload})
	desk.books(kamA())
	return desk
}

// TestBulk recycles 2,500 records in turns. Two of them are the same call and two
// contradict each other, further apart than a turn goes: a dry run knows.
func TestBulk(t *testing.T) {
	const n = 2500
	desk := newCounter(t)
	var payload []byte
	for i := range n - 2 {
		payload = append(append(payload, kamailio(fmt.Sprint("call-", i))...), '\n')
	}
	payload = slices.Concat(payload,
		[]byte(" "), bytes.Replace(kamailio("call-0"), []byte(`{`), []byte(`{ `), 1), []byte("\n"), // the same, written otherwise
		bytes.Replace(kamailio("call-1"), []byte(`0.397`), []byte(`0.396`), 1), []byte("\n"))
	desk.comes(consumers.Message{Subject: kamSubject, Payload: payload})
	positions := desk.suspended()
	if len(positions) != n {
		t.Fatalf("%d in suspense", len(positions))
	}
	desk.books(kamA())
	head := desk.book.Head()

	tried := desk.recycle(consumers.Resolution{DryRun: true}, positions...)
	if desk.book.Head() != head {
		t.Errorf("a dry run changed the book")
	}
	done := desk.recycle(consumers.Resolution{}, positions...)
	if blocks := desk.book.Head().Block - head.Block; blocks != 3 {
		t.Errorf("%d blocks, want 3 turns of 1,000 records", blocks)
	}
	counts := map[string]int{}
	for i := range done {
		counts[done[i].Status+done[i].Reason]++
		done[i].BookedAt, done[i].Detail, tried[i].Detail = 0, "", ""
	}
	if diff := gocmp.Diff(map[string]int{"booked": n - 2, "duplicate": 1, "refusedconflict": 1}, counts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(tried, done); diff != "" {
		t.Errorf("(-tried +done):\n%s", diff)
	}
	desk.check()
	again := desk.recycle(consumers.Resolution{}, positions...)
	if slices.ContainsFunc(again, func(o consumers.Outcome) bool { return o.Status != consumers.OutcomeRefused }) {
		t.Error("some were recycled twice")
	}
	desk.check()
}

// TestLargeRecords: turns are also bounded by bytes.
func TestLargeRecords(t *testing.T) {
	desk := newCounter(t)
	blank := bytes.Repeat([]byte(" "), 200<<10)
	for i := range 30 {
		id := fmt.Sprint("call-", i)
		desk.comes(consumers.Message{Subject: kamSubject, Payload: slices.Concat([]byte("["), bytes.Replace(kamailio(id), []byte(`{`), append([]byte(`{`), blank...), 1), []byte("]"))})
	}
	desk.books(kamA())
	head := desk.book.Head()
	for _, o := range desk.recycle(consumers.Resolution{}, desk.suspended()...) {
		if o.Status != consumers.OutcomeBooked {
			t.Fatalf("%+v", o)
		}
	}
	if blocks := desk.book.Head().Block - head.Block; blocks != 3 { // of 10 records, 2 MiB, each
		t.Errorf("%d blocks for 6 MiB", blocks)
	}
	for i := range 4 {
		padded := bytes.Replace(unread(fmt.Sprint("call-", i)), []byte(`{`), append([]byte(`{`), bytes.Repeat(blank, 12)...), 1)
		desk.comes(consumers.Message{Subject: callSubject, Payload: padded})
	}
	head = desk.book.Head()
	for _, o := range desk.writeOff(consumers.Resolution{}, desk.suspended()...) {
		if o.Status != consumers.OutcomeWrittenOff {
			t.Fatalf("%+v", o)
		}
	}
	if blocks := desk.book.Head().Block - head.Block; blocks != 4 {
		t.Errorf("%d blocks for 4 records of more than 2 MiB", blocks)
	}
	desk.check()
}

// TestInterrupted stops in the middle of 2,100 records, in every way; what was
// done is known then, and the rest is done by asking again.
func TestInterrupted(t *testing.T) {
	for name, stop := range map[string]func(desk *counter, cancel func(), n uint64) (want error){
		"cancelled before": func(_ *counter, cancel func(), _ uint64) error { cancel(); return context.Canceled },
		"cancelled": func(desk *counter, cancel func(), n uint64) error {
			desk.log.Before = at(n, cancel)
			return context.Canceled
		},
		"closed": func(desk *counter, _ func(), n uint64) error {
			desk.log.Before = at(n, func() {
				go func() { _ = desk.book.Close() }()
				<-closing(desk)
			})
			return eventstore.ErrClosed
		},
		"an append failed": func(desk *counter, _ func(), n uint64) error {
			desk.log.FailAppend(n, false)
			return eventstore.ErrUncertain
		},
		"an append failed, but happened": func(desk *counter, _ func(), n uint64) error {
			desk.log.FailAppend(n, true)
			return eventstore.ErrUncertain
		},
	} {
		t.Run(name, func(t *testing.T) {
			const n = 2100
			desk := waitingRecords(t, n)
			desk.reopen() // so that nobody uses the log while its hook is set
			positions := desk.suspended()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			want := stop(desk, cancel, desk.book.Head().Block+2) // the second turn of three
			outcomes, err := desk.intake.Recycle(ctx, positions, desk.by(consumers.Resolution{}))
			if !errors.Is(err, want) || len(outcomes) == len(positions) {
				t.Fatalf("%d outcomes, %v; want %v", len(outcomes), err, want)
			}
			desk.reopen()
			desk.check()
			for _, o := range desk.recycle(consumers.Resolution{}, desk.suspended()...) {
				if o.Status != consumers.OutcomeBooked {
					t.Fatalf("%+v", o)
				}
			}
			if in, _ := desk.months.Intake("contoso"); in.Booked != n+1 || in.Duplicate != 0 || in.Suspended != 0 {
				t.Errorf("%+v", in)
			}
			desk.check()
		})
	}
}

// at is a hook of a log that does something at the append of block n.
func at(n uint64, do func()) func(uint64) {
	return func(block uint64) {
		if block == n {
			do()
		}
	}
}

// closing is closed once the book refuses to be read, as its Close was called.
func closing(desk *counter) <-chan struct{} {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for !errors.Is(desk.book.Events(context.Background(), nil, nil), eventstore.ErrClosed) {
			time.Sleep(time.Millisecond)
		}
	}()
	return closed
}

// TestTwoDesks has people recycle and write off the same records at once while
// calls come in: each record is resolved once, by one of them.
func TestTwoDesks(t *testing.T) {
	const n = 500
	desk := waitingRecords(t, n)
	positions := desk.suspended()
	t.Logf("seed %d", *seed)
	outcomes := make([][]consumers.Outcome, 6)
	var people, calls sync.WaitGroup
	stop := make(chan struct{})
	calls.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := desk.intake.Receive(context.Background(), consumers.Message{
				Subject: callSubject, Header: func(string) string { return "" }, Payload: call(fmt.Sprint("meanwhile-", i)),
			}); err != nil {
				t.Error(err)
				return
			}
			desk.received.Add(1)
		}
	})
	for who := range outcomes {
		people.Go(func() {
			random := rand.New(rand.NewPCG(*seed, uint64(who)))
			mine := slices.Clone(positions)
			random.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
			do := desk.intake.Recycle
			if who%2 == 1 {
				do = desk.intake.WriteOff
			}
			for len(mine) > 0 {
				some := min(len(mine), 1+random.IntN(40))
				got, err := do(context.Background(), mine[:some], consumers.Resolution{By: fmt.Sprint("person-", who), Reason: "at once", DryRun: random.IntN(4) == 0})
				if err != nil {
					t.Error(err)
					return
				}
				if got[0].Status == "" {
					t.Errorf("%+v", got[0])
				}
				mine = mine[some:]
				outcomes[who] = append(outcomes[who], got...)
			}
			// What was only tried.
			got, err := do(context.Background(), positions, consumers.Resolution{By: fmt.Sprint("person-", who), Reason: "the rest"})
			if err != nil {
				t.Error(err)
			}
			outcomes[who] = got
		})
	}
	people.Wait()
	close(stop)
	calls.Wait()
	if got := desk.suspended(); len(got) != 0 {
		t.Errorf("%d are in suspense still", len(got))
	}
	var recycled, writtenOff int
	for _, e := range desk.check() { // which sees that each is resolved once
		switch e.Data.(type) {
		case *domain.Recycled:
			recycled++
		case *domain.WrittenOff:
			writtenOff++
		}
	}
	if recycled+writtenOff != n {
		t.Errorf("%d recycled and %d written off, of %d", recycled, writtenOff, n)
	}
	in, _ := desk.months.Intake("contoso")
	if in.WrittenOff != uint64(writtenOff) || in.Duplicate != 0 {
		t.Errorf("%+v with %d written off", in, writtenOff)
	}
	for who, list := range outcomes {
		for _, o := range list {
			if o.Reason != consumers.ReasonResolved && o.Status == consumers.OutcomeRefused {
				t.Errorf("person-%d: %+v", who, o)
			}
		}
	}
}

// TestTakeUpInterrupted: the records of a switch that has become known are taken
// up, whatever becomes of the engine meanwhile, and none is counted twice: a call
// and the note that it was taken up are in one block.
func TestTakeUpInterrupted(t *testing.T) {
	const n = 1100
	for name, fail := range map[string]func(desk *counter, block uint64, cancel func()){
		"not at all":            func(*counter, uint64, func()) {},
		"cancelled":             func(desk *counter, block uint64, cancel func()) { desk.log.Before = at(block, cancel) },
		"killed before a block": func(desk *counter, block uint64, _ func()) { desk.log.FailAppend(block, false) },
		"killed after a block":  func(desk *counter, block uint64, _ func()) { desk.log.FailAppend(block, true) },
	} {
		for turn := range uint64(2) {
			t.Run(fmt.Sprintf("%s, turn %d", name, turn+1), func(t *testing.T) {
				desk := waitingRecords(t, n)
				desk.reopen()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				fail(desk, desk.book.Head().Block+1+turn, cancel)
				took := make(chan error, 1)
				go func() { took <- desk.intake.TakeUp(ctx) }()
				for desk.all(desk.months).Suspended > 0 && ctx.Err() == nil && desk.book.Err() == nil {
					time.Sleep(time.Millisecond)
				}
				cancel()
				if err := <-took; err != nil && !errors.Is(err, eventstore.ErrUncertain) {
					t.Fatal(err)
				}
				desk.reopen()
				ctx, cancel = context.WithCancel(t.Context())
				defer cancel()
				go func() { took <- desk.intake.TakeUp(ctx) }()
				for deadline := time.Now().Add(patience); desk.all(desk.months).Suspended > 0; time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%d are in suspense still", len(desk.suspended()))
					}
				}
				cancel()
				if err := <-took; err != nil {
					t.Fatal(err)
				}
				if in, _ := desk.months.Intake("contoso"); in.Booked != n+1 || in.Duplicate != 0 || in.Suspended != 0 {
					t.Errorf("%+v", in)
				}
				desk.check()
			})
		}
	}
}
