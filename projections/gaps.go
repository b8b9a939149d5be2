package projections

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
)

// Gaps are the numbers that sources with sequences have counted, and those that
// never came (R11). It is a fold of the book in its order: the same book, in the
// same blocks, always gives the same documents. It is safe for concurrent use.
//
// A number came if a booked event carries it, or a record in suspense whose
// envelope can still be read: that one needs attention, but it is not lost.
// Counting begins at 1; 0 may come before it and is not missed. Among the events
// of one block order is of no account: what the block itself fills was never a gap.
type Gaps struct {
	mu      sync.RWMutex
	head    eventstore.Head
	tenants map[string]map[string]*series // by source
}

// NewGaps returns the fold of an empty book.
func NewGaps() *Gaps { return &Gaps{tenants: map[string]map[string]*series{}} }

// Head is how far of the book the fold has come.
func (g *Gaps) Head() eventstore.Head {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.head
}

// Follow takes in what comes next; it is an eventstore.Follower.
func (g *Gaps) Follow(u eventstore.Update) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := gapBlock{first: u.First}
	for i := range u.Events {
		g.add(&b, u.First+uint64(i), &u.Events[i])
	}
	b.end()
	g.head = u.Head
}

// Load takes in a block that was there before; it is an eventstore.Loader.
func (g *Gaps) Load(p *eventstore.Piece) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := gapBlock{first: p.First}
	// Neither function returns an error, so neither does Each.
	_ = p.Each(func(row *block.CallRow) error {
		if row.Sequence.Has {
			g.series(p.Calls.Common(row.Tenant), p.Calls.Common(row.Source)).booked(&b, row.Position, row.Sequence.N, row.Time, func() string { return row.ID.String() })
		}
		return nil
	}, func(position uint64, e *domain.Event) error {
		g.add(&b, position, e)
		return nil
	})
	b.end()
	g.head = p.Head
}

// gapsImage is what a snapshot of Gaps has, as JSON.
type gapsImage struct {
	Head    eventstore.Head
	Sources []seriesImage
}

// Name is that of the snapshot; it is an eventstore.Resumer.
func (g *Gaps) Name() string { return "gaps-1" }

// Snapshot writes all that is known of sequences.
func (g *Gaps) Snapshot(bool) func(io.Writer) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	img := gapsImage{Head: g.head}
	var all []series
	for tenant, sources := range g.tenants {
		for source, s := range sources {
			img.Sources = append(img.Sources, seriesImage{Tenant: tenant, Source: source})
			all = append(all, s.copy())
		}
	}
	return func(w io.Writer) error {
		for i := range all {
			all[i].image(&img.Sources[i])
		}
		return json.MarshalWrite(w, &img)
	}
}

// Resume reads what Snapshot wrote.
func (g *Gaps) Resume(in io.Reader) (accept func(), err error) {
	var img gapsImage
	if err := json.UnmarshalRead(in, &img); err != nil {
		return nil, err
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.head = img.Head
		for i := range img.Sources {
			g.series(img.Sources[i].Tenant, img.Sources[i].Source).restore(&img.Sources[i])
		}
	}, nil
}

// A gapBlock is the block that is being taken in.
type gapBlock struct {
	first   uint64    // position of its first event
	touched []*series // those in which it closes something
	topped  []*series // those whose last run it moved on
}

func (b *gapBlock) end() {
	for _, s := range b.topped {
		s.putTop()
	}
	for _, s := range b.touched {
		s.endBlock()
	}
}

func (g *Gaps) add(b *gapBlock, position uint64, e *domain.Event) {
	switch data := e.Data.(type) {
	case *domain.Suspended:
		if source, n, at := came(e, data); source != "" {
			g.series(e.Tenant, source).suspended(b, n, position, at)
		}
	case *domain.GapWaived:
		if s := g.tenants[e.Tenant][data.Source]; s != nil {
			s.waive(b, position, data)
		}
	default:
		if e.Sequence.Has {
			g.series(e.Tenant, e.Source).booked(b, position, e.Sequence.N, e.Time, func() string { return e.ID })
		}
	}
}

// came is whose number a suspended record carries, and when it was sent, or,
// where that can't be read, refused. Nobody's records count for nobody, and what
// was refused for speaking in the name of the engine or of another switch says
// nothing about them.
func came(e *domain.Event, data *domain.Suspended) (source string, n uint64, at domain.Instant) {
	if e.Tenant == domain.NoTenant {
		return "", 0, 0
	}
	if data.Sequence.Has {
		return data.Source, data.Sequence.N, e.Time
	}
	// tollbook.<tenant>.cdr.<format>.<switch> has envelopes in one format only.
	tokens := strings.Split(data.Subject, ".")
	ofSwitch := len(tokens) > 2 && tokens[2] == "cdr"
	if ofSwitch && (len(tokens) != 5 || tokens[3] != "cloudevents") {
		return "", 0, 0
	}
	source, _, at, sequence := cloudevents.Peek(data.Raw)
	if !sequence.Has || eventstore.OwnSource(source) {
		return "", 0, 0
	}
	if ofSwitch && source != "switch/"+tokens[4] && !strings.HasPrefix(source, "switch/"+tokens[4]+"/") {
		return "", 0, 0
	}
	return source, sequence.N, cmp.Or(at, e.Time)
}

func (g *Gaps) series(tenant, source string) *series {
	sources := g.tenants[tenant]
	if sources == nil {
		sources = map[string]*series{}
		g.tenants[strings.Clone(tenant)] = sources
	}
	s := sources[source]
	if s == nil {
		s = &series{}
		sources[strings.Clone(source)] = s // not a part of a whole block's text
	}
	return s
}

// Tenants are those that have sources with sequences, sorted.
func (g *Gaps) Tenants() []string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.Sorted(maps.Keys(g.tenants))
}

// An OpenGap is a range of a source's numbers that are missing and not waived.
type OpenGap struct {
	Source string
	MissingRange
}

// Open are the gaps of a tenant that nobody has waived and that began in
// [from, to), in the order of source and number, and how many there are: what
// keeps a month from closing. At most limit of them are listed.
func (g *Gaps) Open(tenant string, from, to domain.Instant, limit int) (gaps []OpenGap, total int) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for source, s := range sorted(g.tenants[tenant]) {
		if s.openCount() == 0 {
			continue
		}
		for gap := range s.missing(0, maxNumber) {
			if gap.waiver != nil || gap.since < from || gap.since >= to {
				continue
			}
			if total++; len(gaps) < limit {
				gaps = append(gaps, OpenGap{source, gap.document()})
			}
		}
	}
	return gaps, total
}

// Waivable says, in one line, why numbers from to to of a source can't be waived;
// nil if every one of them is missing and none is waived.
func (g *Gaps) Waivable(tenant, source string, from, to uint64) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	s := g.tenants[tenant][source]
	switch {
	case s == nil:
		return fmt.Errorf("source %.140q: no event of it with a sequence is in the book for %s; see 'tollbook gaps --tenant %s --all'", source, tenant, tenant)
	case from > to:
		return fmt.Errorf("from %d to %d: the range ends before it begins", from, to)
	case from == 0:
		return fmt.Errorf("from 0: number 0 is never missing, as counting begins at 1")
	}
	if _, last := s.ends(); to > last {
		return fmt.Errorf("not missing: %v; the last that came of %s is %d", span{max(from, last+1), to}, source, last)
	}
	at := from // what is before it is missing
	for gap := range s.missing(from, to) {
		if gap.from > at {
			break
		}
		if w := gap.waiver; w != nil {
			return fmt.Errorf("waived already: %v, by %s at position %d: %s", gap.span, w.by, w.position, w.reason)
		}
		if gap.to == to {
			return nil
		}
		at = gap.to + 1
	}
	_, r, _ := floor(&s.seen, at)
	return fmt.Errorf("not missing: %v, which came; see 'tollbook gaps --tenant %s --source %s'", span{at, min(r.to, to)}, tenant, source)
}

// sorted goes through a map by its keys.
func sorted[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
