// Package cdr turns the call detail records of foreign switches into canonical
// call events.
//
// A format is one contract: the bytes of a record, the tenant and the
// configuration of the switch go in; a call event or a [Refusal] that names the
// field and the rule comes out. Nothing is guessed on the way: what a record
// does not say clearly is refused, so that it waits in suspense with its bytes
// instead of costing somebody the wrong money. The same bytes give the same
// event, whoever reads them, so a record that is delivered twice is a duplicate.
//
// What a format returns passes the checks of tollbook/domain/cloudevents; FuzzKamailio
// shows it. testdata/kamailio has real records beside what is made of them,
// testdata/numbers.txt every spelling of a number that is understood.
package cdr

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"tollbook/domain"
)

// MaxRecordBytes is the longest record taken. Real ones have 0.5 to 60 KiB.
const MaxRecordBytes = 256 << 10

// A Format reads the records of one kind of switch.
type Format struct {
	name    string
	framing Framing
	read    func(record []byte, tenant string, cfg *domain.SwitchConfig) (domain.Event, error)
	options []option // what SwitchConfig.Options may have

	// check says what of a configuration can't be right beyond each option; nil: nothing.
	check func(cfg *domain.SwitchConfig) error
}

// An option of a format is a text by name.
type option struct {
	name  string
	check func(value string) error // nil: anything goes
}

var formats = map[string]Format{
	kamailioName: {name: kamailioName, framing: Objects, read: readKamailio},
	graphName:    {name: graphName, framing: Pages, read: readGraph, check: graphReport.check},
	teamsName:    {name: teamsName, framing: Table, read: readTeams, check: teamsReport.check},
	csvName:      {name: csvName, framing: Table, read: readCSV, options: tableOptions, check: checkMapping},
	jsonName:     {name: jsonName, framing: Objects, read: readJSON, options: mappingOptions, check: checkMapping},

	freeswitchName:    {name: freeswitchName, framing: Objects, read: readFreeSWITCH, options: freeswitchOptions},
	freeswitchXMLName: {name: freeswitchXMLName, framing: Whole, read: readFreeSWITCHXML, options: freeswitchOptions},

	asteriskName:     {name: asteriskName, framing: Rows, read: readAsterisk, options: asteriskCSVOptions, check: checkAsterisk},
	asteriskJSONName: {name: asteriskJSONName, framing: Objects, read: readAsteriskJSON, options: asteriskOptions, check: checkAsterisk},
	asteriskAMIName:  {name: asteriskAMIName, framing: Objects, read: readAsteriskAMI, options: asteriskOptions, check: checkAsterisk},
	opensipsName:     {name: opensipsName, framing: Objects, read: readOpenSIPS, options: opensipsOptions},
}

// Check says what of a switch's configuration its format can't do with. An
// unknown format is no error: its records say so, and a later version may know it.
func Check(cfg *domain.SwitchConfig) error {
	f, ok := formats[cfg.Format]
	if !ok {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Options)) {
		i := slices.IndexFunc(f.options, func(o option) bool { return o.name == name })
		if i < 0 {
			known := "none"
			if len(f.options) > 0 {
				var names []string
				for _, o := range f.options {
					names = append(names, o.name)
				}
				known = strings.Join(names, ", ")
			}
			return fmt.Errorf("options: %q is no option of format %s, which has %s", name, f.name, known)
		}
		if check := f.options[i].check; check != nil {
			if err := check(cfg.Options[name]); err != nil {
				return fmt.Errorf("options: %s %.80q: %w", name, cfg.Options[name], err)
			}
		}
	}
	if f.check != nil {
		return f.check(cfg)
	}
	return nil
}

// oneOf is the check of an option that is one of some words.
func oneOf(words ...string) func(string) error {
	return func(value string) error {
		if slices.Contains(words, value) {
			return nil
		}
		return fmt.Errorf("must be %s", strings.Join(words, " or "))
	}
}

// Lookup returns the format that SwitchConfig.Format names.
func Lookup(name string) (Format, bool) {
	f, ok := formats[name]
	return f, ok
}

// Names returns the names of all formats, sorted.
func Names() []string { return slices.Sorted(maps.Keys(formats)) }

// Name is what [Lookup] knows the format by.
func (f Format) Name() string { return f.name }

// Read makes a call event of tenant from one record of the switch that cfg
// describes. Its data is a *domain.Call. Every error is a *[Refusal]; the record
// itself decides it, so that reading it again without another cfg is in vain.
// Read keeps no part of record and may be called by many goroutines at once.
func (f Format) Read(record []byte, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	if len(record) > MaxRecordBytes {
		return domain.Event{}, &Refusal{Code: CodeSyntax, Rule: fmt.Sprintf("a record has at most %d bytes; this one has %d", MaxRecordBytes, len(record))}
	}
	e, err := f.read(record, tenant, cfg)
	if err != nil {
		return domain.Event{}, err
	}
	return e, nil
}

// Codes of a [Refusal], fit for domain.Suspended.Reason.
const (
	CodeSyntax = "syntax" // the record is not of the format at all
	CodeField  = "field"  // a field is missing or says what it cannot
	CodeNumber = "number" // a telephone number cannot be read with the switch's dial plan
	CodeTime   = "time"   // a time or a length is missing, out of range or contradicts another
	CodeUser   = "user"   // the switch's template for the user gives none

	// CodeExcluded: the record is understood, and is about what another record bills.
	CodeExcluded = "excluded"
)

// A Refusal says why a record is no call event.
type Refusal struct {
	Code  string // one of the codes above
	Field string // of the record; empty: the record as a whole
	Value string // what the field has, its telephone numbers masked, cut to maxValueBytes
	Rule  string // what was expected, and what to do

	// The event's, where the format has a counter and they were read before: the
	// record came, whatever else is wrong with it.
	Source   string
	Sequence domain.Sequence
}

// Limits of a refusal's parts keep it to one readable line, and below
// domain.MaxReasonBytes with the value quoted.
const (
	maxValueBytes = 64
	maxRuleBytes  = 512
)

// Error is one line.
func (r *Refusal) Error() string {
	if r.Field == "" {
		return r.Rule
	}
	return r.Field + " " + strconv.QuoteToASCII(r.Value) + ": " + r.Rule
}

func refuse(code, field, value, rule string, args ...any) *Refusal {
	// Masked before it is cut: the beginning of a number would pass for a short one.
	value = domain.MaskNumbers(value[:min(len(value), 8*maxValueBytes)])
	if len(value) > maxValueBytes {
		value = strings.ToValidUTF8(value[:maxValueBytes], "") + "..."
	}
	if len(args) > 0 {
		rule = fmt.Sprintf(rule, args...)
	}
	if len(rule) > maxRuleBytes {
		rule = strings.ToValidUTF8(rule[:maxRuleBytes], "") + "..."
	}
	rule = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' ' // a rule may quote the record or the configuration
		}
		return r
	}, rule)
	return &Refusal{Code: code, Field: field, Value: value, Rule: rule}
}

// kindLeg is the kind of a leg that another leg's record bills. Its call is
// inbound, so that it costs nothing, and has the other one's correlation.
const kindLeg = "leg"

// A Reconcile sums what records came to, so that a batch can be compared with
// the switch's own ledger. It counts what it is given: a record given twice
// counts twice.
type Reconcile struct {
	Records      int64
	Answered     int64
	TalkMS       int64                           // sum of billable_ms
	Dispositions [len(domain.Dispositions)]int64 // indexed by domain.Disposition
}

// Add counts an event that [Format.Read] returned.
func (r *Reconcile) Add(e domain.Event) {
	c, ok := e.Data.(*domain.Call)
	if !ok {
		return
	}
	r.Records++
	if c.Kind == kindLeg {
		return // another record has the same talk
	}
	r.TalkMS += c.BillableMS
	r.Dispositions[c.Disposition]++
	if c.Disposition == domain.Answered {
		r.Answered++
	}
}

// String is one line: 60 records, 46 answered, 66.302 s of talk; no_answer 0, busy 7, failed 3, cancelled 4.
func (r *Reconcile) String() string {
	b := fmt.Appendf(nil, "%d records, %d answered, %d.%03d s of talk", r.Records, r.Answered, r.TalkMS/1000, r.TalkMS%1000)
	sep := "; "
	for d, n := range r.Dispositions {
		if domain.Disposition(d) != domain.Answered {
			b = fmt.Appendf(b, "%s%s %d", sep, domain.Disposition(d), n)
			sep = ", "
		}
	}
	return string(b)
}

// visible reports whether s has 1 to limit bytes of visible ASCII, as a source and an id must.
func visible(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
