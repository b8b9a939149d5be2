package projections_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/eventstore/sqlite"
	"tollbook/projections"
)

const (
	gapTenant = "contoso"
	gapSource = "switch/mil-1"
)

const hour = domain.Instant(time.Hour)

var gapStart = domain.InstantOf(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC))

// numbered is an event of a source with a number.
func numbered(source string, n uint64, id string, at domain.Instant) domain.Event {
	return domain.Event{
		Tenant: gapTenant, Source: source, ID: id, Time: at, Sequence: domain.Sequence{N: n, Has: true},
		Data: &domain.Void{Ref: domain.Ref{Source: source, ID: "c"}},
	}
}

// suspendedNumber is a record of a source in suspense that has a number. It was
// refused an hour after it was sent.
func suspendedNumber(source string, n uint64, id string, at domain.Instant) domain.Event {
	raw := fmt.Sprintf(`{"specversion":"1.0","type":"nonsense","source":%q,"id":%q,"time":%q,"sequence":"%d"}`, source, id, at, n)
	return eventstore.Suspend(gapTenant, "tollbook.contoso.call.completed", []byte(raw), eventstore.ReasonSyntax, "nonsense", at+hour)
}

func waiver(source string, from, to uint64, by string) domain.Event {
	return domain.Event{
		Tenant: gapTenant, Source: eventstore.GapsSource, ID: fmt.Sprintf("%s %d %d %s", source, from, to, by), Time: gapStart,
		Data: &domain.GapWaived{Source: source, From: from, To: to, By: by, Reason: "the disk died"},
	}
}

// A fold feeds events to Gaps as a book would, without one.
type fold struct {
	gaps *projections.Gaps
	head eventstore.Head
}

func newFold() *fold { return &fold{gaps: projections.NewGaps()} }

func (f *fold) block(events ...domain.Event) {
	first := f.head.Events + 1
	f.head.Block++
	f.head.Events += uint64(len(events))
	f.gaps.Follow(eventstore.Update{Head: f.head, First: first, Events: events})
}

// A naive fold of one source, number by number. The numbers are few, and those of
// a wide range that never come stand in one cell.
type naiveGaps struct {
	cells    []cell
	position uint64
	events   uint64
	repeated []projections.RepeatedNumber
	closed   []projections.ClosedRange
}

type cell struct {
	from, to uint64
	seen     uint64 // position of what came first; 0: nothing did
	booked   bool
	at       domain.Instant
	waived   *projections.Waiver
}

// newNaiveGaps has the numbers 0 to 30 and the 31 greatest.
func newNaiveGaps() *naiveGaps {
	m := &naiveGaps{}
	for n := range uint64(31) {
		m.cells = append(m.cells, cell{from: n, to: n})
	}
	m.cells = append(m.cells, cell{from: 31, to: math.MaxUint64 - 31})
	for n := range uint64(31) {
		m.cells = append(m.cells, cell{from: math.MaxUint64 - 30 + n, to: math.MaxUint64 - 30 + n})
	}
	return m
}

// missing reports whether cell i should have come.
func (m *naiveGaps) missing(i int) bool {
	return i > 0 && m.cells[i].seen == 0 && slices.ContainsFunc(m.cells[i:], func(c cell) bool { return c.seen > 0 })
}

// joined are the ranges of adjacent cells for which is holds and same does between neighbours.
func (m *naiveGaps) joined(is func(i int) bool, same func(i, j int) bool) (ranges [][2]int) {
	for i := range m.cells {
		switch {
		case !is(i):
		case len(ranges) > 0 && ranges[len(ranges)-1][1] == i-1 && same(i-1, i):
			ranges[len(ranges)-1][1] = i
		default:
			ranges = append(ranges, [2]int{i, i})
		}
	}
	return ranges
}

func always(int, int) bool { return true }

func (m *naiveGaps) block(events []domain.Event) {
	before := make([]bool, len(m.cells)) // missing when the block begins
	for i := range before {
		before[i] = m.missing(i)
	}
	var closed []projections.ClosedRange
	came := map[int]uint64{}
	for _, e := range events {
		m.position++
		switch data := e.Data.(type) {
		case *domain.GapWaived:
			if data.Source != gapSource {
				continue
			}
			covered := m.joined(func(i int) bool {
				return m.missing(i) && m.cells[i].waived == nil && m.cells[i].from >= data.From && m.cells[i].to <= data.To
			}, always)
			for _, r := range covered {
				for i := r[0]; i <= r[1]; i++ {
					m.cells[i].waived = &projections.Waiver{By: data.By, Reason: data.Reason, Position: m.position}
				}
				if before[r[0]] {
					closed = append(closed, m.closedRange(r, m.position, "waived"))
				}
			}
		case *domain.Suspended:
			var n uint64
			_, sequence, _ := strings.Cut(string(data.Raw), `"sequence":"`)
			if _, err := fmt.Sscan(strings.TrimSuffix(sequence, `"}`), &n); err != nil || !strings.Contains(string(data.Raw), gapSource) {
				continue
			}
			if c := &m.cells[m.find(n)]; c.seen == 0 {
				c.seen, c.at = m.position, e.Time-hour
				came[m.find(n)] = m.position
			}
		default:
			if e.Source != gapSource || !e.Sequence.Has {
				continue
			}
			m.events++
			c := &m.cells[m.find(e.Sequence.N)]
			switch {
			case c.booked:
				m.repeated = append(m.repeated, projections.RepeatedNumber{Number: projections.Number(e.Sequence.N), ID: e.ID, Position: m.position})
				continue
			case c.seen == 0:
				c.seen = m.position
				came[m.find(e.Sequence.N)] = m.position
			}
			c.booked, c.at = true, e.Time
		}
	}
	for _, r := range m.joined(func(i int) bool { return before[i] && came[i] > 0 }, always) {
		position := uint64(0)
		for i := r[0]; i <= r[1]; i++ {
			position = max(position, came[i])
		}
		closed = append(closed, m.closedRange(r, position, "arrived"))
	}
	slices.SortFunc(closed, func(a, b projections.ClosedRange) int {
		return cmp.Or(cmp.Compare(a.ClosedBy, b.ClosedBy), cmp.Compare(a.From, b.From))
	})
	m.closed = append(m.closed, closed...)
}

func (m *naiveGaps) find(n uint64) int {
	return slices.IndexFunc(m.cells, func(c cell) bool { return c.from <= n && n <= c.to })
}

func (m *naiveGaps) closedRange(r [2]int, position uint64, how string) projections.ClosedRange {
	return projections.ClosedRange{From: projections.Number(m.cells[r[0]].from), To: projections.Number(m.cells[r[1]].to), ClosedBy: position, How: how}
}

// document is what the source's document must be.
func (m *naiveGaps) document() projections.SourceGaps {
	seen := m.joined(func(i int) bool { return m.cells[i].seen > 0 }, always)
	d := projections.SourceGaps{
		Source: gapSource, Events: m.events, Seen: [][2]projections.Number{}, SeenRanges: len(seen), Missing: []projections.MissingRange{},
		Repeated: m.repeated[:min(len(m.repeated), 100)], RepeatedCount: uint64(len(m.repeated)),
		Closed: m.closed[max(0, len(m.closed)-100):], ClosedCount: uint64(len(m.closed)),
	}
	for _, r := range seen {
		d.Seen = append(d.Seen, [2]projections.Number{projections.Number(m.cells[r[0]].from), projections.Number(m.cells[r[1]].to)})
	}
	d.First, d.Last = d.Seen[0][0], d.Seen[len(d.Seen)-1][1]
	for i := range m.cells {
		if m.cells[i].seen > 0 && !m.cells[i].booked {
			d.Suspended++
		}
	}
	sameFate := func(i, j int) bool { return gocmp.Equal(m.cells[i].waived, m.cells[j].waived) }
	for _, r := range m.joined(m.missing, sameFate) {
		first, last := m.cells[r[0]], m.cells[r[1]]
		gap := projections.MissingRange{
			From: projections.Number(first.from), To: projections.Number(last.to), Count: projections.Number(last.to - first.from + 1), Waived: first.waived,
		}
		d.MissingCount += gap.Count
		if first.waived != nil {
			d.WaivedCount += gap.Count
		}
		for i := r[1]; i < len(m.cells); i++ {
			if at := m.cells[i].seen; at > 0 && (gap.FoundAt == 0 || at < gap.FoundAt) {
				gap.FoundAt = at
			}
		}
		before, after := r[0]-1, r[1]+1
		for before >= 0 && m.cells[before].seen == 0 {
			before--
		}
		for m.cells[after].seen == 0 {
			after++
		}
		gap.Until = m.cells[after].at.String()
		if gap.BeforeFirst = before < 0; gap.BeforeFirst {
			before = after
		}
		gap.Since = m.cells[before].at.String()
		d.Missing = append(d.Missing, gap)
	}
	return d
}

// genGapEvents draws events of a block: numbers of the source in any order, with
// repeats, in suspense, waived, among events that have nothing to do with it.
func genGapEvents(m *naiveGaps, t *rapid.T, id *int) []domain.Event {
	var events []domain.Event
	for range rapid.IntRange(1, 8).Draw(t, "events") {
		*id++
		name := fmt.Sprint("e-", *id)
		at := gapStart + domain.Instant(rapid.Int64Range(0, 1000).Draw(t, "time"))
		number := m.cells[rapid.SampledFrom(slices.DeleteFunc(ints(len(m.cells)), func(i int) bool { return i == 31 })).Draw(t, "number")].from
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0:
			events = append(events, suspendedNumber(gapSource, number, name, at))
		case 1:
			from := rapid.IntRange(0, len(m.cells)-1).Draw(t, "from")
			to := rapid.IntRange(from, len(m.cells)-1).Draw(t, "to")
			events = append(events, waiver(gapSource, m.cells[from].from, m.cells[to].to, name))
		case 2:
			events = append(events, numbered("switch/mil-2", number, name, at), waiver("switch/mil-2", 1, number, name))
		case 3:
			other := numbered(gapSource, number, name, at)
			other.Sequence = domain.Sequence{}
			events = append(events, other)
		default:
			events = append(events, numbered(gapSource, number, name, at))
		}
	}
	return events
}

func ints(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// TestGapsAreTheNaiveOnes compares the document, what can be waived, and what is
// open in a window, after every block.
func TestGapsAreTheNaiveOnes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live, naive, id := newFold(), newNaiveGaps(), 0
		for range rapid.IntRange(1, 20).Draw(t, "blocks") {
			events := genGapEvents(naive, t, &id)
			live.block(events...)
			naive.block(events)
			if rapid.Bool().Draw(t, "begins again") {
				before := live.gaps
				live.gaps = projections.NewGaps()
				again(t, before, live.gaps)
			}
			got := live.gaps.Document(gapTenant, gapSource)
			if got.Position != naive.position {
				t.Fatalf("position %d, not %d", got.Position, naive.position)
			}
			if len(got.Sources) == 0 {
				if slices.ContainsFunc(naive.cells, func(c cell) bool { return c.seen > 0 }) {
					t.Fatal("the source is not known")
				}
				continue
			}
			want := naive.document()
			if diff := gocmp.Diff(want, got.Sources[0], cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			if incomplete := want.MissingCount > want.WaivedCount; (got.Incomplete == 1) != incomplete || got.Count != 1 || got.Truncated {
				t.Fatalf("%d of %d sources are incomplete, want %v", got.Incomplete, got.Count, incomplete)
			}
			checkWaivable(t, live.gaps, naive)
			checkOpen(t, live.gaps, want)
		}
	})
}

func checkWaivable(t *rapid.T, gaps *projections.Gaps, naive *naiveGaps) {
	from, to := rapid.IntRange(0, len(naive.cells)-1).Draw(t, "from"), rapid.IntRange(0, len(naive.cells)-1).Draw(t, "to")
	want := from <= to
	for i := from; i <= to; i++ {
		want = want && naive.missing(i) && naive.cells[i].waived == nil
	}
	a, b := naive.cells[from].from, naive.cells[to].to
	switch err := gaps.Waivable(gapTenant, gapSource, a, b); {
	case (err == nil) != want:
		t.Fatalf("waiving %d to %d: %v, want %v", a, b, err, want)
	case err != nil && strings.ContainsAny(err.Error(), "\n"):
		t.Fatalf("more than a line: %v", err)
	}
}

func checkOpen(t *rapid.T, gaps *projections.Gaps, d projections.SourceGaps) {
	from := gapStart + domain.Instant(rapid.Int64Range(-1, 1001).Draw(t, "window from"))
	to := gapStart + domain.Instant(rapid.Int64Range(-1, 1001).Draw(t, "window to"))
	var want []projections.OpenGap
	for _, gap := range d.Missing {
		since, err := time.Parse(time.RFC3339Nano, gap.Since)
		if err != nil {
			t.Fatal(err)
		}
		if at := domain.InstantOf(since); gap.Waived == nil && at >= from && at < to {
			want = append(want, projections.OpenGap{Source: gapSource, MissingRange: gap})
		}
	}
	all, total := gaps.Open(gapTenant, from, to, 1000)
	all = slices.DeleteFunc(all, func(g projections.OpenGap) bool {
		other := g.Source != gapSource
		if other {
			total--
		}
		return other
	})
	if diff := gocmp.Diff(want, all); diff != "" || total != len(want) {
		t.Fatalf("open in [%v, %v): %d (-want +got):\n%s", from, to, total, diff)
	}
}

// TestGapsOfTheBook books numbers in any batches, with repeats, waivers decided in
// turns of the book, and restarts. A restart and a walk of the blocks change nothing.
func TestGapsOfTheBook(t *testing.T) {
	ctx, base := context.Background(), t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(base, "book")
		if err != nil {
			t.Fatal(err)
		}
		var book *eventstore.Book
		var gaps *projections.Gaps
		open := func() {
			gaps = projections.NewGaps()
			if rapid.Bool().Draw(t, "no snapshot") {
				if err := os.RemoveAll(eventstore.SnapshotsPath(dir)); err != nil {
					t.Fatal(err)
				}
			}
			book, err = eventstore.Open(ctx, dir, openLog, eventstore.Options{
				Clock: func() domain.Instant { return gapStart }, Resume: []eventstore.Resumer{gaps},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		open()
		defer func() { _ = book.Close() }()
		naive, id := newNaiveGaps(), 0
		for range rapid.IntRange(1, 8).Draw(t, "batches") {
			var batch []eventstore.Record
			for _, e := range genGapEvents(naive, t, &id) {
				if data, ok := e.Data.(*domain.GapWaived); ok {
					err := book.Act(ctx, func(turn *eventstore.Turn) error {
						if err := gaps.Waivable(gapTenant, data.Source, data.From, data.To); err != nil {
							return err
						}
						turn.Book(e)
						return nil
					})
					if err == nil && gaps.Waivable(gapTenant, data.Source, data.From, data.To) == nil {
						t.Fatalf("%d to %d can be waived twice", data.From, data.To)
					}
					continue
				}
				batch = append(batch, eventstore.Record{Event: e})
			}
			for range 1 + rapid.IntRange(0, 1).Draw(t, "repeats") {
				if _, err := book.Submit(ctx, batch); err != nil {
					t.Fatal(err)
				}
			}
			if rapid.IntRange(0, 3).Draw(t, "restart") > 0 {
				continue
			}
			before := gaps.Document(gapTenant, "")
			if err := book.Close(); err != nil {
				t.Fatal(err)
			}
			open()
			if diff := gocmp.Diff(before, gaps.Document(gapTenant, "")); diff != "" {
				t.Fatalf("a restart changed the gaps (-before +after):\n%s", diff)
			}
		}
		log, err := sqlite.OpenReadOnly(eventstore.LogPath(dir))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = log.Close() }()
		replayed := projections.NewGaps()
		_, err = eventstore.Walk{Log: log}.Run(ctx, func(b *block.Block, head eventstore.Head, _ int) error {
			replayed.Follow(eventstore.Update{Head: head, First: b.First, Events: b.Events})
			naive.block(b.Events)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		live := gaps.Document(gapTenant, "")
		if diff := gocmp.Diff(live, replayed.Document(gapTenant, "")); diff != "" {
			t.Fatalf("(-live +replayed):\n%s", diff)
		}
		if one := gaps.Document(gapTenant, gapSource); len(one.Sources) == 1 {
			if diff := gocmp.Diff(naive.document(), one.Sources[0], cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("of the book's blocks (-naive +live):\n%s", diff)
			}
		}
	})
}

// drops are ways in which a million records lose some.
var drops = map[string]func(r *rand.Rand, n uint64) bool{
	"none":             func(*rand.Rand, uint64) bool { return false },
	"the first":        func(_ *rand.Rand, n uint64) bool { return n == 1 },
	"many first":       func(_ *rand.Rand, n uint64) bool { return n <= 5000 },
	"last but one":     func(_ *rand.Rand, n uint64) bool { return n == million-1 },
	"every other":      func(_ *rand.Rand, n uint64) bool { return n%2 == 1 },
	"one of a hundred": func(r *rand.Rand, _ uint64) bool { return r.IntN(100) == 0 },
	"nearly all":       func(r *rand.Rand, n uint64) bool { return r.IntN(100) > 0 && n != million },
	"bursts":           func(_ *rand.Rand, n uint64) bool { return n%9973 < n/9973*13%3000 },
}

const million = 1_000_000

// TestDroppedOfAMillion: of a million records in about their order, whatever was
// dropped is reported, and nothing else; and once it arrives, nothing is.
func TestDroppedOfAMillion(t *testing.T) {
	for name, drop := range drops {
		t.Run(name, func(t *testing.T) {
			const seed = 11
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, uint64(len(name))))
			var sent, dropped []uint64
			for n := uint64(1); n <= million; n++ {
				if drop(r, n) {
					dropped = append(dropped, n)
				} else {
					sent = append(sent, n)
				}
			}
			swapNear(r, sent)
			f := newFold()
			f.numbers(sent)

			var reported []uint64
			open, total := f.gaps.Open(gapTenant, domain.MinInstant, domain.MaxInstant, million)
			for _, gap := range open {
				if gap.Source != gapSource || uint64(gap.Count) != uint64(gap.To-gap.From)+1 || gap.BeforeFirst != (gap.From == 1) {
					t.Fatalf("%+v", gap)
				}
				for n := gap.From; n <= gap.To; n++ {
					reported = append(reported, uint64(n))
				}
			}
			if total != len(open) || !slices.Equal(reported, dropped) {
				t.Fatalf("%d numbers in %d of %d ranges are reported, %d were dropped", len(reported), len(open), total, len(dropped))
			}
			d := f.gaps.Document(gapTenant, "").Sources[0]
			if uint64(d.MissingCount) != uint64(len(dropped)) || d.RepeatedCount != 0 || d.Events != uint64(len(sent)) || d.Last != million {
				t.Fatalf("%d missing, %d repeated, %d events, last %d", d.MissingCount, d.RepeatedCount, d.Events, d.Last)
			}

			r.Shuffle(len(dropped), func(i, j int) { dropped[i], dropped[j] = dropped[j], dropped[i] })
			f.numbers(dropped)
			d = f.gaps.Document(gapTenant, "").Sources[0]
			if d.MissingCount != 0 || d.SeenRanges != 1 || d.Seen[0] != [2]projections.Number{1, million} || len(d.Closed) != min(int(d.ClosedCount), 100) {
				t.Fatalf("after all: %d missing, seen %v, %d closed", d.MissingCount, d.Seen, d.ClosedCount)
			}
		})
	}
}

// swapNear exchanges records with near ones, as several workers do.
func swapNear(r *rand.Rand, list []uint64) {
	for i := range list {
		j := min(i+r.IntN(8), len(list)-1)
		list[i], list[j] = list[j], list[i]
	}
}

// numbers feeds events with these numbers, in blocks.
func (f *fold) numbers(list []uint64) {
	for _, u := range updatesOf(list) {
		f.block(u.Events...)
	}
}

// updatesOf are the first blocks of a book, with these numbers.
func updatesOf(list []uint64) (updates []eventstore.Update) {
	data := &domain.Void{Ref: domain.Ref{Source: gapSource, ID: "c"}}
	var head eventstore.Head
	for part := range slices.Chunk(list, 10_000) {
		events := make([]domain.Event, len(part))
		for i, n := range part {
			events[i] = domain.Event{
				Tenant: gapTenant, Source: gapSource, ID: "e", Time: gapStart + domain.Instant(n)*domain.Instant(time.Millisecond),
				Sequence: domain.Sequence{N: n, Has: true}, Data: data,
			}
		}
		first := head.Events + 1
		head.Block++
		head.Events += uint64(len(part))
		updates = append(updates, eventstore.Update{Head: head, First: first, Events: events})
	}
	return updates
}

// Which records in suspense count.
func TestSuspendedRecordsAndGaps(t *testing.T) {
	envelope := `{"specversion":"1.0","source":"switch/mil-1","id":"b","sequence":"2"`
	for name, c := range map[string]struct {
		subject, raw string
		counts       bool
	}{
		"any fault of the data":   {"tollbook.contoso.call.completed", envelope + `,"data":{"user":}}`, true},
		"binary mode":             {"tollbook.contoso.call.completed", "NATS/1.0\r\nce-specversion: 1.0\r\nce-source: switch/mil-1\r\nce-sequence: 2\r\n\r\n[]", true},
		"of the switch":           {"tollbook.contoso.cdr.cloudevents.mil-1", envelope + `}`, true},
		"of another switch":       {"tollbook.contoso.cdr.cloudevents.mil", envelope + `}`, false},
		"a CDR":                   {"tollbook.contoso.cdr.kamailio.mil-1", envelope + `}`, false},
		"a subject that is wrong": {"tollbook.contoso.cdr", envelope + `}`, false},
		"without a number":        {"tollbook.contoso.call.completed", `{"specversion":"1.0","source":"switch/mil-1","id":"b"}`, false},
		"no event":                {"tollbook.contoso.call.completed", "\x00\x01", false},
		"the engine's":            {"tollbook.contoso.call.completed", `{"specversion":"1.0","source":"tollbook/gaps","id":"b","sequence":"2"}`, false},
	} {
		f := newFold()
		f.block(numbered(gapSource, 1, "a", gapStart), numbered(gapSource, 3, "c", gapStart))
		f.block(eventstore.Suspend(gapTenant, c.subject, []byte(c.raw), eventstore.ReasonSyntax, "broken", gapStart))
		d := f.gaps.Document(gapTenant, "")
		if d.Count != 1 || (d.Sources[0].MissingCount == 0) != c.counts || (d.Sources[0].Suspended == 1) != c.counts {
			t.Errorf("%s: %+v", name, d)
		}
	}
	f := newFold()
	f.block(eventstore.Suspend(gapTenant, "tollbook.contoso.call.completed", []byte(envelope), eventstore.ReasonSyntax, "cut off", gapStart+hour))
	if since := f.gaps.Document(gapTenant, gapSource).Sources[0].Missing[0].Since; since != "2026-10-01T01:00:00Z" {
		t.Errorf("a record that does not say when it was sent counts as of %s", since)
	}
	f = newFold()
	f.block(eventstore.Suspend(domain.NoTenant, "tollbook.-.events", []byte(envelope+"}"), eventstore.ReasonSyntax, "no tenant", gapStart))
	if tenants := f.gaps.Tenants(); len(tenants) != 0 {
		t.Errorf("nobody's record makes gaps for %v", tenants)
	}
}

func TestWaivableSaysWhy(t *testing.T) {
	f := newFold()
	f.block(numbered(gapSource, 3, "c", gapStart), numbered(gapSource, 6, "f", gapStart), numbered(gapSource, 9, "i", gapStart))
	f.block(waiver(gapSource, 7, 7, "ada"))
	for _, c := range []struct {
		source   string
		from, to uint64
		want     string
	}{
		{gapSource, 1, 2, ""},
		{gapSource, 8, 8, ""},
		{gapSource, 4, 4, ""},
		{gapSource, 2, 5, "not missing: number 3, which came; see 'tollbook gaps --tenant contoso --source switch/mil-1'"},
		{gapSource, 3, 3, "not missing: number 3, which came; see 'tollbook gaps --tenant contoso --source switch/mil-1'"},
		{gapSource, 8, 12, "not missing: numbers 10 to 12; the last that came of switch/mil-1 is 9"},
		{gapSource, 7, 8, "waived already: number 7, by ada at position 4: the disk died"},
		{gapSource, 0, 2, "from 0: number 0 is never missing, as counting begins at 1"},
		{gapSource, 2, 1, "from 2 to 1: the range ends before it begins"},
		{"switch/rom-1", 1, 2, "source \"switch/rom-1\": no event of it with a sequence is in the book for contoso; see 'tollbook gaps --tenant contoso --all'"},
	} {
		got := ""
		if err := f.gaps.Waivable(gapTenant, c.source, c.from, c.to); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s %d to %d: %q, want %q", c.source, c.from, c.to, got, c.want)
		}
	}
}

// A document stays small enough to be sent, and says so; the sources with gaps
// are the last to be left out.
func TestGapsDocumentIsBounded(t *testing.T) {
	f := newFold()
	var events []domain.Event
	for i := range 3000 {
		source := fmt.Sprintf("switch/%04d", i)
		events = append(events, numbered(source, 1, "a", gapStart))
		if i >= 2995 {
			events = append(events, numbered(source, 3, "c", gapStart))
		}
	}
	for i := range uint64(5000) {
		events = append(events, numbered("zone", 2*i+2, fmt.Sprint(i), gapStart))
	}
	f.block(events...)
	d := f.gaps.Document(gapTenant, "")
	if d.Count != 3001 || d.Incomplete != 6 || len(d.Sources) != 1000 || !d.Truncated {
		t.Fatalf("%d sources, %d incomplete, %d listed, truncated %v", d.Count, d.Incomplete, len(d.Sources), d.Truncated)
	}
	for _, s := range d.Sources[994:] {
		if s.MissingCount == 0 {
			t.Errorf("%s is listed in place of one with gaps", s.Source)
		}
	}
	last := d.Sources[999]
	if last.Source != "zone" || len(last.Missing) != 1000 || len(last.Seen) != 1000 || last.SeenRanges != 5000 || last.MissingCount != 5000 || !last.Truncated {
		t.Errorf("%s: %d missing ranges and %d seen are listed of %d, truncated %v", last.Source, len(last.Missing), len(last.Seen), last.SeenRanges, last.Truncated)
	}
}
