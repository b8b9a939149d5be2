package cloudevents

import (
	"time"

	"tollbook/domain"
)

// maxTalkSkew is how far ended_at − answered_at may be from billable_ms.
const maxTalkSkew = 2 * time.Second

const (
	ruleDirection   = "must be outbound or inbound"
	ruleDisposition = "must be answered, no_answer, busy, failed or cancelled"
	ruleBillable    = "must be an integer from 0 to 172800000 milliseconds (48 h)"
	ruleQ850        = "must be an integer from 0 to 127 (a Q.850 cause; 0 is none)"
	ruleSIP         = "must be an integer from 100 to 699 (a SIP status), or 0 for none"
	ruleCalled      = "must be a telephone number: only calling may be anonymous"
	ruleTalk        = "must be answered_at + billable_ms, within 2 s"
)

// call reads call.completed, also inside a correction.
func (c *cursor) call(v *domain.Call) {
	var (
		calling, called         bool
		directed, disposed      bool
		billed                  bool
		calledAt, endedAt, here = 0, 0, c.i
		index                   uint8
		n                       int64
	)
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "user":
			v.User = c.name()
		case "direction":
			index, directed = c.enum(domain.Directions[:], ruleDirection)
			v.Direction = domain.Direction(index)
		case "kind":
			v.Kind = c.kind()
		case "calling":
			v.Calling, calling = c.number()
		case "called":
			calledAt = c.i
			v.Called, called = c.number()
		case "answered_at":
			v.AnsweredAt = c.instant()
		case "billable_ms":
			v.BillableMS, billed = c.integer(0, domain.MaxBillableMS, ruleBillable)
		case "disposition":
			index, disposed = c.enum(domain.Dispositions[:], ruleDisposition)
			v.Disposition = domain.Disposition(index)
		case "started_at":
			v.StartedAt = c.instant()
		case "ended_at":
			endedAt = c.i
			v.EndedAt = c.instant()
		case "q850":
			n, _ = c.integer(0, 127, ruleQ850)
			v.Q850 = int32(n)
		case "sip_status":
			at := c.i
			n, _ = c.integer(0, 699, ruleSIP)
			if v.SIPStatus = int32(n); n > 0 && n < 100 {
				c.fail(at, ruleSIP)
			}
		case "correlation":
			v.Correlation = c.name()
		default:
			c.skip()
		}
	}
	if v.Kind == "" {
		v.Kind = domain.KindUser
	}
	switch {
	case c.err != nil:
	case !directed:
		c.missing(here, "direction", ruleRequired)
	case v.User == "" && v.Direction == domain.Outbound:
		c.missing(here, "user", "required for an outbound call")
	case !calling:
		c.missing(here, "calling", ruleRequired)
	case !called:
		c.missing(here, "called", ruleRequired)
	case v.Called.Anonymous():
		c.fail(calledAt, ruleCalled)
	case !disposed:
		c.missing(here, "disposition", ruleRequired)
	case v.Disposition == domain.Answered && v.AnsweredAt == 0:
		c.missing(here, "answered_at", "required for an answered call")
	case v.Disposition == domain.Answered && !billed:
		c.missing(here, "billable_ms", "required for an answered call")
	case v.AnsweredAt != 0 && v.EndedAt != 0:
		skew := time.Duration(v.EndedAt-v.AnsweredAt) - time.Duration(v.BillableMS)*time.Millisecond
		if skew.Abs() > maxTalkSkew {
			c.fail(endedAt, ruleTalk)
		}
	}
}

// kind is name, without a copy for the kinds that are usual.
func (c *cursor) kind() string {
	at, b := c.bytes(ruleName)
	switch string(b) {
	case domain.KindUser:
		return domain.KindUser
	case domain.KindConference:
		return domain.KindConference
	case domain.KindForward:
		return domain.KindForward
	case domain.KindTransfer:
		return domain.KindTransfer
	}
	if !plain(b, domain.MaxNameBytes) {
		c.fail(at, ruleName)
	}
	return string(b)
}

func (c *cursor) correction(v *domain.Correction) {
	here, called := c.i, false
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "ref":
			c.ref(&v.Ref)
		case "call":
			called = c.next() != 'n'
			c.call(&v.Call)
		case "reason":
			v.Reason = c.text(domain.MaxReasonBytes, ruleReason)
		default:
			c.skip()
		}
	}
	if v.Ref.Source == "" {
		c.missing(here, "ref", ruleRequired)
	}
	if !called {
		c.missing(here, "call", ruleRequired)
	}
}

func (c *cursor) void(v *domain.Void) {
	here := c.i
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "ref":
			c.ref(&v.Ref)
		case "reason":
			v.Reason = c.text(domain.MaxReasonBytes, ruleReason)
		default:
			c.skip()
		}
	}
	if v.Ref.Source == "" {
		c.missing(here, "ref", ruleRequired)
	}
}

// ref reads {"source":…,"id":…}; zero at null.
func (c *cursor) ref(v *domain.Ref) {
	here := c.i
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "source":
			v.Source = c.visible()
		case "id":
			v.ID = c.visible()
		default:
			c.skip()
		}
	}
	if v.Source == "" {
		c.missing(here, "source", ruleRequired)
	}
	if v.ID == "" {
		c.missing(here, "id", ruleRequired)
	}
}

func (c *cursor) assignment(v *domain.Assignment) {
	here := c.i
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "user":
			v.User = c.name()
		case "plan":
			v.Plan = c.name()
		case "country":
			v.Country = c.country()
		case "effective_at":
			v.EffectiveAt = c.instant()
		default:
			c.skip()
		}
	}
	c.held(here, v.User, v.Plan, v.EffectiveAt)
	if v.Country == "" {
		c.missing(here, "country", ruleRequired)
	}
}

func (c *cursor) removal(v *domain.Removal) {
	here := c.i
	if !c.object() {
		return
	}
	for {
		name, ok := c.member()
		if !ok {
			break
		}
		switch string(name) {
		case "user":
			v.User = c.name()
		case "plan":
			v.Plan = c.name()
		case "effective_at":
			v.EffectiveAt = c.instant()
		default:
			c.skip()
		}
	}
	c.held(here, v.User, v.Plan, v.EffectiveAt)
}

// held checks what both kinds of licence event need.
func (c *cursor) held(here int, user, plan string, at domain.Instant) {
	if user == "" {
		c.missing(here, "user", ruleRequired)
	}
	if plan == "" {
		c.missing(here, "plan", ruleRequired)
	}
	if at == 0 {
		c.missing(here, "effective_at", ruleRequired)
	}
}
