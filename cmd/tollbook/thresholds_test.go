package main

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"tollbook/domain"
)

// An announcement is what listeners of tollbook.*.pool.threshold get.
type announcement struct {
	SpecVersion string `json:"specversion"`
	ID          string `json:"id"`
	Source      string `json:"source"`
	Type        string `json:"type"`
	Time        string `json:"time"`
	Tenant      string `json:"tenant"`
	Data        struct {
		Month    string `json:"month"`
		Country  string `json:"country"`
		Plan     string `json:"plan"`
		User     string `json:"user"`
		Bucket   string `json:"bucket"`
		Percent  int    `json:"percent"`
		Granted  int64  `json:"granted_seconds"`
		Used     int64  `json:"used_seconds"`
		Position uint64 `json:"position"`
	} `json:"data"`
}

// A listener hears announcements by core NATS.
type listener struct {
	*rig
	sub   *nats.Subscription
	calls int
	ids   map[string]bool
}

func listen(r *rig) *listener {
	r.t.Helper()
	sub, err := r.nc.SubscribeSync("tollbook.*.pool.threshold")
	if err == nil {
		err = r.nc.Flush()
	}
	if err != nil {
		r.t.Fatalf("%v", err)
	}
	return &listener{rig: r, sub: sub, ids: map[string]bool{}}
}

func (l *listener) next() announcement {
	l.t.Helper()
	m, err := l.sub.NextMsg(patience)
	if err != nil {
		l.t.Fatalf("no announcement: %v", err)
	}
	a := decoded[announcement](l.t, string(m.Data))
	if m.Subject != "tollbook."+a.Tenant+".pool.threshold" || a.SpecVersion != "1.0" || a.Source != "tollbook" || a.Type != "tollbook.pool.threshold.v1" || a.ID == "" || a.Time == "" {
		l.t.Errorf("on %s: %s", m.Subject, m.Data)
	}
	if l.ids[a.ID] {
		l.t.Errorf("announced twice: %s", m.Data)
	}
	l.ids[a.ID] = true
	return a
}

// talk books a call of so many minutes.
func (l *listener) talk(tenant string, minutes int64) {
	l.t.Helper()
	l.calls++
	l.book(someCall(tenant, fmt.Sprintf("call-%d", l.calls), "user000@"+tenant+".example", minutes*60))
}

// quiet fails if anything was announced that no next has taken. Of what is booked
// now, all is announced before the second of two pools that end one after the other.
func (l *listener) quiet(fresh ...string) {
	l.t.Helper()
	for _, tenant := range fresh {
		l.book(licensed(tenant)...)
		l.talk(tenant, 121)
		if a := l.next(); a.Tenant != tenant || a.Data.Percent != 100 {
			l.t.Errorf("announced as well: %+v", a)
		}
	}
}

// TestThresholds brings a pool of 120 minutes over each of them.
func TestThresholds(t *testing.T) {
	r := newRig(t)
	l := listen(r)
	r.book(licensed("contoso")...)
	used := int64(0)
	heard := func(percent int) {
		t.Helper()
		a := l.next()
		want := a.Data
		want.Month, want.Country, want.Plan, want.User, want.Bucket = "2026-10", "IT", "DOMESTIC_120", "", "domestic"
		want.Percent, want.Granted, want.Used, want.Position = percent, 7200, used*60, r.Book.Head().Events
		if diff := cmp.Diff(want, a.Data); diff != "" || a.Tenant != "contoso" {
			t.Errorf("of %s (-want +got):\n%s", a.Tenant, diff)
		}
	}
	talk := func(minutes int64) {
		t.Helper()
		used = min(used+minutes, 120)
		l.talk("contoso", minutes)
	}
	talk(59)
	l.quiet("before-a", "before-b")
	talk(1)
	heard(50)
	talk(1)
	talk(35)
	heard(80)
	talk(18)
	heard(95)
	talk(6)
	heard(100)
	talk(30)
	l.quiet("after-a", "after-b")

	// What was announced before a restart is not announced again.
	r.restart()
	again := listen(r)
	again.calls = l.calls
	talk = func(minutes int64) { t.Helper(); again.talk("contoso", minutes) }
	talk(10)
	again.quiet("restarted-a", "restarted-b")

	// A licence that comes after its calls announces what they have used.
	again.talk("late", 100)
	again.book(licensed("late")...)
	if a := again.next(); a.Tenant != "late" || a.Data.Percent != 80 {
		t.Errorf("after a late licence: %+v", a)
	}

	// The stream takes announcements in, as they are on its subjects, and the book does not.
	r.drained()
	for _, tenant := range r.status().Tenants {
		if tenant.Suspended != 0 || tenant.Duplicate != 0 {
			t.Errorf("announcements are no records: %+v", tenant)
		}
	}
	r.stop()
	for _, e := range booked(t, r.dir) {
		switch e.Data.(type) {
		case *domain.Plan, *domain.Deck, *domain.Assignment, *domain.Call:
		default:
			t.Errorf("the book has %s of %s", e.Data.Type(), e.Source)
		}
	}
}

// TestThresholdsTogether: a call that passes several at once is announced once,
// by the highest, and so is one that a correction makes longer.
func TestThresholdsTogether(t *testing.T) {
	l := listen(newRig(t))
	l.book(licensed("contoso")...)
	l.talk("contoso", 100)
	if a := l.next(); a.Data.Percent != 80 || a.Data.Used != 6000 {
		t.Errorf("%+v", a)
	}
	longer := someCall("contoso", "call-1", "user000@contoso.example", 115*60)
	l.book(domain.Event{
		Tenant: "contoso", Source: "mediation", ID: "correction", Time: longer.Time + 1,
		Data: &domain.Correction{Ref: domain.Ref{Source: longer.Source, ID: longer.ID}, Call: *longer.Data.(*domain.Call), Reason: "wrong length"},
	})
	if a := l.next(); a.Data.Percent != 95 || a.Data.Used != 6900 {
		t.Errorf("%+v", a)
	}
	l.quiet("after-a", "after-b")
}
