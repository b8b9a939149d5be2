package cloudevents

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"tollbook/domain"
)

const (
	ruleVersion  = "must be \"1.0\": only CloudEvents 1.0 is taken"
	ruleTenant   = "must be 1 to 63 of a-z, 0-9 and -, not beginning with -"
	ruleSequence = "must be a counter from 0 to 18446744073709551615, as a string of digits"
	ruleJSON     = "must be application/json: the data of an event is JSON"
	ruleType     = "unknown type: this version of tollbook does not take it"
	ruleNATSOnly = "is published by the engine on NATS only, and never taken in"
)

// Decode reads one event in structured mode. tenant is the tenant of the NATS
// subject, which the attribute may repeat but not contradict; "" where there is
// no subject and the attribute is required. [domain.NoTenant] is a tenant of
// records in suspense only.
//
// The event shares no memory with raw. The error is an *Error.
func Decode(raw []byte, tenant string) (domain.Event, error) {
	c, err := newCursor(raw, "")
	if err != nil {
		return domain.Event{}, err
	}
	e := c.event(tenant)
	if c.err != nil {
		return domain.Event{}, c.err
	}
	return e, nil
}

// DecodeData reads the data of an event of type t, as Decode does.
func DecodeData(t domain.Type, raw []byte) (domain.Data, error) {
	t, rule := typeOf([]byte(t))
	if rule != "" {
		return nil, &Error{Field: "type", Value: shown(appendText(nil, string(t))), Rule: rule}
	}
	c, err := newCursor(raw, "data")
	if err != nil {
		return nil, err
	}
	data := c.data(t)
	if c.err != nil {
		return nil, c.err
	}
	return data, nil
}

// newCursor is where all input passes jsontext.
func newCursor(raw []byte, base string) (cursor, error) {
	c := cursor{b: raw, base: base}
	if !jsontext.Value(raw).IsValid() {
		err := syntaxError(raw)
		if err.Field == "" {
			err.Field = base
		} else if base != "" {
			err.Field = base + "." + err.Field
		}
		return c, err
	}
	if c.next() != '{' {
		c.fail(c.i, "must be one JSON object")
		return c, c.err
	}
	return c, nil
}

// event reads the envelope and, as soon as the type is known, the data.
func (c *cursor) event(tenant string) domain.Event {
	e := domain.Event{}
	var (
		typ      domain.Type
		version  bool
		said     string // the attribute tenant
		dataAt   = -1
		envelope = c.i
	)
	c.object()
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		at := c.i
		switch string(name) {
		case "specversion":
			_, b := c.bytes(ruleVersion)
			if version = string(b) == "1.0"; b != nil && !version {
				c.fail(at, ruleVersion)
			}
		case "id":
			e.ID = c.visible()
		case "source":
			e.Source = c.visible()
		case "type":
			_, b := c.bytes(ruleString)
			if b == nil {
				break
			}
			var rule string
			if typ, rule = typeOf(b); rule != "" {
				c.fail(at, rule)
			}
		case "time":
			e.Time = c.instant()
		case "tenant":
			_, b := c.bytes(ruleTenant)
			switch {
			case b == nil:
			case len(b) == 0:
				c.fail(at, ruleTenant)
			case string(b) == tenant:
				said = tenant
			case tenant != "":
				c.fail(at, "is not the tenant of the subject, "+clip([]byte(tenant)))
			default:
				said = string(b)
			}
		case "sequence":
			e.Sequence = c.sequence()
		case "data":
			if dataAt = at; c.next() == 'n' {
				dataAt = -1
			}
			if typ != "" && dataAt >= 0 {
				e.Data = c.data(typ)
				break
			}
			c.skip()
		case "data_base64":
			if c.next() != 'n' {
				c.fail(at, "is not taken: put the data into data, as a JSON object")
			}
			c.skip()
		case "datacontenttype":
			if _, b := c.bytes(ruleJSON); b != nil && !isJSON(string(b)) {
				c.fail(at, ruleJSON)
			}
		default:
			c.skip()
		}
	}
	if c.err != nil {
		return e
	}
	if e.Tenant = tenant; tenant == "" {
		e.Tenant = said
	}
	switch {
	case !version:
		c.missing(envelope, "specversion", ruleRequired)
	case typ == "":
		c.missing(envelope, "type", ruleRequired)
	case e.Source == "":
		c.missing(envelope, "source", ruleRequired)
	case e.ID == "":
		c.missing(envelope, "id", ruleRequired)
	case e.Time == 0:
		c.missing(envelope, "time", ruleRequired)
	case e.Tenant == "":
		c.missing(envelope, "tenant", "required where no subject names it")
	case dataAt < 0:
		c.missing(envelope, "data", ruleRequired)
	case !validTenant(e.Tenant, typ):
		c.err = &Error{Field: "tenant", Value: shown(appendText(nil, e.Tenant)), Rule: ruleTenant}
	case e.Data == nil:
		c.i = dataAt
		e.Data = c.data(typ)
	}
	return e
}

// sequence reads a counter, a string of digits or an integer; none at null.
func (c *cursor) sequence() domain.Sequence {
	var s domain.Sequence
	at := c.i
	switch ch := c.next(); {
	case ch == 'n':
		c.skip()
		return s
	case ch == '"':
		s.N, s.Has = parseSequence(c.str())
	case ch >= '0' && ch <= '9' || ch == '-':
		var negative bool
		negative, s.N, s.Has = parseInteger(c.literal())
		s.Has = s.Has && !(negative && s.N > 0)
	}
	if !s.Has {
		c.fail(at, ruleSequence)
	}
	return s
}

// validTenant reports whether an event of type t can be the tenant's.
func validTenant(s string, t domain.Type) bool {
	if s == domain.NoTenant {
		return t == domain.TypeSuspended || t == domain.TypeRecycled || t == domain.TypeWrittenOff
	}
	for i, ch := range []byte(s) {
		switch {
		case ch >= 'a' && ch <= 'z' || ch >= '0' && ch <= '9':
		case ch == '-' && i > 0:
		default:
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 63
}

// isJSON reports whether a media type says JSON, parameters aside.
func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json")
}

// typeOf is the type b names, without a copy; rule says why it is not taken.
func typeOf(b []byte) (t domain.Type, rule string) {
	switch domain.Type(b) {
	case domain.TypeCall:
		return domain.TypeCall, ""
	case domain.TypeCorrection:
		return domain.TypeCorrection, ""
	case domain.TypeVoid:
		return domain.TypeVoid, ""
	case domain.TypeAssignment:
		return domain.TypeAssignment, ""
	case domain.TypeRemoval:
		return domain.TypeRemoval, ""
	case domain.TypePlan:
		return domain.TypePlan, ""
	case domain.TypeDeck:
		return domain.TypeDeck, ""
	case domain.TypeTenantConfig:
		return domain.TypeTenantConfig, ""
	case domain.TypeSwitchConfig:
		return domain.TypeSwitchConfig, ""
	case domain.TypeSuspended:
		return domain.TypeSuspended, ""
	case domain.TypeRecycled:
		return domain.TypeRecycled, ""
	case domain.TypeWrittenOff:
		return domain.TypeWrittenOff, ""
	case domain.TypeGapWaived:
		return domain.TypeGapWaived, ""
	case domain.TypeMonthClosed:
		return domain.TypeMonthClosed, ""
	case domain.TypeExceptionWaived:
		return domain.TypeExceptionWaived, ""
	case domain.TypeThresholdReached, domain.TypePoolForecast:
		return domain.Type(b), ruleNATSOnly
	}
	return domain.Type(b), ruleType
}

// data reads the object at the cursor as the content of an event of a type that
// typeOf knows.
func (c *cursor) data(t domain.Type) domain.Data {
	switch t {
	case domain.TypeCall:
		v := new(domain.Call)
		c.call(v)
		return v
	case domain.TypeCorrection:
		v := new(domain.Correction)
		c.correction(v)
		return v
	case domain.TypeVoid:
		v := new(domain.Void)
		c.void(v)
		return v
	case domain.TypeAssignment:
		v := new(domain.Assignment)
		c.assignment(v)
		return v
	case domain.TypeRemoval:
		v := new(domain.Removal)
		c.removal(v)
		return v
	case domain.TypePlan:
		v := new(domain.Plan)
		c.plan(v)
		return v
	case domain.TypeDeck:
		v := new(domain.Deck)
		c.deck(v)
		return v
	case domain.TypeTenantConfig:
		v := new(domain.TenantConfig)
		c.tenantConfig(v)
		return v
	case domain.TypeSwitchConfig:
		v := new(domain.SwitchConfig)
		c.switchConfig(v)
		return v
	case domain.TypeSuspended:
		v := new(domain.Suspended)
		c.suspended(v)
		return v
	case domain.TypeRecycled:
		v := new(domain.Recycled)
		c.recycled(v)
		return v
	case domain.TypeWrittenOff:
		v := new(domain.WrittenOff)
		c.writtenOff(v)
		return v
	case domain.TypeGapWaived:
		v := new(domain.GapWaived)
		c.gapWaived(v)
		return v
	case domain.TypeMonthClosed:
		v := new(domain.MonthClosed)
		c.monthClosed(v)
		return v
	case domain.TypeExceptionWaived:
		v := new(domain.ExceptionWaived)
		c.exceptionWaived(v)
		return v
	}
	panic("cloudevents: no reader for " + string(t)) // typeOf and this list differ
}
