package cdr

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"tollbook/domain"
)

// readCSV reads a row of a table with a header, by the options of the switch. A
// column that an option names and the table does not have is refused.
func readCSV(record []byte, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	f, refusal := tableRow(record, columnSeparators[cfg.Options["separator"]], trimmed)
	if refusal != nil {
		return domain.Event{}, refusal
	}
	return readMapped(f, true, tenant, cfg)
}

// readJSON reads one JSON object by the options of the switch. A field of an object
// within is named after both, as call.start; at most maxNested deep.
func readJSON(record []byte, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	f, refusal := flatJSON(record)
	if refusal != nil {
		return domain.Event{}, refusal
	}
	f.nested(record)
	return readMapped(f, false, tenant, cfg)
}

// maxNested is how many objects may be around a field.
const maxNested = 4

// nested adds the fields of objects within, and true and false, of a record that
// flatJSON has read. A field that has its name with dots from the beginning stays.
func (f fields) nested(record []byte) {
	d := jsontext.NewDecoder(bytes.NewReader(record))
	var path []string // the names of the objects around
	if _, err := d.ReadToken(); err != nil {
		return
	}
	for {
		name, err := d.ReadToken()
		if err != nil {
			return
		}
		if name.Kind() == jsontext.KindEndObject {
			if len(path) == 0 {
				return
			}
			path = path[:len(path)-1]
			continue
		}
		text := name.String()
		switch kind := d.PeekKind(); {
		case kind == jsontext.KindBeginObject && len(path) < maxNested:
			path = append(path, text)
			_, err = d.ReadToken()
		case kind == jsontext.KindString || kind == jsontext.KindNumber || kind == jsontext.KindTrue || kind == jsontext.KindFalse:
			var value jsontext.Token
			if value, err = d.ReadToken(); err == nil {
				full := strings.Join(append(path, text), ".")
				if _, there := f[full]; !there {
					f[full] = value.String()
				}
			}
		default:
			err = d.SkipValue()
		}
		if err != nil {
			return
		}
	}
}

// readMapped makes the event of a record by the options of its switch:
//
//   - Records whose leave_out fits one of its values are excluded.
//   - source is switch/<switch>, with boot switch/<switch>/<boot>; id is the text of
//     id. Where that is longer than an id may be or not visible ASCII, it is sha256-
//     and the hexadecimal SHA-256 of it.
//   - A call is answered if disposition says so. Without disposition, it is answered
//     if it has a time of its answer; if it has none, it ended as unanswered
//     says, without that as no_answer. An answered call without a time of its answer, and
//     another with one, are refused.
//   - Without answered_at, an answered call was answered at its end less its talk time.
//   - billable_ms is billable, without it the time from answer to end. An end that
//     differs from the answer and billable by more than two seconds is refused.
//   - time is the end; without it that of the answer and billable, or the start.
//   - user is the template's, for an inbound call that of inbound_user. Templates
//     have the fields of the record, and {tenant} unless the record has such a field.
func readMapped(f fields, strict bool, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	m := mappedRecord{fields: f, strict: strict, cfg: cfg}
	m.event.Tenant = tenant
	for _, step := range []func() *Refusal{m.excluded, m.identity, m.kind, m.times, m.numbers, m.user} {
		refusal := step()
		if m.absent != "" {
			refusal = refuse(CodeField, m.absent, "", "the table has no such column, and an option of the switch names it; correct the option, or let the switch record it")
		}
		if refusal != nil {
			return domain.Event{}, refusal
		}
	}
	m.event.Data = &m.call
	return m.event, nil
}

// mappedRecord is a record on its way to the event.
type mappedRecord struct {
	fields
	strict bool // a field that is not there is a mistake
	cfg    *domain.SwitchConfig
	event  domain.Event
	call   domain.Call
	absent string // the first field that was asked for and is not there, where that is a mistake
}

func (m *mappedRecord) field(name string) string {
	text, ok := m.fields[name]
	switch {
	case ok:
		return strings.TrimSpace(text)
	case name == "tenant":
		return m.event.Tenant
	case m.strict && m.absent == "":
		m.absent = name
	}
	return ""
}

// text is what the option named so gives for the record; "": nothing.
func (m *mappedRecord) text(name string) string {
	template := m.cfg.Options[name]
	if template == "" {
		return ""
	}
	text, _ := fill(template, m.field)
	return text
}

// refuse names the field that an option takes its text from, or else the option.
func (m *mappedRecord) refuse(code, name, rule string, args ...any) *Refusal {
	template := m.cfg.Options[name]
	field := name
	if inner, ok := strings.CutPrefix(template, "{"); ok && strings.IndexByte(inner, '}') == len(inner)-1 {
		field = inner[:len(inner)-1]
		if field != name {
			rule = name + ": " + rule
		}
	}
	return refuse(code, field, m.text(name), rule, args...)
}

func (m *mappedRecord) excluded() *Refusal {
	if m.cfg.Options["leave_out"] == "" {
		return nil
	}
	text := m.text("leave_out")
	for pattern := range strings.SplitSeq(m.cfg.Options["leave_out.values"], ";") {
		if fits(strings.TrimSpace(pattern), text) {
			return m.refuse(CodeExcluded, "leave_out", "left out by the switch's options; to write all of them off: "+
				"tollbook suspense write-off --tenant %s --reason %s --source switch/%s --why 'left out'", m.event.Tenant, CodeExcluded, m.cfg.Switch)
		}
	}
	return nil
}

// identity sets source, id, sequence and correlation.
func (m *mappedRecord) identity() *Refusal {
	m.event.Source = "switch/" + m.cfg.Switch
	boot := m.text("boot")
	if boot != "" {
		m.event.Source += "/" + boot
	}
	if strings.Contains(boot, "/") || !visible(m.event.Source, domain.MaxSourceBytes) {
		return m.refuse(CodeField, "boot", "one word of visible ASCII without / is expected, with switch/%.64s/ before it at most %d characters", m.cfg.Switch, domain.MaxSourceBytes)
	}
	if m.event.ID = m.text("id"); m.event.ID == "" {
		return m.refuse(CodeField, "id", "the record has no text for it; let the switch record what identifies a record")
	}
	if !visible(m.event.ID, domain.MaxIDBytes) {
		sum := sha256.Sum256([]byte(m.event.ID))
		m.event.ID = "sha256-" + hex.EncodeToString(sum[:])
	}
	if text := m.text("sequence"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return m.refuse(CodeField, "sequence", "a decimal counter below 2^64 is expected")
		}
		m.event.Sequence = domain.Sequence{N: n, Has: true}
	}
	if text := m.text("correlation"); plainName(text) {
		m.call.Correlation = text
	}
	return nil
}

// kind sets direction, kind and the causes.
func (m *mappedRecord) kind() *Refusal {
	direction, refusal := m.word("direction", directions)
	if refusal != nil {
		return refusal
	}
	m.call.Direction = domain.Direction(direction)
	m.call.Kind = domain.KindUser
	if text := m.text("kind"); text != "" {
		if m.call.Kind = meaning(m.cfg.Options["kind.values"], text); m.call.Kind == "" || !plainName(m.call.Kind) {
			return m.refuse(CodeField, "kind", "kind.values does not say what it means")
		}
	}
	for _, c := range []struct {
		name      string
		low, high uint64
		to        *int32
	}{{"sip_status", 100, 699, &m.call.SIPStatus}, {"q850", 1, 127, &m.call.Q850}} {
		text := m.text(c.name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n != 0 && (n < c.low || n > c.high) {
			return m.refuse(CodeField, c.name, "%d to %d is expected, or 0 for none", c.low, c.high)
		}
		*c.to = int32(n)
	}
	return nil
}

// word is which of words an option and its values make of the record.
func (m *mappedRecord) word(name string, words []string) (int, *Refusal) {
	i := slices.Index(words, meaning(m.cfg.Options[name+".values"], m.text(name)))
	if i < 0 {
		return 0, m.refuse(CodeField, name, "must be %s; say in %s.values what it means", anyOf(words), name)
	}
	return i, nil
}

// times sets disposition, talk time and the event's and the call's times.
func (m *mappedRecord) times() *Refusal {
	times, err := newTimeReader(m.cfg.Options["time"], m.cfg.TimeZone)
	if err != nil {
		return refuse(CodeTime, "time", m.cfg.Options["time"], "the switch's options or time_zone can't be read; publish its configuration again: %v", err)
	}
	var answered, ended, latest domain.Instant
	for _, t := range []struct {
		name string
		to   *domain.Instant
	}{{"started_at", &m.call.StartedAt}, {"answered_at", &answered}, {"ended_at", &ended}} {
		var rule string
		if *t.to, rule = times.read(m.text(t.name), latest); rule != "" {
			return m.refuse(CodeTime, t.name, "%s", rule)
		}
		latest = max(latest, *t.to)
	}
	if refusal := m.disposition(answered); refusal != nil {
		return refusal
	}
	if m.call.EndedAt = ended; m.call.Disposition == domain.Answered {
		if refusal := m.talk(answered, ended); refusal != nil {
			return refusal
		}
	}
	switch {
	case ended != 0:
		m.event.Time = ended
	case m.call.AnsweredAt != 0:
		m.event.Time = m.call.AnsweredAt + domain.Instant(m.call.BillableMS*int64(time.Millisecond))
	default:
		m.event.Time = m.call.StartedAt
	}
	if m.event.Time == 0 || m.event.Time >= domain.MaxInstant {
		return refuse(CodeTime, "", "", "the record has no time: neither ended_at nor answered_at nor started_at has text")
	}
	return nil
}

func (m *mappedRecord) disposition(answered domain.Instant) *Refusal {
	o := m.cfg.Options
	switch {
	case o["disposition"] != "":
		d, refusal := m.word("disposition", dispositions)
		if refusal != nil {
			return refusal
		}
		m.call.Disposition = domain.Disposition(d)
		if m.call.Disposition != domain.Answered && answered != 0 {
			return m.refuse(CodeTime, "answered_at", "the call ended as %s and yet was answered", m.call.Disposition)
		}
		if m.call.Disposition == domain.Answered && answered == 0 && o["answered_at"] != "" {
			return m.refuse(CodeTime, "answered_at", "the call was answered, and the time of it is missing")
		}
	case answered != 0:
		m.call.Disposition = domain.Answered
	case o["unanswered"] != "":
		d, refusal := m.word("unanswered", unanswered)
		if refusal != nil {
			return refusal
		}
		m.call.Disposition = domain.NoAnswer + domain.Disposition(d)
	default:
		m.call.Disposition = domain.NoAnswer
	}
	return nil
}

// talk sets the times and the talk time of an answered call.
func (m *mappedRecord) talk(answered, ended domain.Instant) *Refusal {
	from, talk := "ended_at", int64(ended-answered)
	if m.cfg.Options["billable"] != "" {
		from = "billable"
		unit := cmp.Or(m.cfg.Options["billable.unit"], "s")
		var ok bool
		if talk, ok = lengthOf(m.text("billable"), unit); !ok {
			return m.refuse(CodeTime, "billable", "%s expected (billable.unit is %s)", lengthUnits[unit], unit)
		}
	}
	derived := m.cfg.Options["answered_at"] == ""
	switch {
	case ended == 0 && (derived || from == "ended_at"):
		return m.refuse(CodeTime, "ended_at", "the call was answered, and its end is missing")
	case talk < 0:
		return m.refuse(CodeTime, "ended_at", "the call ended at %s, before its answer at %s", ended, answered)
	case milliseconds(talk) > domain.MaxBillableMS:
		return m.refuse(CodeTime, from, "more than 48 hours of talk, a broken record; look at the units")
	case derived:
		answered = max(ended-domain.Instant(talk), domain.MinInstant)
	}
	if ended != 0 && apart(talk, int64(ended-answered)) {
		return m.refuse(CodeTime, "billable", "differs from ended_at − answered_at by more than 2 s; is it another length, such as with ringing, or another unit?")
	}
	m.call.AnsweredAt, m.call.BillableMS = answered, milliseconds(talk)
	return nil
}

// numbers sets the calling and the called number.
func (m *mappedRecord) numbers() (refusal *Refusal) {
	plan := NewDialPlan(m.cfg)
	read := func(name string, read func(string) (domain.Number, error)) (n domain.Number) {
		if refusal != nil {
			return n
		}
		n, err := read(m.text(name))
		if err != nil {
			refusal = m.refuse(CodeNumber, name, "%v", err)
		}
		return n
	}
	m.call.Called = read("called", plan.Called)
	m.call.Calling = read("calling", plan.Calling)
	return refusal
}

// user sets whose licence pays.
func (m *mappedRecord) user() (refusal *Refusal) {
	template := m.cfg.User
	if m.call.Direction == domain.Inbound {
		if template = m.cfg.Options["inbound_user"]; template == "" {
			return nil
		}
	}
	m.call.User, refusal = userOf(template, m.field)
	return refusal
}

// plainName reports whether s can be a name in an event.
func plainName(s string) bool {
	return len(s) <= domain.MaxNameBytes && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
