package projections

import "strconv"

// Limits of a [GapsDocument], so that it can be sent and read. What they leave
// out is counted all the same.
const (
	maxGapSources = 1000
	maxGapRanges  = 1000   // seen, missing and waived each, of one source
	maxAllRanges  = 20_000 // of all sources together
)

// GapsDocument is what `tollbook gaps` prints of a tenant.
type GapsDocument struct {
	Tenant     string       `json:"tenant"`
	Position   uint64       `json:"position"`
	Sources    []SourceGaps `json:"sources"`    // by name
	Count      int          `json:"count"`      // of sources with sequences
	Incomplete int          `json:"incomplete"` // those with gaps that nobody has waived
	Truncated  bool         `json:"truncated"`  // sources or ranges are left out: ask for one source
}

// SourceGaps are the numbers of one source.
type SourceGaps struct {
	Source    string      `json:"source"`
	Events    uint64      `json:"events"`    // booked with a number
	Suspended int         `json:"suspended"` // numbers that came in suspended records only
	First     Number      `json:"first"`
	Last      Number      `json:"last"`
	Seen      [][2]Number `json:"seen"` // ranges, ascending

	SeenRanges    int              `json:"seen_ranges"` // all there are
	Missing       []MissingRange   `json:"missing"`     // ascending
	MissingCount  Number           `json:"missing_count"`
	WaivedCount   Number           `json:"waived_count"` // those of the missing that are waived
	Repeated      []RepeatedNumber `json:"repeated"`     // the first of them
	RepeatedCount uint64           `json:"repeated_count"`
	Closed        []ClosedRange    `json:"closed"` // the last of them
	ClosedCount   uint64           `json:"closed_count"`
	Truncated     bool             `json:"truncated"` // not all ranges are listed
}

// A MissingRange is numbers that never came.
type MissingRange struct {
	From        Number  `json:"from"`
	To          Number  `json:"to"`
	Count       Number  `json:"count"`
	BeforeFirst bool    `json:"before_first,omitzero"` // the source's first number came without them
	Since       string  `json:"since"`                 // time of the event before; before the first, of the event after
	Until       string  `json:"until"`                 // time of the event after
	FoundAt     uint64  `json:"found_at"`              // position of the event that came instead
	Waived      *Waiver `json:"waived,omitzero"`
}

// A Waiver is who gave numbers up.
type Waiver struct {
	By       string `json:"by"`
	Reason   string `json:"reason"`
	Position uint64 `json:"position"`
}

// A RepeatedNumber is an event with a number that another event of its source has.
type RepeatedNumber struct {
	Number   Number `json:"number"`
	ID       string `json:"id"` // of the later one
	Position uint64 `json:"position"`
}

// A ClosedRange is numbers that were missing.
type ClosedRange struct {
	From     Number `json:"from"`
	To       Number `json:"to"`
	ClosedBy uint64 `json:"closed_by"` // position of the event, or of the last of them
	How      string `json:"how"`       // arrived or waived
}

// A Number of a sequence is a string of digits in JSON, whose own numbers keep
// 53 bits in many a reader.
type Number uint64

// MarshalText writes decimal digits.
func (n Number) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(n), 10), nil }

// UnmarshalText reads decimal digits.
func (n *Number) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 10, 64)
	*n = Number(v)
	return err
}

// Document is the tenant's sources, or the one given, as of the position the
// fold has reached. Where there are too many, complete ones are left out first.
func (g *Gaps) Document(tenant, source string) GapsDocument {
	g.mu.RLock()
	defer g.mu.RUnlock()
	d := GapsDocument{Tenant: tenant, Position: g.head.Events, Sources: []SourceGaps{}}
	var complete int
	for name, s := range g.tenants[tenant] {
		switch {
		case source != "" && name != source:
		case s.openCount() > 0:
			d.Incomplete++
			d.Count++
		default:
			complete++
			d.Count++
		}
	}
	// Names in order; as many complete ones as incomplete ones leave room for.
	room := max(0, maxGapSources-d.Incomplete)
	d.Truncated = d.Incomplete > maxGapSources || complete > room
	ranges := maxAllRanges
	for name, s := range sorted(g.tenants[tenant]) {
		if source != "" && name != source || len(d.Sources) == maxGapSources {
			continue
		}
		if s.openCount() == 0 {
			if room == 0 {
				continue
			}
			room--
		}
		one := s.document(name, &ranges)
		d.Truncated = d.Truncated || one.Truncated
		d.Sources = append(d.Sources, one)
	}
	return d
}

// document lists what *ranges has room for, and takes it off.
func (s *series) document(source string, ranges *int) SourceGaps {
	first, last := s.ends()
	d := SourceGaps{
		Source: source, Events: s.events, Suspended: s.parked.Len(), First: Number(first), Last: Number(last),
		Seen: [][2]Number{}, SeenRanges: s.seen.Len(), Missing: []MissingRange{},
		MissingCount: Number(s.missingCount()), WaivedCount: Number(s.waived),
		Repeated: []RepeatedNumber{}, RepeatedCount: s.repeatsCount, Closed: []ClosedRange{}, ClosedCount: s.closedCount,
	}
	take := func(listed int) bool {
		if listed == maxGapRanges || *ranges == 0 {
			d.Truncated = true
			return false
		}
		*ranges--
		return true
	}
	// What is missing comes first, as it is what people ask for.
	var open, waived int
	for gap := range s.missing(0, maxNumber) {
		kind := &open
		if gap.waiver != nil {
			kind = &waived
		}
		if take(*kind) {
			*kind++
			d.Missing = append(d.Missing, gap.document())
		} else if *ranges == 0 || open == maxGapRanges && waived == maxGapRanges {
			break
		}
	}
	s.seen.Scan(func(from uint64, r run) bool {
		if !take(len(d.Seen)) {
			return false
		}
		d.Seen = append(d.Seen, [2]Number{Number(from), Number(r.to)})
		return true
	})
	for _, r := range s.repeats {
		d.Repeated = append(d.Repeated, RepeatedNumber{Number(r.n), r.id, r.position})
	}
	for _, c := range s.closed {
		how := "arrived"
		if c.waived {
			how = "waived"
		}
		d.Closed = append(d.Closed, ClosedRange{Number(c.from), Number(c.to), c.position, how})
	}
	return d
}

func (g gap) document() MissingRange {
	m := MissingRange{
		From: Number(g.from), To: Number(g.to), Count: Number(g.count()), BeforeFirst: g.beforeFirst,
		Since: g.since.String(), Until: g.until.String(), FoundAt: g.found,
	}
	if g.waiver != nil {
		m.Waived = &Waiver{g.waiver.by, g.waiver.reason, g.waiver.position}
	}
	return m
}
