package cdr

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ncruces/go-strftime"

	"tollbook/domain"
)

const (
	csvName  = "csv"
	jsonName = "json"
)

// mappingOptions are what a switch of format csv or json is described by. Those
// that say where a text comes from are templates as SwitchConfig.User is; a template
// without fields is the same text for every record. Those named .values say what a
// text means: texts and words in pairs, of which the first that fits counts, as in
//
//	ANSWERED=answered; NO ANSWER=no_answer; SIP 4*=failed; *=failed
//
// where a * stands for any characters. Without it, the text is the word itself.
// docs/switches/any-other.md says what each is for.
var mappingOptions = []option{
	{"id", wellFormed},
	{"boot", wellFormed},
	{"sequence", wellFormed},
	{"correlation", wellFormed},
	{"leave_out", wellFormed},
	{"leave_out.values", checkPatterns},
	{"direction", wellFormed},
	{"direction.values", checkValues(directions)},
	{"kind", wellFormed},
	{"kind.values", checkValues(nil)},
	{"disposition", wellFormed},
	{"disposition.values", checkValues(dispositions)},
	{"unanswered", wellFormed},
	{"unanswered.values", checkValues(unanswered)},
	{"time", checkTime},
	{"started_at", wellFormed},
	{"answered_at", wellFormed},
	{"ended_at", wellFormed},
	{"billable", wellFormed},
	{"billable.unit", oneOf("s", "ms", "us")},
	{"calling", wellFormed},
	{"called", wellFormed},
	{"sip_status", wellFormed},
	{"q850", wellFormed},
	{"inbound_user", wellFormed},
}

// tableOptions are those of format csv.
var tableOptions = append([]option{{"separator", oneOf("comma", "semicolon", "tab", "pipe")}}, mappingOptions...)

var columnSeparators = map[string]rune{"": ',', "comma": ',', "semicolon": ';', "tab": '\t', "pipe": '|'}

// Words that values map to.
var (
	directions   = domain.Directions[:]
	dispositions = domain.Dispositions[:]
	unanswered   = domain.Dispositions[domain.NoAnswer:]
)

// checkMapping says what the options of a mapping lack together.
func checkMapping(cfg *domain.SwitchConfig) error {
	o := cfg.Options
	if cfg.User == "" {
		return errors.New("user: a template for whose licence pays is needed, such as {extension}@{tenant}")
	}
	if err := wellFormed(cfg.User); err != nil {
		return fmt.Errorf("user: %w", err)
	}
	for _, name := range []string{"id", "direction", "calling", "called", "time"} {
		if o[name] == "" {
			return fmt.Errorf("options: %s is missing; format %s needs id, direction, calling, called, time and times", name, cfg.Format)
		}
	}
	for name := range o {
		if of, ok := strings.CutSuffix(name, ".values"); ok && o[of] == "" {
			return fmt.Errorf("options: %s says what the texts of %s mean, and %s is missing", name, of, of)
		}
	}
	switch {
	case o["leave_out"] != "" && o["leave_out.values"] == "":
		return errors.New("options: leave_out.values is missing: the texts of leave_out by which records are left out, such as 2; INTEGER")
	case o["disposition"] != "" && o["unanswered"] != "":
		return errors.New("options: disposition says how every call ended, unanswered how those did that have no time of an answer: give one of them")
	case o["answered_at"] == "" && o["unanswered"] != "":
		return errors.New("options: unanswered needs answered_at, which tells the calls it is about")
	case o["answered_at"] == "" && (o["disposition"] == "" || o["ended_at"] == "" || o["billable"] == ""):
		return errors.New("options: answered_at is missing; without it disposition, ended_at and billable are needed, and the call was answered at its end less its talk time")
	case o["ended_at"] == "" && o["billable"] == "":
		return errors.New("options: billable or ended_at is needed, to know how long a call was")
	}
	return nil
}

// wellFormed checks a template.
func wellFormed(template string) error {
	for alternative := range strings.SplitSeq(template, "|") {
		if _, _, formed := expand(alternative, func(string) string { return "" }); !formed {
			return errors.New("has a { or } without its partner, or no name between them")
		}
	}
	return nil
}

// fill is the first alternative of a template whose fields all have text.
func fill(template string, field func(name string) string) (text string, ok bool) {
	for alternative := range strings.SplitSeq(template, "|") {
		text, complete, formed := expand(alternative, field)
		if formed && complete && text != "" {
			return text, true
		}
	}
	return "", false
}

// eachValue calls each with the pairs of an option named .values, without the
// blanks around pattern and word, until one is false.
func eachValue(values string, each func(pattern, word string, paired bool) bool) {
	for pair := range strings.SplitSeq(values, ";") {
		pattern, word, paired := strings.TrimSpace(pair), "", false
		if i := strings.LastIndexByte(pattern, '='); i >= 0 {
			pattern, word, paired = strings.TrimSpace(pattern[:i]), strings.TrimSpace(pattern[i+1:]), true
		}
		if !each(pattern, word, paired) {
			return
		}
	}
}

// checkValues checks pairs whose words are some of words; nil: any.
func checkValues(words []string) func(values string) error {
	return func(values string) (err error) {
		eachValue(values, func(pattern, word string, paired bool) bool {
			switch {
			case !paired:
				err = fmt.Errorf("%.40q is not a text and what it means, such as ANSWERED=answered; pairs are separated by ;", pattern)
			case word == "" || words != nil && !slices.Contains(words, word):
				err = fmt.Errorf("%.40q means %.40q, which must be %s", pattern, word, anyOf(words))
			}
			return err == nil
		})
		return err
	}
}

// anyOf lists words for people.
func anyOf(words []string) string {
	if words == nil {
		return "a name"
	}
	return strings.Join(words, " or ")
}

// checkPatterns checks texts by which records are left out.
func checkPatterns(patterns string) (err error) {
	for pattern := range strings.SplitSeq(patterns, ";") {
		if strings.Trim(pattern, " *") == "" {
			return errors.New("has a text that is empty or every text; texts are separated by ;, and an * stands for any characters")
		}
	}
	return nil
}

// meaning is the word of the first pattern that text fits; without values, text itself.
func meaning(values, text string) string {
	if values == "" {
		return text
	}
	var found string
	eachValue(values, func(pattern, word string, _ bool) bool {
		if fits(pattern, text) {
			found = word
		}
		return found == ""
	})
	return found
}

// fits reports whether text is pattern, where each * stands for any characters.
func fits(pattern, text string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return text == pattern
	}
	if !strings.HasPrefix(text, head) {
		return false
	}
	text = text[len(head):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(text, part)
		}
		// The first place is as good as any later one.
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text, rest = text[i+len(part):], after
	}
}

// Ways to write times, besides a strftime layout.
const (
	timeUnix    = "unix"
	timeUnixMS  = "unix_ms"
	timeUnixUS  = "unix_us"
	timeRFC3339 = "rfc3339"
)

// checkTime checks how times are written: that a layout says date and time of day
// whole shows when a time that was written so is read again.
func checkTime(value string) error {
	switch value {
	case timeUnix, timeUnixMS, timeUnixUS, timeRFC3339:
		return nil
	}
	if !strings.Contains(value, "%") {
		return errors.New("must be unix, unix_ms, unix_us, rfc3339 or a strftime layout such as %Y-%m-%d %H:%M:%S")
	}
	if strings.Contains(value, "%Z") || strings.Contains(value, "%+") {
		return errors.New("%Z is an abbreviation that means several zones; use %z, or leave it out and set the switch's time_zone")
	}
	layout, err := strftime.Layout(value)
	if err != nil {
		return err
	}
	for _, example := range []time.Time{
		time.Date(2026, time.November, 22, 21, 40, 0, 0, time.UTC),
		time.Date(2031, time.February, 3, 4, 5, 0, 0, time.UTC),
	} {
		written := example.Format(layout)
		read, err := time.Parse(layout, written)
		if err != nil || !read.Equal(example) {
			return fmt.Errorf("does not say year, month, day, hour and minute: 2026-11-22 21:40 would be %q", example.Format(layout))
		}
	}
	return nil
}
