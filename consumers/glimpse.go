package consumers

import (
	"math/big"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"tollbook/consumers/cdr"
	"tollbook/domain"
)

// maxGlimpsed is how long a record may be that is looked into. Calls have a
// fraction of it; what is longer is a deck, or many records in one.
const maxGlimpsed = 64 << 10

// Where switches and events keep what a call costs by, the first that is there.
var (
	calledFields  = []string{"called", "called_to", "called_number", "destination_number", "destination", "dst", "callee"}
	userFields    = []string{"user", "caller_pai", "caller", "src"}
	secondsFields = []string{"billsec", "duration"}
	timeFields    = []string{"answered_at", "answer_time", "started_at", "start_time", "time"}
)

// Glimpse reads what it can of a suspended record: events and CDRs in JSON, by
// the names fields usually have. It is for estimates and lists, never for a bill.
func (s *Switches) Glimpse(e *domain.Event, data *domain.Suspended) domain.Glimpse {
	var g domain.Glimpse
	plan := &domain.SwitchConfig{}
	if _, rest, err := parseSubject(data.Subject); err == nil && len(rest) == 3 && rest[0] == "cdr" {
		g.Source = "switch/" + rest[2]
		s.mu.RLock()
		if config := s.configs[switchKey{e.Tenant, rest[2]}]; config != nil {
			plan = config
		}
		s.mu.RUnlock()
	}
	m, err := messageAgain(data.Subject, data.Raw)
	if err != nil || len(m.Payload) > maxGlimpsed {
		return g
	}
	g.Source, g.ID = orText(printable(m.Header("ce-source")), g.Source), printable(m.Header("ce-id"))
	record := object(m.Payload)
	fields := record
	for _, inner := range []string{"data", "call"} {
		if deeper := object(fields[inner]); deeper != nil {
			fields = deeper
		}
	}
	g.Source = orText(printable(textOf(record, "source")), g.Source)
	g.ID = orText(printable(textOf(record, "id", "callid")), g.ID)
	g.User = textOf(fields, userFields...)
	called := textOf(fields, calledFields...)
	if g.Called, err = cdr.NewDialPlan(plan).Called(called); err != nil {
		g.Called = unplanned(called)
	}
	if g.BillableMS = thousandths(textOf(fields, "billable_ms")) / 1000; g.BillableMS == 0 {
		g.BillableMS = thousandths(textOf(fields, secondsFields...))
	}
	if g.BillableMS > domain.MaxBillableMS {
		g.BillableMS = 0 // as broken as no length at all
	}
	for _, in := range []map[string]jsontext.Value{fields, record} {
		at, err := time.Parse(time.RFC3339, textOf(in, timeFields...))
		// An Instant does not hold all times there are.
		if err == nil && g.At == 0 && !at.Before(domain.MinInstant.Time()) && at.Before(domain.MaxInstant.Time()) {
			g.At = domain.InstantOf(at)
		}
	}
	return g
}

// unplanned reads an international number that the dial plan gives up on: behind
// 00, or of so many digits that hardly a country has longer ones of its own. With
// one zero before it, a number is a country's own, and nobody knows whose.
func unplanned(called string) domain.Number {
	e164, abroad := strings.CutPrefix(called, "00")
	if !abroad && (strings.HasPrefix(called, "0") || len(called) < 11) {
		return domain.Number{}
	}
	n, err := domain.ParseNumber("+" + e164)
	if err != nil {
		return domain.Number{}
	}
	return n
}

// orText is s, or where that is empty, other.
func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// printable is s where it could be a source or an id.
func printable(s string) string {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return ""
		}
	}
	if len(s) > domain.MaxIDBytes {
		return ""
	}
	return s
}

// object reads a JSON object; nil where it is none.
func object(raw []byte) (members map[string]jsontext.Value) {
	if json.Unmarshal(raw, &members, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) != nil {
		return nil
	}
	return members
}

// textOf is the first of the members that is a text or a number, not empty, and
// no longer than a name: what is known of a record stays in memory.
func textOf(members map[string]jsontext.Value, names ...string) string {
	for _, name := range names {
		value := members[name]
		text := []byte(value)
		switch value.Kind() {
		case '0':
		case '"':
			var err error
			if text, err = jsontext.AppendUnquote(nil, value); err != nil {
				continue
			}
		default:
			continue
		}
		if len(text) > 0 && len(text) <= domain.MaxNameBytes {
			return string(text)
		}
	}
	return ""
}

// thousandths is 1000 times a decimal number, rounded up; 0 where it is none
// that could be a length of time.
func thousandths(text string) int64 {
	if len(text) > 32 || strings.Trim(text, "0123456789.") != "" {
		return 0
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return 0
	}
	r.Mul(r, big.NewRat(1000, 1))
	up := new(big.Int).Add(r.Num(), new(big.Int).Sub(r.Denom(), big.NewInt(1)))
	if up.Quo(up, r.Denom()); !up.IsInt64() {
		return 0
	}
	return up.Int64()
}
