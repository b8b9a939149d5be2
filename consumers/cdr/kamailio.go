package cdr

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tollbook/domain"
)

const kamailioName = "kamailio"

// maxContradiction is by how much two statements of a record about the same
// length may differ; spec/events.md allows a call event no more.
const maxContradiction = int64(2 * time.Second)

// readKamailio reads one CDR of Kamailio's acc_json module, as the dialog-based
// accounting of Kamailio 5.6 writes it, with the fields that the routing script
// adds by cdr_extra:
//
//	start_time, end_time, duration        of the module itself; seconds with decimals
//	callid, from_tag                      required
//	cseq                                  the number of the INVITE
//	direction                             required: outbound or inbound
//	caller, caller_pai, called, called_to users of From, P-Asserted-Identity, request URI and To
//	setup_time, answer_time               of the INVITE and of the 200 OK
//	sip_code                              required: the final status
//	boot, seq                             one word a start of the switch, and its counter without holes
//
// All are strings or numbers; others may be there and are only seen by the
// switch's template for the user. The switch is that of the configuration, whatever a field named switch says.
//
// The event:
//
//   - source is switch/<switch>/<boot>, without boot switch/<switch>. A script
//     that counts anew after a restart must send boot.
//   - id is <callid>;<from_tag>, and ;<cseq> where the record has one: to_tag is only
//     known for answered calls, and a caller who is refused and tries again, with more
//     digits (484) or a credential (407), keeps Call-ID and tag. Where that is longer than
//     an id may be or not visible ASCII, it is sha256- and the hexadecimal SHA-256 of the same text.
//   - time is end_time. For a call that was not answered Kamailio sets it to the
//     INVITE's, so ended_at is only said of answered ones.
//   - A 2xx call is answered at answer_time. If the script records no such
//     field, at start_time, which is the time of the ACK only with
//     cdr_start_on_confirmed=1: without that setting answer_time is needed.
//   - billable_ms is duration, to the millisecond what the switch's own ledger
//     has, if it counts from the answer on: start_time is not before answer_time. Otherwise
//     (cdr_start_on_confirmed=0, where duration includes ringing, or an ACK more than two
//     seconds late) it is end_time − answer_time. Ringing is never billed.
//   - calling is caller_pai, where that is a number, else caller; called is
//     called, where that is empty called_to. They and the template's fields of the same
//     names are percent-decoded once, as SIP has them encoded: *31%23044… is *31#044….
//   - user is the template's over the fields of the record; {tenant} is the
//     tenant's name where the record's field tenant is missing or empty. For an inbound call caller and
//     called change places, and so do caller_pai and called_to, as the licence is the
//     called user's. A withheld caller (anonymous) and NON-UTF8, which the module writes
//     for text it cannot, count as empty.
func readKamailio(record []byte, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	f, refusal := flatJSON(record)
	if refusal != nil {
		return domain.Event{}, refusal
	}
	for _, name := range []string{"caller", "caller_pai", "called", "called_to"} {
		if value, ok := f[name]; ok {
			f[name] = sipDecoded(value)
		}
	}
	if f["tenant"] == "" {
		f["tenant"] = tenant
	}
	k := kamailioRecord{fields: f, cfg: cfg}
	k.event.Tenant = tenant
	for _, step := range []func() *Refusal{k.identity, k.outcome, k.times, k.numbers, k.user} {
		if refusal := step(); refusal != nil {
			refusal.Source, refusal.Sequence = k.event.Source, k.event.Sequence
			return domain.Event{}, refusal
		}
	}
	k.call.Kind = domain.KindUser
	k.event.Data = &k.call
	return k.event, nil
}

// kamailioRecord is a record on its way to the event.
type kamailioRecord struct {
	fields
	cfg   *domain.SwitchConfig
	event domain.Event
	call  domain.Call
}

// identity sets source, id, sequence and correlation.
func (k *kamailioRecord) identity() *Refusal {
	k.event.Source = "switch/" + k.cfg.Switch
	if boot := k.fields["boot"]; boot != "" {
		if strings.Contains(boot, "/") {
			return refuse(CodeField, "boot", boot, "one word without / is expected")
		}
		k.event.Source += "/" + boot
	}
	if !visible(k.event.Source, domain.MaxSourceBytes) {
		return refuse(CodeField, "boot", k.fields["boot"], "with switch/%.64s/ before it, at most %d characters of visible ASCII are expected", k.cfg.Switch, domain.MaxSourceBytes)
	}
	if seq := k.fields["seq"]; seq != "" {
		n, err := strconv.ParseUint(seq, 10, 64)
		if err != nil {
			return refuse(CodeField, "seq", seq, "a decimal counter below 2^64 is expected")
		}
		k.event.Sequence = domain.Sequence{N: n, Has: true}
	}
	callID, refusal := k.need(CodeField, "callid")
	if refusal != nil {
		return refusal
	}
	fromTag, ok := k.fields["from_tag"]
	if !ok {
		return refuse(CodeField, "from_tag", "", "the field is missing; let the switch record it")
	}
	k.event.ID = callID + ";" + fromTag
	if cseq := k.fields["cseq"]; cseq != "" {
		k.event.ID += ";" + cseq
	}
	if !visible(k.event.ID, domain.MaxIDBytes) {
		sum := sha256.Sum256([]byte(k.event.ID))
		k.event.ID = "sha256-" + hex.EncodeToString(sum[:])
	}
	if visible(callID, domain.MaxNameBytes) {
		k.call.Correlation = callID
	}
	return nil
}

// outcome sets direction, SIP status and disposition.
func (k *kamailioRecord) outcome() *Refusal {
	switch direction := k.fields["direction"]; direction {
	case domain.Outbound.String():
		k.call.Direction = domain.Outbound
	case domain.Inbound.String():
		k.call.Direction = domain.Inbound
	default:
		return refuse(CodeField, "direction", direction, "outbound or inbound is expected, as the tenant sees the call")
	}
	text, refusal := k.need(CodeField, "sip_code")
	if refusal != nil {
		return refusal
	}
	status, err := strconv.ParseUint(text, 10, 16)
	if err != nil || status < 200 || status > 699 {
		return refuse(CodeField, "sip_code", text, "the final SIP status of the call is expected, 200 to 699")
	}
	k.call.SIPStatus = int32(status)
	switch {
	case status < 300:
		k.call.Disposition = domain.Answered
	case status == 486 || status == 600 || status == 603:
		k.call.Disposition = domain.Busy
	case status == 487:
		k.call.Disposition = domain.Cancelled
	case status == 408 || status == 480:
		k.call.Disposition = domain.NoAnswer
	default:
		k.call.Disposition = domain.Failed
	}
	return nil
}

// times sets the event's and the call's times and the talk time.
func (k *kamailioRecord) times() *Refusal {
	var start, end, answer domain.Instant
	for _, t := range []struct {
		name string
		to   *domain.Instant
	}{
		{"start_time", &start}, {"end_time", &end}, {"answer_time", &answer}, {"setup_time", &k.call.StartedAt},
	} {
		var refusal *Refusal
		if *t.to, refusal = k.unix(t.name); refusal != nil {
			return refusal
		}
	}
	if end == 0 {
		return refuse(CodeTime, "end_time", k.fields["end_time"], "the time the call ended is missing")
	}
	k.event.Time = end
	if k.call.Disposition != domain.Answered {
		if answer != 0 {
			return refuse(CodeTime, "answer_time", k.fields["answer_time"], "the call has sip_code %d and yet an answer; store the status of the INVITE only", k.call.SIPStatus)
		}
		if k.call.StartedAt == 0 {
			k.call.StartedAt = start // the INVITE's, whatever cdr_start_on_confirmed is
		}
		return nil
	}
	if _, recorded := k.fields["answer_time"]; !recorded {
		answer = start
	}
	if answer == 0 {
		return refuse(CodeTime, "answer_time", k.fields["answer_time"], "the call has sip_code %d and no time of its answer", k.call.SIPStatus)
	}
	k.call.AnsweredAt, k.call.EndedAt = answer, end
	return k.talk(start, answer, end)
}

// talk sets the talk time of an answered call.
func (k *kamailioRecord) talk(start, answer, end domain.Instant) *Refusal {
	talk := int64(end - answer)
	if talk < 0 {
		// end_time has milliseconds where answer_time has microseconds.
		if talk <= -int64(time.Millisecond) {
			return refuse(CodeTime, "end_time", k.fields["end_time"], "the call ended at %s, before its answer at %s; look at the switch's clock", end, answer)
		}
		talk, k.call.EndedAt = 0, answer
	}
	if text := k.fields["duration"]; text != "" && start != 0 {
		duration, ok := nanoseconds(text)
		if !ok {
			return refuse(CodeTime, "duration", text, "seconds are expected, such as 0.397")
		}
		if apart(duration, int64(end-start)) {
			return refuse(CodeTime, "duration", text, "differs from end_time − start_time by more than 2 s")
		}
		fromAnswer := milliseconds(int64(start)) >= milliseconds(int64(answer))
		duration -= duration % int64(time.Millisecond)
		if fromAnswer && !apart(duration, talk) {
			talk = duration
		}
	}
	k.call.BillableMS = milliseconds(talk)
	if k.call.BillableMS > domain.MaxBillableMS {
		return refuse(CodeTime, "duration", k.fields["duration"], "%d ms of talk are more than 48 hours, a broken record", k.call.BillableMS)
	}
	return nil
}

func apart(a, b int64) bool { return a-b > maxContradiction || b-a > maxContradiction }

// numbers sets the calling and the called number.
func (k *kamailioRecord) numbers() *Refusal {
	plan := NewDialPlan(k.cfg)
	name := "called"
	if k.fields[name] == "" {
		name = "called_to"
	}
	dialled, refusal := k.need(CodeNumber, name)
	if refusal != nil {
		return refusal
	}
	var err error
	if k.call.Called, err = plan.Called(dialled); err != nil {
		return refuse(CodeNumber, name, dialled, "%v", err)
	}
	if asserted := k.fields["caller_pai"]; asserted != "" {
		if k.call.Calling, err = plan.Calling(asserted); err == nil && !k.call.Calling.Anonymous() {
			return nil
		}
	}
	caller, ok := k.fields["caller"]
	if !ok {
		return refuse(CodeNumber, "caller", "", "the field is missing; let the switch record it")
	}
	if k.call.Calling, err = plan.Calling(caller); err != nil {
		return refuse(CodeNumber, "caller", caller, "%v", err)
	}
	return nil
}

// otherSide is what a field of the template stands for in an inbound call.
var otherSide = map[string]string{"caller": "called", "called": "caller", "caller_pai": "called_to", "called_to": "caller_pai"}

// user sets whose licence pays.
func (k *kamailioRecord) user() (refusal *Refusal) {
	k.call.User, refusal = userOf(k.cfg.User, func(name string) string {
		if k.call.Direction == domain.Inbound {
			if other, ok := otherSide[name]; ok {
				name = other
			}
		}
		text := k.fields[name]
		if text == "NON-UTF8" || strings.EqualFold(text, "anonymous") {
			return ""
		}
		return text
	})
	return refusal
}

// sipDecoded decodes the user part of a SIP URI once. What is no encoding of
// text stays as it is.
func sipDecoded(s string) string {
	if decoded, err := url.PathUnescape(s); err == nil && utf8.ValidString(decoded) {
		return decoded
	}
	return s
}
