package cdr

import (
	"strings"
	"time"

	"tollbook/domain"
)

// An asteriskTime is one of the times of a record.
type asteriskTime struct {
	name     string
	may      []domain.Instant // what it may be: none, one, or the two of an hour that clocks go through twice
	fraction bool             // it is written with decimals
}

// at is the time it is, or 0 for none.
func (t *asteriskTime) at() domain.Instant {
	if len(t.may) == 0 {
		return 0
	}
	return t.may[0]
}

// times sets the event's and the call's times and the talk time.
func (a *asteriskRecord) times() *Refusal {
	start, answer, end := asteriskTime{name: "start"}, asteriskTime{name: "answer"}, asteriskTime{name: "end"}
	for _, t := range []*asteriskTime{&start, &answer, &end} {
		if t == &answer && a.call.Disposition != domain.Answered {
			continue
		}
		if refusal := a.time(t); refusal != nil {
			return refusal
		}
		if t.at() == 0 {
			return refuse(CodeTime, t.name, a.fields[t.name], "the time is missing")
		}
	}
	if refusal := a.decide(&start, &answer, &end); refusal != nil {
		return refusal
	}
	if a.created != 0 && start.at() < a.created-domain.Instant(maxContradiction) {
		return refuse(CodeTime, "start", a.fields["start"], "the record begins before its channel was made, at %s by uniqueid: the times are of another zone than the switch's time_zone; with usegmtime in cdr.conf it is UTC", a.created)
	}
	a.event.Time = end.at()
	a.call.StartedAt, a.call.AnsweredAt, a.call.EndedAt = start.at(), answer.at(), end.at()
	if a.call.Disposition != domain.Answered {
		return nil
	}
	between := int64(end.at() - answer.at())
	text := a.fields["billsec"]
	talk, ok := nanoseconds(text)
	switch {
	case !ok:
		return refuse(CodeTime, "billsec", text, "seconds are expected, such as 12 or 12.397269")
	case between < 0:
		return refuse(CodeTime, "end", a.fields["end"], "the call ended at %s, before its answer at %s; look at the switch's clock and time_zone", end.at(), answer.at())
	case apart(talk, between):
		return refuse(CodeTime, "billsec", text, "differs from end − answer by more than 2 s; look at the switch's clock and time_zone")
	case !strings.Contains(text, ".") && answer.fraction && end.fraction:
		talk = between
	}
	if a.call.BillableMS = milliseconds(talk); a.call.BillableMS > domain.MaxBillableMS {
		return refuse(CodeTime, "billsec", text, "more than 48 hours of talk, a broken record")
	}
	return nil
}

// Ways Asterisk writes times, by the letter between date and time.
const (
	asteriskBlank = "2006-01-02 15:04:05" // of all modules, and "%Y-%m-%d %T"
	asteriskT     = "2006-01-02T15:04:05" // of "%FT%T"
)

// time reads a time: "%Y-%m-%d %T" with or without decimals and offset, or seconds since 1970.
func (a *asteriskRecord) time(t *asteriskTime) *Refusal {
	text := a.fields[t.name]
	if noTime(text) {
		return nil
	}
	if strings.Trim(text, "0123456789.") == "" {
		at, refusal := a.unix(t.name)
		t.may, t.fraction = []domain.Instant{at}, strings.Contains(text, ".")
		return refusal
	}
	layout := asteriskBlank
	if len(text) > len("2006-01-02") && text[len("2006-01-02")] == 'T' {
		layout = asteriskT
	}
	t.fraction = len(text) > len(layout) && text[len(layout)] == '.'
	for _, offset := range []string{"", "Z0700", "Z07:00", " -0700"} {
		parsed, err := time.Parse(layout+offset, text)
		if err != nil {
			continue
		}
		at, rule := instantOf(parsed)
		if rule != "" {
			return refuse(CodeTime, t.name, text, "%s; look at the switch's clock", rule)
		}
		if t.may = []domain.Instant{at}; offset == "" {
			return a.local(t, parsed)
		}
		return nil
	}
	return refuse(CodeTime, t.name, text, "a time such as 2026-11-22 22:46:54 is expected, with an offset or in the switch's time_zone, or seconds since 1970")
}

// local finds when clocks of the switch's zone showed what wall shows.
func (a *asteriskRecord) local(t *asteriskTime, wall time.Time) *Refusal {
	zone, err := zoneNamed(a.cfg.TimeZone)
	if err != nil {
		return refuse(CodeTime, "time_zone", a.cfg.TimeZone, "the switch's time zone can't be read; publish its configuration again: %v", err)
	}
	first, second := (&timeReader{zone: zone}).instants(wall)
	if first.IsZero() {
		return refuse(CodeTime, t.name, a.fields[t.name], "there was no such time in %s, where the clock went forward over it; look at the switch's time_zone", zone)
	}
	if t.may = []domain.Instant{domain.InstantOf(first)}; second != first {
		t.may = append(t.may, domain.InstantOf(second))
	}
	return nil
}

// decide leaves each time with the one it is, by what the record says besides:
// when its channel was made, that an answer follows a start, and how long it all took.
func (a *asteriskRecord) decide(times ...*asteriskTime) *Refusal {
	start, answer, end := times[0], times[1], times[2]
	var doubtful *asteriskTime
	for _, t := range times {
		if len(t.may) > 1 {
			doubtful = t
			break
		}
	}
	if doubtful == nil {
		return nil
	}
	var fits, first [][3]domain.Instant // first: those of a channel's first record
	answers := answer.may
	if len(answers) == 0 {
		answers = []domain.Instant{0}
	}
	for _, s := range start.may {
		for _, e := range end.may {
			for _, w := range answers {
				if !a.fit(s, w, e) {
					continue
				}
				reading := [3]domain.Instant{s, w, e}
				fits = append(fits, reading)
				if a.created != 0 && !apart(int64(s), int64(a.created)) {
					first = append(first, reading)
				}
			}
		}
	}
	if len(fits) > 1 {
		fits = first
	}
	if len(fits) != 1 {
		return refuse(CodeTime, doubtful.name, a.fields[doubtful.name], "%s had this time twice, as the clock went back, and neither the record's lengths nor its uniqueid say which one it was; "+
			"write it with its offset, or let Asterisk write times in UTC (usegmtime)", a.cfg.TimeZone)
	}
	for i, t := range times {
		if len(t.may) > 0 {
			t.may = []domain.Instant{fits[0][i]}
		}
	}
	return nil
}

// fit reports whether a record may have these times; answer 0: there is none.
func (a *asteriskRecord) fit(start, answer, end domain.Instant) bool {
	const slack = domain.Instant(maxContradiction)
	if end < start || a.created != 0 && start < a.created-slack {
		return false
	}
	if duration, ok := nanoseconds(a.fields["duration"]); ok && apart(duration, int64(end-start)) {
		return false
	}
	if answer == 0 {
		return true
	}
	talk, ok := nanoseconds(a.fields["billsec"])
	return start <= answer && answer <= end && ok && !apart(talk, int64(end-answer))
}
