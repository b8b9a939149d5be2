//go:build switch

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"tollbook/domain"
)

// A plan is a call to make, and how it has to be booked. The switch is Swiss,
// as docs/switches/kamailio.md describes it.
type plan struct {
	kind     string // which row of the reconciliation
	scenario string // of testdata/sipp: call, cancel or retry

	user, host string // of From
	called, to string // users of the request URI and of To
	header     string
	act        string // what the other side does, see answer.xml
	ring, talk int    // milliseconds
	hangsUp    string // caller, called or nobody

	first, refused string // retry: what is called first, and how that is refused

	tenant    string
	direction domain.Direction
	whose     string // user
	calling   string // canonical, as reached is
	reached   string
}

// nobody is whose a call is that does not say.
const nobody = ""

// row is the plan for sipp.
func (p *plan) row() string {
	return fmt.Sprintf("%s;%s;%s;%s;%s;%s;%d;%d;%s;%s;%s\n", p.user, p.host, p.called, p.to, p.header, p.act, p.ring, p.talk, p.hangsUp, p.first, p.refused)
}

// want is how an attempt of the plan that ended with a status has to be booked.
func (p *plan) want(status int32) string {
	disposition := map[int32]domain.Disposition{
		200: domain.Answered, 404: domain.Failed, 408: domain.NoAnswer, 480: domain.NoAnswer,
		484: domain.Failed, 486: domain.Busy, 487: domain.Cancelled, 603: domain.Busy,
	}[status]
	reached := p.reached
	if p.refused == fmt.Sprint(status) {
		reached = p.first
	}
	return fmt.Sprintf("%s %s of %s: %s to %s, %s %d", p.tenant, p.direction, p.whose, p.calling, reached, disposition, p.status(status))
}

// status is how the plan has to end, where seen is a status that may come before.
func (p *plan) status(seen int32) int32 {
	switch {
	case p.refused == fmt.Sprint(seen):
		return seen
	case p.act == "ring", p.scenario == "cancel":
		return 487
	case p.act == "nothing":
		return 408
	}
	var status int32
	_, _ = fmt.Sscan(p.act, &status)
	return status
}

// outbound is a call of extension 1001 of acme that is answered and talks for 1 s.
func outbound(kind string) plan {
	return plan{
		kind: kind, scenario: "call", user: "1001", host: "acme.example", called: "+441632960123",
		header: asserting("+41445551001"), act: "200", ring: 100, talk: 1000, hangsUp: "caller",
		tenant: "acme", direction: domain.Outbound, whose: "+41445551001", calling: "+41445551001", reached: "+441632960123",
	}
}

// inbound is a call to that extension's number.
func inbound(kind string) plan {
	p := outbound(kind)
	p.user, p.host, p.called, p.header = "+441632960123", "carrier.example", "+41445551001", noHeader
	p.direction, p.calling, p.reached = domain.Inbound, "+441632960123", "+41445551001"
	return p
}

func asserting(number string) string {
	return "P-Asserted-Identity: <sip:" + number + "@acme.example>"
}

const noHeader = "X-No-Header: 1"

// kinds are the rows of the reconciliation, in order.
func kinds() []string {
	return []string{
		answeredOut, calledHangsUp, atOnce, busy, rejected, noAnswer, cancelled, neverHungUp, triedAgain,
		anonymousOut, whoKnows, oddNumbers, oddCallers, answeredIn, refusedIn, anonymousIn, otherTenant, aroundOutage,
	}
}

const (
	answeredOut   = "answered"
	calledHangsUp = "the called hangs up"
	atOnce        = "hung up at once"
	busy          = "busy"
	rejected      = "rejected"
	noAnswer      = "no answer"
	cancelled     = "cancelled"
	neverHungUp   = "nobody hangs up"
	triedAgain    = "tried again"
	anonymousOut  = "anonymous with PAI"
	whoKnows      = "anonymous without"
	oddNumbers    = "odd numbers"
	oddCallers    = "odd callers"
	answeredIn    = "inbound"
	refusedIn     = "inbound refused"
	anonymousIn   = "inbound anonymous"
	otherTenant   = "another tenant"
	aroundOutage  = "around an outage"
)

// everyKind is some of all kinds, in any order; first those that take longest.
func everyKind(random *rand.Rand) (plans []plan) {
	talk := func() int { return 50 + random.IntN(6000) }
	add := func(n int, p plan, vary func(p *plan)) {
		for range n {
			one := p
			if vary != nil {
				vary(&one)
			}
			plans = append(plans, one)
		}
	}
	add(60, outbound(answeredOut), func(p *plan) { p.ring, p.talk = random.IntN(500), talk() })
	add(35, outbound(calledHangsUp), func(p *plan) { p.hangsUp, p.talk = "called", talk() })
	add(6, outbound(atOnce), func(p *plan) { p.ring, p.talk = 0, 1 })
	add(12, outbound(busy), func(p *plan) { p.act = "486" })
	add(6, outbound(rejected), func(p *plan) { p.act = "404" })
	add(6, outbound(rejected), func(p *plan) { p.act = "603" })
	add(4, outbound(noAnswer), func(p *plan) { p.act = "480" })
	add(3, outbound(cancelled), func(p *plan) { p.scenario, p.act, p.ring = "cancel", "ring", 0 })
	add(12, outbound(cancelled), func(p *plan) { p.scenario, p.act, p.ring = "cancel", "ring", 50+random.IntN(3000) })
	for _, refused := range []string{"407", "484"} {
		add(4, outbound(triedAgain), func(p *plan) {
			p.scenario, p.first, p.refused, p.talk = "retry", "+4416329", refused, talk()
		})
	}
	add(8, outbound(anonymousOut), func(p *plan) { p.user, p.host, p.talk = "anonymous", "anonymous.invalid", talk() })
	add(3, outbound(whoKnows), func(p *plan) {
		p.user, p.host, p.header, p.whose = "anonymous", "anonymous.invalid", noHeader, nobody
	})
	for _, n := range [][2]string{
		{"+41441516204", "+41441516204"}, {"0041441516204", "+41441516204"}, {"01141441516204", "+41441516204"}, {"00+41441516204", "+41441516204"},
		{"0441516204", "+41441516204"}, {"41441516204", "+41441516204"}, {"%2B41441516204", "+41441516204"}, {"*31%230441516204", "+41441516204"},
		{"00442079391501", "+442079391501"}, {"+8821629782085", "+8821629782085"}, {"0800442694", "+41800442694"},
		{"112", "112"}, {"117", "117"}, {"1414", "1414"}, {"1002", "1002"}, {"116117", "116117"}, {"*86", "86"}, {"%2A86", "86"},
	} {
		add(2, outbound(oddNumbers), func(p *plan) { p.called, p.reached, p.talk = n[0], n[1], talk() })
	}
	add(2, outbound(oddNumbers), func(p *plan) { p.to = "+41449999999" }) // the request URI counts
	for _, c := range []struct{ user, header, whose, calling string }{
		{"1002", noHeader, "1002", "1002"},
		{"0445551004", noHeader, "0445551004", "+41445551004"},
		{"%2B41445551005", noHeader, "+41445551005", "+41445551005"},
		{"1003", "P-Asserted-Identity: <tel:+41445551003>", "+41445551003", "+41445551003"},
		{"M\xfcller", asserting("+41445551006"), "+41445551006", "+41445551006"},
		{longUser, asserting("+41445551007"), "+41445551007", "+41445551007"},
	} {
		add(2, outbound(oddCallers), func(p *plan) { p.user, p.header, p.whose, p.calling = c.user, c.header, c.whose, c.calling })
	}
	add(20, inbound(answeredIn), func(p *plan) { p.talk = talk() })
	add(6, inbound(refusedIn), func(p *plan) { p.act = "486" })
	add(4, inbound(anonymousIn), func(p *plan) { p.user, p.host, p.calling = "anonymous", "anonymous.invalid", "anonymous" })
	add(15, outbound(otherTenant), func(p *plan) { p.host, p.tenant, p.talk = "globex.example", "globex", talk() })
	random.Shuffle(len(plans), func(i, j int) { plans[i], plans[j] = plans[j], plans[i] })

	shuffled := plans
	plans = nil
	add(3, outbound(noAnswer), func(p *plan) { p.act = "nothing" })
	add(2, outbound(cancelled), func(p *plan) { p.scenario, p.act, p.ring = "cancel", "nothing", 1000 })
	add(2, outbound(neverHungUp), func(p *plan) { p.hangsUp = "nobody" })
	plans = append(plans, shuffled...)
	for i := range plans {
		if plans[i].to == "" {
			plans[i].to = plans[i].called
		}
	}
	return plans
}

// longUser is a user of a URI that no telephone has and any caller may send.
var longUser = string(slices.Repeat([]byte("long"), 400))

// shortCalls are n calls that are answered, of two tenants by turns.
func shortCalls(random *rand.Rand, n int) (plans []plan) {
	for i := range n {
		p := outbound(aroundOutage)
		p.to, p.talk = p.called, 100+random.IntN(1500)
		if i%4 == 0 {
			p.host, p.tenant = "globex.example", "globex"
		}
		plans = append(plans, p)
	}
	return plans
}
