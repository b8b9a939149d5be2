package decks

import (
	"slices"
	"strings"

	"tollbook/domain"
)

// A Cell is the numbers that have a prefix and none of the longer ones of two
// sheets: all of them are priced alike by each, so cells part all numbers into
// those that are priced alike by both.
type Cell struct {
	Prefix        string
	Before, After *domain.Row // the rows that price the numbers; nil: none does
	row           int         // of After's sheet; -1: the prefix is not in it
}

// Added reports whether the prefix is only in the later sheet.
func (c *Cell) Added() bool {
	return c.row >= 0 && (c.Before == nil || c.Before.Prefix != c.Prefix)
}

// Removed reports whether the prefix is only in the earlier sheet.
func (c *Cell) Removed() bool { return c.row < 0 }

// Walk visits all cells of two sheets, by prefix; before may be nil. The cell is
// visit's for its call only.
func Walk(before, after *Sheet, visit func(*Cell)) {
	was, is := stack{sheet: before}, stack{sheet: after}
	i, j := 0, 0
	for {
		var prefix string
		inBefore := before != nil && i < len(before.Rows)
		inAfter := after != nil && j < len(after.Rows)
		switch {
		case !inBefore && !inAfter:
			return
		case inBefore && (!inAfter || before.Rows[i].Prefix < after.Rows[j].Prefix):
			prefix = before.Rows[i].Prefix
		default:
			prefix = after.Rows[j].Prefix
		}
		c := Cell{Prefix: prefix, row: -1}
		if inBefore && before.Rows[i].Prefix == prefix {
			i++
		}
		if inAfter && after.Rows[j].Prefix == prefix {
			c.row = j
			j++
		}
		if at := was.to(prefix); at >= 0 {
			c.Before = &before.Rows[at]
		}
		if at := is.to(prefix); at >= 0 {
			c.After = &after.Rows[at]
		}
		visit(&c)
	}
}

// Kinds of a Change.
const (
	ChangeAdded   = "added"   // the prefix is new
	ChangeRemoved = "removed" // the prefix is gone; its numbers fall to a shorter one
	ChangeChanged = "changed"
)

// What of a row may differ.
const (
	DiffersDearer    = "dearer" // price or connect fee
	DiffersCheaper   = "cheaper"
	DiffersIncrement = "increment"
	DiffersName      = "name"    // destination, country or type
	DiffersRated     = "rated"   // had no price
	DiffersUnrated   = "unrated" // has no price any more
)

// A RowState is the row that prices numbers.
type RowState struct {
	Prefix      string `json:"prefix"` // may be shorter than that of the change
	Country     string `json:"country"`
	Destination string `json:"destination"`
	Type        string `json:"type"`
	Price       string `json:"price"`
	ConnectFee  string `json:"connect_fee"`
	Increment   string `json:"increment"`
}

func rowState(r *domain.Row) *RowState {
	if r == nil {
		return nil
	}
	return &RowState{r.Prefix, r.Country, r.Name, r.RowType, r.Price.String(), r.ConnectFee.String(), r.Increment.String()}
}

// Page is at most limit rows after a prefix, and the last of them if there are more.
func (s *Sheet) Page(after string, limit int) (page []RowState, next string) {
	first, _ := slices.BinarySearchFunc(s.Rows, after+"\x00", func(r domain.Row, p string) int { return strings.Compare(r.Prefix, p) })
	last := min(first+pageOf(limit), len(s.Rows))
	page = []RowState{}
	for i := range s.Rows[first:last] {
		page = append(page, *rowState(&s.Rows[first+i]))
	}
	if last < len(s.Rows) {
		next = s.Rows[last-1].Prefix
	}
	return page, next
}

// pageOf is how much a page that asks for limit has.
func pageOf(limit int) int {
	if limit <= 0 {
		return DefaultPage
	}
	return min(limit, MaxPage)
}

// A Change is what becomes of the numbers of a prefix that no longer one has.
type Change struct {
	Prefix  string    `json:"prefix"`
	Kind    string    `json:"kind"`
	Differs []string  `json:"differs"` // nothing: an added or removed row that changes nothing
	Before  *RowState `json:"before"`
	After   *RowState `json:"after"`
}

// A Diff says what a version changes of another, prefix by prefix.
type Diff struct {
	Deck      string   `json:"deck"`
	Before    string   `json:"before"` // the versions; "": none
	After     string   `json:"after"`
	Currency  string   `json:"currency"`
	Was       string   `json:"currency_before,omitzero"` // where it is another one
	Rows      int      `json:"rows"`
	RowsWas   int      `json:"rows_before"`
	Unchanged int64    `json:"unchanged"` // prefixes
	Added     int64    `json:"added"`
	Removed   int64    `json:"removed"`
	Dearer    int64    `json:"dearer"` // of all changes, also of added and removed prefixes
	Cheaper   int64    `json:"cheaper"`
	Increment int64    `json:"increment"`
	Named     int64    `json:"named"`
	Unrated   int64    `json:"unrated"`       // numbers of so many prefixes have no price any more
	Changes   []Change `json:"changes"`       // by prefix, those that were asked for
	Next      string   `json:"next,omitzero"` // the last of this page; "": there are no more
}

// A DiffPage is which changes a Diff lists; all are counted.
type DiffPage struct {
	After string // changes after this prefix
	Limit int    // DefaultPage when 0, at most MaxPage
	Only  string // of this kind, or that differ in this; "": all
}

// Limits of a page.
const (
	DefaultPage = 100
	MaxPage     = 10_000
)

// OnlyOf are the values of DiffPage.Only.
var OnlyOf = []string{ChangeAdded, ChangeRemoved, ChangeChanged, DiffersDearer, DiffersCheaper, DiffersIncrement, DiffersName, DiffersRated, DiffersUnrated}

// Compare says what a version changes of the one before it; nil: there is none.
func Compare(before, after *Sheet, page DiffPage) Diff {
	d := Diff{Deck: after.Deck, After: after.Version, Currency: string(after.Currency), Rows: len(after.Rows), Changes: []Change{}}
	if before != nil {
		d.Before, d.RowsWas = before.Version, len(before.Rows)
		if before.Currency != after.Currency {
			d.Was = string(before.Currency)
		}
	}
	limit := pageOf(page.Limit)
	var differs []string
	Walk(before, after, func(c *Cell) {
		differs = c.differs(differs[:0])
		kind := ChangeChanged
		switch {
		case c.Added():
			kind = ChangeAdded
			d.Added++
		case c.Removed():
			kind = ChangeRemoved
			d.Removed++
		case len(differs) == 0:
			d.Unchanged++
			return
		}
		picked := page.Only == "" || page.Only == kind
		for _, what := range differs {
			picked = picked || what == page.Only
			switch what {
			case DiffersDearer:
				d.Dearer++
			case DiffersCheaper:
				d.Cheaper++
			case DiffersIncrement:
				d.Increment++
			case DiffersName:
				d.Named++
			case DiffersUnrated:
				d.Unrated++
			}
		}
		if !picked || page.After != "" && c.Prefix <= page.After {
			return
		}
		if len(d.Changes) == limit {
			d.Next = d.Changes[limit-1].Prefix
			return
		}
		d.Changes = append(d.Changes, Change{c.Prefix, kind, append([]string{}, differs...), rowState(c.Before), rowState(c.After)})
	})
	return d
}

// differs adds what of the two rows is different.
func (c *Cell) differs(list []string) []string {
	was, is := c.Before, c.After
	switch {
	case was == nil && is == nil:
		return list
	case was == nil:
		return append(list, DiffersRated)
	case is == nil:
		return append(list, DiffersUnrated)
	}
	if is.Price > was.Price || is.ConnectFee > was.ConnectFee {
		list = append(list, DiffersDearer)
	}
	if is.Price < was.Price || is.ConnectFee < was.ConnectFee {
		list = append(list, DiffersCheaper)
	}
	if is.Increment != was.Increment {
		list = append(list, DiffersIncrement)
	}
	if is.Name != was.Name || is.Country != was.Country || is.RowType != was.RowType {
		list = append(list, DiffersName)
	}
	return list
}
