package cdr

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"tollbook/domain"
)

// userOf applies SwitchConfig.User: a template with {field} for the text of a
// field, and alternatives separated by |, of which the first whose fields all
// have text is taken: {caller}@{tenant}|{caller_pai}.
//
// field returns "" for what cannot name a user.
func userOf(template string, field func(name string) string) (string, *Refusal) {
	const name = "user"
	for alternative := range strings.SplitSeq(template, "|") {
		user, complete, formed := expand(alternative, field)
		switch {
		case !formed:
			return "", refuse(CodeUser, name, template, "the switch's template has a { or } without its partner; publish the switch's configuration again")
		case !complete || user == "":
		case len(user) > domain.MaxNameBytes:
			return "", refuse(CodeUser, name, user, "the switch's template %.128q gives more than %d bytes", template, domain.MaxNameBytes)
		case !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl):
			return "", refuse(CodeUser, name, user, "the switch's template %.128q gives what is no plain text", template)
		default:
			return user, nil
		}
	}
	return "", refuse(CodeUser, name, template, "the record has no text for the switch's template; add an alternative after | or let the switch record the field")
}

// expand fills one alternative in. complete: every field had text. formed: the braces match.
func expand(template string, field func(string) string) (user string, complete, formed bool) {
	var b strings.Builder
	complete = true
	for template != "" {
		literal, rest, open := strings.Cut(template, "{")
		if strings.Contains(literal, "}") {
			return "", false, false
		}
		b.WriteString(literal)
		if !open {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed || name == "" || strings.Contains(name, "{") {
			return "", false, false
		}
		text := field(name)
		complete = complete && text != ""
		b.WriteString(text)
		template = after
	}
	return b.String(), complete, true
}
