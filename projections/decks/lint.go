package decks

import (
	"fmt"
	"slices"
	"strings"

	"tollbook/domain"
)

// Severity says what a finding means for activation.
type Severity string

// Severities.
const (
	SevereError   Severity = "error"   // not activated, unless somebody insists
	SevereWarning Severity = "warning" // somebody should look at it
	SevereNote    Severity = "note"    // good to know
)

// severities has the gravest first.
var severities = []Severity{SevereError, SevereWarning, SevereNote}

// Codes of findings.
const (
	FoundCurrency     = "currency"       // another one than the deck's: the version would never be in force
	FoundHides        = "hides"          // the catalogue's deck of that name would be gone for the tenant, in the past too
	FoundVersion      = "version"        // the version is published already, with other rows or terms
	FoundClosed       = "closed_month"   // it takes effect in a closed month
	FoundPast         = "past"           // it takes effect before now
	FoundLater        = "later"          // a later version is in force at the same instant
	FoundSuperseded   = "superseded"     // another version takes over later
	FoundParent       = "missing_parent" // numbers of the country between its prefixes have no price
	FoundWrongCountry = "wrong_country"  // the prefix is another country's
	FoundNoCode       = "no_calling_code"
	FoundLostZero     = "lost_zero"   // a leading zero was probably lost
	FoundNoNumbers    = "no_numbers"  // no number begins so
	FoundZeroPrice    = "zero_price"  // charged nothing, by a type that is charged
	FoundFreePriced   = "free_priced" // a price that is never charged
	FoundFreeSpelling = "free_spelling"
	FoundIncrement    = "increment"
	FoundDearer       = "price_jump_up"
	FoundCheaper      = "price_jump_down"
	FoundDropped      = "dropped"      // a row of the version in force is missing
	FoundUnrated      = "dropped_bare" // and nothing prices its numbers any more
)

// severityOf is each code's.
var severityOf = map[string]Severity{
	FoundCurrency: SevereError, FoundHides: SevereError, FoundVersion: SevereError, FoundClosed: SevereError, FoundLater: SevereError,
	FoundPast: SevereWarning, FoundSuperseded: SevereNote,
	FoundParent: SevereWarning, FoundWrongCountry: SevereWarning, FoundNoCode: SevereWarning, FoundLostZero: SevereWarning, FoundNoNumbers: SevereNote,
	FoundZeroPrice: SevereWarning, FoundFreePriced: SevereNote, FoundFreeSpelling: SevereWarning, FoundIncrement: SevereNote,
	FoundDearer: SevereWarning, FoundCheaper: SevereWarning, FoundDropped: SevereNote, FoundUnrated: SevereWarning,
}

// A Finding is something odd about a version, or about one of its rows.
type Finding struct {
	Severity Severity `json:"severity"`
	Code     string   `json:"code"`
	Line     int      `json:"line,omitzero"` // of the file; none where no row is meant, or the rows are from the book
	Prefix   string   `json:"prefix,omitzero"`
	Text     string   `json:"text"`
}

// A Count is how many findings of a code there are; a report lists the first of
// them.
type Count struct {
	Severity Severity `json:"severity"`
	Code     string   `json:"code"`
	Count    int      `json:"count"`
}

// A Report is what is to be known of a version before it is activated.
type Report struct {
	Tenant        string       `json:"tenant"`
	Deck          string       `json:"deck"`
	Version       string       `json:"version"`
	EffectiveFrom string       `json:"effective_from"`
	Currency      string       `json:"currency"`
	Rows          int          `json:"rows"`
	Form          *Form        `json:"form,omitzero"` // of the file
	Normalised    []Normalised `json:"normalised"`
	InForce       string       `json:"in_force"`  // the version it was compared with; "": none
	Compared      bool         `json:"compared"`  // with a book; else only the file was looked at
	Counts        []Count      `json:"counts"`    // the gravest first
	Findings      []Finding    `json:"findings"`  // the first of each code, the gravest first
	Identical     bool         `json:"identical"` // the version is published already, and the same
}

// Errors is how many findings forbid activation.
func (r *Report) Errors() (n int) {
	for _, c := range r.Counts {
		if c.Severity == SevereError {
			n += c.Count
		}
	}
	return n
}

// refusalsNamed is how many errors a refusal names.
const refusalsNamed = 3

// Refusal is the error about a version that must not be activated; nil: it may.
func (r *Report) Refusal(force bool) error {
	n := r.Errors()
	if n == 0 || force {
		return nil
	}
	var texts []string
	for _, f := range r.Findings {
		if f.Severity == SevereError && len(texts) < refusalsNamed {
			texts = append(texts, f.Text)
		}
	}
	things := "an error"
	if n > 1 {
		things = fmt.Sprintf("%d errors", n)
	}
	return fmt.Errorf("deck %s, version %s, has %s: %s; put it right, or insist with force", r.Deck, r.Version, things, strings.Join(texts, "; "))
}

// Terms are what a version is judged by. The zero value looks at its rows only.
type Terms struct {
	Now     domain.Instant // 0: no instant is past
	Jump    int64          // from how many times dearer or cheaper a price jumps; DefaultJump when 0
	Listed  int            // findings listed of each code; DefaultListed when 0
	Book    bool           // what follows is known
	InForce *Sheet         // the version in force at the effective date; nil: none
	Known   []domain.DeckVersion
	Closed  domain.Instant // up to which months are closed, of anybody the deck may bill
	Whose   string         // closed it
}

// Defaults of Terms.
const (
	DefaultJump   = 2
	DefaultListed = 50
	MaxListed     = 100_000
)

// Lint says what is odd about a version.
func Lint(s *Sheet, t Terms) *Report {
	if t.Jump < 2 {
		t.Jump = DefaultJump
	}
	if t.Listed <= 0 {
		t.Listed = DefaultListed
	}
	l := linter{sheet: s, terms: t, numbering: numbering{}, counts: map[string]int{}, found: map[string][]Finding{}}
	l.version()
	l.rows()
	l.countries()
	l.prices()
	r := &Report{
		Tenant: s.Tenant, Deck: s.Deck, Version: s.Version, EffectiveFrom: s.EffectiveFrom.String(), Currency: string(s.Currency), Rows: len(s.Rows),
		Normalised: s.Normalised, Compared: t.Book, Counts: []Count{}, Findings: []Finding{}, Identical: l.identical,
	}
	if r.Normalised == nil {
		r.Normalised = []Normalised{}
	}
	if s.Form != (Form{}) {
		r.Form = &s.Form
	}
	if t.InForce != nil {
		r.InForce = t.InForce.Version
	}
	for _, severity := range severities {
		for _, code := range l.order {
			if severityOf[code] == severity {
				r.Counts = append(r.Counts, Count{severity, code, l.counts[code]})
				r.Findings = append(r.Findings, l.found[code]...)
			}
		}
	}
	return r
}

type linter struct {
	sheet     *Sheet
	terms     Terms
	numbering numbering
	identical bool
	order     []string // codes, as they were first found
	counts    map[string]int
	found     map[string][]Finding
}

// find notes a finding; row -1: of the version. text is only made where it is
// listed.
func (l *linter) find(code string, row int, text func() string) {
	if l.counts[code]++; l.counts[code] == 1 {
		l.order = append(l.order, code)
	}
	if l.counts[code] > l.terms.Listed {
		return
	}
	f := Finding{Severity: severityOf[code], Code: code, Text: text()}
	if row >= 0 {
		f.Line, f.Prefix = l.sheet.line(row), l.sheet.Rows[row].Prefix
	}
	l.found[code] = append(l.found[code], f)
}

// version looks at the version as a whole.
func (l *linter) version() {
	s, t := l.sheet, l.terms
	if t.Now != 0 && s.EffectiveFrom < t.Now && s.EffectiveFrom >= t.Closed {
		l.find(FoundPast, -1, func() string {
			return fmt.Sprintf("it takes effect at %s, before now: calls since then will be priced anew", s.EffectiveFrom)
		})
	}
	if s.EffectiveFrom < t.Closed {
		l.find(FoundClosed, -1, func() string {
			return fmt.Sprintf("it takes effect at %s, and %s has closed its months up to %s: the next document would adjust them", s.EffectiveFrom, t.Whose, t.Closed)
		})
	}
	for i := range t.Known {
		v := &t.Known[i]
		switch {
		case v.Deck != s.Deck:
		case !v.Own:
			if l.counts[FoundHides] == 0 {
				l.find(FoundHides, -1, func() string {
					return fmt.Sprintf("the catalogue has a deck %s, all versions of which would be gone for %s, those of past calls too: choose another name, and give it in the configuration's decks", s.Deck, s.Tenant)
				})
			}
		case v.Version == s.Version:
			if interrupted(s, v) {
				break // the same again completes it
			}
			if l.identical = same(s, SheetOf(s.Tenant, v)); !l.identical {
				l.find(FoundVersion, -1, func() string {
					return fmt.Sprintf("version %s is published already and says otherwise; both would be invalid: choose another name", v.Version)
				})
			}
		case v.State != domain.DeckValid:
		case v.Currency != s.Currency:
			if l.counts[FoundCurrency] == 0 {
				l.find(FoundCurrency, -1, func() string {
					return fmt.Sprintf("it is in %s, and deck %s in %s since version %s; a deck never changes its currency: publish it as another deck", s.Currency, s.Deck, v.Currency, v.Version)
				})
			}
		case v.EffectiveFrom == s.EffectiveFrom && v.Version > s.Version:
			l.find(FoundLater, -1, func() string {
				return fmt.Sprintf("version %s takes effect at the same instant, and the later name is in force: choose a name after it", v.Version)
			})
		case v.EffectiveFrom > s.EffectiveFrom:
			l.find(FoundSuperseded, -1, func() string {
				return fmt.Sprintf("version %s takes over at %s", v.Version, v.EffectiveFrom)
			})
		}
	}
}

// interrupted reports whether the parts that are published of an incomplete version are
// parts of the sheet.
func interrupted(s *Sheet, v *domain.DeckVersion) bool {
	events, err := s.Events()
	if err != nil || v.State != domain.DeckIncomplete {
		return false
	}
	return len(events)-len(unpublished(events, v)) == len(v.Parts)
}

// unpublished are the events whose parts are none of a version.
func unpublished(events []domain.Event, v *domain.DeckVersion) []domain.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e domain.Event) bool {
		d := e.Data.(*domain.Deck)
		return slices.ContainsFunc(v.Parts, func(p *domain.Deck) bool {
			return p.Part == d.Part && p.Parts == d.Parts && p.EffectiveFrom == d.EffectiveFrom && p.Currency == d.Currency && slices.Equal(p.Rows, d.Rows)
		})
	})
}

// same reports whether two sheets are the same version.
func same(a, b *Sheet) bool {
	return a.Currency == b.Currency && a.EffectiveFrom == b.EffectiveFrom && slices.Equal(a.Rows, b.Rows)
}

// usualIncrements are those in trade; others are worth a look.
var usualIncrements = []domain.Increment{{First: 60, Step: 60}, {First: 1, Step: 1}, {First: 60, Step: 1}, {First: 30, Step: 6}, {First: 30, Step: 1}, {First: 6, Step: 6}, {First: 30, Step: 30}, {First: 60, Step: 6}, {First: 60, Step: 30}}

func isFree(rowType string) bool {
	return rowType == domain.RowTollFree || rowType == domain.RowEmergency || rowType == domain.RowOnNet
}

// rows looks at each row by itself.
func (l *linter) rows() {
	spelling := map[string]bool{} // by type: whether it reads like a free one and is none
	for i := range l.sheet.Rows {
		r := &l.sheet.Rows[i]
		odd, known := spelling[r.RowType]
		if !known {
			odd = !isFree(r.RowType) && isFree(strings.NewReplacer(" ", "_", "-", "_").Replace(strings.ToLower(strings.TrimSpace(r.RowType))))
			spelling[r.RowType] = odd
		}
		if odd {
			l.find(FoundFreeSpelling, i, func() string {
				return fmt.Sprintf("type %q is charged as any other; free ones are spelled toll_free, emergency and onnet", r.RowType)
			})
		}
		switch free := isFree(r.RowType); {
		case !free && r.Price == 0:
			l.find(FoundZeroPrice, i, func() string {
				return fmt.Sprintf("%s, %s: the price is 0%s", r.Name, r.RowType, feeOf(r))
			})
		case free && (r.Price > 0 || r.ConnectFee > 0):
			l.find(FoundFreePriced, i, func() string {
				return fmt.Sprintf("%s costs %s%s, and type %s is never charged", r.Name, r.Price, feeOf(r), r.RowType)
			})
		}
		if !slices.Contains(usualIncrements, r.Increment) {
			l.find(FoundIncrement, i, func() string { return fmt.Sprintf("increment %s is unusual", r.Increment) })
		}
	}
}

func feeOf(r *domain.Row) string {
	if r.ConnectFee == 0 {
		return ""
	}
	return fmt.Sprintf(", the connect fee %s", r.ConnectFee)
}

// maxJudged is how many digits after the calling code are looked up in numbering
// plans, which say little about more.
const maxJudged = 7

// A judgement is what numbering plans say of all rows of a country that begin with
// the same digits.
type judgement struct{ digits, country string }

// countries looks where the prefixes are, and whether what is between them has a
// price.
func (l *linter) countries() {
	rows := l.sheet.Rows
	plans := callingPlans()
	var code string
	var plan *callingPlan
	var last judgement
	judge := func(int) {}
	for i := 0; i < len(rows) && rows[i].Prefix[0] != '='; i++ {
		r := &rows[i]
		if code == "" || !strings.HasPrefix(r.Prefix, code) {
			if code = CallingCode(r.Prefix); code != "" {
				plan = plans[code]
				l.parents(i, code, plan)
			}
		}
		if code == "" {
			if !l.begins(r.Prefix) {
				l.find(FoundNoCode, i, func() string { return fmt.Sprintf("%s %s: no calling code begins so", r.Country, r.Name) })
			}
			continue
		}
		digits := r.Prefix[:min(len(r.Prefix), len(code)+maxJudged)]
		if (judgement{digits, r.Country}) != last {
			last = judgement{digits, r.Country}
			judge = l.judge(plan, code, digits[len(code):], r.Country)
		}
		judge(i)
	}
}

// begins reports whether some calling code is longer than the prefix and begins so.
func (l *linter) begins(prefix string) bool {
	if len(prefix) >= maxCallingCode {
		return false
	}
	for code := range callingPlans() {
		if strings.HasPrefix(code, prefix) {
			return true
		}
	}
	return false
}

// worldwide is what numbering plans call the country of codes that no country has,
// such as 883.
const worldwide = "001"

// judge says what is found of rows that begin with a country's digits.
func (l *linter) judge(plan *callingPlan, code, national, country string) func(row int) {
	owners := l.numbering.owners(plan, national)
	if !slices.Contains(owners, country) && owners[0] != worldwide {
		return func(row int) {
			l.find(FoundWrongCountry, row, func() string {
				return fmt.Sprintf("the row says %s %s, and +%s %s is %s", country, l.sheet.Rows[row].Name, code, national, strings.Join(owners[:min(len(owners), 6)], ", "))
			})
		}
	}
	if zero := l.numbering.lostZero(plan, national); zero != "" {
		return func(row int) {
			l.find(FoundLostZero, row, func() string {
				return fmt.Sprintf("no number of %s begins so, but with %s%s: a spreadsheet may have dropped the zero", country, code, zero+l.sheet.Rows[row].Prefix[len(code)+len(national):])
			})
		}
	}
	if !l.numbering.exists(plan, national) {
		return func(row int) {
			l.find(FoundNoNumbers, row, func() string {
				return fmt.Sprintf("%s %s: the numbering plan has no number that begins so", country, l.sheet.Rows[row].Name)
			})
		}
	}
	return func(int) {}
}

// parents looks whether all numbers of a calling code have a price, from its first
// row on.
func (l *linter) parents(first int, code string, plan *callingPlan) {
	rows := l.sheet.Rows
	if above := rows[first].Prefix; len(above) <= len(code) {
		return // its row
	}
	for n := 1; n < len(code); n++ {
		if _, ok := slices.BinarySearchFunc(rows[:first], code[:n], func(r domain.Row, p string) int { return strings.Compare(r.Prefix, p) }); ok {
			return
		}
	}
	// The digits after the code with which numbers go on that no row has.
	var bare []string
	longer, at := 0, first
	for digit := byte('0'); digit <= '9'; digit++ {
		next := code + string(digit)
		covered := false
		for ; at < len(rows) && strings.HasPrefix(rows[at].Prefix, next); at++ {
			covered = covered || rows[at].Prefix == next
			longer++
		}
		if !covered && l.numbering.exists(plan, string(digit)) {
			bare = append(bare, string(digit))
		}
	}
	if len(bare) == 0 {
		return
	}
	l.find(FoundParent, first, func() string {
		return fmt.Sprintf("%s: no row %s; of its numbers that go on with %s only those of %d longer prefixes have a price",
			strings.Join(plan.countries[:min(len(plan.countries), 3)], ", "), code, strings.Join(bare, ", "), longer)
	})
}

// prices compares with the version in force, number by number.
func (l *linter) prices() {
	if l.terms.InForce == nil || l.terms.InForce.Currency != l.sheet.Currency {
		return
	}
	Walk(l.terms.InForce, l.sheet, func(c *Cell) {
		if c.Removed() {
			before := c.Before
			if c.After == nil {
				l.find(FoundUnrated, -1, func() string {
					return fmt.Sprintf("%s %s at %s is dropped, and no shorter prefix prices its numbers", c.Prefix, before.Name, before.Price)
				})
				return
			}
			l.find(FoundDropped, -1, func() string {
				return fmt.Sprintf("%s %s at %s is dropped; its numbers fall to %s at %s", c.Prefix, before.Name, before.Price, c.After.Prefix, c.After.Price)
			})
		}
		if c.Before == nil || c.After == nil {
			return
		}
		price, fee := charged(c.Before)
		newPrice, newFee := charged(c.After)
		if !l.jumps(c, "", price, newPrice) {
			l.jumps(c, "connect fee ", fee, newFee)
		}
	})
}

// charged is what a row costs a minute and a call, by its type, too.
func charged(r *domain.Row) (price, fee domain.Micros) {
	if isFree(r.RowType) {
		return 0, 0
	}
	return r.Price, r.ConnectFee
}

// jumps finds a price that jumps.
func (l *linter) jumps(c *Cell, what string, was, is domain.Micros) bool {
	switch {
	case was == is:
		return false
	case int64(is) >= l.terms.Jump*int64(was) && is > was:
		l.find(FoundDearer, c.row, func() string { return jump(c, what, was, is) })
	case int64(was) >= l.terms.Jump*int64(is):
		l.find(FoundCheaper, c.row, func() string { return jump(c, what, was, is) })
	default:
		return false
	}
	return true
}

func jump(c *Cell, what string, was, is domain.Micros) string {
	text := fmt.Sprintf("%s: %s%s → %s", c.After.Name, what, was, is)
	switch {
	case was > 0 && is > was:
		text += fmt.Sprintf(", %s times dearer", ratio(is, was))
	case is > 0 && was > is:
		text += fmt.Sprintf(", %s times cheaper", ratio(was, is))
	}
	if isFree(c.Before.RowType) != isFree(c.After.RowType) {
		text += fmt.Sprintf(", as type %s becomes %s", c.Before.RowType, c.After.RowType)
	}
	if c.Before.Prefix != c.Prefix {
		text += fmt.Sprintf(" (until now by prefix %s)", c.Before.Prefix)
	}
	if c.After.Prefix != c.Prefix {
		text = c.Prefix + ", " + text + fmt.Sprintf(" (now by prefix %s)", c.After.Prefix)
	}
	return text
}

// ratio is a ÷ b with one decimal.
func ratio(a, b domain.Micros) string {
	tenths := (int64(a)*10 + int64(b)/2) / int64(b)
	return fmt.Sprintf("%d.%d", tenths/10, tenths%10)
}
