package cdr

import (
	"fmt"
	"strings"
	"time"

	"tollbook/domain"
)

const (
	graphName = "graph"
	teamsName = "teams"
)

// A callReport is how one of Microsoft's two reports of PSTN calls names what
// both have: getPstnCalls of Graph, and the export of the Teams admin center.
type callReport struct {
	id, callID, callType string
	start, end, duration string
	durationSource       string
	calling, called      string
	user                 string // the template of switches that have none

	rows      string   // what a row is called
	direct    []string // fields of a row of Direct Routing, each of which no other row has
	spelledBy func(name string) string
}

var graphReport = callReport{
	id: "id", callID: "callId", callType: "callType",
	start: "startDateTime", end: "endDateTime", duration: "duration", durationSource: "callDurationSource",
	calling: "callerNumber", called: "calleeNumber",
	user: "{userPrincipalName}|{userId}",
	rows: "getPstnCalls", direct: []string{"inviteDateTime", "trunkFullyQualifiedDomainName", "finalSipCode"},
	spelledBy: func(name string) string { return name },
}

var teamsReport = callReport{
	id: "UsageId", callID: "Call ID", callType: "Call Type",
	start: "Start Time", end: "End Time", duration: "Duration Seconds", durationSource: "Call Duration Source",
	calling: "Caller ID", called: "Destination Number",
	user: "{UPN}|{AAD ObjectId}",
	rows: "the PSTN usage report", direct: []string{"Invite time", "SBC FQDN", "Final SIP code"},
	spelledBy: columnName,
}

// callTypes are what callType may be. A user who brings others into a call by
// telephone (user_out_conf) pays by the calling plan; conferencing plans pay what
// the bridge dials.
var callTypes = map[string]struct {
	direction domain.Direction
	kind      string
}{
	"user_in":             {domain.Inbound, domain.KindUser},
	"user_out":            {domain.Outbound, domain.KindUser},
	"user_out_conf":       {domain.Outbound, domain.KindUser},
	"user_out_forwarding": {domain.Outbound, domain.KindForward},
	"user_out_transfer":   {domain.Outbound, domain.KindTransfer},
	"conf_in":             {domain.Inbound, domain.KindConference},
	"conf_out":            {domain.Outbound, domain.KindConference},
	"ucap_in":             {domain.Inbound, domain.KindUser},
	"ucap_out":            {domain.Outbound, domain.KindUser},
}

// readGraph reads one row of Microsoft Graph's getPstnCalls, a pstnCallLogRow.
// What becomes of it: [callReport.read].
func readGraph(record []byte, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	f, refusal := flatJSON(record)
	if refusal != nil {
		return domain.Event{}, refusal
	}
	return graphReport.read(f, tenant, cfg)
}

// readTeams reads one row of PSTN.calls.<date>.csv, the export of the PSTN usage
// report in the Teams admin center, below its header. Columns are found by name,
// whatever their order, their number and the case of their letters; a column that
// is not needed may be missing. What becomes of it: [callReport.read].
func readTeams(record []byte, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	f, refusal := tableRow(record, ',', columnName)
	if refusal != nil {
		return domain.Event{}, refusal
	}
	return teamsReport.read(f, tenant, cfg)
}

// columnName is a column's name as it is compared: Usage ID is UsageId, and Start
// Time (UTC) is Start Time.
func columnName(name string) string {
	name = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(name)), "(utc)")
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '/' {
			return r
		}
		return -1
	}, name)
}

// read makes the event of a row:
//
//   - source is switch/<switch>, id the row's id in small letters. correlation is
//     its callId, which is not unique.
//   - Rows of Direct Routing are excluded: the records of the SBC bill these calls.
//   - The reports have connected calls only, so every row is an answered call, and
//     no time of the answer. A row says how long the call was connected, and
//     when it began and ended, so it was answered at its end less that length, and what
//     is before that is ringing. Where that is up to two seconds before the
//     start (the length is in whole seconds), it was answered at the start.
//   - A length that is longer than from start to end by more is refused. Only where
//     callDurationSource is operator is it another company's own: then the call was
//     answered at its start, and ended_at is not said.
//   - Times without an offset are UTC, which both reports are in.
//   - direction and kind are those of callType, calling is callerNumber and called
//     calleeNumber in both directions; digits that are masked stay so.
//   - user is the template's over the fields of the row. For an inbound call
//     callerNumber and calleeNumber change places, so that callerNumber is always the
//     organisation's own number. A number that is masked or withheld names nobody. Bots
//     (ucap_in, ucap_out) have no user in the reports: an outbound call of theirs
//     needs an alternative in the template, an inbound call does without a user.
func (r *callReport) read(f fields, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	row := reportRow{callReport: r, fields: f, cfg: cfg}
	row.event = domain.Event{Tenant: tenant, Source: "switch/" + cfg.Switch}
	if !visible(row.event.Source, domain.MaxSourceBytes) {
		return domain.Event{}, refuse(CodeField, "", "", "the name of the switch %.64q is longer than a source may be", cfg.Switch)
	}
	for _, step := range []func() *Refusal{row.excluded, row.identity, row.kind, row.times, row.numbers, row.user} {
		if refusal := step(); refusal != nil {
			return domain.Event{}, refusal
		}
	}
	row.event.Data = &row.call
	return row.event, nil
}

// reportRow is a row on its way to the event.
type reportRow struct {
	*callReport
	fields
	cfg   *domain.SwitchConfig
	event domain.Event
	call  domain.Call
}

func (r *reportRow) text(name string) string { return r.fields[r.spelledBy(name)] }

func (r *reportRow) has(name string) bool {
	_, ok := r.fields[r.spelledBy(name)]
	return ok
}

// excluded refuses the rows of Direct Routing.
func (r *reportRow) excluded() *Refusal {
	callType := strings.ToLower(r.text(r.callType))
	direct := strings.HasPrefix(callType, "byot") || strings.HasPrefix(callType, "dr_")
	for _, name := range r.direct {
		direct = direct || r.has(name)
	}
	if direct {
		return refuse(CodeExcluded, "", "", "a call over Direct Routing, left out of billing because the SBC's own records bill it; to write all of them off: "+
			"tollbook suspense write-off --tenant %s --reason %s --source %s --why 'billed by the SBC'", r.event.Tenant, CodeExcluded, r.event.Source)
	}
	if !r.has(r.id) && !r.has(r.callType) {
		return refuse(CodeSyntax, "", "", "no row of %s: it has neither %s nor %s; look whether it is what Microsoft answered instead, such as an error, "+
			"or was saved by another program with other columns", r.rows, r.callReport.id, r.callType)
	}
	return nil
}

// identity sets id and correlation.
func (r *reportRow) identity() *Refusal {
	id := strings.ToLower(strings.TrimSpace(r.text(r.id)))
	if !visible(id, domain.MaxIDBytes) {
		return refuse(CodeField, r.id, id, "the row's own id is expected, such as 9c4984c7-6c3c-427d-a30c-bd0b2eacee90")
	}
	r.event.ID = id
	if callID := r.text(r.callID); visible(callID, domain.MaxNameBytes) {
		r.call.Correlation = callID
	}
	return nil
}

// kind sets direction and kind.
func (r *reportRow) kind() *Refusal {
	text := r.text(r.callType)
	callType, ok := callTypes[strings.ToLower(strings.TrimSpace(text))]
	if !ok {
		return refuse(CodeField, r.callType, text, "user_in, user_out, user_out_conf, user_out_forwarding, user_out_transfer, conf_in, conf_out, ucap_in or ucap_out is expected; "+
			"for another, correct it to the one it is like")
	}
	r.call.Direction, r.call.Kind = callType.direction, callType.kind
	return nil
}

// times sets the event's and the call's times and the talk time.
func (r *reportRow) times() *Refusal {
	var start, end domain.Instant
	for _, t := range []struct {
		name string
		to   *domain.Instant
	}{{r.start, &start}, {r.end, &end}} {
		var rule string
		if *t.to, rule = utcTime(r.text(t.name)); rule != "" {
			return refuse(CodeTime, t.name, r.text(t.name), "%s", rule)
		}
	}
	if end < start {
		return refuse(CodeTime, r.end, r.text(r.end), "the call ended before its start at %s", start)
	}
	text := r.text(r.duration)
	talk, ok := nanoseconds(text)
	switch {
	case !ok:
		return refuse(CodeTime, r.duration, text, "the seconds the call was connected are expected, such as 219")
	case milliseconds(talk) > domain.MaxBillableMS:
		return refuse(CodeTime, r.duration, text, "more than 48 hours, a broken record")
	}
	r.event.Time = end
	r.call.Disposition = domain.Answered
	r.call.BillableMS = milliseconds(talk)
	r.call.StartedAt = start
	r.call.AnsweredAt, r.call.EndedAt = max(start, end-domain.Instant(talk)), end
	if apart(talk, int64(r.call.EndedAt-r.call.AnsweredAt)) {
		if !strings.EqualFold(r.text(r.durationSource), "operator") {
			return refuse(CodeTime, r.duration, text, "from %s to %s there are only %s", start, end, time.Duration(end-start).Round(time.Millisecond))
		}
		r.call.AnsweredAt, r.call.EndedAt = start, 0
	}
	return nil
}

// numbers sets the calling and the called number.
func (r *reportRow) numbers() *Refusal {
	plan := NewDialPlan(r.cfg)
	called := r.text(r.called)
	if called == "" {
		return refuse(CodeNumber, r.called, "", "the number that was called is missing")
	}
	var err error
	if r.call.Called, err = plan.Called(called); err != nil {
		return refuse(CodeNumber, r.called, called, "%v", err)
	}
	if r.call.Calling, err = plan.Calling(r.text(r.calling)); err != nil {
		return refuse(CodeNumber, r.calling, r.text(r.calling), "%v", err)
	}
	return nil
}

// user sets whose licence pays.
func (r *reportRow) user() *Refusal {
	template := r.cfg.User
	if template == "" {
		template = r.callReport.user
	}
	if _, named := fill(template, r.templateField); !named {
		switch {
		case r.call.Direction == domain.Inbound:
			return nil
		case strings.HasPrefix(strings.ToLower(r.text(r.callType)), "ucap_"):
			return refuse(CodeUser, "user", template, "the row names no user, as none of a bot's (auto attendant, call queue) does; add an alternative to the switch's user, "+
				"such as |{%s}, and give that user a licence", r.calling)
		}
	}
	user, refusal := userOf(template, r.templateField)
	r.call.User = user
	return refusal
}

// templateField is what the switch's template for the user has for a field.
func (r *reportRow) templateField(name string) string {
	spelled := r.spelledBy(name)
	calling, called := r.spelledBy(r.calling), r.spelledBy(r.called)
	text, ok := r.fields[spelled]
	switch {
	case !ok && name == "tenant":
		return r.event.Tenant
	case spelled != calling && spelled != called:
		return strings.TrimSpace(text)
	case r.call.Direction == domain.Inbound && spelled == calling:
		text = r.fields[called]
	case r.call.Direction == domain.Inbound:
		text = r.fields[calling]
	}
	if strings.Contains(text, "*") || strings.EqualFold(text, "anonymous") {
		return ""
	}
	return strings.TrimSpace(text)
}

// utcTime reads RFC 3339, also with a blank instead of the T and without an offset.
func utcTime(text string) (t domain.Instant, rule string) {
	if text == "" {
		return 0, "the time is missing"
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 -07:00", time.DateTime} {
		if parsed, err := time.Parse(layout, text); err == nil {
			return instantOf(parsed)
		}
	}
	return 0, "a time in UTC is expected, such as 2019-11-01T00:00:08.2589935Z; a table must not have been saved by a spreadsheet"
}

// instantOf is t, unless it is out of range.
func instantOf(t time.Time) (domain.Instant, string) {
	if t.Before(domain.MinInstant.Time()) || !t.Before(domain.MaxInstant.Time()) {
		return 0, "not between 2000 and 2200"
	}
	return domain.InstantOf(t), ""
}

// check says what of the configuration can't be right.
func (r *callReport) check(cfg *domain.SwitchConfig) error {
	if cfg.User == "" {
		return nil
	}
	if err := wellFormed(cfg.User); err != nil {
		return fmt.Errorf("user: %w", err)
	}
	return nil
}
