package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/projections"
)

// explainCmd says why: of one event, of a line and of a pool.
type explainCmd struct {
	Call explainCallCmd `cmd:"" default:"withargs" help:"What the book has of one event, with a proof; of a call, what it costs and why."`
	Line explainLineCmd `cmd:"" help:"The calls of an invoice line, and how they make its amount."`
	Pool explainPoolCmd `cmd:"" help:"The licences of a pool, and how they make its minutes."`
}

// asOfFlag is which state of the book is explained.
type asOfFlag struct {
	At string `placeholder:"POSITION" help:"As of this position of the book, or now; without it, an open month as it is now, a closed one as it was issued."`
}

func (f asOfFlag) asOf() (api.AsOf, error) {
	switch f.At {
	case "":
		return api.AsOf{}, nil
	case "now":
		return api.AsOf{Now: true}, nil
	}
	at, err := strconv.ParseUint(f.At, 10, 64)
	if err != nil || at == 0 {
		return api.AsOf{}, fmt.Errorf("--at %q: must be a position, from 1 on, or now", f.At)
	}
	return api.AsOf{At: at}, nil
}

// explainCallCmd says what the book has of one event: what it costs and why, where
// it is, and the proof that it is there.
type explainCallCmd struct {
	Tenant string `required:"" help:"Tenant; - is nobody's."`
	Source string `arg:"" help:"Source of the event, such as switch/mil-1."`
	ID     string `arg:"" name:"id" help:"Its id."`
	asOfFlag
	Proof string `type:"path" placeholder:"FILE" help:"Write the proof here, for 'tollbook verify --proof'."`
	Data  string `type:"existingdir" placeholder:"DIR" help:"Read this data directory instead of asking an engine."`
	engineAddress
	format
}

// Validate is called by kong, before anything is done.
func (c *explainCallCmd) Validate() error {
	if c.Tenant != domain.NoTenant && !consumers.ValidTenant(c.Tenant) {
		return fmt.Errorf("--tenant %q: must be 1 to 63 of a-z, 0-9 and -", c.Tenant)
	}
	_, err := c.asOf()
	return err
}

func (c *explainCallCmd) Run(ctx context.Context, std Streams) error {
	doc, err := c.explain(ctx, std)
	if err != nil {
		return checkFailed(err)
	}
	if doc.Proof != nil {
		if _, err := doc.Proof.Check(nil); err != nil {
			return checkFailed(fmt.Errorf("the proof that the engine made: %w", err))
		}
	}
	if c.Proof != "" {
		if err := c.write(doc.Proof); err != nil {
			return err
		}
	}
	return c.print(std, doc, func(w writer) { printExplained(w, doc, newPaint(std.Out)) })
}

func (c *explainCallCmd) explain(ctx context.Context, std Streams) (doc api.ExplainDocument, err error) {
	q := api.ExplainRequest{Tenant: c.Tenant, Source: c.Source, ID: c.ID}
	if q.AsOf, err = c.asOf(); err != nil {
		return doc, err
	}
	if c.Data == "" {
		client, done, err := c.connect()
		if err != nil {
			return doc, err
		}
		defer done()
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		return client.Explain(ctx, q)
	}
	// A copy of a book has no key: it is explained without a proof.
	key, err := eventstore.ReadSigningKey(c.Data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return doc, err
	}
	prover, place, err := proverOf(ctx, std, c.Data, func(_ uint64, e *domain.Event) bool {
		return e.ID == c.ID && e.Source == c.Source && e.Tenant == c.Tenant
	})
	if err != nil {
		return doc, err
	}
	if place == nil {
		return doc, api.NotBooked(q)
	}
	if doc, err = api.Explain(prover, place, key); err == nil {
		err = explainerOf(std, c.Data, prover.Events).Add(ctx, &doc, place, q.AsOf)
	}
	return doc, err
}

// explainerOf explains from the book of a directory, up to a position; 0: its end.
func explainerOf(std Streams, dir string, end uint64) *api.Explainer {
	walk := func(ctx context.Context, do func(eventstore.Walk) error) error {
		walk, closeLog, err := openBook(ctx, dir, "")
		if err != nil {
			return err
		}
		defer closeLog()
		return eventstore.Damaged(dir, do(walk))
	}
	fold := func(ctx context.Context, tenant string, position uint64) (v *projections.View, err error) {
		err = walk(ctx, func(walk eventstore.Walk) (err error) {
			bar := newProgress(std, "replaying", int64(endOr(position, walk.Anchor.Events)), "events")
			defer bar.finish()
			v, err = projections.Fold(ctx, walk, tenant, position, bar.set)
			return err
		})
		return v, err
	}
	var live *projections.View
	return api.NewExplainer(api.ExplainSource{
		Live: func(ctx context.Context, tenant string, month domain.Month, ask func(*projections.View) error) (issuedAt uint64, err error) {
			if live == nil {
				if live, err = fold(ctx, tenant, end); err != nil {
					return 0, err
				}
			}
			v, issuedAt := live.Issued(tenant, month)
			if v == nil {
				return issuedAt, nil
			}
			return 0, ask(v)
		},
		Fold: fold,
		Find: func(ctx context.Context, tenant string, ref domain.Ref) (place *eventstore.Place, err error) {
			err = walk(ctx, func(walk eventstore.Walk) error {
				walk.Until = end
				_, err := walk.Run(ctx, func(b *block.Block, _ eventstore.Head, _ int) error {
					for i := range b.Events {
						if e := &b.Events[i]; e.Tenant == tenant && e.Source == ref.Source && e.ID == ref.ID {
							place = &eventstore.Place{Position: b.First + uint64(i), Event: *e}
						}
					}
					return nil
				})
				return err
			})
			return place, err
		},
	})
}

func (c *explainCallCmd) write(proof *eventstore.Proof) error {
	if proof == nil {
		_, err := signingKey(c.Data)
		return fmt.Errorf("--proof: %w", err)
	}
	data, err := json.Marshal(proof)
	if err != nil {
		return err
	}
	if err := writeDurably(c.Proof, strings.NewReader(string(data)+"\n")); err != nil {
		return fmt.Errorf("--proof: %w", err)
	}
	return nil
}

func printExplained(w writer, doc api.ExplainDocument, p paint) {
	fmt.Fprintf(w, "%s  position %d\n\n%s\n\n", p.bold(string(doc.Type)), doc.Position, doc.Event)
	if doc.Said != nil {
		fmt.Fprintf(w, "It is about this call:\n\n%s\n\n", doc.Said)
	}
	switch {
	case doc.Dangling != nil:
		fmt.Fprintf(w, "The call it is about, %s, is not booked: until it is, this is a dangling exception.\n\n", refText(*doc.Dangling))
	case doc.Call != nil:
		printCall(w, doc.Call, p)
		if doc.Position > 1 {
			fmt.Fprintf(w, "%sby this record in the month: tollbook diff --data DIR --tenant %s --month %s --at %d --at %d\n",
				p.bold("changed   "), doc.Call.Tenant, doc.Call.Month, doc.Position-1, doc.Position)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "block     %d, sealed %s, %s\n", doc.Block.Number, doc.Block.SealedAt, doc.Block.Hash)
	fmt.Fprintf(w, "leaf      %s\n", doc.Leaf)
	if doc.Proof == nil {
		fmt.Fprintln(w, "proof     none: this copy of the book has no signing key")
		return
	}
	fmt.Fprintf(w, "proof     %d hashes lead to the root of this signed anchor:\n\n%s", len(doc.Proof.Hashes), doc.Proof.Anchor)
}

func refText(r projections.Ref) string { return r.Source + " " + r.ID }

func printCall(w writer, d *projections.CallDocument, p paint) {
	const more = "          "
	say := func(title, form string, args ...any) {
		fmt.Fprintf(w, "%s%s\n", p.bold(fmt.Sprintf("%-10s", title)), fmt.Sprintf(form, args...))
	}
	add := func(form string, args ...any) { fmt.Fprintf(w, more+form+"\n", args...) }

	if s := d.Stands; s != nil {
		whose := s.User + " to " + s.Called
		if s.Direction == domain.Inbound.String() {
			whose = "inbound on " + s.Called + " of " + s.User
		}
		if s.Kind != "" && s.Kind != domain.KindUser {
			whose += ", " + s.Kind
		}
		say("call", "%s %s, %s", d.At, strings.ReplaceAll(s.Disposition, "_", " "), whose)
		if d.AmendedBy != nil {
			add("as corrected by %s, the latest", refText(*d.AmendedBy))
		}
	} else {
		say("call", "%s", d.At)
	}
	say("class", "%s", why(d))
	switch domain.Class(d.Class) {
	case domain.ClassUnlicensed, domain.ClassUnrated:
		if d.Number == nil {
			add("it costs nothing, but the month stays open until that is put right or waived")
		} else {
			add("it costs nothing; the month was closed as somebody had waived it")
		}
	}
	if l := d.Licence; l != nil {
		until := "the end of the month or longer"
		if l.To != nil {
			until = *l.To + ", ended by " + refText(*l.EndedBy)
		}
		say("licence", "%s in %s, by %s", l.Plan, l.Country, refText(l.By))
		add("from %s until %s", l.From, until)
	}
	for i, r := range d.Rows {
		if i == 0 {
			say("row", "%s", rowText(r, d.Deck.Currency))
			continue
		}
		add("longer than %s", rowText(r, d.Deck.Currency))
	}
	if k := d.Deck; k != nil {
		say("deck", "%s %s, in force from %s", k.Deck, k.Version, k.EffectiveFrom)
	}
	if d.Stands != nil {
		b := d.Billing
		first, step, _ := strings.Cut(b.Increment, "/")
		if d.Class == string(domain.ClassFree) {
			say("minutes", "%s ms → %s s, of which nothing is billed", grouped(b.BillableMS), grouped(b.Seconds))
		} else {
			say("minutes", "%s ms → %s s; at least %s s, then by %s s → %s s (%s)", grouped(b.BillableMS), grouped(b.Seconds), first, step, grouped(b.Billed), minutes(b.Billed))
		}
	}
	if u := d.Pool; u != nil {
		say("pool", "%s: bucket %s, %s granted", poolText(u.Country, u.Plan, u.User), u.Bucket, minutes(u.Granted))
		add("%s used before, %s drawn, %s used after; %s over", minutes(u.Before), minutes(u.Drawn), minutes(u.After), minutes(u.Overage))
		what := "the bucket"
		if u.Linked {
			what = "the pool"
		}
		switch {
		case u.GrantedNothing:
			add("%s was at its end from the start: a bucket is granted nothing", what)
		case u.EndedBy != nil:
			add("%s had come to its end with %s", what, refText(*u.EndedBy))
		}
	}
	if c := d.Cost; c != nil {
		say("cost", "%s charged: %s s × %s ÷ 60 + %s = %s", minutes(c.Seconds), grouped(c.Seconds), c.Line.Price, c.Line.ConnectFee, exactly(c.Exact, c.Line.Currency))
		say("line", "%s", lineText(&c.Line))
		add("%s", roundingText(&c.Line))
	}
	switch {
	case d.Number != nil:
		say("document", "%s of %s, issued as of position %d; as it is now: --at now", *d.Number, d.Month, d.Position)
	case d.Late != "":
		say("document", "draft of %s, as of position %d: this came after %s was issued;", d.Month, d.Position, d.Late)
		add("a later document has what it changes, as adjustments of %s", d.Month)
	default:
		say("document", "draft of %s, as of position %d", d.Month, d.Position)
	}
}

// lineText names a line, and says what it comes to.
func lineText(l *projections.LineOfMonth) string {
	return fmt.Sprintf("%s: %s %s %s at %s + %s, deck %s %s: %s, %s charged", poolText(l.Country, l.Plan, ""),
		l.DestinationCountry, l.Destination, l.Type, l.Price, l.ConnectFee, l.Deck, l.DeckVersion, counted(l.Calls, "call"), minutes(l.Seconds))
}

func roundingText(l *projections.LineOfMonth) string {
	text := fmt.Sprintf("%s; on the invoice %s", exactly(l.Exact, l.Currency), l.Amount)
	if l.Rounding != "0" {
		text += ", rounding " + l.Rounding
	}
	return text
}

// why says in words what decided the class of a call.
func why(d *projections.CallDocument) string {
	s := d.Stands
	if s == nil {
		return fmt.Sprintf("voided by %s: it counts nowhere", refText(*d.AmendedBy))
	}
	text := ""
	switch domain.Class(d.Class) {
	case domain.ClassFree:
		switch {
		case d.Rule == "R6.1" && s.Direction != domain.Outbound.String():
			text = "inbound calls cost nothing"
		case d.Rule == "R6.1" && s.Disposition != domain.Answered.String():
			text = "it was not answered"
		case d.Rule == "R6.1":
			text = "it lasted 0 s"
		case d.Rule == "R6.2":
			text = "a short number, and no licence in force"
		case d.Rule == "R6.3":
			text = "a short number, and no row of the deck has it"
		default:
			text = "its row is " + d.Rows[0].Type
		}
	case domain.ClassUnlicensed:
		text = s.User + " had no licence in force"
		if d.Licence != nil {
			text = fmt.Sprintf("the licence grants nothing: %s is not published, or has no minutes for %s", d.Licence.Plan, d.Licence.Country)
		}
	case domain.ClassUnrated:
		text = "no deck was in force"
		if d.Deck != nil {
			text = "no row has a prefix of the number"
		}
	case domain.ClassOutside:
		text = fmt.Sprintf("no bucket of the plan is for such calls to %s, so that all of it is charged", d.Rows[0].Country)
	case domain.ClassInPool:
		text = "the bucket had as much left"
	case domain.ClassOverage:
		text = "the bucket had a part of it left"
		if d.Pool.Drawn == 0 {
			text = "the bucket had nothing left"
		}
	}
	return fmt.Sprintf("%s (%s): %s", strings.ReplaceAll(d.Class, "_", " "), d.Rule, text)
}

func rowText(r projections.DeckRow, currency string) string {
	fee := "no connect fee"
	if r.ConnectFee != "0" {
		fee = r.ConnectFee + " to connect"
	}
	return fmt.Sprintf("%s %s %s %s: %s %s a minute, %s", r.Prefix, r.Country, r.Name, r.Type, r.Price, currency, fee)
}

// poolText names a pool.
func poolText(country, plan, user string) string {
	return strings.Join(strings.Fields(country+" "+plan+" "+user), " ")
}

// exactly is an amount as a fraction, and as a decimal where that is another.
func exactly(fraction, currency string) string {
	text := fraction + " " + currency + " exactly"
	if r, ok := new(big.Rat).SetString(fraction); ok && !r.IsInt() {
		decimal := strings.TrimRight(r.FloatString(6), "0")
		if back, _ := new(big.Rat).SetString(decimal); back.Cmp(r) == 0 {
			return text + ", that is " + decimal
		}
		return text + ", about " + r.FloatString(6)
	}
	return text
}
