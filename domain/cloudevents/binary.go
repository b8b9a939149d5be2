package cloudevents

import (
	"strings"

	"tollbook/domain"
)

// DecodeBinary reads one event in NATS binary mode. attr returns the value of a
// header, or "": it is asked for ce-specversion, ce-type, ce-source, ce-id,
// ce-time, ce-tenant, ce-sequence and ce-datacontenttype, and nats.Header.Get
// will do. Values are percent-decoded, as the binding has it. data is the body;
// tenant is as for Decode.
func DecodeBinary(attr func(name string) string, data []byte, tenant string) (domain.Event, error) {
	h := headers{attr: attr}
	e := domain.Event{Tenant: tenant}
	if v := h.get("specversion", ruleRequired); v != "1.0" {
		h.fail("specversion", v, ruleVersion)
	}
	typ, rule := typeOf([]byte(h.get("type", ruleRequired)))
	if rule != "" {
		h.fail("type", string(typ), rule)
	}
	e.Source = h.visible("source")
	e.ID = h.visible("id")
	if v := h.get("time", ruleRequired); v != "" {
		if e.Time, rule = parseTime([]byte(v)); rule != "" {
			h.fail("time", v, rule)
		}
	}
	said := ""
	if tenant == "" {
		said = h.get("tenant", "required where no subject names it")
		e.Tenant = said
	} else if said = h.get("tenant", ""); said != "" && said != tenant {
		h.fail("tenant", said, "is not the tenant of the subject, "+clip([]byte(tenant)))
	}
	if !validTenant(e.Tenant, typ) {
		h.fail("tenant", e.Tenant, ruleTenant)
	}
	if v := h.get("sequence", ""); v != "" {
		if e.Sequence.N, e.Sequence.Has = parseSequence([]byte(v)); !e.Sequence.Has {
			h.fail("sequence", v, ruleSequence)
		}
	}
	if v := h.get("datacontenttype", ""); v != "" && !isJSON(v) {
		h.fail("datacontenttype", v, ruleJSON)
	}
	if h.err != nil {
		return domain.Event{}, h.err
	}
	var err error
	if e.Data, err = DecodeData(typ, data); err != nil {
		return domain.Event{}, err
	}
	return e, nil
}

// headers are the attributes of binary mode. As with a cursor, the first failure sticks.
type headers struct {
	attr func(string) string
	err  *Error
}

// get is an attribute's value. missing is the rule an absent one breaks, or "".
func (h *headers) get(name, missing string) string {
	v := percentDecoded(h.attr("ce-" + name))
	if v == "" && missing != "" && h.err == nil {
		h.err = &Error{Field: "ce-" + name, Rule: missing}
	}
	return v
}

func (h *headers) visible(name string) string {
	v := h.get(name, ruleRequired)
	if !visibleASCII([]byte(v)) {
		h.fail(name, v, ruleVisible)
	}
	return v
}

func (h *headers) fail(name, value, rule string) {
	if h.err == nil {
		h.err = &Error{Field: "ce-" + name, Value: shown(appendText(nil, value)), Rule: rule}
	}
}

// percentDecoded undoes what a sender does to a header's value: space, double
// quote, percent and what is not ASCII are %XX. A percent sign that no two hex
// digits follow stands for itself.
func percentDecoded(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, low := unhex(s[i+1]), unhex(s[i+2])
			if high < 16 && low < 16 {
				b = append(b, high<<4|low)
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func unhex(ch byte) byte {
	switch {
	case ch >= '0' && ch <= '9':
		return ch - '0'
	case ch|0x20 >= 'a' && ch|0x20 <= 'f':
		return ch | 0x20 - 'a' + 10
	}
	return 16
}
