package forecast

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// TestLive: what is remembered is what would be made anew, and is used no longer
// than that: not when something was booked, also of a month before, nor in another hour.
func TestLive(t *testing.T) {
	var h history
	h.config("Europe/Rome")
	h.deck("EUR")
	h.plan("OFFICE", domain.ScopeCountry, false, 60)
	h.licence("ada", "OFFICE", "IT", "2026-01-01T00:00:00Z")
	months := projections.NewMonths()
	months.Follow(eventstore.Update{Events: h, First: 1, Head: eventstore.Head{Events: uint64(len(h))}})
	add := func(when string) {
		h.call("ada", "+390612345", moment(when), 600)
		months.Follow(eventstore.Update{Events: h[len(h)-1:], First: uint64(len(h)), Head: eventstore.Head{Events: uint64(len(h))}})
	}
	var live Live
	var last *Forecast
	ask := func(now string, remembered bool) {
		t.Helper()
		f, err := live.Of(months, tenant, month("2026-10"), moment(now))
		if err != nil {
			t.Fatal(err)
		}
		if (f == last) != remembered {
			t.Errorf("at %s, remembered: %t, want %t", now, f == last, remembered)
		}
		if last = f; remembered {
			return
		}
		if diff := cmp.Diff(h.forecast(month("2026-10"), moment(now)).Document, f.Document); diff != "" {
			t.Errorf("at %s: -anew +live:\n%s", now, diff)
		}
	}
	ask("2026-10-12T08:00:00Z", false)
	ask("2026-10-12T08:59:59Z", true)
	ask("2026-10-12T09:00:00Z", false)
	add("2026-10-12T08:30:00Z")
	ask("2026-10-12T09:00:00Z", false)
	for day := range 30 {
		add(fmt.Sprintf("2026-09-%02dT08:30:00Z", day+1))
	}
	ask("2026-10-12T09:00:00Z", false)
	add("2026-08-03T08:30:00Z")
	ask("2026-10-12T09:00:00Z", false)

	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			if _, err := live.Of(months, tenant, month("2026-10")+domain.Month(n%2), moment("2026-10-12T11:00:00Z")+instant(n)*instant(time.Hour)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()

	h.add(tenant, &domain.MonthClosed{Month: month("2026-08"), Number: "2026-1", Position: uint64(len(h) - 1), Document: []byte("{}")})
	months.Follow(eventstore.Update{Events: h[len(h)-1:], First: uint64(len(h)), Head: eventstore.Head{Events: uint64(len(h))}})
	_, err := live.Of(months, tenant, month("2026-08"), moment("2026-10-12T11:00:00Z"))
	if closed, ok := errors.AsType[*ClosedError](err); !ok || closed.Number != "2026-1" {
		t.Errorf("a closed month: %v", err)
	}
}
