package main

import (
	"context"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/micro"

	"tollbook/api"
	"tollbook/domain"
	"tollbook/projections"
)

// TestExplainStory asks why: of calls, of a line and of a pool, of an open month
// and of a closed one.
func TestExplainStory(t *testing.T) {
	r, clock := newRigAt(t, "2026-09-28T08:00:00Z")
	text, err := os.ReadFile("testdata/explain.txt")
	if err != nil {
		t.Fatal(err)
	}
	s := newStory(t, "testdata/explain", "TOLLBOOK_NATS="+r.NATSAddress, "DATA="+r.dir)
	s.clock = clock
	golden(t, "explain.txt", s.tell(string(text)))
}

// TestExplainOffline: what is asked of the engine and of its book is the same, in
// each state of a month: open, closed, and closed with a late call.
func TestExplainOffline(t *testing.T) {
	r, _ := newRigAt(t, "2026-11-04T08:00:00Z")
	r.book(licensed("contoso")...)
	r.book(callAt("contoso", "1", "2026-10-05T09:00:00Z", 130*60), callAt("contoso", "2", "2026-10-06T09:00:00Z", 61),
		domain.Event{Tenant: "contoso", Source: "desk", ID: "fix", Time: instant("2026-10-07T09:00:00Z"), Data: &domain.Correction{
			Ref: domain.Ref{Source: "switch/mil-1", ID: "2"}, Call: *callAt("contoso", "2", "2026-10-06T09:00:00Z", 59).Data.(*domain.Call), Reason: "x",
		}})
	compare := func(state string, numbered bool, args ...string) string {
		t.Helper()
		args = append([]string{"explain"}, append(args, "--tenant", "contoso", "--format", "json")...)
		online, offline := r.ask(args...), done(t, append(args, "--data", r.dir)...)
		if diff := cmp.Diff(online, offline); diff != "" {
			t.Errorf("%s: %v: -online +offline:\n%s", state, args, diff)
		}
		if strings.Contains(online, `"status":"issued"`) != numbered {
			t.Errorf("%s: %v: issued must be %v:\n%s", state, args, numbered, online)
		}
		return online
	}
	all := func(state string, issued bool, at ...string) {
		t.Helper()
		for _, args := range [][]string{
			{"switch/mil-1", "1"}, {"call", "switch/mil-1", "2"}, {"desk", "fix"},
			{"line", "--month", "2026-10", "--all"}, {"line", "--month", "2026-10", "--limit", "1"},
			{"pool", "--month", "2026-10", "--plan", "DOMESTIC_120", "--all"},
		} {
			compare(state, issued, append(args, at...)...)
		}
	}
	all("open", false)
	position := r.Book.Head().Events
	r.close("contoso", "2026-10")
	// A licence that ends after the month is no part of what was issued.
	r.book(domain.Event{Tenant: "contoso", Source: "desk", ID: "ends", Time: instant("2026-11-04T09:00:00Z"), Data: &domain.Removal{
		User: "user000@contoso.example", Plan: "DOMESTIC_120", EffectiveAt: instant("2026-11-03T09:00:00Z"),
	}})
	all("closed", true)
	before := compare("closed", true, "switch/mil-1", "1")
	r.book(callAt("contoso", "0", "2026-10-04T09:00:00Z", 600))
	all("late", true)
	all("late", false, "--at", "now")
	all("late", true, "--at", decimal(position))
	all("late", false, "--at", decimal(position+1))
	after := compare("late", true, "switch/mil-1", "1")
	explained := func(text string) *projections.CallDocument { return decoded[api.ExplainDocument](t, text).Call }
	if diff := cmp.Diff(explained(before), explained(after)); diff != "" {
		t.Errorf("the late call changes what was issued:\n%s", diff)
	}
	r.book(domain.Event{Tenant: "contoso", Source: "desk", ID: "late-fix", Time: instant("2026-11-05T09:00:00Z"), Data: &domain.Correction{
		Ref: domain.Ref{Source: "switch/mil-1", ID: "2"}, Call: *callAt("contoso", "2", "2026-10-06T09:00:00Z", 60).Data.(*domain.Call), Reason: "x",
	}})
	all("late correction", true)
	compare("late correction", false, "desk", "late-fix")
	if late := explained(compare("late", false, "switch/mil-1", "0")); late.Late != "2026-0001" || late.Class != "in_pool" {
		t.Errorf("the late call: %+v", late)
	}
}

func decimal(n uint64) string { return new(big.Int).SetUint64(n).String() }

// TestExplainPages: pages of one call make the same line as one page, and none
// changes when the month does meanwhile.
func TestExplainPages(t *testing.T) {
	r, _ := newRigAt(t, "2026-11-04T08:00:00Z")
	r.book(licensed("contoso")...)
	r.book(callAt("contoso", "0", "2026-10-04T09:00:00Z", 120*60))
	for i := range 5 {
		r.book(callAt("contoso", string(rune('a'+i)), "2026-10-05T09:00:00Z", 60))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := api.NewClient(r.nc)
	q := api.ExplainLineRequest{Tenant: "contoso", Month: "2026-10", Limit: 1}
	var page projections.LineDocument
	var ids []string
	err := eachPage(&q.AsOf,
		func() (_ projections.AsOf, err error) {
			page, err = client.ExplainLine(ctx, q)
			return page.AsOf, err
		},
		func() bool {
			for _, c := range page.Calls {
				ids = append(ids, c.ID)
			}
			if len(ids) == 2 {
				r.book(callAt("contoso", "bb", "2026-10-05T09:00:00Z", 60))
			}
			q.After = page.Next
			return page.Next != nil
		})
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "e"}, ids); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

// TestExplainRequests: what others than the commands may ask.
func TestExplainRequests(t *testing.T) {
	r, _ := newRigAt(t, "2026-11-04T08:00:00Z")
	r.book(licensed("contoso")...)
	r.book(oneCall(1))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, c := range []struct{ subject, payload, want string }{
		{"explain", "", "must be JSON such as"},
		{"explain", `{"tenant":"contoso","source":"switch/mil-1","id":"9"}`, "is booked"},
		{"explain", `{"tenant":"contoso","source":"switch/mil-1","id":"1","at":1}`, "is before position 4"},
		{"explain", `{"tenant":"contoso","source":"switch/mil-1","id":"1","at":18446744073709551615}`, "beyond the end"},
		{"explain", `{"tenant":"contoso","source":"switch/mil-1","id":"1","at":4,"now":true}`, "only one of them"},
		{"explain.line", "[]", "must be JSON such as"},
		{"explain.line", `{"tenant":"Contoso","month":"2026-10"}`, "must be 1 to 63"},
		{"explain.line", `{"tenant":"contoso","month":"10/2026"}`, "is not a month"},
		{"explain.line", `{"tenant":"contoso","month":"2026-10"}`, "no line of 2026-10 is so"},
		{"explain.line", `{"tenant":"contoso","month":"2026-10","after":{"at":"noon","source":"a","id":"b"}}`, "after.at"},
		{"explain.line", `{"tenant":"nobody","month":"2026-10","limit":-4}`, "no line of 2026-10 is so"},
		{"explain.pool", "null,", "must be JSON such as"},
		{"explain.pool", `{"tenant":"contoso","month":"2026-10"}`, "no such pool"},
		{"explain.pool", `{"tenant":"contoso","month":"2026-10","plan":"DOMESTIC_120","at":99}`, "beyond the end"},
		{"explain.pool", `{"tenant":"nobody","month":"2026-10","plan":"DOMESTIC_120","from":-1}`, "no such pool"},
	} {
		msg, err := r.nc.RequestWithContext(ctx, api.Prefix+c.subject, []byte(c.payload))
		if err != nil {
			t.Fatalf("%s %s: %v", c.subject, c.payload, err)
		}
		said := msg.Header.Get(micro.ErrorHeader)
		if msg.Header.Get(micro.ErrorCodeHeader) != "400" || !strings.Contains(said, c.want) || strings.Contains(said, "\n") || len(said) > 400 {
			t.Errorf("%s %s: %v, want 400 and one line with %q", c.subject, c.payload, msg.Header, c.want)
		}
	}
}
