package finance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
	"tollbook/projections/decks"
)

// A DeckDesk answers questions about rate decks, and stages and activates them. It
// may be used by many at once.
type DeckDesk struct {
	Book   *eventstore.Book
	Months *projections.Months
	Intake *consumers.Intake
	Clock  func() domain.Instant
	Stages DeckStages

	one sync.Mutex // for what takes the memory of whole decks, and decisions about stages
}

// Kinds of errors of a DeckDesk, by what the caller may do next. Each is an [*Error]
// too, whose text is one line: what, where, what to do.
var (
	ErrNoDeck     = errors.New("no such deck")                  // 404
	ErrNoStage    = errors.New("no such stage")                 // 404
	ErrDeckWrong  = errors.New("deck, or question, is refused") // 400
	ErrDeckErrors = errors.New("deck has errors")               // 409: nobody insisted on it
)

var deckStatus = map[error]int{
	ErrNoDeck: http.StatusNotFound, ErrNoStage: http.StatusNotFound, ErrDeckWrong: http.StatusBadRequest, ErrDeckErrors: http.StatusConflict,
}

// deckError is an error of a kind.
type deckError struct {
	kind error
	told *Error
}

func (e deckError) Error() string   { return e.told.Detail }
func (e deckError) Unwrap() []error { return []error{e.kind, e.told} }

// ofKind makes an error one of a kind, unless it is one already.
func ofKind(kind, err error) error {
	if _, ok := errors.AsType[*Error](err); ok || err == nil {
		return err
	}
	return deckError{kind, &Error{deckStatus[kind], err.Error()}}
}

func refused(err error) error { return ofKind(ErrDeckWrong, err) }

func noStage() error {
	return ofKind(ErrNoStage, errors.New("no deck is staged under this id; see 'tollbook deck list'"))
}

// A DecksDocument is what a tenant's calls can be priced by, and what waits to be
// activated.
type DecksDocument struct {
	Tenant   string      `json:"tenant"`
	Position uint64      `json:"position"`
	Versions []DeckInfo  `json:"versions"` // by deck, then by when they take effect
	Stages   []DeckStage `json:"stages"`   // the last one first
}

// A DeckInfo is a version.
type DeckInfo struct {
	Deck          string `json:"deck"`
	Version       string `json:"version"`
	Own           bool   `json:"own"` // the tenant's; else everybody's
	EffectiveFrom string `json:"effective_from"`
	Currency      string `json:"currency"`
	Rows          int    `json:"rows"`
	Parts         int    `json:"parts"`
	State         string `json:"state"` // valid, incomplete, invalid or other_currency
	InForce       bool   `json:"in_force"`
}

func deckInfo(v *domain.DeckVersion) DeckInfo {
	return DeckInfo{
		Deck: v.Deck, Version: v.Version, Own: v.Own, EffectiveFrom: v.EffectiveFrom.String(), Currency: string(v.Currency),
		Rows: v.Rows, Parts: len(v.Parts), State: string(v.State),
	}
}

// DecksOf are the versions for a tenant; now says which are in force.
func DecksOf(l *domain.Ledger, tenant string, now domain.Instant) []DeckInfo {
	list := []DeckInfo{}
	last := map[string]int{} // by deck: the one in force
	for _, v := range l.Decks(tenant) {
		if v.State == domain.DeckValid && v.EffectiveFrom <= now {
			last[v.Deck] = len(list)
		}
		list = append(list, deckInfo(&v))
	}
	for _, i := range last {
		list[i].InForce = true
	}
	return list
}

// live asks the live months. What is asked must be short; the events it finds are
// never changed and may be kept.
func (d *DeckDesk) live(tenant string, ask func(*projections.View) error) error {
	_, err := d.Months.View(tenant, 0, ask)
	return err
}

// Decks are the versions of a tenant's decks and its stages.
func (d *DeckDesk) Decks(_ context.Context, tenant string) (doc DecksDocument, err error) {
	doc.Tenant = tenant
	err = d.live(tenant, func(v *projections.View) error {
		doc.Position, doc.Versions = v.Head.Events, DecksOf(v.Ledger, tenant, d.Clock())
		return nil
	})
	if err == nil {
		doc.Stages, err = d.Stages.Of(tenant)
	}
	return doc, err
}

// A DeckQuery asks for a page of a version's rows.
type DeckQuery struct {
	Tenant  string `json:"tenant"`
	Deck    string `json:"deck"`
	Version string `json:"version,omitzero"` // without it, the one in force
	After   string `json:"after,omitzero"`   // the Next of the page before
	Limit   int    `json:"limit,omitzero"`   // decks.DefaultPage when 0, at most decks.MaxPage
}

// A RowsDocument is a page of a version's rows.
type RowsDocument struct {
	Tenant string `json:"tenant"`
	DeckInfo
	Page []decks.RowState `json:"page"` // by prefix
	Next string           `json:"next,omitzero"`
}

// Deck is a page of a version's rows.
func (d *DeckDesk) Deck(_ context.Context, q DeckQuery) (RowsDocument, error) {
	v, err := d.find(q.Tenant, q.Deck, q.Version)
	if err != nil {
		return RowsDocument{}, err
	}
	d.one.Lock()
	defer d.one.Unlock()
	doc := RowsDocument{Tenant: q.Tenant, DeckInfo: deckInfo(v)}
	doc.Page, doc.Next = decks.SheetOf(q.Tenant, v).Page(q.After, q.Limit)
	return doc, nil
}

// find is a version as the live months have it.
func (d *DeckDesk) find(tenant, deck, version string) (found *domain.DeckVersion, err error) {
	err = d.live(tenant, func(v *projections.View) (err error) {
		found, err = decks.Find(v.Ledger, tenant, deck, version, d.Clock())
		return err
	})
	return found, ofKind(ErrNoDeck, err)
}

// judge lints a version by what is booked now.
func (d *DeckDesk) judge(s *decks.Sheet) *decks.Report {
	j := d.judgement(s)
	return decks.Lint(s, j.Terms(s.Options, d.Clock()))
}

func (d *DeckDesk) judgement(s *decks.Sheet) (j decks.Judgement) {
	_ = d.live(s.Tenant, func(v *projections.View) error { // which fails only if this does
		j = decks.TermsOf(v.Ledger, s.Options)
		return nil
	})
	return j
}

// StageDeck reads a file, lints it against what is booked, and keeps both. Staging
// the same again is the same stage.
func (d *DeckDesk) StageDeck(_ context.Context, who string, in io.Reader, q DeckRequest) (DeckStage, error) {
	file, err := ReadDeck(in) // however long that takes somebody's line
	if err != nil {
		return DeckStage{}, err
	}
	d.one.Lock()
	defer d.one.Unlock()
	return d.Stages.Put(file, q, who, d.Clock(), d.judge)
}

// A DeckChoice is a version to look at: one of the book's, or a stage.
type DeckChoice struct {
	Tenant  string `json:"tenant"` // whose deck
	Deck    string `json:"deck,omitzero"`
	Version string `json:"version,omitzero"`
	Stage   string `json:"stage,omitzero"` // instead of deck and version
}

// sheet is the version chosen.
func (d *DeckDesk) sheet(c DeckChoice) (*decks.Sheet, error) {
	if c.Stage == "" {
		v, err := d.find(c.Tenant, c.Deck, c.Version)
		if err != nil {
			return nil, err
		}
		return decks.SheetOf(c.Tenant, v), nil
	}
	stage, sheet, err := d.Stages.Open(c.Stage)
	if err == nil && stage.Tenant != c.Tenant {
		err = noStage() // of this tenant
	}
	if err != nil {
		return nil, refused(err)
	}
	return sheet, nil
}

// DiffDecks says what a version changes of another; "": of the one in force when
// it takes effect, or before it.
func (d *DeckDesk) DiffDecks(_ context.Context, c DeckChoice, from string, page decks.DiffPage) (decks.Diff, error) {
	if page.Only != "" && !slices.Contains(decks.OnlyOf, page.Only) {
		return decks.Diff{}, refused(fmt.Errorf("only %.40q: must be one of %v", page.Only, decks.OnlyOf))
	}
	d.one.Lock()
	defer d.one.Unlock()
	after, err := d.sheet(c)
	if err != nil {
		return decks.Diff{}, err
	}
	var v *domain.DeckVersion
	err = d.live(c.Tenant, func(view *projections.View) (err error) {
		v, err = decks.Before(view.Ledger, after, from)
		return err
	})
	if err != nil {
		return decks.Diff{}, ofKind(ErrNoDeck, err)
	}
	var before *decks.Sheet
	if v != nil {
		before = decks.SheetOf(c.Tenant, v)
	}
	return decks.Compare(before, after, page), nil
}

// An ImpactQuery asks what a month would have come to with a version.
type ImpactQuery struct {
	DeckChoice
	Of    string `json:"of"`             // the tenant whose month it is
	Month string `json:"month,omitzero"` // without it, the last one with calls that is over
	Top   int    `json:"top,omitzero"`   // prefixes listed; decks.DefaultTop when 0
}

// Impact folds the book anew, which takes as long as a replay, and waits as what-ifs do.
func (d *DeckDesk) Impact(ctx context.Context, q ImpactQuery) (*decks.Impact, error) {
	if q.Tenant != q.Of && q.Tenant != domain.CatalogTenant {
		return nil, refused(fmt.Errorf("a deck of %s prices no calls of %s", q.Tenant, q.Of))
	}
	if err := whatIfs.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer whatIfs.Release(1)
	sheet, err := d.sheet(q.DeckChoice)
	if err != nil {
		return nil, err
	}
	var month domain.Month
	if q.Month != "" {
		month, err = domain.ParseMonth(q.Month)
	} else {
		err = d.live(q.Of, func(v *projections.View) (err error) {
			month, err = decks.LastFull(v.Ledger, q.Of, d.Clock())
			return err
		})
	}
	if err != nil {
		return nil, refused(err)
	}
	view, err := projections.Fold(ctx, d.Book.Walk(), q.Of, 0, nil)
	if err != nil {
		return nil, told(err)
	}
	impact, err := decks.ImpactOf(view, sheet, q.Of, month, q.Top)
	return impact, refused(err)
}

// bookedAtOnce is how many parts of a deck are taken to the book at once: together
// they are smaller than a message may be.
const bookedAtOnce = 8

// OfTenant reports whether a stage is a tenant's; nil: it is.
func (d *DeckDesk) OfTenant(tenant, id string) error {
	stage, err := d.Stages.Stage(id)
	if err == nil && stage.Tenant != tenant {
		err = noStage()
	}
	return refused(err)
}

// ActivateDeck publishes a stage's events, unless its report has errors by what is
// booked now; with force, in spite of them. Activating again, or what somebody else
// has published, changes nothing. Once begun it goes on, whether the asker waits or not.
func (d *DeckDesk) ActivateDeck(ctx context.Context, who, id string, force bool) (DeckStage, error) {
	d.one.Lock()
	defer d.one.Unlock()
	stage, sheet, err := d.Stages.Open(id)
	if err != nil {
		return stage, refused(err)
	}
	known := d.judgement(sheet)
	report := decks.Lint(sheet, known.Terms(sheet.Options, d.Clock()))
	if err := report.Refusal(force); err != nil {
		return stage, ofKind(ErrDeckErrors, err)
	}
	events, err := sheet.Events()
	if err != nil {
		return stage, refused(err)
	}
	missing := known.Unpublished(events)
	done := DeckActivation{
		By: who, At: d.Clock().String(), Forced: report.Errors() > 0, Duplicate: len(events) - len(missing), Position: d.Months.Head().Events,
	}
	ctx = context.WithoutCancel(ctx)
	for part := range slices.Chunk(missing, bookedAtOnce) {
		var records []eventstore.Record
		for _, e := range part {
			records = append(records, eventstore.Record{Event: e, Subject: consumers.SubjectPrefix + e.Tenant + ".events"})
		}
		results, err := d.Intake.Book(ctx, records)
		if err != nil {
			return stage, told(err)
		}
		for _, r := range results {
			switch r.Status {
			case eventstore.Booked:
				done.Booked++
			case eventstore.Duplicate:
				done.Duplicate++
			default:
				return stage, ofKind(ErrDeckErrors, fmt.Errorf("a part is in suspense at position %d, and the version not in force: %s", r.Position, r.Detail))
			}
			done.Position = max(done.Position, r.Position)
		}
	}
	return d.Stages.Note(stage, done)
}

// timeOf reads a time of a request.
func timeOf(name, text string) (domain.Instant, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, fmt.Errorf("%s %.50q: must be a time with its offset, such as 2026-10-01T00:00:00Z", name, text)
	}
	return domain.InstantOf(at), nil
}
