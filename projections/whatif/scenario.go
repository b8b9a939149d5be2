package whatif

import (
	"fmt"
	"strings"

	"tollbook/domain"
)

// A Scenario is a month and what is to be otherwise in it. Changes are made in the
// order of the fields: terms first, then licences.
type Scenario struct {
	Tenant string `json:"tenant"`
	Month  string `json:"month"`
	// The position as of which. 0: where a closed month was closed, for any other
	// the end of the book.
	At uint64 `json:"at,omitzero"`

	Grants []GrantChange `json:"grants,omitempty"`
	Decks  []DeckChange  `json:"decks,omitempty"`
	Remove []Removal     `json:"remove,omitempty"`
	Plans  []PlanChange  `json:"plans,omitempty"`
	Add    []Addition    `json:"add,omitempty"`

	Prices    []Price `json:"prices,omitempty"`    // of licences, instead of the catalogue's
	Statement bool    `json:"statement,omitempty"` // the whole month as it would be is asked for, too
}

// A GrantChange has the licences of a plan make its pools by another rule (R5).
type GrantChange struct {
	Plan  string `json:"plan"`
	Grant string `json:"grant"` // peak, any, start, prorated
}

// A DeckChange has another deck price all that a deck prices.
type DeckChange struct {
	Deck    string         `json:"deck"`             // instead of this one
	Use     string         `json:"use,omitzero"`     // a deck of the book, in the versions in force
	Version string         `json:"version,omitzero"` // only this version of it, all month
	File    string         `json:"file,omitzero"`    // or that of a file, which the caller reads into Parts
	Parts   []*domain.Deck `json:"-"`                // the file's version
}

// A Removal takes licences of a plan away for the month.
type Removal struct {
	Plan     string   `json:"plan"`
	Country  string   `json:"country,omitzero"` // "": of any
	Users    []string `json:"users,omitempty"`
	Licences int      `json:"licences,omitzero"` // or so many: of those who used it least
}

// A PlanChange gives users another plan of the same family, whenever in the month
// they hold one.
type PlanChange struct {
	Users   []string `json:"users,omitempty"` // empty: all who hold From
	From    string   `json:"from,omitzero"`   // instead of this plan; "": of any of the family
	In      string   `json:"in,omitzero"`     // of licences in this country; "": of any
	To      string   `json:"to"`
	Country string   `json:"country,omitzero"` // of the new licence; "": that of the old one
}

// An Addition gives licences for the month, or the part of it in which a user
// holds none of the plan's family.
type Addition struct {
	Plan       string   `json:"plan"`
	Country    string   `json:"country"`
	Users      []string `json:"users,omitempty"`
	Licences   int      `json:"licences,omitzero"`    // or so many: spare ones, which make minutes and which nobody uses
	Unlicensed bool     `json:"unlicensed,omitempty"` // Licences go to the users with most seconds of unlicensed calls instead
}

// Limits of a scenario.
const (
	MaxChanges  = 1000    // of one kind
	MaxUsers    = 200_000 // named in one change
	MaxLicences = 100_000 // of one change: more than any tenant has
)

// A Refusal is why a scenario can't be evaluated: one line about what was asked,
// not about the book.
type Refusal struct{ Detail string }

func (r *Refusal) Error() string { return r.Detail }

func refuse(format string, args ...any) error { return &Refusal{fmt.Sprintf(format, args...)} }

// check refuses what can be judged without the book.
func (s *Scenario) check() (domain.Month, error) {
	month, err := domain.ParseMonth(s.Month)
	if err != nil {
		return 0, refuse("month: %v", err)
	}
	if s.Tenant == "" {
		return 0, refuse("tenant: is required")
	}
	if n := max(len(s.Grants), len(s.Decks), len(s.Remove), len(s.Plans), len(s.Add)); n > MaxChanges {
		return 0, refuse("%d changes of one kind: at most %d; name several users in one", n, MaxChanges)
	}
	for _, d := range s.Decks {
		if (d.Use != "") == (d.Parts != nil) {
			return 0, refuse("deck %s: name what to use instead: a deck of the book, or a file", d.Deck)
		}
	}
	for _, r := range s.Remove {
		if err := counted("remove "+r.Plan, r.Users, r.Licences); err != nil {
			return 0, err
		}
		if r.Country != "" && !isCountry(r.Country) {
			return 0, noCountry("remove "+r.Plan, r.Country)
		}
	}
	for _, a := range s.Add {
		if err := counted("add "+a.Plan, a.Users, a.Licences); err != nil {
			return 0, err
		}
		if a.Unlicensed && a.Users != nil {
			return 0, refuse("add %s: say how many licences go to unlicensed users, or name users, not both", a.Plan)
		}
		if !isCountry(a.Country) {
			return 0, noCountry("add "+a.Plan, a.Country)
		}
	}
	for _, p := range s.Plans {
		if len(p.Users) > MaxUsers {
			return 0, refuse("plan %s: %d users, at most %d in one change", p.To, len(p.Users), MaxUsers)
		}
		if len(p.Users) == 0 && p.From == "" {
			return 0, refuse("plan %s: name the users, or the plan they hold now", p.To)
		}
		for _, country := range []string{p.In, p.Country} {
			if country != "" && !isCountry(country) {
				return 0, noCountry("plan "+p.To, country)
			}
		}
	}
	return month, nil
}

func isCountry(text string) bool {
	return len(text) == 2 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

func noCountry(what, country string) error {
	return refuse("%s: country %.20q: must be two capitals such as IT", what, country)
}

// counted refuses a change that names neither users nor a number, or both.
func counted(what string, users []string, licences int) error {
	switch {
	case (len(users) > 0) == (licences != 0):
		return refuse("%s: name users, or say how many licences", what)
	case licences < 0 || licences > MaxLicences:
		return refuse("%s: %d licences, must be 1 to %d", what, licences, MaxLicences)
	case len(users) > MaxUsers:
		return refuse("%s: %d users, at most %d in one change", what, len(users), MaxUsers)
	}
	return nil
}
