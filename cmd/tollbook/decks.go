package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"tollbook/api"
	"tollbook/api/finance"
	"tollbook/cmd/tollbook/deckcsv"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/projections"
	"tollbook/projections/decks"
)

// deckCmd looks at rate decks before they price anything.
type deckCmd struct {
	Lint     deckLintCmd     `cmd:"" help:"What is odd about a rate deck in a CSV file, and how the file was read."`
	Diff     deckDiffCmd     `cmd:"" help:"What a deck changes of the version in force, prefix by prefix."`
	Impact   deckImpactCmd   `cmd:"" help:"What a past month would have come to with a deck."`
	Stage    deckStageCmd    `cmd:"" help:"Look at a deck and keep it beside the book, to be activated."`
	Activate deckActivateCmd `cmd:"" help:"Publish a staged deck."`
	List     deckListCmd     `cmd:"" help:"The versions of the decks, and what is staged."`
}

// deckFile is a deck in a file.
type deckFile struct {
	File     string `arg:"" type:"existingfile" help:"CSV with a header: prefix, destination, country, type, rate_per_min, and optionally connect_fee, increment, currency."`
	Tenant   string `default:"catalog" help:"Whose deck it is; catalog: everybody's who has none of that name."`
	Deck     string `default:"standard" help:"The deck's name, as plans have it."`
	Currency string `placeholder:"EUR" help:"Currency, where the file has no such column."`
}

// deckTried is a version that is only looked at.
type deckTried struct {
	deckFile
	Version       string `default:"new" help:"The version's name."`
	EffectiveFrom string `placeholder:"2026-10-01T00:00:00Z" help:"In force from this instant on; without it, from now on."`
}

func validEffective(text string) error {
	if _, err := time.Parse(time.RFC3339, text); err != nil {
		return fmt.Errorf("--effective-from %q: must be a time with its offset, such as 2026-10-01T00:00:00Z", text)
	}
	return nil
}

// Validate is called by kong, before anything is done.
func (f *deckTried) Validate() error { return validTried(f.EffectiveFrom) }

// validTried is validEffective of what may be left out.
func validTried(text string) error {
	if text == "" {
		return nil
	}
	return validEffective(text)
}

// again are the arguments that name the file again.
func (f *deckFile) again() string {
	text := api.Quoted(f.File)
	for _, flag := range [][3]string{{"tenant", f.Tenant, domain.CatalogTenant}, {"deck", f.Deck, "standard"}, {"currency", f.Currency, ""}} {
		if flag[1] != flag[2] {
			text += " --" + flag[0] + "=" + api.Quoted(flag[1])
		}
	}
	return text
}

// sheet reads the file.
func (f *deckFile) sheet(version, effectiveFrom string) (*decks.Sheet, error) {
	from, err := time.Parse(time.RFC3339, effectiveFrom)
	if err != nil {
		return nil, err // Validate has seen to it
	}
	file, changed, err := openDated(f.File)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	sheet, err := deckcsv.Parse(file, decks.Options{
		Tenant: f.Tenant, Deck: f.Deck, Version: version, EffectiveFrom: domain.InstantOf(from), Currency: domain.Currency(f.Currency), Time: changed,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.File, err)
	}
	return sheet, nil
}

// termsOf folds what of a directory's book concerns decks: whatever is published,
// and which months are closed.
func termsOf(ctx context.Context, std Streams, dir string) (*domain.Ledger, uint64, error) {
	walk, closeLog, err := openBook(ctx, dir, "")
	if err != nil {
		return nil, 0, err
	}
	defer closeLog()
	ledger := domain.NewLedger()
	bar := newProgress(std, "reading the book", int64(walk.Anchor.Events), "events")
	defer bar.finish()
	head, err := walk.Run(ctx, func(b *block.Block, head eventstore.Head, _ int) error {
		for i := range b.Events {
			switch e := &b.Events[i]; e.Data.(type) {
			case *domain.Deck, *domain.TenantConfig, *domain.MonthClosed:
				ledger.Add(e)
			}
		}
		bar.set(head.Events)
		return nil
	})
	return ledger, head.Events, eventstore.Damaged(dir, err)
}

// A judged version has what was found, and what the book has of it already.
type judged struct {
	report   *decks.Report
	known    decks.Judgement
	position uint64 // of the book; 0: it was not asked
}

// lintAgainst judges a version by itself, or with a directory also by its book.
func lintAgainst(ctx context.Context, std Streams, s *decks.Sheet, dir string, t decks.Terms) (j judged, err error) {
	if dir != "" {
		var ledger *domain.Ledger
		if ledger, j.position, err = termsOf(ctx, std, dir); err != nil {
			return j, checkFailed(err)
		}
		j.known = decks.TermsOf(ledger, s.Options)
		known := j.known.Terms(s.Options, t.Now)
		known.Jump, known.Listed = t.Jump, t.Listed
		t = known
	}
	j.report = decks.Lint(s, t)
	return j, nil
}

// publishMissing books those of a version's events that the book has not.
func (a engineAddress) publishMissing(ctx context.Context, std Streams, j judged, events []domain.Event) (total publishReport, err error) {
	missing := j.known.Unpublished(events)
	if len(missing) > 0 {
		if total, err = a.publishAll(ctx, std, missing); err != nil {
			return total, err
		}
	}
	total.Duplicate += len(events) - len(missing)
	total.Position = max(total.Position, j.position)
	return total, nil
}

// refuseErrors is the error about a version that must not be published.
func refuseErrors(r *decks.Report, force bool) error {
	if err := r.Refusal(force); err != nil {
		return fmt.Errorf("%w: %w", errCheck, err)
	}
	return nil
}

type deckLintCmd struct {
	deckTried
	Data string `type:"existingdir" placeholder:"DIR" help:"Compare with the version in force in this data directory's book."`
	Jump int64  `default:"2" help:"A price jumps that is so many times dearer or cheaper."`
	Each int    `default:"50" help:"List so many findings of a kind at most; all are counted."`
	format
}

// Validate is called by kong, before anything is done.
func (c *deckLintCmd) Validate() error {
	switch {
	case c.Jump < 2 || c.Jump > 1000:
		return fmt.Errorf("--jump %d: must be 2 to 1000", c.Jump)
	case c.Each < 1 || c.Each > decks.MaxListed:
		return fmt.Errorf("--each %d: must be 1 to %d", c.Each, decks.MaxListed)
	}
	return c.deckTried.Validate()
}

func (c *deckLintCmd) Run(ctx context.Context, std Streams) error {
	now := clock()
	sheet, err := c.sheet(c.Version, cmp.Or(c.EffectiveFrom, now.String()))
	if err != nil {
		return err
	}
	j, err := lintAgainst(ctx, std, sheet, c.Data, decks.Terms{Now: now, Jump: c.Jump, Listed: c.Each})
	if err != nil {
		return err
	}
	report := j.report
	if err := c.print(std, report, func(w writer) { printReport(w, report, newPaint(std.Out)) }); err != nil {
		return err
	}
	if n := report.Errors(); n > 0 {
		return fmt.Errorf("%w: %s in the deck", errCheck, counted(int64(n), "error"))
	}
	return nil
}

// deckChosen is a version from a file or from the book.
type deckChosen struct {
	File          string `arg:"" optional:"" type:"existingfile" help:"CSV of the deck; without it, --to names a version of the book."`
	Data          string `required:"" type:"existingdir" placeholder:"DIR" help:"Data directory."`
	Tenant        string `default:"catalog" help:"Whose deck it is; catalog: everybody's who has none of that name."`
	Deck          string `default:"standard" help:"The deck's name, as plans have it."`
	Currency      string `placeholder:"EUR" help:"Currency, where the file has no such column."`
	EffectiveFrom string `placeholder:"2026-10-01T00:00:00Z" help:"When the file is to take effect; without it, now."`
	To            string `placeholder:"VERSION" help:"A version of the book, instead of a file."`
}

// Validate is called by kong, before anything is done.
func (c *deckChosen) Validate() error {
	if (c.File == "") == (c.To == "") {
		return errors.New("name a file, or with --to a version of the book")
	}
	return validTried(c.EffectiveFrom)
}

func (c *deckChosen) sheet(l *domain.Ledger) (*decks.Sheet, error) {
	if c.File != "" {
		file := deckFile{File: c.File, Tenant: c.Tenant, Deck: c.Deck, Currency: c.Currency}
		return file.sheet("new", cmp.Or(c.EffectiveFrom, clock().String()))
	}
	v, err := decks.Find(l, c.Tenant, c.Deck, c.To, 0)
	if err != nil {
		return nil, err
	}
	return decks.SheetOf(c.Tenant, v), nil
}

type deckDiffCmd struct {
	deckChosen
	From  string `placeholder:"VERSION" help:"Compare with this version; without it, the one in force when the other takes effect, or before it."`
	Only  string `enum:",added,removed,changed,dearer,cheaper,increment,name,rated,unrated" default:"" help:"List only these: added, removed, changed; dearer, cheaper, increment, name, rated, unrated."`
	After string `placeholder:"PREFIX" help:"List changes after this prefix."`
	Limit int    `default:"100" help:"List so many changes at most; all are counted."`
	format
}

// Validate is called by kong, before anything is done.
func (c *deckDiffCmd) Validate() error {
	if c.Limit < 1 || c.Limit > decks.MaxPage {
		return fmt.Errorf("--limit %d: must be 1 to %d; --after turns the page", c.Limit, decks.MaxPage)
	}
	return c.deckChosen.Validate()
}

func (c *deckDiffCmd) Run(ctx context.Context, std Streams) error {
	ledger, _, err := termsOf(ctx, std, c.Data)
	if err != nil {
		return checkFailed(err)
	}
	after, err := c.sheet(ledger)
	if err != nil {
		return err
	}
	v, err := decks.Before(ledger, after, c.From)
	if err != nil {
		return err
	}
	var before *decks.Sheet
	if v != nil {
		before = decks.SheetOf(c.Tenant, v)
	}
	d := decks.Compare(before, after, decks.DiffPage{After: c.After, Limit: c.Limit, Only: c.Only})
	return c.print(std, d, func(w writer) { printDeckDiff(w, d, newPaint(std.Out)) })
}

type deckImpactCmd struct {
	deckChosen
	Of    string `required:"" placeholder:"TENANT" help:"Whose month."`
	Month string `placeholder:"2026-10" help:"Calendar month; without it, the last one with calls that is over."`
	Top   int    `default:"50" help:"List so many prefixes at most, the greatest differences first."`
	format
}

// Validate is called by kong, before anything is done.
func (c *deckImpactCmd) Validate() error {
	if c.Top < 1 || c.Top > decks.MaxTop {
		return fmt.Errorf("--top %d: must be 1 to %d", c.Top, decks.MaxTop)
	}
	if !consumers.ValidTenant(c.Of) {
		return fmt.Errorf("--of %q: must be 1 to 63 of a-z, 0-9 and -", c.Of)
	}
	if c.Tenant != c.Of && c.Tenant != domain.CatalogTenant {
		return fmt.Errorf("--tenant %s: its decks price no calls of %s; name %s, or %s", c.Tenant, c.Of, c.Of, domain.CatalogTenant)
	}
	if c.Month != "" {
		if _, err := domain.ParseMonth(c.Month); err != nil {
			return fmt.Errorf("--month: %w", err)
		}
	}
	return c.deckChosen.Validate()
}

func (c *deckImpactCmd) Run(ctx context.Context, std Streams) error {
	walk, closeLog, err := openBook(ctx, c.Data, "")
	if err != nil {
		return checkFailed(err)
	}
	defer closeLog()
	bar := newProgress(std, "reading the book", int64(walk.Anchor.Events), "events")
	view, err := projections.Fold(ctx, walk, c.Of, 0, bar.set)
	bar.finish()
	if err != nil {
		return checkFailed(eventstore.Damaged(c.Data, err))
	}
	var month domain.Month
	if c.Month != "" {
		month, err = domain.ParseMonth(c.Month)
	} else {
		month, err = decks.LastFull(view.Ledger, c.Of, clock())
	}
	if err != nil {
		return err
	}
	// A version of the tenant's own, or of the catalogue it has in its place.
	sheet, err := c.sheet(view.Ledger)
	if err != nil {
		return err
	}
	d, err := decks.ImpactOf(view, sheet, c.Of, month, c.Top)
	if err != nil {
		return err
	}
	return c.print(std, d, func(w writer) { printImpact(w, d, newPaint(std.Out)) })
}

type deckStageCmd struct {
	deckFile
	Version       string `required:"" placeholder:"2026-10" help:"The version's name."`
	EffectiveFrom string `required:"" placeholder:"2026-10-01T00:00:00Z" help:"In force from this instant on."`
	Data          string `required:"" type:"existingdir" placeholder:"DIR" help:"Data directory."`
	By            string `help:"Who stages it; without it, the user of this machine."`
	format
}

// Validate is called by kong, before anything is done.
func (c *deckStageCmd) Validate() error { return validEffective(c.EffectiveFrom) }

func (c *deckStageCmd) Run(ctx context.Context, std Streams) error {
	ledger, _, err := termsOf(ctx, std, c.Data)
	if err != nil {
		return checkFailed(err)
	}
	file, changed, err := openDated(c.File)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	content, err := finance.ReadDeck(file)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	now := clock()
	stage, err := finance.StagesOf(c.Data, deckcsv.Parse).Put(content, finance.DeckRequest{
		Tenant: c.Tenant, Deck: c.Deck, Version: c.Version, EffectiveFrom: c.EffectiveFrom, Currency: c.Currency, Time: changed.String(), File: c.File,
	}, engineAddress{}.who(c.By), now, func(s *decks.Sheet) *decks.Report {
		judgement := decks.TermsOf(ledger, s.Options)
		return decks.Lint(s, judgement.Terms(s.Options, now))
	})
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	return c.print(std, stage, func(w writer) {
		printReport(w, stage.Report, newPaint(std.Out))
		fmt.Fprintf(w, "\nStaged; to publish it: tollbook deck activate %s --data %s\n", stage.ID, api.Quoted(c.Data))
	})
}

type deckActivateCmd struct {
	ID    string `arg:"" help:"The stage, as deck list has it; its first letters are enough."`
	Data  string `required:"" type:"existingdir" placeholder:"DIR" help:"Data directory."`
	By    string `help:"Who activates it; without it, the NATS user or that of this machine."`
	Force bool   `help:"Publish it in spite of errors."`
	engineAddress
	format
}

func (c *deckActivateCmd) Run(ctx context.Context, std Streams) error {
	stages := finance.StagesOf(c.Data, deckcsv.Parse)
	id, err := stages.Resolve(c.ID)
	if err != nil {
		return err
	}
	stage, sheet, err := stages.Open(id)
	if err != nil {
		return err
	}
	// What was found then may have changed since.
	j, err := lintAgainst(ctx, std, sheet, c.Data, decks.Terms{Now: clock()})
	if err != nil {
		return err
	}
	if err := refuseErrors(j.report, c.Force); err != nil {
		return err
	}
	events, err := sheet.Events()
	if err != nil {
		return err
	}
	total, err := c.publishMissing(ctx, std, j, events)
	if err != nil {
		return err
	}
	if total.Suspended > 0 {
		return fmt.Errorf("%d of %d parts are in suspense: the version is not in force; see 'tollbook suspense'", total.Suspended, len(events))
	}
	stage, err = stages.Note(stage, finance.DeckActivation{
		By: c.who(c.By), At: clock().String(), Forced: j.report.Errors() > 0, Booked: total.Booked, Duplicate: total.Duplicate, Position: total.Position,
	})
	if err != nil {
		return err
	}
	return c.print(std, stage, func(w writer) {
		printTotal(w, total, published(sheet, len(events)))
	})
}

type deckListCmd struct {
	Data   string `required:"" type:"existingdir" placeholder:"DIR" help:"Data directory."`
	Tenant string `default:"catalog" help:"Whose decks: its own, and those of the catalogue that it has none of in their place."`
	format
}

func (c *deckListCmd) Run(ctx context.Context, std Streams) error {
	ledger, position, err := termsOf(ctx, std, c.Data)
	if err != nil {
		return checkFailed(err)
	}
	stages, err := finance.StagesOf(c.Data, deckcsv.Parse).Of(c.Tenant)
	if err != nil {
		return err
	}
	d := finance.DecksDocument{Tenant: c.Tenant, Position: position, Versions: finance.DecksOf(ledger, c.Tenant, clock()), Stages: stages}
	return c.print(std, d, func(w writer) { printDecks(w, d, newPaint(std.Out)) })
}
