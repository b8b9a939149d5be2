package web

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"tollbook/api"
	"tollbook/api/finance"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/projections"
)

func (p *Page) suspense(q *request) error {
	values := q.URL.Query()
	at, err := position(values, "position")
	if err != nil {
		return err
	}
	if at != 0 {
		return p.showRecord(q, http.StatusOK, at, nil, nil)
	}
	ask := api.SuspenseRequest{Tenant: q.view.Tenant, Reason: values.Get("reason"), Source: values.Get("source")}
	if ask.After, err = position(values, "after"); err != nil {
		return err
	}
	return p.showSuspense(q, http.StatusOK, ask)
}

func (p *Page) showSuspense(q *request, status int, ask api.SuspenseRequest) error {
	doc, err := p.Desk.Suspended(q.Context(), ask)
	if err != nil {
		return err
	}
	body := struct {
		Document             api.SuspenseDocument
		Reason, Source, Next string
		Filtered             bool
	}{Document: doc, Reason: ask.Reason, Source: ask.Source, Filtered: ask.Reason != "" || ask.Source != ""}
	if doc.Next != 0 {
		body.Next = "?" + string(query("reason", ask.Reason, "source", ask.Source, "after", strconv.FormatUint(doc.Next, 10)))
	}
	return p.show(q, status, "suspense", q.l.t("Suspense"), body)
}

// A recordView is a record with what was tried of it.
type recordView struct {
	Document    api.RecordDocument
	Raw, Edited string
	Text        bool   // it can be edited as text
	Edit        string // what stands in the form
	Why         string
	Tried       bool // Outcomes are what would become of it
	Outcomes    []consumers.Outcome
}

func (p *Page) showRecord(q *request, status int, at uint64, form url.Values, outcomes []consumers.Outcome) error {
	doc, err := p.Desk.Record(q.Context(), q.view.Tenant, at)
	if err != nil {
		return err
	}
	body := recordView{Document: doc, Raw: printable(doc.Raw), Edited: printable(doc.Edited), Outcomes: outcomes}
	// A form writes three letters for some.
	body.Text = len(doc.Raw) <= maxForm/4 && utf8.Valid(doc.Raw) && !strings.ContainsRune(string(doc.Raw), 0)
	body.Edit, body.Tried = string(doc.Raw), status == http.StatusOK
	if form != nil {
		body.Edit, body.Why = form.Get("edited"), form.Get("why")
	}
	return p.show(q, status, "record", q.l.t("Record %s", q.l.num(at)), body)
}

// printable is text, or Go's quoted form of what is none.
func printable(raw []byte) string {
	if utf8.Valid(raw) {
		return string(raw)
	}
	return strconv.Quote(string(raw))
}

// edited is the record as the form has it; nil: as it came. Forms write lines with
// CR and LF, whatever they were.
func edited(form url.Values, raw []byte) []byte {
	text := form.Get("edited")
	if text == "" {
		return nil
	}
	if !strings.Contains(string(raw), "\r\n") {
		text = strings.ReplaceAll(text, "\r\n", "\n")
	}
	if text == string(raw) {
		return nil
	}
	return []byte(text)
}

// resolve recycles or writes off: the record named, or all that are of a reason
// and a source.
func (p *Page) resolve(q *request) error {
	if err := q.ParseForm(); err != nil {
		return err
	}
	form, v := q.PostForm, q.view
	at, err := position(q.URL.Query(), "position")
	if err != nil {
		return err
	}
	do := form.Get("do")
	ask := api.ResolveRequest{Why: strings.TrimSpace(form.Get("why")), DryRun: do == "try"}
	if at != 0 {
		record, err := p.Desk.Record(q.Context(), v.Tenant, at)
		if err != nil {
			return err
		}
		ask.Positions = []uint64{at}
		if do != "write-off" {
			ask.Edited = edited(form, record.Raw)
		}
	} else {
		// Only those that were shown: what came since stays.
		upTo, err := position(form, "up_to")
		if err != nil {
			return err
		}
		ask.Of = &api.SuspenseRequest{Tenant: v.Tenant, Reason: form.Get("reason"), Source: form.Get("source"), UpTo: upTo}
	}
	var doc api.ResolveDocument
	switch do {
	case "try", "recycle":
		doc, err = p.Desk.Recycle(q.Context(), q.person, ask)
	case "write-off":
		doc, err = p.Desk.WriteOff(q.Context(), v.Person, ask)
	default:
		err = &finance.Error{Status: http.StatusBadRequest, Detail: "do: must be try, recycle or write-off"}
	}
	var e *finance.Error
	if errors.As(err, &e) && e.Status < 500 {
		v.Said, v.Failed = e.Detail, true
		if at != 0 {
			return p.showRecord(q, e.Status, at, form, nil)
		}
		return p.showSuspense(q, e.Status, *ask.Of)
	}
	if err != nil {
		return err
	}
	if at != 0 && (ask.DryRun || doc.Counts[consumers.OutcomeRefused] > 0) {
		status := http.StatusOK
		if !ask.DryRun {
			status = http.StatusConflict
		}
		return p.showRecord(q, status, at, form, doc.Outcomes)
	}
	said := q.counted(doc.Counts)
	if ask.DryRun {
		v.Said = q.l.t("If they were recycled now:") + " " + said
		return p.showSuspense(q, http.StatusOK, *ask.Of)
	}
	to := "/" + v.Tenant + "/suspense"
	if at != 0 {
		to = q.URL.RequestURI()
	}
	return q.seeOther(to, said)
}

// counted says what became of records.
func (q *request) counted(counts map[string]int) string {
	var parts []string
	for _, status := range []string{consumers.OutcomeBooked, consumers.OutcomeDuplicate, consumers.OutcomeWrittenOff, consumers.OutcomeRefused} {
		if n := counts[status]; n > 0 {
			parts = append(parts, q.l.num(n)+" "+q.l.t(outcomes[status]))
		}
	}
	if len(parts) == 0 {
		return q.l.t("There was nothing to do.")
	}
	return strings.Join(parts, ", ") + "."
}

func (p *Page) gaps(q *request) error {
	return p.show(q, http.StatusOK, "gaps", q.l.t("Gaps"), p.Desk.GapsOf(q.view.Tenant, q.URL.Query().Get("source")))
}

// again shows a page once more, with why a form did not do.
func (p *Page) again(q *request, err error, show func(*request) error) error {
	var e *finance.Error
	if !errors.As(err, &e) || e.Status >= 500 {
		return err
	}
	q.view.Said, q.view.Failed, q.failed = e.Detail, true, e.Status
	return show(q)
}

func (p *Page) waiveGap(q *request) error {
	if err := q.ParseForm(); err != nil {
		return err
	}
	form := q.PostForm
	ask := api.WaiveRequest{Tenant: q.view.Tenant, Source: form.Get("source"), Why: strings.TrimSpace(form.Get("why"))}
	for name, n := range map[string]*projections.Number{"from": &ask.From, "to": &ask.To} {
		if err := n.UnmarshalText([]byte(form.Get(name))); err != nil {
			return &finance.Error{Status: http.StatusBadRequest, Detail: name + ": must be a number of the source"}
		}
	}
	doc, err := p.Desk.WaiveGap(q.Context(), q.view.Person, ask)
	if err != nil {
		return p.again(q, err, p.gaps)
	}
	return q.seeOther(q.URL.RequestURI(), q.l.t("%s to %s of %s are given up.", q.l.num(doc.From), q.l.num(doc.To), doc.Source))
}

// A monthExceptions is what of a month could not be charged.
type monthExceptions struct {
	Month      string
	Issued     bool
	Exceptions []waivable
}

type waivable struct {
	projections.Exception
	Waived int64
}

func (p *Page) exceptions(q *request) error {
	var body []monthExceptions
	for _, m := range q.view.Months {
		statement, err := p.Desk.Month(q.Context(), q.view.Tenant, m.Month, 0)
		if err != nil {
			return err
		}
		one := monthExceptions{Month: m.Month, Issued: statement.Status == projections.StatusIssued}
		month, err := domain.ParseMonth(m.Month)
		if err != nil {
			return err
		}
		for _, e := range statement.Exceptions {
			_, waived := p.Desk.Months.Exceptions(q.view.Tenant, month, e.Reason)
			one.Exceptions = append(one.Exceptions, waivable{e, waived})
		}
		if len(one.Exceptions) > 0 {
			body = append(body, one)
		}
	}
	return p.show(q, http.StatusOK, "exceptions", q.l.t("Exceptions"), body)
}

func (p *Page) waiveException(q *request) error {
	if err := q.ParseForm(); err != nil {
		return err
	}
	form := q.PostForm
	doc, err := p.Desk.WaiveException(q.Context(), q.view.Person, api.ExceptionRequest{
		Tenant: q.view.Tenant, Month: form.Get("month"), Exception: form.Get("exception"), Why: strings.TrimSpace(form.Get("why")),
	})
	if err != nil {
		return p.again(q, err, p.exceptions)
	}
	return q.seeOther(q.URL.RequestURI(), q.l.t("%s: %s accepted.", q.l.t(exceptions[doc.Exception]), q.l.num(doc.Count)))
}

// A checked document is one that was made again.
type checked struct {
	Number      string
	Problem     string
	Differences []projections.Difference
}

func (p *Page) documents(q *request) error { return p.showDocuments(q, nil) }

func (p *Page) showDocuments(q *request, one *checked) error {
	doc, err := p.Desk.Documents(q.view.Tenant)
	if err != nil {
		return err
	}
	slices.Reverse(doc.Documents) // the newest first
	return p.show(q, http.StatusOK, "documents", q.l.t("Documents"), struct {
		api.IssuesDocument
		Checked *checked
	}{doc, one})
}

// replay makes an issued document again from the book.
func (p *Page) replay(q *request) error {
	if err := q.ParseForm(); err != nil {
		return err
	}
	issue, err := p.Desk.Check(q.Context(), q.view.Tenant, q.PostForm.Get("month"))
	if err != nil {
		return p.again(q, err, p.documents)
	}
	one := &checked{Number: issue.Number, Differences: issue.Differences()}
	if err := issue.Check(); err != nil {
		one.Problem = err.Error()
	}
	return p.showDocuments(q, one)
}
