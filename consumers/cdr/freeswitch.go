package cdr

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tollbook/domain"
)

const (
	freeswitchName    = "freeswitch"
	freeswitchXMLName = "freeswitch-xml"
)

// freeswitchOptions are those of both formats of FreeSWITCH.
var freeswitchOptions = []option{
	{name: "direction", check: func(value string) error {
		if !visible(value, domain.MaxNameBytes) {
			return fmt.Errorf("must be the name of a channel variable, such as %s", defaultDirection)
		}
		return nil
	}},
	{name: "inbound_contexts", check: func(value string) error {
		if slices.Contains(contexts(value), "") {
			return errors.New("must be names of dialplan contexts between commas, such as public,from-carrier")
		}
		return nil
	}},
}

// What the options are where the configuration has none.
const (
	defaultDirection = "tollbook_direction"
	defaultInbound   = "public"
)

func contexts(list string) []string {
	names := strings.Split(list, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	return names
}

// A freeswitchLeg is a record of FreeSWITCH, whichever module wrote it. Each leg
// of a call has one; both are booked, as both are counted, and one is billed.
//
//   - id is the variable uuid, source switch/<switch>/<core-uuid>, and session_id
//     the sequence: core-uuid is one start of the switch, session_id counts its legs
//     from 1. Where either is missing, the source is switch/<switch> without sequence.
//   - The leg that FreeSWITCH made to reach somebody (the B leg: channel_data says
//     outbound, or it has an originator) is of kind leg and inbound: it can't
//     cost, whoever its user is. Its correlation is the uuid of the leg it was made for,
//     which is that leg's own correlation too. Both halves of a loopback channel
//     are such legs. A leg that FreeSWITCH made for nobody, by an originate command, is
//     one as well, unless its direction variable makes it a customer's call.
//   - The direction of any other leg is what the variable says that the option
//     direction names. Where there is no such variable, a call that came into a
//     context of inbound_contexts is inbound, any other outbound. That is the oldest
//     entry of callflow, as a transfer adds a newer one.
//   - Times are *_uepoch. The leg was answered if answer_uepoch is not 0; billable_ms
//     is billusec without what is less than one.
//   - called is destination_number: of an outbound call the newest of callflow,
//     where the dialplan sent it; of an inbound one the oldest, which the trunk dialled.
//     calling is sip_P-Asserted-Identity, where that is a number, else the newest
//     caller_id_number. A B leg that goes to no number has its originator's; one with
//     no number to call from counts as withheld.
//   - user is the template's, over all variables, caller_id_number and
//     destination_number (both the newest), and {tenant}. For an inbound call the two
//     sides change places. What can't cost needs no user.
//
// Percent-encoding is undone exactly once, in every variable, whatever
// encode-values is: FreeSWITCH leaves %2B alone when it encodes, so that a text that
// had it and one with + look the same in an encoded record, and must not differ in
// the other. Bytes that are no UTF-8 become U+FFFD, and a field with that neither
// names a user nor is a number or an id.
type freeswitchLeg struct {
	fields    // the variables, percent-decoded
	coreUUID  string
	direction string              // of channel_data: of the leg, not of the customer's call
	callflow  []freeswitchProfile // the newest first

	cfg   *domain.SwitchConfig
	b     bool // it can't cost
	event domain.Event
	call  domain.Call
}

// A freeswitchProfile is the caller profile of one passage through the dialplan.
type freeswitchProfile struct {
	caller, called, context string
	originator, dialled     string // of a B leg: whose it is, and what that one called
}

// field is where a field of the caller profile is kept; nil: it is not.
func (p *freeswitchProfile) field(name string) *string {
	switch name {
	case "caller_id_number":
		return &p.caller
	case "destination_number":
		return &p.called
	case "context":
		return &p.context
	}
	return nil
}

// originatorField is the same of its originator's profile, of which the first counts.
func (p *freeswitchProfile) originatorField(name string) *string {
	switch name {
	case "uuid":
		return &p.originator
	case "destination_number":
		return &p.dialled
	}
	return nil
}

// read makes the event of a leg whose parts have been taken out of the record.
func (l *freeswitchLeg) read(tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	l.cfg = cfg
	for name, value := range l.fields {
		l.fields[name] = freeswitchDecoded(value)
	}
	for i := range l.callflow {
		p := &l.callflow[i]
		p.caller, p.called, p.dialled = sipDecoded(p.caller), sipDecoded(p.called), sipDecoded(p.dialled)
	}
	if len(l.callflow) > 0 {
		l.fields["caller_id_number"], l.fields["destination_number"] = l.callflow[0].caller, l.callflow[0].called
	}
	if l.fields["tenant"] == "" {
		l.fields["tenant"] = tenant
	}
	l.event.Tenant = tenant
	for _, step := range []func() *Refusal{l.side, l.identity, l.times, l.outcome, l.numbers, l.user} {
		if refusal := step(); refusal != nil {
			refusal.Source, refusal.Sequence = l.event.Source, l.event.Sequence
			return domain.Event{}, refusal
		}
	}
	l.event.Data = &l.call
	return l.event, nil
}

// side tells what can cost from what can't, and sets direction and kind.
func (l *freeswitchLeg) side() *Refusal {
	switch l.direction {
	case "inbound", "outbound":
	default:
		return refuse(CodeField, "channel_data.direction", l.direction, "inbound or outbound is expected: the record is cut, or none of FreeSWITCH")
	}
	name := l.cfg.Options["direction"]
	if name == "" {
		name = defaultDirection
	}
	said := l.fields[name]
	_, maker := l.maker()
	made := maker != "" || l.fields["is_loopback"] != ""
	l.call.Direction, l.call.Kind = domain.Inbound, domain.KindUser
	switch {
	case made, l.direction == "outbound" && said == "":
		l.b, l.call.Kind = true, kindLeg
		return nil
	case said == domain.Outbound.String():
		l.call.Direction = domain.Outbound
		return nil
	case said == domain.Inbound.String():
		return nil
	case said != "":
		return refuse(CodeField, name, said, "outbound or inbound is expected, as the tenant sees the call")
	}
	inbound := l.cfg.Options["inbound_contexts"]
	if inbound == "" {
		inbound = defaultInbound
	}
	if len(l.callflow) == 0 || l.callflow[len(l.callflow)-1].context == "" {
		return refuse(CodeField, "callflow.context", "", "the context that the call came into is missing, and so is the variable %s: one of them says the direction", name)
	}
	if !slices.Contains(contexts(inbound), l.callflow[len(l.callflow)-1].context) {
		l.call.Direction = domain.Outbound
	}
	return nil
}

// identity sets source, id, sequence and correlation.
func (l *freeswitchLeg) identity() *Refusal {
	l.event.Source = "switch/" + l.cfg.Switch
	if session := l.fields["session_id"]; session != "" && l.coreUUID != "" {
		n, err := strconv.ParseUint(session, 10, 64)
		if err != nil {
			return refuse(CodeField, "session_id", session, "a decimal counter is expected")
		}
		if strings.Contains(l.coreUUID, "/") {
			return refuse(CodeField, "core-uuid", l.coreUUID, "one word without / is expected")
		}
		l.event.Sequence = domain.Sequence{N: n, Has: true}
		l.event.Source += "/" + l.coreUUID
	}
	if !visible(l.event.Source, domain.MaxSourceBytes) {
		return refuse(CodeField, "core-uuid", l.coreUUID, "with switch/%.64s/ before it, at most %d characters of visible ASCII are expected", l.cfg.Switch, domain.MaxSourceBytes)
	}
	id, refusal := l.need(CodeField, "uuid")
	if refusal == nil {
		refusal = l.isUUID("uuid", id)
	}
	if refusal != nil {
		return refusal
	}
	l.event.ID, l.call.Correlation = id, id
	if !l.b {
		return nil
	}
	if name, uuid := l.maker(); uuid != "" {
		l.call.Correlation = uuid
		return l.isUUID(name, uuid)
	}
	return nil
}

// maker is the leg that a leg was made for, and the field that names it. A leg
// that came in has an originator's profile too, once it was connected to another by
// hand; it was not made for that one.
func (l *freeswitchLeg) maker() (name, uuid string) {
	for _, name := range []string{"originating_leg_uuid", "originator"} {
		if uuid := l.fields[name]; uuid != "" {
			return name, uuid
		}
	}
	for _, p := range l.callflow {
		if p.originator != "" && l.direction == "outbound" {
			return "callflow.originator.uuid", p.originator
		}
	}
	return "", ""
}

// isUUID refuses what can't name a leg. An originate command may give a leg any name.
func (l *freeswitchLeg) isUUID(name, uuid string) *Refusal {
	if !visible(uuid, min(domain.MaxIDBytes, domain.MaxNameBytes)) || strings.HasPrefix(uuid, freeswitchArray) {
		return refuse(CodeField, name, uuid, "one uuid of a leg is expected, at most %d characters of visible ASCII", min(domain.MaxIDBytes, domain.MaxNameBytes))
	}
	return nil
}

// times sets the event's and the call's times, and the talk time of an answered leg.
func (l *freeswitchLeg) times() *Refusal {
	for _, t := range []struct {
		name string
		to   *domain.Instant
	}{
		{"start_uepoch", &l.call.StartedAt}, {"answer_uepoch", &l.call.AnsweredAt}, {"end_uepoch", &l.call.EndedAt},
	} {
		us, refusal := l.microseconds(t.name)
		if refusal != nil {
			return refusal
		}
		if *t.to = domain.Instant(us * int64(time.Microsecond)); *t.to != 0 && (*t.to < domain.MinInstant || *t.to >= domain.MaxInstant) {
			return refuse(CodeTime, t.name, l.fields[t.name], "not between 2000 and 2200; look at the switch's clock")
		}
	}
	if l.call.EndedAt == 0 {
		return refuse(CodeTime, "end_uepoch", l.fields["end_uepoch"], "the time the leg ended is missing")
	}
	l.event.Time = l.call.EndedAt
	us, refusal := l.microseconds("billusec")
	switch {
	case refusal != nil:
		return refusal
	case l.call.AnsweredAt == 0 && us != 0:
		return refuse(CodeTime, "billusec", l.fields["billusec"], "the leg has talk time and yet no answer: answer_uepoch is 0")
	case l.call.AnsweredAt == 0:
		return nil
	}
	talk := us * int64(time.Microsecond)
	if apart(talk, int64(l.call.EndedAt-l.call.AnsweredAt)) {
		return refuse(CodeTime, "billusec", l.fields["billusec"], "differs from end_uepoch − answer_uepoch by more than 2 s; look at the switch's clock")
	}
	l.call.BillableMS = milliseconds(talk)
	if l.call.BillableMS > domain.MaxBillableMS {
		return refuse(CodeTime, "billusec", l.fields["billusec"], "%d ms of talk are more than 48 hours, a broken record", l.call.BillableMS)
	}
	return nil
}

// microseconds reads a field that FreeSWITCH always writes.
func (l *freeswitchLeg) microseconds(name string) (int64, *Refusal) {
	text, refusal := l.need(CodeTime, name)
	if refusal != nil {
		return 0, refusal
	}
	const most = uint64(domain.MaxInstant) / uint64(time.Microsecond)
	us, err := strconv.ParseUint(text, 10, 64)
	if err != nil || us > most {
		return 0, refuse(CodeTime, name, text, "microseconds are expected, such as 1795384048267438")
	}
	return int64(us), nil
}

// outcome sets disposition, Q.850 cause and SIP status.
func (l *freeswitchLeg) outcome() *Refusal {
	answered := l.call.AnsweredAt != 0
	q850, refusal := l.code("hangup_cause_q850", 1, 127)
	if refusal != nil {
		return refusal
	}
	status, refusal := l.code("sip_term_status", 100, 699)
	if refusal != nil {
		return refusal
	}
	if status == 0 && !answered { // else of an attempt before the one that was answered
		if status, refusal = l.code("sip_invite_failure_status", 100, 699); refusal != nil {
			return refusal
		}
	}
	l.call.Q850, l.call.SIPStatus = q850, status
	if !answered {
		l.call.Disposition = freeswitchUnanswered(l.fields["hangup_cause"], q850, status)
	}
	return nil
}

// code reads a number that is only information; 0 and a missing one say nothing.
func (l *freeswitchLeg) code(name string, least, most uint64) (int32, *Refusal) {
	text := l.fields[name]
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n > most || n != 0 && n < least {
		return 0, refuse(CodeField, name, text, "a number from %d to %d is expected", least, most)
	}
	return int32(n), nil
}

// freeswitchUnanswered is the disposition of a leg without an answer. FreeSWITCH's
// own cause says most; CALL_REJECTED is also what it makes of 403.
func freeswitchUnanswered(cause string, q850, status int32) domain.Disposition {
	switch cause {
	case "USER_BUSY", "BUSY_EVERYWHERE", "DECLINE":
		return domain.Busy
	case "ORIGINATOR_CANCEL", "LOSE_RACE", "PICKED_OFF":
		return domain.Cancelled
	case "NO_ANSWER", "NO_USER_RESPONSE", "SUBSCRIBER_ABSENT", "RECOVERY_ON_TIMER_EXPIRE", "PROGRESS_TIMEOUT", "ALLOTTED_TIMEOUT":
		return domain.NoAnswer
	}
	switch {
	case status == 486, status == 600, status == 603, q850 == 17:
		return domain.Busy
	case status == 487:
		return domain.Cancelled
	case status == 408, status == 480, q850 == 18, q850 == 19, q850 == 20:
		return domain.NoAnswer
	}
	return domain.Failed
}

// numbers sets the calling and the called number.
func (l *freeswitchLeg) numbers() *Refusal {
	plan := NewDialPlan(l.cfg)
	if len(l.callflow) == 0 {
		return refuse(CodeNumber, "callflow.destination_number", "", "the record has no callflow, and so no number that was called")
	}
	newest, oldest := l.callflow[0], l.callflow[len(l.callflow)-1]
	called := newest.called
	if !l.b && l.call.Direction == domain.Inbound {
		called = oldest.called
	}
	var err error
	l.call.Called, err = plan.Called(called)
	if err != nil && l.b {
		if number, otherErr := plan.Called(newest.dialled); otherErr == nil {
			l.call.Called, err = number, nil
		}
	}
	if err != nil {
		return refuse(CodeNumber, "callflow.destination_number", called, "%v", err)
	}
	if asserted := sipDecoded(l.fields["sip_P-Asserted-Identity"]); asserted != "" && !l.b {
		if l.call.Calling, err = plan.Calling(asserted); err == nil && !l.call.Calling.Anonymous() {
			return nil
		}
	}
	l.call.Calling, err = plan.Calling(newest.caller)
	if err != nil && l.b {
		l.call.Calling, err = domain.Number{}, nil
	}
	if err != nil {
		return refuse(CodeNumber, "callflow.caller_id_number", newest.caller, "%v", err)
	}
	return nil
}

// freeswitchOtherSide is what a field of the template stands for in an inbound call.
var freeswitchOtherSide = map[string]string{
	"caller_id_number": "destination_number", "destination_number": "caller_id_number",
	"sip_from_user": "sip_to_user", "sip_to_user": "sip_from_user",
	"sip_from_host": "sip_to_host", "sip_to_host": "sip_from_host",
	"sip_from_uri": "sip_to_uri", "sip_to_uri": "sip_from_uri",
	"sip_P-Asserted-Identity": "destination_number",
}

// user sets whose licence pays. Of a B leg the sides stay as they are: it is
// inbound so that it can't cost, not because somebody called in.
func (l *freeswitchLeg) user() *Refusal {
	user, refusal := userOf(l.cfg.User, func(name string) string {
		if l.call.Direction == domain.Inbound && !l.b {
			if other, ok := freeswitchOtherSide[name]; ok {
				name = other
			}
		}
		text := l.fields[name]
		if strings.EqualFold(text, "anonymous") || strings.HasPrefix(text, freeswitchArray) || strings.ContainsRune(text, utf8.RuneError) {
			return ""
		}
		return text
	})
	if refusal != nil && l.call.Direction == domain.Outbound {
		return refusal
	}
	l.call.User = user
	return nil
}

// freeswitchArray begins a variable that has several values. They are no one's name.
const freeswitchArray = "ARRAY::"

// freeswitchDecoded undoes the percent-encoding of a variable once, as
// switch_url_encode does it: with capital letters. Any other % stays.
func freeswitchDecoded(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	const hexadecimal = "0123456789ABCDEF"
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, low := strings.IndexByte(hexadecimal, s[i+1]), strings.IndexByte(hexadecimal, s[i+2])
			if high >= 0 && low >= 0 {
				b = append(b, byte(high<<4|low))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	if utf8.Valid(b) {
		return string(b)
	}
	return string([]rune(string(b))) // each byte that is no UTF-8 becomes U+FFFD, as in a record that is not encoded
}
