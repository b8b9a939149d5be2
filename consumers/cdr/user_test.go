package cdr

import (
	"strings"
	"testing"
)

func TestUserTemplate(t *testing.T) {
	record := map[string]string{"caller": "1001", "tenant": "acme.example", "caller_pai": "+41445551000", "empty": "", "tab": "a\tb", "long": strings.Repeat("x", 129)}
	for _, c := range []struct{ template, want string }{
		{"{caller_pai}", "+41445551000"},
		{"{caller}@{tenant}", "1001@acme.example"},
		{"sip:{caller}@{tenant};x", "sip:1001@acme.example;x"},
		{"{empty}|{caller}", "1001"},
		{"{empty}@{tenant}|{missing}|{caller_pai}", "+41445551000"},
		{"{caller}|{caller_pai}", "1001"},
		{"switchboard", "switchboard"},
		{"{missing}|switchboard", "switchboard"},
		{"", ""},
		{"|", ""},
		{"{empty}@{tenant}", ""},
		{"{missing}", ""},
		{"{caller", ""},
		{"caller}", ""},
		{"{{caller}}", ""},
		{"{}", ""},
		{"{tab}", ""},
		{"{long}", ""},
	} {
		got, refusal := userOf(c.template, func(name string) string { return record[name] })
		if got != c.want || (refusal == nil) != (c.want != "") {
			t.Errorf("%q: got %q, %v; want %q", c.template, got, refusal, c.want)
		}
		if refusal != nil && (refusal.Code != CodeUser || !strings.Contains(refusal.Error(), "template")) {
			t.Errorf("%q: the refusal does not name the template: %v", c.template, refusal)
		}
	}
}
