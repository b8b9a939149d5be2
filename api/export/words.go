package export

import (
	"fmt"
	"strconv"
	"strings"

	"tollbook/domain"
	"tollbook/projections"
)

// words are what a PDF says in one language, and how numbers are written there.
type words struct {
	lang           string
	title          string
	document1      string // before a number
	draftName      string
	draftMark      string
	customer       string
	period, status string
	statuses       map[string]string
	position, head string
	digestOf       string
	page           string
	noVAT          string
	nothing        string
	country, plan  string
	kind           string
	invoiceName    string
	creditNote     string
	lines          string
	adjustments    string
	currency       string
	total, totalOf string
	counts         string
	exception      string
	reasons        map[string]string
	destination    string
	deck           string
	price, fee     string
	calls, time    string
	amount         string
	brought        string
	carriedOver    string
	linesSum       string
	adjustmentsOf  string
	pool           string

	thousands, point string
	months           [12]string
}

func wordsOf(lang string) words {
	if lang == "it" {
		return italian
	}
	return english
}

var english = words{
	lang: "en", title: "Telephone overage", document1: "Document", draftName: "draft", draftMark: "DRAFT", customer: "Customer", period: "Month", status: "Status",
	statuses: map[string]string{projections.StatusDraft: "draft", projections.StatusIssued: "issued"},
	position: "Position", head: "head", digestOf: "Digest of the document", page: "Page %d of %d", noVAT: "Amounts are without VAT.",
	nothing: "Nobody held a licence in this month, and there is nothing to bill.",
	country: "Country", plan: "Plan", kind: "Type", invoiceName: "Invoice", creditNote: "Credit note", lines: "Lines", adjustments: "Adjustments",
	currency: "Curr.", total: "Total", totalOf: "Total in",
	counts:    "Calls of the month: %s, of them %s free, %s within their pool, %s over it, %s outside.",
	exception: "Not charged: %s, %s (%s min)",
	reasons: map[string]string{
		domain.Dangling: "corrections without their call", domain.Ungranted: "licences that grant nothing",
		domain.Unlicensed: "calls without a licence", domain.Unrated: "calls without a price",
	},
	destination: "Destination", deck: "Rate deck", price: "Per minute", fee: "Per call", calls: "Calls", time: "Min:sec", amount: "Amount",
	brought: "Brought forward", carriedOver: "Carried forward", linesSum: "Lines", adjustmentsOf: "Adjustments of earlier months",
	pool:      "Pool %s: %s min granted, %s used, %s over it",
	thousands: ",", point: ".",
	months: [12]string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"},
}

var italian = words{
	lang: "it", title: "Traffico telefonico a consumo", document1: "Documento", draftName: "bozza", draftMark: "BOZZA", customer: "Cliente", period: "Mese", status: "Stato",
	statuses: map[string]string{projections.StatusDraft: "bozza", projections.StatusIssued: "emesso"},
	position: "Posizione", head: "testa", digestOf: "Impronta del documento", page: "Pagina %d di %d", noVAT: "Importi al netto dell'IVA.",
	nothing: "In questo mese nessuno aveva una licenza: non c'è nulla da addebitare.",
	country: "Paese", plan: "Piano", kind: "Tipo", invoiceName: "Fattura", creditNote: "Nota di credito", lines: "Righe", adjustments: "Rettifiche",
	currency: "Val.", total: "Totale", totalOf: "Totale in",
	counts:    "Chiamate del mese: %s, di cui %s gratuite, %s entro il monte minuti, %s oltre, %s fuori piano.",
	exception: "Non addebitato: %s, %s (%s min)",
	reasons: map[string]string{
		domain.Dangling: "correzioni senza la loro chiamata", domain.Ungranted: "licenze senza minuti",
		domain.Unlicensed: "chiamate senza licenza", domain.Unrated: "chiamate senza tariffa",
	},
	destination: "Destinazione", deck: "Listino", price: "Al minuto", fee: "Scatto", calls: "Chiamate", time: "Min:sec", amount: "Importo",
	brought: "Riporto", carriedOver: "A riportare", linesSum: "Righe", adjustmentsOf: "Rettifiche di mesi precedenti",
	pool:      "Monte minuti %s: %s min assegnati, %s usati, %s oltre",
	thousands: ".", point: ",",
	months: [12]string{"gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno", "luglio", "agosto", "settembre", "ottobre", "novembre", "dicembre"},
}

func (w *words) statusOf(status string) string { return w.statuses[status] }

func (w *words) reason(r string) string { return w.reasons[r] }

func (w *words) typeOf(i *projections.Invoice) string {
	if i.Credit() {
		return w.creditNote
	}
	return w.invoiceName
}

// month is 2026-10 by its name.
func (w *words) month(name string) string {
	year, month, _ := strings.Cut(name, "-")
	n, err := strconv.Atoi(month)
	if err != nil || n < 1 || n > 12 {
		return name
	}
	return w.months[n-1] + " " + year
}

func (w *words) grouped(n int64) string { return w.money(strconv.FormatInt(n, 10)) }

// money is a decimal with its thousands apart.
func (w *words) money(decimal string) string {
	whole, fraction, dot := strings.Cut(decimal, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + w.thousands + whole[i:]
	}
	if dot {
		fraction = w.point + fraction
	}
	return sign + whole + fraction
}

// minutes are seconds as m:ss.
func (w *words) minutes(seconds int64) string {
	sign := ""
	if seconds < 0 {
		sign, seconds = "-", -seconds
	}
	return fmt.Sprintf("%s%s:%02d", sign, w.grouped(seconds/60), seconds%60)
}
