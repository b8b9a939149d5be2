package web

import (
	"html/template"
	"maps"
	"net/url"
	"reflect"
	"strings"

	"tollbook/api/finance"
	"tollbook/projections"
)

// query writes the names and values that are not empty.
func query(pairs ...string) template.URL {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	return template.URL(values.Encode()) // escaped by url.Values
}

// callQuery names an event: a projections.Ref, or what has its fields.
func callQuery(ref any) template.URL {
	v := reflect.Indirect(reflect.ValueOf(ref))
	return query("source", v.FieldByName("Source").String(), "id", v.FieldByName("ID").String())
}

func poolQuery(country, plan, user string) template.URL {
	return query("country", country, "plan", plan, "user", user)
}

// lineQuery names a line of an invoice.
func lineQuery(i projections.Invoice, l projections.Line) template.URL {
	return query("country", i.Country, "plan", i.Plan, "currency", i.Currency, "destination_country", l.DestinationCountry, "destination", l.Destination,
		"type", l.Type, "price", l.Price, "connect_fee", l.ConnectFee, "deck", l.Deck, "deck_version", l.DeckVersion)
}

func lineOfQuery(l projections.LineOfMonth) template.URL {
	return lineQuery(projections.Invoice{Country: l.Country, Plan: l.Plan, Currency: l.Currency}, l.Line)
}

// afterOf is the call behind which the page of an address begins; nil: it is the first.
func afterOf(values url.Values) *projections.After {
	if !values.Has("after") {
		return nil
	}
	return &projections.After{At: values.Get("after"), Ref: projections.Ref{Source: values.Get("after_source"), ID: values.Get("after_id")}}
}

// pages are the addresses of the first page and of the next one; "": this is it, and there is none.
func pages(values url.Values, next *projections.After, fragment string) (firstPage, nextPage string) {
	values = maps.Clone(values)
	later := values.Has("after")
	for _, name := range []string{"after", "after_source", "after_id"} {
		values.Del(name)
	}
	if later {
		firstPage = "?" + values.Encode() + fragment
	}
	if next != nil {
		values.Set("after", next.At)
		values.Set("after_source", next.Source)
		values.Set("after_id", next.ID)
		nextPage = "?" + values.Encode() + fragment
	}
	return firstPage, nextPage
}

func deckQuery(d finance.DeckInfo) template.URL {
	return query("deck", d.Deck, "version", d.Version)
}

// asked is the line that an address names.
func asked(values url.Values) projections.LineQuery {
	return projections.LineQuery{
		Country: values.Get("country"), Plan: values.Get("plan"), Currency: values.Get("currency"), DestinationCountry: values.Get("destination_country"),
		Destination: values.Get("destination"), Type: values.Get("type"), Price: values.Get("price"), ConnectFee: values.Get("connect_fee"),
		Deck: values.Get("deck"), DeckVersion: values.Get("deck_version"),
	}
}

// anchor is the id of an invoice on its page.
func anchor(country, plan, currency string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, country+"_"+plan+"_"+currency)
	return "i-" + clean
}
