package ubl

import (
	"fmt"
	"io"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"tollbook/domain"
)

// Limits of a parties file.
const (
	maxPartiesBytes = 4 << 20 // some ten thousand customers
	maxTextBytes    = 300     // a name or address line
	maxDueDays      = 366
)

// Parties are who bills whom, with which VAT: what a document needs beyond the
// book to be an invoice by EN 16931.
type Parties struct {
	Supplier  Party               `json:"supplier"`
	Customers map[string]Customer `json:"customers"` // by tenant
}

// A Party is a supplier or a customer.
type Party struct {
	Name     string `json:"name"` // as registered
	Street   string `json:"street,omitzero"`
	City     string `json:"city,omitzero"`
	Postcode string `json:"postcode,omitzero"`
	Region   string `json:"region,omitzero"`
	Country  string `json:"country"`           // ISO 3166-1 alpha-2
	VATID    string `json:"vat_id,omitzero"`   // with its country's prefix
	LegalID  string `json:"legal_id,omitzero"` // in the register of companies
}

// A Customer is whom a tenant's documents are for.
type Customer struct {
	Party
	Reference    string `json:"reference,omitzero"` // what the customer wants to find on it
	PaymentTerms string `json:"payment_terms"`
	DueDays      int    `json:"due_days,omitzero"` // days from issue to the due date; 0: none
	Tax          Tax    `json:"tax"`
}

// Tax is the VAT on all of a customer's calls.
type Tax struct {
	Category string `json:"category"`         // of UNTDID 5305: S, Z, E, AE or O
	Percent  string `json:"percent,omitzero"` // of S: a decimal such as 22 or 8.1
	Reason   string `json:"reason,omitzero"`  // of E, AE and O: why there is none
}

const (
	vat        = "VAT"
	standard   = "S"
	outOfScope = "O"
)

// A taxRule is what EN 16931 says of a category (BR-S, BR-Z, BR-E, BR-AE, BR-O).
type taxRule struct {
	reason, code string // of no VAT: unless another is given; VATEX code
	needsReason  bool
	both         bool // the customer has to have a number too
}

var taxRules = map[string]taxRule{
	standard:   {},
	"Z":        {},
	"E":        {needsReason: true},
	"AE":       {reason: "Reverse charge", code: "VATEX-EU-AE", both: true},
	outOfScope: {reason: "Not subject to VAT", code: "VATEX-EU-O"},
}

// rate is what the VAT of 1 is.
func (t *Tax) rate() *big.Rat {
	if t.Category != standard {
		return new(big.Rat)
	}
	percent, _ := domain.ParseMicros(t.Percent) // checked
	return big.NewRat(int64(percent), 100_000_000)
}

// category is the XML's, with the reason of no VAT where that is said.
func (t *Tax) category(why bool) category {
	x := category{ID: t.Category, Percent: t.Percent, Scheme: vat}
	if t.Category != standard && t.Category != outOfScope {
		x.Percent = "0"
	}
	if why {
		rule := taxRules[t.Category]
		x.ReasonCode, x.Reason = rule.code, rule.reason
		if t.Reason != "" {
			x.Reason = t.Reason
		}
	}
	return x
}

// A deal is who bills whom.
type deal struct {
	supplier Party
	customer Customer
	named    bool // by a parties file
}

// deal is the tenant's.
func (p *Parties) deal(tenant string) (deal, error) {
	if p == nil {
		return deal{
			supplier: Party{Name: "unnamed"},
			customer: Customer{Party: Party{Name: tenant}, Tax: Tax{Category: outOfScope, Reason: "Not said: VAT is to be added"}},
		}, nil
	}
	customer, ok := p.Customers[tenant]
	if !ok {
		return deal{}, fmt.Errorf("customers has no %s: add the tenant", tenant)
	}
	return deal{p.Supplier, customer, true}, nil
}

// ReadParties reads and checks a parties file: JSON of known fields.
func ReadParties(r io.Reader) (*Parties, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPartiesBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxPartiesBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxPartiesBytes)
	}
	p := new(Parties)
	if err := json.Unmarshal(data, p, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	if err := p.Supplier.check(); err != nil {
		return nil, fmt.Errorf("supplier.%w", err)
	}
	if p.Supplier.VATID == "" && p.Supplier.LegalID == "" {
		return nil, fmt.Errorf("supplier.vat_id: required, or legal_id (BR-CO-26)")
	}
	for _, tenant := range slices.Sorted(maps.Keys(p.Customers)) {
		c := p.Customers[tenant]
		if err := c.check(&p.Supplier); err != nil {
			return nil, fmt.Errorf("customers.%s.%w", tenant, err)
		}
	}
	return p, nil
}

var (
	countryCode = regexp.MustCompile(`^[A-Z]{2}$`)
	vatNumber   = regexp.MustCompile(`^[A-Z]{2}[A-Z0-9+*]{2,18}$`)
)

// check returns errors that begin with the field's name.
func (p *Party) check() error {
	err := checkTexts(
		text{"name", p.Name, true}, text{"street", p.Street, false}, text{"city", p.City, false},
		text{"postcode", p.Postcode, false}, text{"region", p.Region, false}, text{"legal_id", p.LegalID, false},
	)
	switch {
	case err != nil:
		return err
	case !countryCode.MatchString(p.Country):
		return fmt.Errorf("country: %.40q must be a code of ISO 3166-1 such as IT", p.Country)
	case p.VATID != "" && !vatNumber.MatchString(p.VATID):
		return fmt.Errorf("vat_id: %.40q must begin with its country's prefix and have no spaces, such as IT01234567890 (BR-CO-09)", p.VATID)
	}
	return nil
}

func (c *Customer) check(supplier *Party) error {
	if err := c.Party.check(); err != nil {
		return err
	}
	err := checkTexts(text{"reference", c.Reference, false}, text{"payment_terms", c.PaymentTerms, true}, text{"tax.reason", c.Tax.Reason, false})
	if err != nil {
		return err
	}
	if c.DueDays < 0 || c.DueDays > maxDueDays {
		return fmt.Errorf("due_days: must be from 0 to %d", maxDueDays)
	}
	return c.checkTax(supplier)
}

func (c *Customer) checkTax(supplier *Party) error {
	t := &c.Tax
	rule, known := taxRules[t.Category]
	percent, err := domain.ParseMicros(t.Percent)
	switch {
	case !known:
		return fmt.Errorf("tax.category: %.40q must be S (standard rate), Z (zero rate), E (exempt), AE (reverse charge) or O (outside the scope of VAT)", t.Category)
	case t.Category == standard && (err != nil || percent == 0 || percent > 100_000_000):
		return fmt.Errorf("tax.percent: %.40q must be a decimal string above 0 and at most 100, such as \"22\" (BR-S-05)", t.Percent)
	case t.Category != standard && t.Percent != "":
		return fmt.Errorf("tax.percent: only category S has one")
	case rule.needsReason && t.Reason == "":
		return fmt.Errorf("tax.reason: required: why there is no VAT (BR-E-10)")
	case !rule.needsReason && rule.reason == "" && t.Reason != "":
		return fmt.Errorf("tax.reason: category %s has none (BR-%s-10)", t.Category, t.Category)
	case t.Category == outOfScope && supplier.LegalID == "":
		return fmt.Errorf("tax.category: documents of category O show no VAT numbers (BR-O-02), so the supplier has to have a legal_id (BR-CO-26)")
	case t.Category != outOfScope && supplier.VATID == "":
		return fmt.Errorf("tax.category: for %s the supplier has to have a vat_id (BR-%s-02)", t.Category, t.Category)
	case rule.both && c.VATID == "" && c.LegalID == "":
		return fmt.Errorf("vat_id: required for %s, or legal_id (BR-%s-02)", t.Category, t.Category)
	}
	return nil
}

// A text is a field that is free.
type text struct {
	field, value string
	required     bool
}

func checkTexts(texts ...text) error {
	for _, t := range texts {
		switch {
		case t.required && t.value == "":
			return fmt.Errorf("%s: required", t.field)
		case len(t.value) > maxTextBytes:
			return fmt.Errorf("%s: must be at most %d bytes", t.field, maxTextBytes)
		case strings.TrimSpace(t.value) != t.value || strings.ContainsFunc(t.value, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }):
			return fmt.Errorf("%s: %.60q must be one line without spaces around it", t.field, t.value)
		}
	}
	return nil
}
