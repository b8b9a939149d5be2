package web

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tollbook/domain"
)

// TestForecast: an open month says what is expected of its pools, in pictures too,
// on its page and the pool's; as of a position it does not.
func TestForecast(t *testing.T) {
	r := newRig(t)
	r.now = at("2026-10-14T10:00:00Z")
	office := tenant{name: "contoso", plan: "BASIC_10", destination: "Italy", users: 60, rows: 3, user: func(i int) string { return fmt.Sprintf("user%03d", i) }}
	r.booked(office.events()...)
	called, err := domain.ParseNumber("+39100000001")
	if err != nil {
		t.Fatal(err)
	}
	var calls []domain.Event
	for when := at("2026-09-01T08:00:00Z"); when < r.now; when += domain.Instant(24 * time.Hour) {
		for n := range 9 { // 36 minutes a day of 600
			calls = append(calls, domain.Event{Tenant: "contoso", Source: "switch", ID: fmt.Sprint(len(calls)), Time: when, Data: &domain.Call{
				User: office.user(n), Kind: domain.KindUser, Called: called, AnsweredAt: when, BillableMS: 240_000,
			}})
		}
	}
	r.booked(calls...)
	const month, pool = "/contoso/2026-10", "/contoso/2026-10/pool?country=IT&plan=BASIC_10"
	for path, wants := range map[string][]string{
		month:              {"≈ <time", ">17 Oct ", "expected EUR\u00a0", "Expected to end on 17 October", `class="band"`, `class="expected"`},
		month + "?lang=it": {"≈ <time", ">17 ott ", "previsti EUR\u00a0", "La fine è prevista il 17 ottobre"},
		pool:               {"Forecast", "Expected to end on 17 October", `class="band"`},
		pool + "&lang=it":  {"Previsione", "Fine dei minuti"},
	} {
		page := r.get(path)
		for _, want := range wants {
			if page.status != 200 || !strings.Contains(page.text, want) {
				t.Errorf("%s: %d, without %q", path, page.status, want)
			}
		}
	}
	if page := r.get(month + "?at=300"); page.status != 200 || strings.Contains(page.text, "≈") {
		t.Errorf("as of a position: %d, with a forecast of now", page.status)
	}
	r.now = at("2026-11-01T00:00:00Z")
	if page := r.get(month); page.status != 200 || strings.Contains(page.text, `class="band"`) {
		t.Errorf("the month is over: %d, and has a band", page.status)
	}
}
