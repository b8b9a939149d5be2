package projections

import (
	"cmp"
	"io"
	"maps"
	"slices"
	"sort"
	"sync"

	"github.com/go-json-experiment/json"

	"tollbook/domain"
	"tollbook/eventstore"
)

// Suspense are the records in suspense now: suspended, and neither recycled nor
// written off since. It is safe for concurrent use.
type Suspense struct {
	glimpse func(*domain.Event, *domain.Suspended) domain.Glimpse

	mu       sync.Mutex
	records  []*SuspendedRecord // by position; resolved ones stay for a while
	resolved int                // of records
	open     map[suspendedKey]*SuspendedRecord
	by       map[uint64]uint64 // of a resolved record's position, that of the event that resolved it
	names    map[string]string // equal texts are kept once
}

type suspendedKey struct{ tenant, id string }

// A SuspendedRecord is what is known of a record without reading it again.
type SuspendedRecord struct {
	Position uint64 // of the record.suspended
	Tenant   string // [domain.NoTenant] where none could be read
	Reason   string // a code
	Subject  string // where it came in
	At       domain.Instant
	Bytes    int
	domain.Glimpse

	id       string // of the record.suspended
	resolved bool
}

// NewSuspense returns the fold of an empty book. glimpse is called with each
// record as it is suspended.
func NewSuspense(glimpse func(*domain.Event, *domain.Suspended) domain.Glimpse) *Suspense {
	return &Suspense{glimpse: glimpse, open: map[suspendedKey]*SuspendedRecord{}, by: map[uint64]uint64{}, names: map[string]string{}}
}

// Follow takes in what comes next; it is an eventstore.Follower.
func (s *Suspense) Follow(u eventstore.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range u.Events {
		s.add(u.First+uint64(i), &u.Events[i])
	}
}

// Load takes in a block that was there before; it is an eventstore.Loader.
func (s *Suspense) Load(p *eventstore.Piece) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range p.Others {
		s.add(p.Others[i].Position, &p.Others[i].Event)
	}
}

func (s *Suspense) add(position uint64, e *domain.Event) {
	switch data := e.Data.(type) {
	case *domain.Suspended:
		r := &SuspendedRecord{
			Position: position, Tenant: s.name(e.Tenant), Reason: s.name(data.Reason), Subject: s.name(data.Subject),
			At: e.Time, Bytes: len(data.Raw), Glimpse: s.glimpse(e, data), id: e.ID,
		}
		r.Source = s.name(r.Source)
		s.keep(r)
	case *domain.Recycled:
		s.resolve(suspendedKey{e.Tenant, data.Ref.ID}, position)
	case *domain.WrittenOff:
		s.resolve(suspendedKey{e.Tenant, data.Ref.ID}, position)
	}
}

func (s *Suspense) keep(r *SuspendedRecord) {
	s.records = append(s.records, r)
	s.open[suspendedKey{r.Tenant, r.id}] = r
}

// suspenseImage is what a snapshot of Suspense has, as JSON.
type suspenseImage struct {
	Records []suspendedImage
	By      map[uint64]uint64
}

type suspendedImage struct {
	Record string // its id
	SuspendedRecord
}

// Name is that of the snapshot; it is an eventstore.Resumer.
func (s *Suspense) Name() string { return "suspense-1" }

// Snapshot writes the records in suspense, and which of the others was resolved by what.
func (s *Suspense) Snapshot(bool) func(io.Writer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	img := suspenseImage{By: maps.Clone(s.by)}
	for _, r := range s.records {
		if !r.resolved {
			img.Records = append(img.Records, suspendedImage{r.id, *r})
		}
	}
	return func(w io.Writer) error { return json.MarshalWrite(w, &img) }
}

// Resume reads what Snapshot wrote.
func (s *Suspense) Resume(in io.Reader) (accept func(), err error) {
	var img suspenseImage
	if err := json.UnmarshalRead(in, &img); err != nil {
		return nil, err
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if img.By != nil {
			s.by = img.By
		}
		for i := range img.Records {
			r := &img.Records[i].SuspendedRecord
			r.id = img.Records[i].Record
			r.Tenant, r.Reason, r.Subject, r.Source = s.name(r.Tenant), s.name(r.Reason), s.name(r.Subject), s.name(r.Source)
			s.keep(r)
		}
	}, nil
}

func (s *Suspense) name(text string) string {
	if kept, ok := s.names[text]; ok {
		return kept
	}
	s.names[text] = text
	return text
}

func (s *Suspense) resolve(key suspendedKey, position uint64) {
	r := s.open[key]
	if r == nil {
		return
	}
	delete(s.open, key)
	s.by[r.Position] = position
	r.resolved = true
	s.resolved++
	if s.resolved > 1000 && s.resolved > len(s.records)/2 {
		s.records = slices.DeleteFunc(s.records, func(r *SuspendedRecord) bool { return r.resolved })
		s.resolved = 0
	}
}

// ResolvedBy is the position of the event that resolved the record at a
// position; 0: none did.
func (s *Suspense) ResolvedBy(position uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[position]
}

// A SuspenseFilter chooses records; its zero value, all.
type SuspenseFilter struct {
	Tenant string
	Reason string
	Source string // of the event, where it can be read, or switch/<switch>
	UpTo   uint64 // the last position; 0: no end
}

func (f *SuspenseFilter) takes(r *SuspendedRecord) bool {
	return !r.resolved &&
		(f.Tenant == "" || f.Tenant == r.Tenant) &&
		(f.Reason == "" || f.Reason == r.Reason) &&
		(f.Source == "" || f.Source == r.Source) &&
		(f.UpTo == 0 || r.Position <= f.UpTo)
}

// Records are those the filter takes after a position, by position; limit 0: all.
func (s *Suspense) Records(f SuspenseFilter, after uint64, limit int) []SuspendedRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []SuspendedRecord
	from := sort.Search(len(s.records), func(i int) bool { return s.records[i].Position > after })
	for _, r := range s.records[from:] {
		if f.takes(r) {
			if found = append(found, *r); len(found) == limit {
				break
			}
		}
	}
	return found
}

// Before counts a tenant's records that may belong to a month that ends at to:
// by the time of the call, where it can be read, else by when they came in.
func (s *Suspense) Before(tenant string, to domain.Instant) (n int) {
	for _, r := range s.Records(SuspenseFilter{Tenant: tenant}, 0, 0) {
		at := r.Glimpse.At
		if at == 0 {
			at = r.At
		}
		if at < to {
			n++
		}
	}
	return n
}

// A SuspenseGroup is the records of one tenant, reason and source.
type SuspenseGroup struct {
	Tenant, Reason, Source string
	Records                []SuspendedRecord // by position
}

// Groups are the records the filter takes, sorted by tenant, reason and source.
func (s *Suspense) Groups(f SuspenseFilter) []SuspenseGroup {
	type key struct{ tenant, reason, source string }
	index := map[key]int{}
	var groups []SuspenseGroup
	for _, r := range s.Records(f, 0, 0) {
		k := key{r.Tenant, r.Reason, r.Source}
		i, ok := index[k]
		if !ok {
			i = len(groups)
			index[k] = i
			groups = append(groups, SuspenseGroup{Tenant: r.Tenant, Reason: r.Reason, Source: r.Source})
		}
		groups[i].Records = append(groups[i].Records, r)
	}
	slices.SortFunc(groups, func(a, b SuspenseGroup) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Source, b.Source))
	})
	return groups
}
