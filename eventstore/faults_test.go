package eventstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/eventstore/memlog"
	"tollbook/eventstore/sqlite"
	"tollbook/projections"
)

// everyFault is FAULTS=full: more rounds of each fault and every length of a cut,
// for a nightly run.
var everyFault = os.Getenv("FAULTS") == "full"

// faultSeed begins all that is drawn; FAULTS_SEED repeats a run that printed it.
func faultSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("FAULTS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("FAULTS_SEED: %v", err)
		}
	}
	t.Logf("FAULTS_SEED=%d", seed)
	return seed
}

// drawing is the randomness of one round of a fault, whatever ran before it.
func drawing(seed uint64, name string, round int) *rand.Rand {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s %d", name, round)
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// Findings: the ways in which a book fails its senders.
const (
	lost       = "lost"       // acknowledged, and not there
	doubled    = "doubled"    // booked twice
	undetected = "undetected" // damaged, and opened all the same
	different  = "different"  // a month that is not what it was
	miscounted = "miscounted" // received is not booked + duplicate + suspended
	refused    = "refused"    // by a fault that does no damage
	unclear    = "unclear"    // a refusal that does not say where, or what to do
)

// A report counts what was done to books, and what was found then.
type report struct {
	mu     sync.Mutex
	counts map[string]int
}

func newReport() *report { return &report{counts: map[string]int{}} }

func (r *report) add(what string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[what] += n
}

func (r *report) log(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, finding := range []string{lost, doubled, undetected} { // also where there are none
		r.counts[finding] += 0
	}
	var lines []string
	for _, what := range slices.Sorted(maps.Keys(r.counts)) {
		lines = append(lines, fmt.Sprintf("%s %d", what, r.counts[what]))
	}
	t.Log(strings.Join(lines, ", "))
}

// hooks are what happens around the writes of a book. A nil one lets them happen.
type hooks struct {
	made   func()                                                       // after the log was made, before the anchor is
	append func(n uint64, block []byte, write func([]byte) error) error // instead of an append
	told   func()                                                       // after the anchor's write, before the senders know
	close  func(close func() error) error                               // instead of closing the log
}

// A hookedLog is the real log with hooks around it.
type hookedLog struct {
	eventstore.Log
	hooks *hooks
}

func (l *hookedLog) Append(ctx context.Context, n uint64, block []byte) error {
	write := func(block []byte) error { return l.Log.Append(ctx, n, block) }
	if l.hooks.append == nil {
		return write(block)
	}
	return l.hooks.append(n, block, write)
}

func (l *hookedLog) Close() error {
	if l.hooks.close == nil {
		return l.Log.Close()
	}
	return l.hooks.close(l.Log.Close)
}

// senders is what those know who send records: all they have sent, what they
// were told of it, and what they were not.
type senders struct {
	sent       []eventstore.Record
	told       map[uint64]eventstore.Record // which is at that position
	unanswered []eventstore.Record
	said       map[uint64]string // the month as of a position
}

func (k *senders) clone() senders {
	return senders{slices.Clone(k.sent), maps.Clone(k.told), slices.Clone(k.unanswered), maps.Clone(k.said)}
}

// A site is a data directory with a log on disk, its book and live months while
// it is open, and its senders.
type site struct {
	t     testing.TB
	count *report
	dir   string
	saved string // a copy of the directory to put back once it is refused
	then  senders
	senders

	hooks  *hooks
	clock  func() domain.Instant
	book   *eventstore.Book
	months *projections.Months
	recall *recaller
	first  projections.Intake // when it was opened
	since  projections.Intake // told to senders since

	fresh    int // ids that were used
	findings map[string][]string
}

func newSite(t testing.TB, count *report) *site {
	return &site{
		t: t, count: count, dir: t.TempDir(), clock: ticking(), hooks: &hooks{}, findings: map[string][]string{},
		senders: senders{told: map[uint64]eventstore.Record{}, said: map[uint64]string{}},
	}
}

// fork is the same site, closed, in a copy of its directory.
func (s *site) fork() *site {
	f := newSite(s.t, s.count)
	f.dir, f.saved = copyDir(s.t, s.dir), s.dir
	f.senders, f.then, f.fresh = s.clone(), s.clone(), s.fresh
	return f
}

// save keeps a copy of the directory, and what senders know at this time.
func (s *site) save() {
	s.saved, s.then = copyDir(s.t, s.dir), s.clone()
}

func (s *site) found(finding, format string, args ...any) {
	s.findings[finding] = append(s.findings[finding], fmt.Sprintf(format, args...))
	s.count.add(finding, 1)
}

func (s *site) fatal(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) open() error {
	return s.openWith(&hooks{})
}

func (s *site) openWith(h *hooks) error {
	s.hooks, s.months, s.recall, s.since = h, projections.NewMonths(), &recaller{}, projections.Intake{}
	told := func(eventstore.Update) {
		if h.told != nil {
			h.told()
		}
	}
	book, err := eventstore.Open(ctx, s.dir, func(path string) (eventstore.Log, error) {
		log, err := sqlite.Open(path)
		if err != nil {
			return nil, err
		}
		if h.made != nil {
			h.made()
		}
		return &hookedLog{log, h}, nil
	}, eventstore.Options{
		Clock: s.clock, Follow: []eventstore.Follower{s.months.Follow, told}, Resume: []eventstore.Resumer{s.recall},
	}.KeepRecent(3).SnapshotEvery(4))
	if err != nil {
		return err
	}
	s.book = book
	s.first, _ = s.months.Intake(faultTenant)
	return nil
}

// close ends the book in good order, or after it has failed.
func (s *site) close() error {
	err := s.book.Close()
	s.book = nil
	return err
}

const faultTenant = "contoso"

// terms are what makes the calls of three users cost something.
func terms() []eventstore.Record {
	event := func(id string, data domain.Data) domain.Event {
		return domain.Event{Tenant: faultTenant, Source: "admin", ID: id, Time: started, Data: data}
	}
	events := []domain.Event{
		event("plan", &domain.Plan{
			Plan: "WORLD_3", Name: "World 3", EffectiveFrom: 20260101, Kinds: []string{domain.KindUser},
			Buckets:   []domain.Bucket{{Name: "world", Zone: domain.ZoneAll, Minutes: map[string]int64{domain.AnyCountry: 3}}},
			Increment: domain.DefaultIncrement, Deck: "standard",
		}),
		event("deck", &domain.Deck{
			Deck: "standard", Version: "1", Currency: "EUR", Part: 1, Parts: 1, EffectiveFrom: started - domain.Instant(365*24*time.Hour),
			Rows: []domain.Row{{Prefix: "41", Country: "CH", Name: "Switzerland", RowType: "landline", Price: 16_000, Increment: domain.DefaultIncrement}},
		}),
	}
	for user := range 3 {
		events = append(events, event(fmt.Sprint("licence-", user), &domain.Assignment{
			User: faultUser(user), Plan: "WORLD_3", Country: "IT", EffectiveAt: started - domain.Instant(24*time.Hour),
		}))
	}
	return records(events...)
}

func faultUser(n int) string { return fmt.Sprintf("user%d@contoso.example", n%3) }

// draw is some records, the first of them new; others may repeat what was sent,
// or be an identity that was sent with other content.
func (s *site) draw(r *rand.Rand) []eventstore.Record {
	fresh := func() domain.Event {
		s.fresh++
		e := call(faultTenant, fmt.Sprintf("switch/%d", r.IntN(2)), s.fresh)
		c := *e.Data.(*domain.Call)
		c.User, c.BillableMS = faultUser(s.fresh), 1+r.Int64N(200_000)
		e.Data = &c
		return e
	}
	list := records(fresh())
	for range r.IntN(5) {
		again := s.sent[r.IntN(len(s.sent))]
		_, isCall := again.Event.Data.(*domain.Call)
		switch kind := r.IntN(4); {
		case kind == 0:
			list = append(list, again)
		case kind == 1 && isCall:
			list = append(list, records(longer(again.Event, 1+r.Int64N(1000)))...)
		default:
			list = append(list, records(fresh())...)
		}
	}
	return list
}

// begin opens an empty book and has some blocks booked, over a restart perhaps.
func (s *site) begin(r *rand.Rand) {
	s.t.Helper()
	s.fatal(s.open())
	s.fatal(s.send(terms()))
	for range 1 + r.IntN(4) {
		if r.IntN(4) == 0 {
			s.fatal(s.close())
			s.fatal(s.open())
		}
		s.fatal(s.send(s.draw(r)))
	}
}

// send submits records, and remembers what was told of them.
func (s *site) send(list []eventstore.Record) error {
	s.t.Helper()
	s.sent = append(s.sent, list...)
	results, err := s.book.Submit(ctx, list)
	if err != nil {
		s.unanswered = append(s.unanswered, list...)
		return err
	}
	s.told = maps.Clone(s.told)
	for i, result := range results {
		s.told[result.Position] = list[i]
		switch result.Status {
		case eventstore.Booked:
			s.since.Booked++
		case eventstore.Duplicate:
			s.since.Duplicate++
		case eventstore.Suspended:
			s.since.Suspended++
		}
	}
	s.said[s.book.Head().Events] = s.live()
	return nil
}

// lose is sending to a process that dies meanwhile.
func (s *site) lose(list []eventstore.Record) {
	s.sent, s.unanswered = append(s.sent, list...), append(s.unanswered, list...)
	_, _ = s.book.Submit(ctx, list)
}

func faultMonth() domain.Month {
	m, err := domain.ParseMonth("2026-10")
	if err != nil {
		panic(err)
	}
	return m
}

func (s *site) live() string { return s.text(s.months.Statement(faultTenant, faultMonth())) }

func (s *site) text(v any) string {
	s.t.Helper()
	data, err := projections.Canonical(v)
	s.fatal(err)
	return string(data)
}

// holds says whether an event of the book is what a record became.
func holds(e *domain.Event, r *eventstore.Record) bool {
	if bytes.Equal(canonical(e), canonical(&r.Event)) {
		return true
	}
	kept, ok := e.Data.(*domain.Suspended)
	return ok && kept.Reason == eventstore.ReasonConflict && kept.Subject == r.Subject && bytes.Equal(kept.Raw, rawOf(r))
}

// inspect compares the open book with what senders know, and with anchor if there is one.
func (s *site) inspect(anchor *eventstore.Anchor) {
	s.t.Helper()
	log, err := sqlite.OpenReadOnly(eventstore.LogPath(s.dir))
	if err != nil {
		s.found(undetected, "opened, but not for reading: %v", err)
		return
	}
	defer func() { _ = log.Close() }()
	var events []domain.Event
	head, err := eventstore.Walk{Log: log, Anchor: anchor, Leaves: true}.Run(ctx, func(b *block.Block, _ eventstore.Head, _ int) error {
		events = append(events, b.Events...)
		return nil
	})
	if err != nil {
		s.found(undetected, "opened, but a walk says: %v", err)
	}
	if got := s.book.Head(); got != head {
		s.found(undetected, "the book's head is %v at %d, that of its log %v at %d", got, got.Events, head, head.Events)
	}
	for position, record := range s.told {
		if position > uint64(len(events)) || !holds(&events[position-1], &record) {
			s.found(lost, "%s, told to be at position %d of %d", canonical(&record.Event), position, len(events))
		}
	}
	seen := map[ident]bool{}
	for i := range events {
		key := identOf(&events[i])
		if seen[key] {
			s.found(doubled, "%v", key)
		}
		seen[key] = true
	}
	if want := recalled(events).State; s.recall.State.Events != want.Events || s.recall.State.Hash != want.Hash {
		s.found(different, "who resumed knows %d events, the book has %d", s.recall.State.Events, len(events))
	}
	s.inspectMonths(log, head)
	in, _ := s.months.Intake(faultTenant)
	if in.Booked+in.Suspended != uint64(len(events)) {
		s.found(miscounted, "%+v of %d events", in, len(events))
	}
	since := projections.Intake{Booked: in.Booked - s.first.Booked, Duplicate: in.Duplicate - s.first.Duplicate, Suspended: in.Suspended - s.first.Suspended}
	if since != s.since {
		s.found(miscounted, "%+v since it was opened; senders were told %+v", since, s.since)
	}
}

// inspectMonths makes the month from the book: as of now it is the live one, as
// of then what the live one was.
func (s *site) inspectMonths(log eventstore.Log, head eventstore.Head) {
	s.t.Helper()
	replay := func(at uint64) string {
		statement, err := projections.Replay(ctx, eventstore.Walk{Log: log}, faultTenant, faultMonth(), at, nil)
		if err != nil {
			return err.Error()
		}
		return s.text(statement)
	}
	if got, live := replay(0), s.live(); got != live {
		s.found(different, "replayed:\n%s\nlive:\n%s", got, live)
	}
	for at, said := range s.said {
		if at == 0 || at == head.Events {
			continue // there is none, or it is live
		}
		if got := replay(at); got != said {
			s.found(different, "replayed as of %d:\n%s\nlive then:\n%s", at, got, said)
		}
	}
	if said, ok := s.said[head.Events]; ok && said != s.live() {
		s.found(different, "live at %d:\n%s\nbefore:\n%s", head.Events, s.live(), said)
	}
}

// A verdict is what has to become of a directory that had a fault.
type verdict int

const (
	either  verdict = iota // whichever is true: opened only if nothing is missing
	opens                  // no damage was done
	refuses                // something is gone for good
)

var (
	where = regexp.MustCompile(`block \d+|book\.db|anchor`)
	what  = regexp.MustCompile(`put back|restore|stop it|make room|name another|newer tollbook|check owner|kernel's log`)
)

// judge opens a directory that had a fault, checks everything, has the senders
// send again what they have no answer for, and then all of it, and checks again.
// What is refused is put back from the copy that was saved first.
func (s *site) judge(want verdict) {
	s.t.Helper()
	anchor, err := eventstore.ReadAnchor(eventstore.AnchorPath(s.dir))
	if err != nil {
		anchor = nil
	}
	if err := s.open(); err != nil {
		s.count.add("refused with reason", 1)
		if want == opens {
			s.found(refused, "%v", err)
		}
		s.refusal(err)
		if s.saved == "" {
			s.t.Fatalf("nothing to put back: %v", err)
		}
		s.dir, s.senders, anchor = copyDir(s.t, s.saved), s.then, nil
		s.fatal(s.open())
	} else {
		s.count.add("reopened", 1)
		if want == refuses {
			s.found(undetected, "opened")
		}
	}
	s.inspect(anchor)
	s.carryOn()
	s.fatal(s.close())
}

// refusal looks at what is said of a damaged directory; who opens it again is told
// so too. Who only reads may find all blocks there, in a file that nobody must
// write to.
func (s *site) refusal(err error) {
	s.t.Helper()
	if text := err.Error(); !where.MatchString(text) || !what.MatchString(text) || strings.Contains(text, "\n") {
		s.found(unclear, "%v", err)
	}
	if err := s.open(); err == nil {
		s.found(undetected, "refused, but opened then")
		s.fatal(s.close())
	}
	head, err := verify(s.dir, "")
	for position := range s.told {
		if err == nil && position > head.Events {
			s.found(undetected, "refused, but verified then, and ends at %d before %d", head.Events, position)
		}
	}
}

// verify reads a directory as `tollbook verify` does, with its own anchor or another.
func verify(dir, anchorPath string) (eventstore.Head, error) {
	if anchorPath == "" {
		anchorPath = eventstore.AnchorPath(dir)
	}
	anchor, err := eventstore.ReadAnchor(anchorPath)
	if err != nil {
		return eventstore.Head{}, err
	}
	log, err := sqlite.OpenReadOnly(eventstore.LogPath(dir))
	if err != nil {
		return eventstore.Head{}, err
	}
	head, err := eventstore.Walk{Log: log, Anchor: anchor, Leaves: true}.Run(ctx, ignore)
	return head, errors.Join(err, log.Close())
}

// carryOn is what senders do after a fault. In the end the book has what a book
// without one would have.
func (s *site) carryOn() {
	s.t.Helper()
	retries := s.unanswered
	s.unanswered = nil
	before := len(s.sent)
	if len(retries) > 0 {
		s.fatal(s.send(retries))
	}
	s.sent = s.sent[:before] // they were there
	s.fatal(s.send(s.draw(rand.New(rand.NewPCG(uint64(before), 0)))))
	head, all := s.book.Head(), s.sent
	s.fatal(s.send(all))
	s.sent = all
	if got := s.book.Head(); got != head {
		s.found(doubled, "all was sent, and sent again: from %d events to %d", head.Events, got.Events)
	}
	s.inspect(nil)

	without := memlog.New(s.t)
	months := projections.NewMonths()
	book, err := eventstore.Open(ctx, s.t.TempDir(), func(string) (eventstore.Log, error) { return without, nil },
		eventstore.Options{Clock: s.clock, Follow: []eventstore.Follower{months.Follow}})
	s.fatal(err)
	_, err = book.Submit(ctx, all)
	s.fatal(errors.Join(err, book.Close()))
	want, got := months.Statement(faultTenant, faultMonth()), s.months.Statement(faultTenant, faultMonth())
	want.Head, got.Head = "", "" // blocks may have been cut otherwise
	if s.text(want) != s.text(got) {
		s.found(different, "after all:\n%s\nwithout a fault:\n%s", s.text(got), s.text(want))
	}
}

// copyDir is what the files of a directory are now, and will be after a crash of
// whoever has it open. One that goes meanwhile is left out.
func copyDir(t tb, dir string) string {
	t.Helper()
	to, err := os.MkdirTemp("", "tollbook")
	if err != nil {
		t.Fatalf("%v", err)
	}
	if t, ok := t.(testing.TB); ok {
		t.Cleanup(func() { _ = os.RemoveAll(to) })
	}
	for _, name := range filesOf(t, dir) {
		err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755)
		if err == nil {
			err = copyFile(filepath.Join(dir, name), filepath.Join(to, name))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%v", err)
		}
	}
	return to
}

// filesOf are the files below a directory, by their names in it.
func filesOf(t tb, dir string) (names []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			names = append(names, name)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return names
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
