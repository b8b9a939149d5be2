package finance

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"tollbook/domain"
	"tollbook/projections"
)

// A SearchQuery looks for a number or its beginning, a user or a part of the name, or
// an event by its id.
type SearchQuery struct {
	Tenant string             `json:"tenant"`
	Month  string             `json:"month"` // whose calls are gone through
	Text   string             `json:"text"`
	After  *projections.After `json:"after,omitzero"` // the Next of the page before
	Limit  int                `json:"limit,omitzero"` // calls of a page; 0: a hundred, at most projections.MaxPage
}

// sourcesTried bounds the sources of which an event with an id is looked for: the
// index answers for one in some microseconds.
const sourcesTried = 1000

// Search is what of a month is like a text: users with what they draw on their pools,
// calls, the last one first and page by page, and the events of any month that have the
// text as their id. An id is looked up in the index of the book, of the first thousand
// sources that have sent calls; "source id" names one of any source. Numbers and users
// are looked for in memory, some billion calls a second; the first search for a number
// keeps their first digits, 4 bytes a call.
//
// The first search for a user has the calls of their pools counted, as [Desk.Pool] does.
// Errors: 400.
func (d *Desk) Search(ctx context.Context, q SearchQuery) (projections.SearchDocument, error) {
	month, err := monthOf(q.Tenant, q.Month)
	if err != nil {
		return projections.SearchDocument{}, err
	}
	search := projections.SearchQuery{
		Tenant: q.Tenant, Month: month, Text: strings.TrimSpace(q.Text), After: q.After, Limit: cmp.Or(q.Limit, defaultPage),
	}
	if search.Wrong() == nil && q.After == nil {
		if search.Events, err = d.eventsNamed(ctx, q.Tenant, search.Text); err != nil {
			return projections.SearchDocument{}, told(err)
		}
	}
	search.Patient = patience()
	doc, err := d.Months.Search(ctx, search)
	if err != nil && ctx.Err() == nil {
		err = &Error{http.StatusBadRequest, err.Error()}
	}
	if err == nil && !doc.Counted {
		search.Patient, search.Events, search.Limit = nil, nil, 1
		d.counts.goOn("search "+q.Tenant+" "+q.Month+" "+search.Text, func(ctx context.Context) {
			_, _ = d.Months.Search(ctx, search) // who asks next is told of errors
		})
	}
	return doc, err
}

// eventsNamed are the events that have an id, of whatever source.
func (d *Desk) eventsNamed(ctx context.Context, tenant, text string) (events []projections.NamedEvent, err error) {
	var positions []uint64
	find := func(source, id string) {
		if position, ok := d.Book.Find(tenant, source, id); ok {
			positions = append(positions, position)
		}
	}
	if source, id, both := strings.Cut(text, " "); both {
		find(source, strings.TrimSpace(id))
	}
	for _, source := range d.Months.SourcesOfCalls(tenant, sourcesTried) {
		find(source, text)
	}
	if len(positions) == 0 {
		return nil, nil
	}
	err = d.Book.Events(ctx, positions, func(position uint64, e *domain.Event) error {
		events = append(events, projections.NamedEvent{Position: position, Event: *e})
		return nil
	})
	return events, err
}
