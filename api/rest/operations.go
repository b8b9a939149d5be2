package rest

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"

	"tollbook/api"
	"tollbook/api/finance"
	"tollbook/projections"
	"tollbook/projections/decks"
	"tollbook/projections/forecast"
	"tollbook/projections/whatif"
)

// Groups of operations.
const (
	ofMonths  = "months"
	ofCalls   = "calls"
	ofDesks   = "desks"
	ofClosing = "closing"
	ofDecks   = "decks"
	ofPlans   = "planning"
)

var tags = []*huma.Tag{
	{Name: ofMonths, Description: "Pools, invoices and lines of a month: as it is now, as it was issued, or as of a position."},
	{Name: ofCalls, Description: "Calls, how each is placed, and what it costs and why."},
	{Name: ofDesks, Description: "What waits for somebody: records in suspense, and numbers that never came."},
	{Name: ofClosing, Description: "Closing months, and what was issued."},
	{Name: ofDecks, Description: "Rate decks: versions, stages, what they change."},
	{Name: ofPlans, Description: "What will be, and what would have been."},
}

// A cursor is where the next page of a list begins, and as of which position all
// of its pages are.
type cursor struct {
	At    uint64             `json:"at,omitzero"`
	After *projections.After `json:"after,omitzero"`
	From  int                `json:"from,omitzero"`
}

// A CursorQuery asks for a page.
type CursorQuery struct {
	Cursor string `query:"cursor" maxLength:"4096" doc:"From the Link header of the page before; without it, the first page."`
	Limit  int    `query:"limit" minimum:"0" maximum:"10000" doc:"How many of the list a page has at most; 0: 100."`
}

func (q *CursorQuery) read() (c cursor, err error) {
	if q.Cursor == "" {
		return c, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err == nil {
		err = json.Unmarshal(data, &c, json.RejectUnknownMembers(true))
	}
	if err != nil {
		return c, &finance.Error{Status: http.StatusBadRequest, Detail: "cursor: must be as the Link header of the page before has it"}
	}
	return c, nil
}

func (c cursor) String() string {
	data, err := json.Marshal(c)
	if err != nil {
		return "" // numbers and texts can always be written
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// following is the cursor of the page after one; "": there is none.
func following(d *projections.AsOf, next *projections.After) string {
	if next == nil {
		return ""
	}
	return cursor{At: pinned(d), After: next}.String()
}

// pinned is the position that the pages after this one are of.
func pinned(d *projections.AsOf) uint64 {
	if d.Status == projections.StatusDraft {
		return d.Position
	}
	return 0 // what is issued stays as it is by itself
}

type tenantsDocument struct {
	Tenants []finance.TenantInfo `json:"tenants"`
}

type monthsDocument struct {
	Tenant string              `json:"tenant"`
	Months []finance.MonthInfo `json:"months"`
}

type checkDocument struct {
	Number  string `json:"number"`
	Month   string `json:"month"`
	Holds   bool   `json:"holds" doc:"Made again from the book alone, it is what was issued, byte for byte."`
	Problem string `json:"problem,omitzero"`
}

type monthQuery struct {
	MonthPath
	AtQuery
}

// A Reason is that of a decision.
type Reason struct {
	Why string `json:"why" minLength:"1" maxLength:"1000" doc:"The reason; it goes into the book."`
}

func (a *API) register() {
	d := a.Desk
	personal, moves := metaPersonal, metaMoves

	add(a, operation{id: "list-tenants", method: http.MethodGet, path: "/tenants", tag: ofMonths, summary: "Tenants with anything in the book", meta: []string{moves}}, // and whose the asker sees
		func(_ context.Context, who finance.Person, _ *struct{}) (doc tenantsDocument, _ string, _ error) {
			doc.Tenants = []finance.TenantInfo{}
			for _, t := range d.Tenants() {
				if read, _ := who.May(t.Tenant); read {
					doc.Tenants = append(doc.Tenants, t)
				}
			}
			return doc, "", nil
		})
	get(a, operation{id: "list-months", path: "/tenants/{tenant}/months", tag: ofMonths, summary: "Months of a tenant, their status and totals"},
		func(_ context.Context, in *TenantPath) (doc monthsDocument, err error) {
			doc.Tenant = in.Tenant
			doc.Months, err = d.MonthsOf(in.Tenant)
			return doc, err
		})
	get(a, operation{id: "get-month", path: "/tenants/{tenant}/months/{month}", tag: ofMonths, summary: "Pools, invoices, exceptions and counts of a month", meta: []string{personal}},
		func(ctx context.Context, in *monthQuery) (projections.Statement, error) {
			return d.Month(ctx, in.Tenant, in.Month, in.At)
		})
	type poolQuery struct {
		MonthPath
		CursorQuery
		Plan    string `query:"plan" required:"true" doc:"Plan of the pool."`
		Country string `query:"country" doc:"Country of the pool; empty where the plan has one pool for all."`
		User    string `query:"user" doc:"User of the pool, where each has their own."`
		At      uint64 `query:"at" doc:"As of this position of the book."`
	}
	add(a, operation{id: "explain-pool", method: http.MethodGet, path: "/tenants/{tenant}/months/{month}/grant", tag: ofMonths, summary: "The licences that make the minutes of a pool, a page of them", meta: []string{personal}},
		func(ctx context.Context, _ finance.Person, in *poolQuery) (doc projections.GrantDocument, next string, err error) {
			c, err := in.read()
			if err != nil {
				return doc, "", err
			}
			doc, err = d.Grant(ctx, api.ExplainPoolRequest{
				Tenant: in.Tenant, Month: in.Month, Plan: in.Plan, Country: in.Country, User: in.User, From: c.From, Limit: in.Limit, AsOf: api.AsOf{At: max(c.At, in.At)},
			})
			if doc.Next != 0 {
				next = cursor{At: pinned(&doc.AsOf), From: doc.Next}.String()
			}
			return doc, next, err
		})
	type usageQuery struct {
		MonthPath
		Plan    string `query:"plan" required:"true" doc:"Plan of the pool."`
		Country string `query:"country" doc:"Country of the pool; may be left out where the plan has one pool."`
		User    string `query:"user" doc:"User of the pool, where each has their own."`
		At      uint64 `query:"at" doc:"As of this position of the book."`
		Top     int    `query:"top" minimum:"0" maximum:"1000" doc:"Users and destinations listed; 0: ten."`
	}
	// Who uses a pool is counted when somebody asks first, so the position does not say all.
	get(a, operation{id: "get-pool", path: "/tenants/{tenant}/months/{month}/pool", tag: ofMonths, summary: "How a pool is used: by hours, by whom, what for, and how many licences are held", meta: []string{personal, moves}},
		func(ctx context.Context, in *usageQuery) (projections.PoolView, error) {
			return d.Pool(ctx, finance.PoolQuery{Tenant: in.Tenant, Month: in.Month, AsOf: api.AsOf{At: in.At}, Plan: in.Plan, Country: in.Country, User: in.User, Top: in.Top})
		})
	add(a, operation{id: "list-overflow", method: http.MethodGet, path: "/tenants/{tenant}/months/{month}/overflow", tag: ofMonths, summary: "The calls of a pool with overage, a page of them", meta: []string{personal}},
		func(ctx context.Context, _ finance.Person, in *poolQuery) (doc projections.OverflowPage, next string, err error) {
			c, err := in.read()
			if err != nil {
				return doc, "", err
			}
			doc, err = d.Overflow(ctx, finance.OverflowQuery{
				Tenant: in.Tenant, Month: in.Month, AsOf: api.AsOf{At: max(c.At, in.At)}, Plan: in.Plan, Country: in.Country, User: in.User, After: c.After, Limit: in.Limit,
			})
			return doc, following(&doc.AsOf, doc.Next), err
		})
	type lineQuery struct {
		MonthPath
		CursorQuery
		Country            string `query:"country" doc:"Country of the pool."`
		Plan               string `query:"plan" doc:"Plan of the pool."`
		Currency           string `query:"currency"`
		DestinationCountry string `query:"destination_country"`
		Destination        string `query:"destination"`
		Type               string `query:"type"`
		Price              string `query:"price" doc:"Per minute, as the line has it."`
		ConnectFee         string `query:"connect_fee"`
		Deck               string `query:"deck"`
		DeckVersion        string `query:"deck_version"`
		At                 uint64 `query:"at" doc:"As of this position of the book."`
	}
	add(a, operation{id: "explain-line", method: http.MethodGet, path: "/tenants/{tenant}/months/{month}/line", tag: ofMonths, summary: "An invoice line, how its amount is made, and a page of its calls", meta: []string{personal}},
		func(ctx context.Context, _ finance.Person, in *lineQuery) (doc projections.LineDocument, next string, err error) {
			c, err := in.read()
			if err != nil {
				return doc, "", err
			}
			doc, err = d.Line(ctx, api.ExplainLineRequest{
				Tenant: in.Tenant, Month: in.Month, After: c.After, Limit: in.Limit, AsOf: api.AsOf{At: max(c.At, in.At)},
				LineQuery: projections.LineQuery{
					Country: in.Country, Plan: in.Plan, Currency: in.Currency, DestinationCountry: in.DestinationCountry, Destination: in.Destination,
					Type: in.Type, Price: in.Price, ConnectFee: in.ConnectFee, Deck: in.Deck, DeckVersion: in.DeckVersion,
				},
			})
			return doc, following(&doc.AsOf, doc.Next), err
		})
	type changesQuery struct {
		MonthPath
		From uint64 `query:"from" required:"true" doc:"The earlier position."`
		To   uint64 `query:"to" doc:"The later position; without it, the end of the book."`
	}
	get(a, operation{id: "list-changes", path: "/tenants/{tenant}/months/{month}/changes", tag: ofMonths, summary: "What of a month changed between two positions, and by which events", meta: []string{personal}},
		func(ctx context.Context, in *changesQuery) (projections.DiffDocument, error) {
			return d.Changes(ctx, in.Tenant, in.Month, in.From, in.To)
		})

	type callsQuery struct {
		MonthPath
		CursorQuery
		At uint64 `query:"at" doc:"As of this position of the book."`
	}
	add(a, operation{id: "list-calls", method: http.MethodGet, path: "/tenants/{tenant}/months/{month}/calls", tag: ofCalls, summary: "The calls of a month, by when they were answered, a page of them", meta: []string{personal}},
		func(ctx context.Context, _ finance.Person, in *callsQuery) (doc projections.CallsDocument, next string, err error) {
			c, err := in.read()
			if err != nil {
				return doc, "", err
			}
			doc, err = d.Calls(ctx, api.CallsRequest{Tenant: in.Tenant, Month: in.Month, At: max(c.At, in.At), After: c.After, Limit: in.Limit})
			return doc, following(&doc.AsOf, doc.Next), err
		})
	type textQuery struct {
		MonthPath
		CursorQuery
		Text string `query:"text" required:"true" minLength:"2" maxLength:"200" doc:"A number or its beginning, a user or a part of the name, or an event's id."`
	}
	add(a, operation{id: "search", method: http.MethodGet, path: "/tenants/{tenant}/months/{month}/search", tag: ofCalls, summary: "Users and calls of a month that are like a text, and events with it as their id", meta: []string{personal, moves}},
		func(ctx context.Context, _ finance.Person, in *textQuery) (doc projections.SearchDocument, next string, err error) {
			c, err := in.read()
			if err != nil {
				return doc, "", err
			}
			doc, err = d.Search(ctx, finance.SearchQuery{Tenant: in.Tenant, Month: in.Month, Text: in.Text, After: c.After, Limit: in.Limit})
			if doc.Next != nil {
				next = cursor{After: doc.Next}.String()
			}
			return doc, next, err
		})
	type callQuery struct {
		TenantPath
		Source string `query:"source" required:"true" example:"switch/mil-1" doc:"Source of the event."`
		ID     string `query:"id" required:"true" doc:"Its id."`
		At     uint64 `query:"at" doc:"As of this position of the book."`
		Now    bool   `query:"now" doc:"As it is now, whatever was issued."`
	}
	get(a, operation{id: "explain-call", path: "/tenants/{tenant}/call", tag: ofCalls, summary: "What the book has of an event, what the call costs and why, and the proof", meta: []string{personal}},
		func(ctx context.Context, in *callQuery) (api.ExplainDocument, error) {
			return d.Call(ctx, api.ExplainRequest{Tenant: in.Tenant, Source: in.Source, ID: in.ID, AsOf: api.AsOf{At: in.At, Now: in.Now}})
		})

	type gapsQuery struct {
		TenantPath
		Source string `query:"source" doc:"One source only."`
	}
	get(a, operation{id: "list-gaps", path: "/tenants/{tenant}/gaps", tag: ofDesks, summary: "The numbers of each source that came, and those that did not"},
		func(_ context.Context, in *gapsQuery) (projections.GapsDocument, error) {
			return d.GapsOf(in.Tenant, in.Source), nil
		})
	type gapWaiver struct {
		TenantPath
		Body struct {
			Source string `json:"source"`
			// Digits, as the list of gaps has them.
			From projections.Number `json:"from" pattern:"^[0-9]{1,20}$"`
			To   projections.Number `json:"to" pattern:"^[0-9]{1,20}$"`
			Reason
		}
	}
	act(a, operation{id: "waive-gap", path: "/tenants/{tenant}/gaps/waivers", tag: ofDesks, summary: "Give numbers of a source up that are all missing"},
		func(ctx context.Context, who finance.Person, in *gapWaiver) (api.WaiveDocument, error) {
			b := &in.Body
			return d.WaiveGap(ctx, who.Name, api.WaiveRequest{Tenant: in.Tenant, Source: b.Source, From: b.From, To: b.To, Why: b.Why})
		})
	type suspenseQuery struct {
		TenantPath
		Reason string `query:"reason" doc:"A code, such as syntax."`
		Source string `query:"source"`
		After  uint64 `query:"after" doc:"Records after this position: the 'next' of the page before."`
		Limit  int    `query:"limit" minimum:"0" maximum:"1000" doc:"0: 50."`
	}
	get(a, operation{id: "list-suspense", path: "/tenants/{tenant}/suspense", tag: ofDesks, summary: "The records that could not be booked", meta: []string{personal}},
		func(ctx context.Context, in *suspenseQuery) (api.SuspenseDocument, error) {
			return d.Suspended(ctx, api.SuspenseRequest{Tenant: in.Tenant, Reason: in.Reason, Source: in.Source, After: in.After, Limit: in.Limit})
		})
	type recordPath struct {
		TenantPath
		Position uint64 `path:"position" minimum:"1" doc:"Position of the record in the book."`
	}
	get(a, operation{id: "get-record", path: "/tenants/{tenant}/suspense/{position}", tag: ofDesks, summary: "One record in suspense, as it came", meta: []string{personal}},
		func(ctx context.Context, in *recordPath) (api.RecordDocument, error) {
			return d.Record(ctx, in.Tenant, in.Position)
		})
	type resolveBody struct {
		TenantPath
		Body struct {
			Positions []uint64 `json:"positions,omitzero" maxItems:"1000" doc:"These records; without them, all that 'reason' and 'source' take."`
			Reason    string   `json:"reason,omitzero"`
			Source    string   `json:"source,omitzero"`
			UpTo      uint64   `json:"up_to,omitzero" doc:"The last position looked at: that of a dry run, so that nothing newer is taken."`
			Why       string   `json:"why,omitzero" maxLength:"1000" doc:"The reason; required to write off."`
			DryRun    bool     `json:"dry_run,omitzero" doc:"Say what would come of it, and do nothing."`
			Edited    []byte   `json:"edited,omitzero" doc:"Read this instead, in base64; of one record only."`
			Subject   string   `json:"subject,omitzero" doc:"As if it had come in here; of one record only."`
		}
	}
	resolve := func(do func(context.Context, finance.Person, api.ResolveRequest) (api.ResolveDocument, error)) func(context.Context, finance.Person, *resolveBody) (api.ResolveDocument, error) {
		return func(ctx context.Context, who finance.Person, in *resolveBody) (doc api.ResolveDocument, err error) {
			b := &in.Body
			q := api.ResolveRequest{Positions: b.Positions, Why: b.Why, DryRun: b.DryRun, Edited: b.Edited, Subject: b.Subject}
			for _, position := range b.Positions {
				if _, err := d.Record(ctx, in.Tenant, position); err != nil {
					return doc, err
				}
			}
			if len(b.Positions) == 0 {
				q.Of = &api.SuspenseRequest{Tenant: in.Tenant, Reason: b.Reason, Source: b.Source, UpTo: b.UpTo}
			}
			return do(ctx, who, q)
		}
	}
	act(a, operation{id: "recycle-records", path: "/tenants/{tenant}/suspense/recycle", tag: ofDesks, summary: "Read records in suspense again, as they came or edited, and book them", meta: []string{personal}}, resolve(d.Recycle))
	act(a, operation{id: "write-off-records", path: "/tenants/{tenant}/suspense/write-off", tag: ofDesks, summary: "Give records in suspense up", meta: []string{personal}},
		resolve(func(ctx context.Context, who finance.Person, q api.ResolveRequest) (api.ResolveDocument, error) {
			return d.WriteOff(ctx, who.Name, q)
		}))

	get(a, operation{id: "list-documents", path: "/tenants/{tenant}/documents", tag: ofClosing, summary: "What was issued"},
		func(_ context.Context, in *TenantPath) (api.IssuesDocument, error) { return d.Documents(in.Tenant) })
	get(a, operation{id: "check-document", path: "/tenants/{tenant}/months/{month}/check", tag: ofClosing, summary: "Make an issued document again from the book alone, and compare the bytes", meta: []string{moves}}, // with the disk
		func(ctx context.Context, in *MonthPath) (checkDocument, error) {
			i, err := d.Check(ctx, in.Tenant, in.Month)
			doc := checkDocument{Number: i.Number, Month: in.Month, Holds: true}
			if err != nil {
				return doc, err
			}
			if err := i.Check(); err != nil {
				doc.Holds, doc.Problem = false, err.Error()
			}
			return doc, nil
		})
	get(a, operation{id: "get-checklist", path: "/tenants/{tenant}/months/{month}/checklist", tag: ofClosing, summary: "What keeps a month open, and what it would be issued as", meta: []string{moves}},
		func(ctx context.Context, in *MonthPath) (api.CloseDocument, error) {
			return d.Checklist(ctx, in.Tenant, in.Month)
		})
	act(a, operation{id: "close-month", path: "/tenants/{tenant}/months/{month}/close", tag: ofClosing, summary: "Close a month and issue its document, or say what keeps it open"},
		func(ctx context.Context, who finance.Person, in *MonthPath) (api.CloseDocument, error) {
			return d.Close(ctx, who.Name, api.CloseRequest{Tenant: in.Tenant, Month: in.Month})
		})
	type exceptionWaiver struct {
		MonthPath
		Body struct {
			Exception string `json:"exception" enum:"unlicensed,unrated,ungranted,dangling"`
			Reason
		}
	}
	act(a, operation{id: "waive-exceptions", path: "/tenants/{tenant}/months/{month}/waivers", tag: ofClosing, summary: "Let a month close in spite of its exceptions of a kind, as many as there are now"},
		func(ctx context.Context, who finance.Person, in *exceptionWaiver) (api.ExceptionDocument, error) {
			return d.WaiveException(ctx, who.Name, api.ExceptionRequest{Tenant: in.Tenant, Month: in.Month, Exception: in.Body.Exception, Why: in.Body.Why})
		})

	a.registerDecks()

	get(a, operation{id: "get-forecast", path: "/tenants/{tenant}/months/{month}/forecast", tag: ofPlans, summary: "When each pool will probably end, and what the month will come to", meta: []string{personal, moves}},
		func(ctx context.Context, in *MonthPath) (forecast.Document, error) {
			return d.Forecast(ctx, in.Tenant, in.Month)
		})
	type scenario struct {
		MonthPath
		Body struct {
			At        uint64               `json:"at,omitzero" doc:"The position as of which; 0: the end of the book."`
			Grants    []whatif.GrantChange `json:"grants,omitempty"`
			Decks     []deckChange         `json:"decks,omitempty"`
			Remove    []whatif.Removal     `json:"remove,omitempty"`
			Plans     []whatif.PlanChange  `json:"plans,omitempty"`
			Add       []whatif.Addition    `json:"add,omitempty"`
			Prices    []whatif.Price       `json:"prices,omitempty" doc:"Of licences, instead of the catalogue's."`
			Statement bool                 `json:"statement,omitempty" doc:"The whole month as it would be, too."`
		}
	}
	get(a, operation{id: "what-if", method: http.MethodPost, path: "/tenants/{tenant}/months/{month}/what-if", tag: ofPlans, summary: "The month with other licences, plans, decks or rules, and what would differ", meta: []string{personal}},
		func(ctx context.Context, in *scenario) (whatif.Document, error) {
			b := &in.Body
			s := whatif.Scenario{Tenant: in.Tenant, Month: in.Month, At: b.At, Grants: b.Grants, Remove: b.Remove, Plans: b.Plans, Add: b.Add, Prices: b.Prices, Statement: b.Statement}
			for _, c := range b.Decks {
				s.Decks = append(s.Decks, whatif.DeckChange{Deck: c.Deck, Use: c.Use, Version: c.Version})
			}
			return d.WhatIf(ctx, s)
		})
	type sizing struct {
		TenantPath
		Body struct {
			Months []string       `json:"months" minItems:"1" maxItems:"24"`
			At     uint64         `json:"at,omitzero"`
			By     string         `json:"by" enum:"licences,users"`
			Plans  []string       `json:"plans,omitempty" doc:"That may be proposed; empty: all that have a price."`
			Prices []whatif.Price `json:"prices,omitempty"`
			Trials int            `json:"trials,omitzero" minimum:"0" maximum:"100000"`
		}
	}
	get(a, operation{id: "right-size", method: http.MethodPost, path: "/tenants/{tenant}/right-size", tag: ofPlans, summary: "The cheapest licences for the calls of some months", meta: []string{personal}},
		func(ctx context.Context, in *sizing) (whatif.SizingDocument, error) {
			b := &in.Body
			return d.RightSize(ctx, whatif.Sizing{Tenant: in.Tenant, Months: b.Months, At: b.At, By: b.By, Plans: b.Plans, Prices: b.Prices, Trials: b.Trials})
		})
	a.describeRaw()
}

// A deckChange has another deck of the book price all that a deck prices.
type deckChange struct {
	Deck    string `json:"deck" doc:"Instead of this one."`
	Use     string `json:"use" doc:"This deck of the book, in the versions in force."`
	Version string `json:"version,omitzero" doc:"Only this version of it, all month."`
}

func (a *API) registerDecks() {
	d := a.Decks
	get(a, operation{id: "list-decks", path: "/tenants/{tenant}/decks", tag: ofDecks, summary: "The versions that can price a tenant's calls, and those that wait", meta: []string{metaMoves}},
		func(ctx context.Context, in *TenantPath) (finance.DecksDocument, error) {
			return d.Decks(ctx, in.Tenant)
		})
	type rowsQuery struct {
		TenantPath
		Deck    string `path:"deck"`
		Version string `query:"version" doc:"Without it, the one in force."`
		After   string `query:"after" doc:"Rows after this prefix: the 'next' of the page before."`
		Limit   int    `query:"limit" minimum:"0" maximum:"10000"`
	}
	get(a, operation{id: "get-deck", path: "/tenants/{tenant}/decks/{deck}", tag: ofDecks, summary: "A page of a version's rows", meta: []string{metaMoves}},
		func(ctx context.Context, in *rowsQuery) (finance.RowsDocument, error) {
			return d.Deck(ctx, finance.DeckQuery{Tenant: in.Tenant, Deck: in.Deck, Version: in.Version, After: in.After, Limit: in.Limit})
		})
	type DeckVersionQuery struct {
		TenantPath
		Deck    string `query:"deck"`
		Version string `query:"version"`
		Stage   string `query:"stage" doc:"A stage, instead of deck and version."`
	}
	type diffQuery struct {
		DeckVersionQuery
		From  string `query:"from" doc:"The version before; without it, the one in force when the other takes effect."`
		Only  string `query:"only"`
		After string `query:"after" doc:"Changes after this prefix."`
		Limit int    `query:"limit" minimum:"0" maximum:"10000"`
	}
	get(a, operation{id: "diff-deck", path: "/tenants/{tenant}/deck-diff", tag: ofDecks, summary: "What a version changes of another, prefix by prefix", meta: []string{metaMoves}},
		func(ctx context.Context, in *diffQuery) (decks.Diff, error) {
			return d.DiffDecks(ctx, finance.DeckChoice{Tenant: in.Tenant, Deck: in.Deck, Version: in.Version, Stage: in.Stage}, in.From,
				decks.DiffPage{After: in.After, Limit: in.Limit, Only: in.Only})
		})
	type impactQuery struct {
		DeckVersionQuery
		Month string `query:"month" doc:"Without it, the last full one."`
		Top   int    `query:"top" minimum:"0" maximum:"1000" doc:"Prefixes listed."`
	}
	get(a, operation{id: "deck-impact", path: "/tenants/{tenant}/deck-impact", tag: ofDecks, summary: "What a past month would have come to with a version", meta: []string{metaMoves}},
		func(ctx context.Context, in *impactQuery) (*decks.Impact, error) {
			return d.Impact(ctx, finance.ImpactQuery{
				DeckChoice: finance.DeckChoice{Tenant: in.Tenant, Deck: in.Deck, Version: in.Version, Stage: in.Stage}, Of: in.Tenant, Month: in.Month, Top: in.Top,
			})
		})
	type stageBody struct {
		TenantPath
		Deck          string `query:"deck" required:"true"`
		Version       string `query:"version" required:"true"`
		EffectiveFrom string `query:"effective_from" required:"true" example:"2026-12-01T00:00:00Z"`
		Currency      string `query:"currency" doc:"Where the file has no such column."`
		File          string `query:"file" maxLength:"255" doc:"Its name, to tell it again."`
		RawBody       []byte `contentType:"text/csv"`
	}
	act(a, operation{id: "stage-deck", path: "/tenants/{tenant}/deck-stages", tag: ofDecks, summary: "Look at a deck's CSV file and keep it beside the book, to be activated", body: finance.MaxDeckBytes},
		func(ctx context.Context, who finance.Person, in *stageBody) (finance.DeckStage, error) {
			return d.StageDeck(ctx, who.Name, bytes.NewReader(in.RawBody), finance.DeckRequest{
				Tenant: in.Tenant, Deck: in.Deck, Version: in.Version, EffectiveFrom: in.EffectiveFrom, Currency: in.Currency, File: in.File,
			})
		})
	type activation struct {
		TenantPath
		Stage string `path:"stage"`
		Body  struct {
			Force bool `json:"force,omitzero" doc:"In spite of the errors of its report."`
		}
	}
	act(a, operation{id: "activate-deck", path: "/tenants/{tenant}/deck-stages/{stage}/activate", tag: ofDecks, summary: "Publish a staged version"},
		func(ctx context.Context, who finance.Person, in *activation) (stage finance.DeckStage, err error) {
			if err := d.OfTenant(in.Tenant, in.Stage); err != nil {
				return stage, err
			}
			return d.ActivateDeck(ctx, who.Name, in.Stage, in.Body.Force)
		})
}

// describeRaw puts into the document what is not answered as a whole.
func (a *API) describeRaw() {
	text := &huma.Schema{Type: huma.TypeString}
	param := func(name, in, doc string, required bool, values ...any) *huma.Param {
		return &huma.Param{Name: name, In: in, Description: doc, Required: required, Schema: &huma.Schema{Type: huma.TypeString, Enum: values}}
	}
	problem := &huma.Response{Description: "Error", Content: map[string]*huma.MediaType{
		problemType: {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}},
	}}
	file := map[string]*huma.MediaType{}
	for _, media := range []string{
		"text/csv", "application/pdf", "application/vnd.apache.parquet", "application/json",
		"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	} {
		file[media] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	}
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "export-month", Method: http.MethodGet, Path: Prefix + "/tenants/{tenant}/months/{month}/export", Tags: []string{ofMonths},
		Summary:     "A month as a file, and with manifest=only what is in that file",
		Description: "The same state is the same bytes. The trailer Repr-Digest (RFC 9530) has the file's digest.",
		Parameters: []*huma.Param{
			param("tenant", "path", "Tenant.", true), param("month", "path", "Calendar month.", true),
			param("format", "query", "", true, "csv", "xlsx", "pdf", "parquet", "json"),
			param("what", "query", "A pdf has the invoice, parquet the calls.", false, "invoice", "pools", "lines", "calls"),
			param("at", "query", "As of this position of the book.", false), param("lang", "query", "Of a pdf.", false, "en", "it"),
			param("bom", "query", "Begin csv with a byte order mark.", false, "true", "false"),
			param("manifest", "query", "The manifest instead of the file.", false, "only"),
		},
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: file}, "default": problem},
	})
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "watch-position", Method: http.MethodGet, Path: Prefix + "/events", Tags: []string{ofMonths},
		Summary:   "The book's position whenever it has grown, as server-sent events, at most four a second",
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: text}}}, "default": problem},
	})
}
