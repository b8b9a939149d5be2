package web

import (
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"time"

	"tollbook/api/finance"
	"tollbook/projections/decks"
)

// changesShown is how many rows or changes of a deck a page has.
const changesShown = 100

// deckFailure gives the refusals of the desk of decks their statuses.
func deckFailure(err error) error {
	status := 0
	switch {
	case errors.Is(err, finance.ErrNoDeck), errors.Is(err, finance.ErrNoStage):
		status = http.StatusNotFound
	case errors.Is(err, finance.ErrDeckWrong):
		status = http.StatusBadRequest
	case errors.Is(err, finance.ErrDeckErrors):
		status = http.StatusConflict
	default:
		return err
	}
	return &finance.Error{Status: status, Detail: err.Error()}
}

// decks shows the versions and stages, one version, or one stage.
func (p *Page) decks(q *request) error {
	values := q.URL.Query()
	switch {
	case values.Has("stage"):
		return p.stage(q, http.StatusOK)
	case values.Has("deck"):
		return p.deck(q)
	}
	return p.showDecks(q, finance.DeckRequest{Currency: "EUR"})
}

func (p *Page) showDecks(q *request, form finance.DeckRequest) error {
	doc, err := p.Decks.Decks(q.Context(), q.view.Tenant)
	if err != nil {
		return deckFailure(err)
	}
	if form.EffectiveFrom == "" {
		now := p.Desk.Clock().Time().In(q.view.Zone)
		form.EffectiveFrom = time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, q.view.Zone).Format(localTime)
	}
	return p.show(q, http.StatusOK, "decks", q.l.t("Decks"), struct {
		finance.DecksDocument
		Form finance.DeckRequest
	}{doc, form})
}

// localTime is how forms write a time where the tenant is.
const localTime = "2006-01-02T15:04"

// A deckView is a version: what it has, and what it changes of the one before.
type deckView struct {
	Rows  finance.RowsDocument
	Diff  *decks.Diff
	From  string
	First string
	Next  string
}

func (p *Page) deck(q *request) error {
	values, tenant := q.URL.Query(), q.view.Tenant
	rows, err := p.Decks.Deck(q.Context(), finance.DeckQuery{
		Tenant: tenant, Deck: values.Get("deck"), Version: values.Get("version"), After: values.Get("after"), Limit: changesShown,
	})
	if err != nil {
		return deckFailure(err)
	}
	body := deckView{Rows: rows}
	next := rows.Next
	if values.Has("diff") {
		diff, err := p.Decks.DiffDecks(q.Context(), finance.DeckChoice{Tenant: tenant, Deck: rows.Deck, Version: rows.Version}, values.Get("from"),
			decks.DiffPage{After: values.Get("after"), Limit: changesShown, Only: values.Get("only")})
		if err != nil {
			return deckFailure(err)
		}
		body.Diff, next = &diff, diff.Next
	}
	if values.Has("after") {
		values.Del("after")
		body.First = "?" + values.Encode()
	}
	if next != "" {
		values.Set("after", next)
		body.Next = "?" + values.Encode()
	}
	return p.show(q, http.StatusOK, "deck", rows.Deck+" "+rows.Version, body)
}

// A stageView is a version that waits: what is odd about it, what it changes, and
// what that would have cost.
type stageView struct {
	Stage  finance.DeckStage
	Diff   *decks.Diff
	Impact *decks.Impact
	Next   string
}

func (p *Page) stage(q *request, status int) error {
	values, tenant := q.URL.Query(), q.view.Tenant
	stage, err := p.Decks.Stages.Stage(values.Get("stage"))
	if err == nil && stage.Tenant != tenant {
		err = finance.ErrNoStage
	}
	if err != nil {
		return deckFailure(err)
	}
	body := stageView{Stage: stage}
	choice := finance.DeckChoice{Tenant: tenant, Stage: stage.ID}
	diff, err := p.Decks.DiffDecks(q.Context(), choice, "", decks.DiffPage{After: values.Get("after"), Limit: changesShown, Only: values.Get("only")})
	switch {
	case errors.Is(err, finance.ErrNoDeck): // it is the first
	case err != nil:
		return deckFailure(err)
	default:
		body.Diff = &diff
		if diff.Next != "" {
			values.Set("after", diff.Next)
			body.Next = "?" + values.Encode()
		}
	}
	if values.Has("impact") {
		if body.Impact, err = p.Decks.Impact(q.Context(), finance.ImpactQuery{DeckChoice: choice, Of: tenant}); err != nil {
			if q.failed == 0 {
				var e *finance.Error
				if err = deckFailure(err); !errors.As(err, &e) {
					return err
				}
				q.view.Said, q.view.Failed, q.failed = e.Detail, true, e.Status
			}
		}
	}
	return p.show(q, status, "stage", stage.Deck+" "+stage.Version, body)
}

// stageDeck takes a file in, or activates a stage.
func (p *Page) stageDeck(q *request) error {
	if q.URL.Query().Has("stage") {
		return p.activate(q)
	}
	parts, err := q.MultipartReader()
	if err != nil {
		return &finance.Error{Status: http.StatusBadRequest, Detail: "the form must have a file: " + err.Error()}
	}
	ask := finance.DeckRequest{Tenant: q.view.Tenant}
	fields := map[string]*string{"deck": &ask.Deck, "version": &ask.Version, "from": &ask.EffectiveFrom, "currency": &ask.Currency}
	for {
		part, err := parts.NextPart()
		if err != nil {
			return &finance.Error{Status: http.StatusBadRequest, Detail: "the form has no file: choose one"}
		}
		if field := fields[part.FormName()]; field != nil {
			if *field, err = formText(part); err != nil {
				return err
			}
			continue
		}
		if part.FormName() != "file" {
			continue
		}
		ask.File = part.FileName()
		shown := ask
		if at, err := time.ParseInLocation(localTime, ask.EffectiveFrom, q.view.Zone); err == nil {
			ask.EffectiveFrom = at.Format(time.RFC3339)
		}
		stage, err := p.Decks.StageDeck(q.Context(), q.view.Person, part, ask)
		if err != nil {
			return p.again(q, deckFailure(err), func(q *request) error { return p.showDecks(q, shown) })
		}
		return q.seeOther("/"+q.view.Tenant+"/decks?stage="+stage.ID, q.l.t("%s %s is staged; nothing is priced by it yet.", stage.Deck, stage.Version))
	}
}

// maxField is how many bytes a field beside a file may have.
const maxField = 1 << 10

func formText(part *multipart.Part) (string, error) {
	text, err := io.ReadAll(io.LimitReader(part, maxField+1))
	if err == nil && len(text) > maxField {
		err = &finance.Error{Status: http.StatusBadRequest, Detail: fmt.Sprintf("%.40s: must have at most %d bytes", part.FormName(), maxField)}
	}
	return strings.TrimSpace(string(text)), err
}

func (p *Page) activate(q *request) error {
	if err := q.ParseForm(); err != nil {
		return err
	}
	id := q.URL.Query().Get("stage")
	stage, err := p.Decks.Stages.Stage(id)
	if err == nil && stage.Tenant != q.view.Tenant {
		err = finance.ErrNoStage
	}
	if err == nil {
		stage, err = p.Decks.ActivateDeck(q.Context(), q.view.Person, id, q.PostForm.Get("force") != "")
	}
	if err != nil {
		return p.again(q, deckFailure(err), func(q *request) error { return p.stage(q, http.StatusOK) })
	}
	return q.seeOther(q.URL.RequestURI(), q.l.t("%s %s is published.", stage.Deck, stage.Version))
}
