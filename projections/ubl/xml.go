package ubl

import (
	"encoding/xml"
	"time"

	"tollbook/domain"
)

const (
	cacNamespace = "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2"
	cbcNamespace = "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2"
)

// A document is an Invoice or a CreditNote: what both have of UBL 2.1 has the
// same order in both, and each has some of its own.
type document struct {
	XMLName   xml.Name
	Namespace string `xml:"xmlns,attr"`
	Aggregate string `xml:"xmlns:cac,attr"`
	Basic     string `xml:"xmlns:cbc,attr"`

	Customization      string        `xml:"cbc:CustomizationID,omitempty"`
	ID                 string        `xml:"cbc:ID"`
	IssueDate          string        `xml:"cbc:IssueDate"`
	DueDate            string        `xml:"cbc:DueDate,omitempty"`
	InvoiceTypeCode    string        `xml:"cbc:InvoiceTypeCode,omitempty"`
	CreditNoteTypeCode string        `xml:"cbc:CreditNoteTypeCode,omitempty"`
	Note               string        `xml:"cbc:Note"`
	Currency           string        `xml:"cbc:DocumentCurrencyCode"`
	BuyerReference     string        `xml:"cbc:BuyerReference,omitempty"`
	Period             period        `xml:"cac:InvoicePeriod"`
	Supplier           party         `xml:"cac:AccountingSupplierParty>cac:Party"`
	Customer           party         `xml:"cac:AccountingCustomerParty>cac:Party"`
	PaymentTerms       string        `xml:"cac:PaymentTerms>cbc:Note,omitempty"`
	Tax                taxTotal      `xml:"cac:TaxTotal"`
	Total              monetaryTotal `xml:"cac:LegalMonetaryTotal"`
	InvoiceLines       []line        `xml:"cac:InvoiceLine"`
	CreditNoteLines    []line        `xml:"cac:CreditNoteLine"`
}

type period struct {
	Start string `xml:"cbc:StartDate"`
	End   string `xml:"cbc:EndDate"`
}

// periodOf is a month's first and last day.
func periodOf(m domain.Month) period {
	return period{m.FirstDay().String(), (m + 1).Start(time.UTC).Time().AddDate(0, 0, -1).Format(time.DateOnly)}
}

type party struct {
	Address *address   `xml:"cac:PostalAddress"`
	VAT     *taxScheme `xml:"cac:PartyTaxScheme"`
	Name    string     `xml:"cac:PartyLegalEntity>cbc:RegistrationName"`
	LegalID string     `xml:"cac:PartyLegalEntity>cbc:CompanyID,omitempty"`
}

type address struct {
	Street   string `xml:"cbc:StreetName,omitempty"`
	City     string `xml:"cbc:CityName,omitempty"`
	Postcode string `xml:"cbc:PostalZone,omitempty"`
	Region   string `xml:"cbc:CountrySubentity,omitempty"`
	Country  string `xml:"cac:Country>cbc:IdentificationCode"`
}

type taxScheme struct {
	ID     string `xml:"cbc:CompanyID"`
	Scheme string `xml:"cac:TaxScheme>cbc:ID"`
}

// partyOf is a party as documents of a VAT category name it: those outside the
// scope of VAT show no VAT numbers (BR-O-02).
func partyOf(p *Party, tax *Tax) party {
	x := party{Name: p.Name, LegalID: p.LegalID}
	if p.Country != "" {
		x.Address = &address{p.Street, p.City, p.Postcode, p.Region, p.Country}
	}
	if p.VATID != "" && tax.Category != outOfScope {
		x.VAT = &taxScheme{p.VATID, vat}
	}
	return x
}

type money struct {
	Currency string `xml:"currencyID,attr"`
	Text     string `xml:",chardata"`
}

type quantity struct {
	Unit string `xml:"unitCode,attr"`
	Text string `xml:",chardata"`
}

type taxTotal struct {
	Amount   money       `xml:"cbc:TaxAmount"`
	Subtotal taxSubtotal `xml:"cac:TaxSubtotal"`
}

type taxSubtotal struct {
	Taxable  money    `xml:"cbc:TaxableAmount"`
	Amount   money    `xml:"cbc:TaxAmount"`
	Category category `xml:"cac:TaxCategory"`
}

type category struct {
	ID         string `xml:"cbc:ID"`
	Percent    string `xml:"cbc:Percent,omitempty"`
	ReasonCode string `xml:"cbc:TaxExemptionReasonCode,omitempty"`
	Reason     string `xml:"cbc:TaxExemptionReason,omitempty"`
	Scheme     string `xml:"cac:TaxScheme>cbc:ID"`
}

type monetaryTotal struct {
	Lines     money `xml:"cbc:LineExtensionAmount"`
	Exclusive money `xml:"cbc:TaxExclusiveAmount"`
	Inclusive money `xml:"cbc:TaxInclusiveAmount"`
	Payable   money `xml:"cbc:PayableAmount"`
}

// A line is an InvoiceLine, which has an Invoiced quantity, or a CreditNoteLine,
// which has a Credited one.
type line struct {
	ID       string    `xml:"cbc:ID"`
	Note     string    `xml:"cbc:Note,omitempty"`
	Invoiced *quantity `xml:"cbc:InvoicedQuantity"`
	Credited *quantity `xml:"cbc:CreditedQuantity"`
	Amount   money     `xml:"cbc:LineExtensionAmount"`
	Period   *period   `xml:"cac:InvoicePeriod"`
	Charges  []charge  `xml:"cac:AllowanceCharge"`
	Item     item      `xml:"cac:Item"`
	Price    price     `xml:"cac:Price"`
}

type charge struct {
	Charge bool   `xml:"cbc:ChargeIndicator"` // false: an allowance
	Reason string `xml:"cbc:AllowanceChargeReason"`
	Amount money  `xml:"cbc:Amount"`
}

type item struct {
	Name       string     `xml:"cbc:Name"`
	Category   category   `xml:"cac:ClassifiedTaxCategory"`
	Properties []property `xml:"cac:AdditionalItemProperty"`
}

type property struct {
	Name  string `xml:"cbc:Name"`
	Value string `xml:"cbc:Value"`
}

type price struct {
	Amount money    `xml:"cbc:PriceAmount"`
	Base   quantity `xml:"cbc:BaseQuantity"`
}
