package cdr

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"tollbook/domain"
)

const opensipsName = "opensips"

var opensipsOptions = []option{{name: "leg", check: wellFormed}}

// readOpenSIPS reads one E_ACC_CDR event of OpenSIPS's acc module: an object of its
// parameters, or one of JSON-RPC with the method E_ACC_CDR around it, as event_stream
// sends it. The module itself writes
//
//	callid, from_tag, sip_code    of the INVITE; required
//	time, created                 seconds since 1970 of the answer and of the INVITE
//	ms_duration, duration         from the answer to the BYE; duration is rounded up
//
// and the routing script adds by extra_fields, under these names, what readKamailio
// takes: direction, caller, caller_pai, called, called_to; boot and seq if it counts.
//
// The event is that of a record of Kamailio, but for its times. A call was answered at
// time, and ended after ms_duration; time is in whole seconds, so both are up to a second
// early. duration is read where ms_duration, which came later, is missing.
//
// With leg_fields OpenSIPS raises an event for each leg of a call, over the same talk.
// They have one id, so that the first counts and another is a duplicate or, where it
// says something else, a conflict. The option leg is a template for what tells them
// apart, behind ; in the id, where each leg is to be billed.
func readOpenSIPS(record []byte, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	f, refusal := opensipsFields(record)
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
	o := opensipsRecord{kamailioRecord{fields: f, cfg: cfg}}
	o.event.Tenant = tenant
	for _, step := range []func() *Refusal{o.identity, o.outcome, o.times, o.numbers, o.user} {
		if refusal := step(); refusal != nil {
			refusal.Source, refusal.Sequence = o.event.Source, o.event.Sequence
			return domain.Event{}, refusal
		}
	}
	o.call.Kind = domain.KindUser
	o.event.Data = &o.call
	return o.event, nil
}

// opensipsFields are the parameters of an event.
func opensipsFields(record []byte) (fields, *Refusal) {
	f, refusal := flatJSON(record)
	if refusal != nil || f["jsonrpc"] == "" {
		return f, refusal
	}
	switch method := f["method"]; method {
	case "E_ACC_CDR":
	case "E_ACC_EVENT", "E_ACC_MISSED_EVENT":
		return nil, refuse(CodeExcluded, "method", method, "a transaction and no call, left out; what is billed is in E_ACC_CDR, so subscribe to that alone")
	default:
		return nil, refuse(CodeField, "method", method, "the event E_ACC_CDR is expected")
	}
	d := jsontext.NewDecoder(bytes.NewReader(record))
	params, err := paramsOf(d)
	if err != nil {
		return nil, refuse(CodeSyntax, "params", "", "%v", err)
	}
	return flatJSON(params)
}

// paramsOf is the object named params of a JSON-RPC message that is well formed.
func paramsOf(d *jsontext.Decoder) ([]byte, error) {
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	for {
		name, err := d.ReadToken()
		switch {
		case err == io.EOF, err == nil && name.Kind() == jsontext.KindEndObject:
			return nil, errors.New("an object with the event's parameters is missing")
		case err != nil:
			return nil, err
		case name.String() == "params":
			return d.ReadValue()
		}
		if err := d.SkipValue(); err != nil {
			return nil, err
		}
	}
}

// opensipsRecord is a record on its way to the event.
type opensipsRecord struct{ kamailioRecord }

func (o *opensipsRecord) identity() *Refusal {
	if refusal := o.kamailioRecord.identity(); refusal != nil {
		return refusal
	}
	template := o.cfg.Options["leg"]
	if template == "" {
		return nil
	}
	if leg, ok := fill(template, func(name string) string { return o.fields[name] }); ok {
		o.event.ID = eventID(o.event.ID + ";" + leg)
	}
	return nil
}

// times sets the event's and the call's times and the talk time.
func (o *opensipsRecord) times() *Refusal {
	if o.call.Disposition != domain.Answered {
		return refuse(CodeField, "sip_code", o.fields["sip_code"], "a CDR of OpenSIPS is of a call that was answered, 200 to 299")
	}
	answer, refusal := o.unix("time")
	if refusal != nil {
		return refusal
	}
	if answer == 0 {
		return refuse(CodeTime, "time", o.fields["time"], "the time of the answer is missing")
	}
	if o.call.StartedAt, refusal = o.unix("created"); refusal != nil {
		return refusal
	}
	name, unit := "ms_duration", time.Millisecond
	if o.fields[name] == "" {
		name, unit = "duration", time.Second
	}
	text := o.fields[name]
	if text == "" {
		return refuse(CodeTime, "ms_duration", "", "the length of the call is missing: the event is no E_ACC_CDR, which is the only one to subscribe to")
	}
	length, err := strconv.ParseInt(text, 10, 64)
	if err != nil || !digits(text) {
		return refuse(CodeTime, name, text, "the call's talk time is expected, a whole number")
	}
	if length > domain.MaxBillableMS*int64(time.Millisecond)/int64(unit) {
		return refuse(CodeTime, name, text, "more than 48 hours of talk, a broken record")
	}
	o.call.BillableMS = length * int64(unit/time.Millisecond)
	o.call.AnsweredAt = answer
	o.call.EndedAt = answer + domain.Instant(length*int64(unit))
	if o.call.EndedAt >= domain.MaxInstant {
		return refuse(CodeTime, "time", o.fields["time"], "not between 2000 and 2200; look at the switch's clock")
	}
	o.event.Time = o.call.EndedAt
	return nil
}
