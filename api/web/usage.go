package web

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"tollbook/api/finance"
	"tollbook/domain"
	"tollbook/projections"
)

// How much of a pool's calls, and of what was found, a page shows.
const (
	overShown  = 50
	foundShown = 100
)

// A user of a pool, or a destination, with the seconds that it drew.
type drawn struct {
	Name          string
	Calls         int64
	Seconds, Over int64
	Share         string // of the greatest, in percent
}

// usersOf and destinationsOf are the rows of a pool's users and destinations, who
// drew most first.
func usersOf(v *projections.PoolView) (rows []drawn) {
	for i := range v.Users {
		rows = append(rows, drawnBy(v.Users[i].User, v.Users[i].Draw, v.Users[0].Billed))
	}
	return rows
}

func destinationsOf(v *projections.PoolView) (rows []drawn) {
	for i := range v.Destinations {
		d := &v.Destinations[i]
		rows = append(rows, drawnBy(strings.TrimSpace(d.Country+" "+d.Destination+" "+d.Type), d.Draw, v.Destinations[0].Billed))
	}
	return rows
}

func drawnBy(name string, d projections.Draw, most int64) drawn {
	return drawn{name, d.Calls, d.Billed, d.Overage, permille(d.Billed * 1000 / max(most, 1))}
}

// found is what a search has found.
type found struct {
	projections.SearchDocument
	Short       bool // the text is too short
	First, Next string
}

// search looks for a number, a user or a call among the calls of a month.
func (p *Page) search(q *request) error {
	v, values := q.view, q.URL.Query()
	b := found{SearchDocument: projections.SearchDocument{Text: strings.TrimSpace(v.Search)}}
	if month := values.Get("month"); month != "" {
		id, err := domain.ParseMonth(month)
		if err == nil && monthName.MatchString(month) {
			v.Month, q.month = month, id
		}
	}
	b.Counted = v.Month == "" // there is nothing to count
	b.Short = utf8.RuneCountInString(b.Text) < projections.ShortestText
	if !b.Short && v.Month != "" {
		ask := finance.SearchQuery{Tenant: v.Tenant, Month: v.Month, Text: b.Text, After: afterOf(values), Limit: foundShown}
		var err error
		if b.SearchDocument, err = p.Desk.Search(q.Context(), ask); err != nil {
			return err
		}
		b.First, b.Next = pages(values, b.SearchDocument.Next, "#found")
		v.Position = b.Position
	}
	return p.show(q, http.StatusOK, "search", q.l.t("Search"), b)
}
