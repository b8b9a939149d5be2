package cdr

import (
	"crypto/sha256"
	"encoding/hex"
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
	asteriskName     = "asterisk"
	asteriskJSONName = "asterisk-json"
	asteriskAMIName  = "asterisk-ami"
)

// asteriskOptions are those of all formats of Asterisk.
var asteriskOptions = []option{
	{name: "inbound_contexts", check: namesOf("dialplan contexts", defaultInboundContexts)},
	{name: "apps", check: namesOf("applications", defaultApps)},
	{name: "continued", check: oneOf("suspend", "bill", "leg")},
}

// What the options are where the configuration has none.
const (
	defaultInboundContexts = "from-trunk,from-pstn,from-external"
	defaultApps            = "Dial,RetryDial,FollowMe,Queue"
)

// namesOf is the check of an option that is names between commas.
func namesOf(what, example string) func(string) error {
	return func(value string) error {
		if slices.Contains(contexts(value), "") {
			return fmt.Errorf("must be names of %s between commas, such as %s", what, example)
		}
		return nil
	}
}

// asteriskInside are applications that connect a channel to others within
// Asterisk: whoever was called to get there has a record of his own.
var asteriskInside = []string{"ConfBridge", "MeetMe", "Page", "Bridge", "BridgeWait", "Park", "ParkedCall", "Pickup", "PickupChan"}

// asteriskNeeded are the columns without which a record is not read.
var asteriskNeeded = []string{"disposition", "src", "dst", "dcontext", "channel", "dstchannel", "lastapp", "start", "answer", "end", "billsec"}

// An asteriskRecord is a record of Asterisk, whichever module wrote it. Its
// fields have the names of Asterisk's columns. The party that called is A, the
// one that was reached is B; a call may have several records, one for each B.
//
//   - source is switch/<switch>, without sequence: Asterisk's counts what it never
//     writes, and begins anew with each start.
//   - id is <uniqueid>;<sequence>, where the record has no uniqueid <linkedid>;<sequence>.
//     Without sequence it is <uniqueid>; and a hash of what tells the records of one
//     channel apart: B's channel, both numbers, application, times as written and
//     disposition. So a row that comes twice is one event, and forked twins are two.
//   - correlation is linkedid, else uniqueid.
//   - Times have their offset, or are seconds since 1970, or else local in the switch's
//     time_zone. In the hour that clocks go through twice, uniqueid says the second in which
//     the channel was made, and the lengths how far the times are apart: one reading has to
//     fit, and to be the only one. A channel's first record begins as it is made; that
//     fits too where a later time might have done as well.
//   - A call was answered if disposition is ANSWERED, whatever billsec is. Of another
//     one, answer and billsec are A's, whom the dialplan had answered, and not read.
//   - billable_ms is billsec where that has decimals; else from answer to end where
//     those have; else billsec, in whole seconds.
//   - direction is inbound if dcontext is one of inbound_contexts, else outbound.
//   - user is the template's over the columns, {endpoint} and {tenant}. For an inbound
//     call A and B change places. What can't cost needs no user.
//
// No talk is billed twice: a record that does not show by itself that it is the one
// to be billed is of kind leg and inbound, or refused; see side. What can't be seen is
// who joins a bridge within two seconds of the channel's beginning, or in the place
// of a Local channel, and what a dialplan copies with ForkCDR.
type asteriskRecord struct {
	fields
	spelled map[string]string // how the record calls a column, where that is not its name

	cfg     *domain.SwitchConfig
	created domain.Instant // the second in which the channel was made; 0: not known
	event   domain.Event
	call    domain.Call
}

// readAsteriskFields makes the event of a record of which the fields were read.
func readAsteriskFields(f fields, spelled map[string]string, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	a := asteriskRecord{fields: f, spelled: spelled, cfg: cfg}
	a.event.Tenant = tenant
	for _, step := range []func() *Refusal{a.complete, a.identity, a.outcome, a.times, a.side, a.numbers, a.user} {
		if refusal := step(); refusal != nil {
			if name, ok := spelled[refusal.Field]; ok {
				refusal.Field = name
			}
			return domain.Event{}, refusal
		}
	}
	a.event.Data = &a.call
	return a.event, nil
}

// complete refuses a record without a column that is always needed.
func (a *asteriskRecord) complete() *Refusal {
	for _, name := range asteriskNeeded {
		if _, ok := a.fields[name]; !ok {
			return refuse(CodeField, name, "", "the field is missing; let Asterisk write it")
		}
	}
	return nil
}

// identity sets source, id and correlation.
func (a *asteriskRecord) identity() *Refusal {
	a.event.Source = "switch/" + a.cfg.Switch
	if !visible(a.event.Source, domain.MaxSourceBytes) {
		return refuse(CodeField, "", "", "the name of the switch %.64q is longer than a source may be", a.cfg.Switch)
	}
	uniqueID, linkedID := a.fields["uniqueid"], a.fields["linkedid"]
	a.created = channelCreated(uniqueID)
	for _, id := range []string{linkedID, uniqueID} {
		if visible(id, domain.MaxNameBytes) {
			a.call.Correlation = id
			break
		}
	}
	channel := uniqueID
	if channel == "" {
		channel = linkedID
	}
	if sequence := a.fields["sequence"]; sequence != "" && channel != "" {
		n, err := strconv.ParseInt(sequence, 10, 64)
		if err != nil {
			return refuse(CodeField, "sequence", sequence, "Asterisk's number of the record is expected")
		}
		// Some modules write the 32 bits with a sign.
		a.event.ID = channel + ";" + strconv.FormatUint(uint64(uint32(n)), 10)
	} else {
		if uniqueID == "" {
			channel = a.fields["channel"]
		}
		if channel == "" {
			return refuse(CodeField, "uniqueid", "", "nothing tells this record from others: neither uniqueid nor channel has text")
		}
		var apart []byte
		for _, name := range []string{"dstchannel", "src", "dst", "lastapp", "start", "answer", "end", "disposition"} {
			apart = append(append(apart, a.fields[name]...), 0)
		}
		sum := sha256.Sum256(apart)
		a.event.ID = channel + ";" + hex.EncodeToString(sum[:16])
	}
	a.event.ID = eventID(a.event.ID)
	return nil
}

// eventID is text if it can be an id, else a hash of it.
func eventID(text string) string {
	if visible(text, domain.MaxIDBytes) {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + hex.EncodeToString(sum[:])
}

// channelCreated is the second in <systemname>-<epoch>.<n>; 0: it is no such id.
func channelCreated(uniqueID string) domain.Instant {
	front, n, ok := strings.Cut(uniqueID[strings.LastIndexByte(uniqueID, '-')+1:], ".")
	const longest = 11 // digits, far beyond 2200
	if !ok || !digits(front) || !digits(n) || len(front) > longest {
		return 0
	}
	seconds, err := strconv.ParseInt(front, 10, 64)
	if err != nil {
		return 0
	}
	t, rule := instantOf(time.Unix(seconds, 0))
	if rule != "" {
		return 0
	}
	return t
}

// outcome sets the disposition.
func (a *asteriskRecord) outcome() *Refusal {
	switch text := a.fields["disposition"]; text {
	case "ANSWERED":
		a.call.Disposition = domain.Answered
	case "NO ANSWER":
		a.call.Disposition = domain.NoAnswer
	case "BUSY":
		a.call.Disposition = domain.Busy
	case "CANCEL":
		a.call.Disposition = domain.Cancelled
	case "FAILED", "CONGESTION":
		a.call.Disposition = domain.Failed
	default:
		return refuse(CodeField, "disposition", text, "ANSWERED, NO ANSWER, BUSY, FAILED, CONGESTION or CANCEL is expected; if the file has other columns than Master.csv, name them in the switch's option columns")
	}
	return nil
}

// side sets direction and kind, and says of a call that could cost whether this
// record is the one that bills it. What Asterisk does (main/cdr.c), and what becomes of it:
//
//   - B is a Local channel: the dialplan behind it dials on and has a record of its
//     own over the same talk. This one is a leg.
//   - Answered without B: A talked to Asterisk itself. A leg, unless the application
//     dials: then either nobody was reached after an Answer(), or Asterisk
//     was told not to say who (ignoredialchanges), and nobody can tell. Refused.
//   - Answered with B in a conference and the like: Asterisk writes a record for each pair
//     of channels in a bridge, with one uniqueid and over the same time. Legs.
//   - Answered by an application that is neither of these nor in apps: refused.
//   - Answered as it begins, and two seconds or more after its channel was made: A was
//     connected before. It is a transferred call, or a further Dial, and is to be billed; or
//     somebody joined the bridge of a call whose own record goes on, and is not. The
//     record does not say which, so the option continued does. Where the
//     dialplan dialled a Local channel it has taken that channel's place, and is billed.
func (a *asteriskRecord) side() *Refusal {
	a.call.Kind, a.call.Direction = domain.KindUser, domain.Outbound
	inbound := a.cfg.Options["inbound_contexts"]
	if inbound == "" {
		inbound = defaultInboundContexts
	}
	if slices.Contains(contexts(inbound), a.fields["dcontext"]) {
		a.call.Direction = domain.Inbound
		return nil
	}
	leg := func() *Refusal {
		a.call.Kind, a.call.Direction = kindLeg, domain.Inbound
		return nil
	}
	b, app := a.fields["dstchannel"], a.fields["lastapp"]
	switch named := func(name string) bool { return strings.EqualFold(name, app) }; {
	case strings.HasPrefix(b, "Local/"):
		return leg()
	case a.call.Disposition != domain.Answered:
		return nil
	case slices.ContainsFunc(contexts(a.apps()), named):
		if b == "" {
			return refuse(CodeField, "dstchannel", "", "the call was answered, and Asterisk does not say by whom: either %.40s reached nobody after an Answer() of the dialplan, or ignoredialchanges is on in cdr.conf, which must be off", app)
		}
		return a.connectedBefore(leg)
	case b == "", slices.ContainsFunc(asteriskInside, named):
		return leg()
	}
	return refuse(CodeField, "lastapp", app, "the call was answered in an application of which nobody said whether it calls the world; if it does, add it to the switch's option apps (now %.200s)", a.apps())
}

func (a *asteriskRecord) apps() string {
	if apps := a.cfg.Options["apps"]; apps != "" {
		return apps
	}
	return defaultApps
}

// connectedBefore is what becomes of an answered record that may be a channel's second one.
func (a *asteriskRecord) connectedBefore(leg func() *Refusal) *Refusal {
	since := int64(a.call.StartedAt - a.created)
	ringing := a.call.AnsweredAt != a.call.StartedAt
	if duration, ok := nanoseconds(a.fields["duration"]); ok {
		talk, _ := nanoseconds(a.fields["billsec"])
		ringing = ringing || duration != talk
	}
	if a.created == 0 || since < maxContradiction || ringing || strings.HasPrefix(a.fields["lastdata"], "Local/") {
		return nil
	}
	switch a.cfg.Options["continued"] {
	case "bill":
		return nil
	case "leg":
		return leg()
	}
	return refuse(CodeField, "answer", a.fields["answer"], "the record begins answered, %s after its channel was made: a transfer or a further Dial, to be billed, or somebody who joined a call that another record bills; "+
		"look at the records with uniqueid %.80s, and say with the switch's option continued what becomes of such ones: bill or leg", time.Duration(since).Truncate(time.Second), a.fields["uniqueid"])
}

// numbers sets the calling and the called number.
func (a *asteriskRecord) numbers() *Refusal {
	plan := NewDialPlan(a.cfg)
	dst, src := a.fields["dst"], a.fields["src"]
	var err error
	if a.call.Called, err = plan.Called(dst); err != nil {
		if a.call.Direction == domain.Inbound {
			return refuse(CodeExcluded, "dst", dst, "no number but an extension of the dialplan, in a record that costs nothing, left out; to write all of them off: "+
				"tollbook suspense write-off --tenant %s --reason %s --source %s --why 'no number'", a.event.Tenant, CodeExcluded, a.event.Source)
		}
		return refuse(CodeNumber, "dst", dst, "%v", err)
	}
	if a.call.Calling, err = plan.Calling(src); err != nil {
		if a.call.Kind != kindLeg {
			return refuse(CodeNumber, "src", src, "%v", err)
		}
		a.call.Calling = domain.Number{}
	}
	return nil
}

// asteriskOtherSide is what a field of the template stands for in an inbound call.
var asteriskOtherSide = map[string]string{
	"src": "dst", "dst": "src",
	"channel": "dstchannel", "dstchannel": "channel",
	"accountcode": "peeraccount", "peeraccount": "accountcode",
}

// user sets whose licence pays. Of a leg the sides stay as they are: it is inbound
// so that it can't cost, not because somebody called in.
func (a *asteriskRecord) user() *Refusal {
	swap := a.call.Direction == domain.Inbound && a.call.Kind != kindLeg
	user, refusal := userOf(a.cfg.User, func(name string) string {
		column := name
		if name == "endpoint" {
			column = "channel"
		}
		if other, ok := asteriskOtherSide[column]; ok && swap {
			column = other
		}
		text, ok := a.fields[column]
		switch {
		case name == "endpoint":
			text = endpointOf(text)
		case name == "tenant" && !ok:
			text = a.event.Tenant
		}
		if strings.EqualFold(text, "anonymous") || strings.ContainsRune(text, utf8.RuneError) {
			return ""
		}
		return text
	})
	if refusal != nil && a.call.Direction == domain.Outbound {
		return refusal
	}
	a.call.User = user
	return nil
}

// endpointOf is 1001 of the channel PJSIP/1001-0000002a.
func endpointOf(channel string) string {
	_, name, ok := strings.Cut(channel, "/")
	end := strings.LastIndexByte(name, '-')
	if !ok || end < 0 {
		return ""
	}
	return name[:end]
}

// checkAsterisk says what of a configuration can't be right.
func checkAsterisk(cfg *domain.SwitchConfig) error {
	if cfg.User == "" {
		return errors.New("user: a template for whose licence pays is needed, such as {accountcode}|{endpoint}@{tenant}")
	}
	if err := wellFormed(cfg.User); err != nil {
		return fmt.Errorf("user: %w", err)
	}
	return nil
}
