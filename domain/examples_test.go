package domain_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// An example is a worked month of testdata/examples, whose expected numbers
// were computed by hand.
type example struct {
	name   string
	events []domain.Event
	want   map[string]any
	tenant string
	month  domain.Month
}

func examples(t *testing.T) []example {
	t.Helper()
	files, err := filepath.Glob("testdata/examples/*.events.ndjson")
	if err != nil || len(files) != 4 {
		t.Fatalf("there are %d examples (%v), want 4", len(files), err)
	}
	var all []example
	for _, file := range files {
		prefix := strings.TrimSuffix(file, ".events.ndjson")
		x := example{name: filepath.Base(prefix), events: readEvents(t, file)}
		expected, err := os.ReadFile(prefix + ".expected.json")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(expected, &x.want); err != nil {
			t.Fatalf("%s: %v", prefix, err)
		}
		x.tenant = x.want["tenant"].(string)
		if x.month, err = domain.ParseMonth(x.want["month"].(string)); err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	return all
}

func readEvents(t *testing.T, file string) []domain.Event {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var events []domain.Event
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for lines.Scan() {
		var envelope struct{ Tenant string }
		if err := json.Unmarshal(lines.Bytes(), &envelope); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		e, err := cloudevents.Decode(bytes.Clone(lines.Bytes()), envelope.Tenant)
		if err != nil {
			t.Fatalf("%s: %v in %s", file, err, lines.Bytes())
		}
		events = append(events, e)
	}
	return events
}

func TestNaiveRatingGivesTheExamples(t *testing.T) {
	for _, x := range examples(t) {
		t.Run(x.name, func(t *testing.T) {
			if diff := cmp.Diff(x.want, document(naiveRating(x.events, x.tenant, x.month))); diff != "" {
				t.Errorf("(-expected +naive):\n%s", diff)
			}
		})
	}
}

// TestLedgerGivesTheExamples has the worked months in the order of their files and backwards.
func TestLedgerGivesTheExamples(t *testing.T) {
	for _, x := range examples(t) {
		t.Run(x.name, func(t *testing.T) {
			forwards, backwards := domain.NewLedger(), domain.NewLedger()
			for i := range x.events {
				forwards.Add(&x.events[i])
				backwards.Add(&x.events[len(x.events)-1-i])
			}
			if diff := cmp.Diff(x.want, document(forwards.Rating(x.tenant, x.month))); diff != "" {
				t.Errorf("(-expected +ledger):\n%s", diff)
			}
			if diff := cmp.Diff(x.want, document(backwards.Rating(x.tenant, x.month))); diff != "" {
				t.Errorf("backwards (-expected +ledger):\n%s", diff)
			}
		})
	}
}

// document is a rating as spec/outputs.md prints it, with the fields that rating decides.
func document(r domain.Rating) map[string]any {
	pools, invoices, exceptions := []any{}, []any{}, []any{}
	for _, p := range r.Pools {
		buckets := []any{}
		for _, b := range p.Buckets {
			buckets = append(buckets, map[string]any{
				"name": b.Name, "granted_seconds": float64(b.Granted), "used_seconds": float64(b.Used), "overage_seconds": float64(b.Overage),
			})
		}
		pool := map[string]any{
			"country": p.Country, "plan": p.Plan, "scope": p.Scope.String(), "licences": float64(p.Licences), "buckets": buckets, "exhausted_at": nil,
		}
		if p.ExhaustedAt != 0 {
			pool["exhausted_at"] = p.ExhaustedAt.String()
		}
		if p.Scope == domain.ScopeUser {
			pool["user"] = p.User
		}
		pools = append(pools, pool)
	}
	for _, inv := range r.Invoices {
		lines := []any{}
		for _, l := range inv.Lines {
			lines = append(lines, map[string]any{
				"deck": l.Deck, "deck_version": l.Version, "destination_country": l.Country, "destination": l.Name, "type": l.RowType,
				"price": l.Price.String(), "connect_fee": l.Fee.String(),
				"calls": float64(l.Calls), "seconds": float64(l.Seconds), "amount": l.Amount.String(),
			})
		}
		invoices = append(invoices, map[string]any{
			"country": inv.Country, "plan": inv.Plan, "currency": string(inv.Currency), "lines": lines, "total": inv.Total.String(),
		})
	}
	for _, e := range r.Exceptions {
		exceptions = append(exceptions, map[string]any{"reason": e.Reason, "count": float64(e.Count), "seconds": float64(e.Seconds)})
	}
	return map[string]any{
		"tenant": r.Tenant, "month": r.Month.String(), "pools": pools, "invoices": invoices, "exceptions": exceptions,
		"counts": map[string]any{
			"calls": float64(r.Counts.Calls), "free": float64(r.Counts.Free), "in_pool": float64(r.Counts.InPool),
			"overage": float64(r.Counts.Overage), "outside": float64(r.Counts.Outside),
		},
	}
}
