package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"tollbook/api"
	"tollbook/domain"
)

// A clerk closes the months of a tenant, one after the other, each twice at the
// same time, and remembers what was answered.
type clerk struct {
	t        *testing.T
	tenant   string
	next     domain.Month
	answered []api.IssuedDocument
	lost     int // closed without an answer
}

// lastClosed is the last month that clerks close: what is long over by any clock.
var lastClosed = domain.MonthOf(time.Date(2019, 12, 1, 0, 0, 0, 0, time.UTC))

// work closes months until the engine answers no more.
func (c *clerk) work(ctx context.Context, client *api.Client) {
	for ; c.next <= lastClosed; c.next++ {
		var docs [2]api.CloseDocument
		var errs [2]error
		var both sync.WaitGroup
		for i := range docs {
			both.Go(func() {
				docs[i], errs[i] = client.Close(ctx, "ada", api.CloseRequest{Tenant: c.tenant, Month: c.next.String()})
			})
		}
		both.Wait()
		closed, known := 0, 0
		for i, doc := range docs {
			switch {
			case errs[i] != nil:
			case doc.Closed:
				closed++
				c.answered = append(c.answered, api.IssuedDocument{Number: doc.Number, Month: doc.Month, Position: doc.Position, Digest: doc.Digest})
			case len(doc.Blockers) == 1 && strings.Contains(doc.Blockers[0].Detail, "is closed, by document"):
				known++
			default:
				c.t.Errorf("%s: %+v", c.tenant, doc)
			}
		}
		switch {
		case closed == 2:
			c.t.Errorf("%s was closed twice: %+v", c.next, docs)
		case closed+known == 0:
			return // it is asked again
		case closed == 0:
			c.lost++
		}
	}
}

// check compares what an engine has with what was answered.
func (c *clerk) check(documents []api.IssuedDocument) {
	c.t.Helper()
	checkNumbers(c.t, documents)
	has := map[string]api.IssuedDocument{}
	for _, d := range documents {
		has[d.Month] = d
	}
	for _, d := range c.answered {
		if diff := cmp.Diff(d, has[d.Month]); diff != "" {
			c.t.Errorf("%s (-answered +in the book):\n%s", c.tenant, diff)
		}
	}
	// At most the month that is being closed has a document that nobody was told of.
	if n := len(documents); n > 0 && documents[n-1].Month > c.next.String() {
		c.t.Errorf("%s has document %+v, %s is to close next", c.tenant, documents[n-1], c.next)
	}
}

// TestKillWhileClosing kills serve while it closes the months of several tenants,
// and calls come late. Numbers have no hole and no repeat, a document that was
// answered is there, and each is what its events make.
func TestKillWhileClosing(t *testing.T) {
	random := rand.New(rand.NewPCG(flipSeed(t), 1))
	const rounds = 10 // of one book: then there are months enough to close
	books := 4
	if everyFault {
		books = 100
	}
	for range books {
		killWhileClosing(t, random, rounds)
	}
}

func killWhileClosing(t *testing.T, random *rand.Rand, rounds int) {
	const first = "2001-01"
	dir, from := t.TempDir(), instant(first+"-01T00:00:00Z")
	var clerks []*clerk
	setup := startRig(t, dir)
	for _, tenant := range []string{"acme", "contoso", "fabrikam", "initech"} {
		setup.book(since(first+"-01", licensed(tenant))...)
		setup.book(callAt(tenant, "first", first+"-01T09:00:00Z", 130*60))
		clerks = append(clerks, &clerk{t: t, tenant: tenant, next: domain.MonthOf(from.Time())})
	}
	setup.stop()

	ask := func(address string) (*nats.Conn, *api.Client) {
		nc, err := nats.Connect(address, nats.NoReconnect())
		if err != nil {
			return nil, nil // killed already
		}
		return nc, api.NewClient(nc)
	}
	late := 0
	for round := range rounds {
		if round%4 == 3 {
			starting, ready := launch(t, dir)
			time.Sleep(time.Duration(random.Int64N(int64(100 * time.Millisecond))))
			starting.kill()
			ready()
		}
		p := serve(t, dir)
		ctx, done := p.whileItRuns()
		nc, client := ask(p.nats)
		if client == nil {
			t.Fatalf("round %d: %v", round, p.err)
		}
		for _, c := range clerks {
			doc, err := client.Documents(ctx, c.tenant)
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			c.check(doc.Documents)
		}
		months := int64(clerks[0].next) - int64(domain.MonthOf(from.Time())) + 1
		calls := make([]domain.Event, 400)
		for i := range calls {
			at := from + domain.Instant(random.Int64N(months*30*24))*domain.Instant(time.Hour)
			calls[i] = callAt(clerks[i%len(clerks)].tenant, fmt.Sprintf("late-%d-%d", round, i), at.String(), 60+random.Int64N(7200))
		}
		time.AfterFunc(time.Duration(random.Int64N(int64(100*time.Millisecond))), func() { _ = p.cmd.Process.Kill() })
		var all sync.WaitGroup
		for _, c := range clerks {
			all.Go(func() { c.work(ctx, client) })
		}
		all.Go(func() {
			for i := range calls {
				if _, err := client.Publish(ctx, subjectOf(&calls[i]), ndjson(calls[i:i+1])); err != nil {
					return
				}
				late++
			}
		})
		all.Wait()
		<-p.exited
		p.killed()
		nc.Close()
		done()
	}

	r := startRig(t, dir)
	defer r.stop()
	closed, lost, documents := 0, 0, 0
	for _, c := range clerks {
		issued := r.issued(c.tenant)
		c.check(issued)
		closed, lost, documents = closed+len(c.answered), lost+c.lost, documents+len(issued)
		for range min(3, len(issued)) {
			done(t, monthArgs("replay", c.tenant, issued[random.IntN(len(issued))].Month, "--data", dir, "--check")...)
		}
	}
	booking := 0
	for _, e := range booked(t, dir) {
		if e.Data.Type() == domain.TypeMonthClosed {
			booking++
		}
	}
	if booking != documents || closed == 0 {
		t.Errorf("%d months closed in the book, %d documents, %d answered", booking, documents, closed)
	}
	done(t, "verify", "--data", dir)
	t.Logf("%d kills: %d documents, %d answered, %d found closed when asked again; %d calls came late", rounds+rounds/4, documents, closed, lost, late)
}
