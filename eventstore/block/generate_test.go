package block

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore/merkle"
)

// traffic is a switchboard as they are: users with e-mail names and a number
// each, some of whom call far more than others, log-normal talk and ring times to
// the millisecond, random UUIDs, records in the order of hanging up.
type traffic struct {
	rand      *rand.Rand
	users     []user
	zipf      *rand.Zipf
	countries []country
	sequence  map[string]uint64
	now       float64 // milliseconds
}

type user struct {
	tenant, source, name string
	number               domain.Number
}

type country struct {
	code   string
	areas  []string
	digits int // in all
}

func newTraffic(seed uint64, users int) *traffic {
	r := rand.New(rand.NewPCG(seed, 7))
	t := &traffic{rand: r, sequence: map[string]uint64{}, now: 1_790_000_000_000}
	for _, c := range []struct {
		code          string
		areas, digits int
	}{{"39", 220, 12}, {"44", 300, 12}, {"49", 400, 13}, {"1", 350, 11}, {"33", 60, 11}, {"41", 20, 11}, {"34", 50, 11}, {"43", 90, 12}} {
		areas := make([]string, c.areas)
		for i := range areas {
			areas[i] = fmt.Sprint(100 + r.IntN(900))
		}
		t.countries = append(t.countries, country{c.code, areas, c.digits})
	}
	first := []string{"anna", "marco", "giulia", "luca", "sofia", "paolo", "chiara", "andrea", "elena", "davide", "maria", "john", "emma", "peter"}
	last := []string{"rossi", "bianchi", "ferrari", "russo", "romano", "colombo", "ricci", "marino", "greco", "bruno", "mueller", "schmidt", "smith"}
	tenants := []string{"contoso", "fabrikam", "northwind", "tailspin"}
	for i := range users {
		tenant := tenants[min(r.IntN(7), 3)]
		t.users = append(t.users, user{
			tenant: tenant,
			source: fmt.Sprintf("switch/%s-%d", tenant[:3], r.IntN(2)+1),
			name:   fmt.Sprintf("%s.%s%d@%s.example", first[r.IntN(len(first))], last[r.IntN(len(last))], i, tenant),
			number: number(fmt.Sprintf("+3902%d%05d", 1000+r.IntN(12), i%100000)),
		})
	}
	t.zipf = rand.NewZipf(r, 1.1, 400, uint64(users-1))
	return t
}

func number(s string) domain.Number {
	n, err := domain.ParseNumber(s)
	if err != nil {
		panic(err)
	}
	return n
}

// other is a number somewhere in the world.
func (t *traffic) other() domain.Number {
	c := t.countries[int(math.Min(t.rand.ExpFloat64()*1.5, float64(len(t.countries)-1)))]
	area := c.areas[int(math.Min(t.rand.ExpFloat64()*float64(len(c.areas))/5, float64(len(c.areas)-1)))]
	s := "+" + c.code + area
	for len(s) <= c.digits {
		s += string(rune('0' + t.rand.IntN(10)))
	}
	return number(s)
}

func (t *traffic) logNormal(median, sigma float64) int64 {
	return int64(median * math.Exp(sigma*t.rand.NormFloat64()))
}

func (t *traffic) uuid() string {
	var b [16]byte
	for i := range b {
		b[i] = byte(t.rand.Uint32())
	}
	b[6], b[8] = b[6]&15|0x40, b[8]&63|0x80
	return string(appendUUIDText(nil, b[:]))
}

// call is the next call: about 17 a second.
func (t *traffic) call() domain.Event {
	t.now += t.rand.ExpFloat64() * 58
	now := domain.Instant(int64(t.now) * milli)
	u := &t.users[t.zipf.Uint64()]
	t.sequence[u.source]++
	c := &domain.Call{
		User: u.name, Kind: domain.KindUser, Calling: u.number, Called: t.other(),
		EndedAt: now, Q850: 16, SIPStatus: 200,
	}
	switch r := t.rand.IntN(100); {
	case r < 30:
		c.Direction, c.Calling, c.Called = domain.Inbound, c.Called, c.Calling
	case r < 34:
		c.Kind = domain.KindForward
	case r < 37:
		c.Kind = domain.KindTransfer
	}
	ring := domain.Instant(t.logNormal(7000, 0.7) * milli)
	switch r := t.rand.IntN(100); {
	case r < 75:
		c.BillableMS = min(t.logNormal(90_000, 1.2), domain.MaxBillableMS)
		c.AnsweredAt = now - domain.Instant(c.BillableMS*milli)
		c.StartedAt = c.AnsweredAt - ring
	case r < 90:
		c.Disposition, c.Q850, c.SIPStatus, c.StartedAt = domain.NoAnswer, 19, 480, now-ring
	case r < 95:
		c.Disposition, c.Q850, c.SIPStatus, c.StartedAt = domain.Busy, 17, 486, now-ring/milli/8*milli
	default:
		c.Disposition, c.Q850, c.SIPStatus, c.StartedAt = domain.Cancelled, 0, 487, now-ring
	}
	return domain.Event{
		Tenant: u.tenant, Source: u.source, ID: t.uuid(), Time: now,
		Sequence: domain.Sequence{N: t.sequence[u.source], Has: true}, Data: c,
	}
}

func (t *traffic) calls(n int) []domain.Event {
	events := make([]domain.Event, n)
	for i := range events {
		events[i] = t.call()
	}
	return events
}

// chain makes blocks that follow one another. With leaves it keeps the tree over
// the events; without, peaks that only have the right number.
type chain struct {
	number   uint64
	prev     merkle.Hash
	tree     merkle.Tree
	leaves   bool
	buf      []byte
	sealedAt domain.Instant
}

// seal makes the next block, but does not go on to it.
func (c *chain) seal(events []domain.Event, repeats ...Duplicates) *Block {
	tree := c.tree.Clone()
	for i := range events {
		leaf := merkle.Hash{byte(i)}
		if c.leaves {
			c.buf = cloudevents.Append(c.buf[:0], &events[i])
			leaf = merkle.Leaf(c.buf)
		}
		tree.Append(leaf)
	}
	at := c.sealedAt
	if at == 0 {
		at = domain.MinInstant + domain.Instant(c.number)
	}
	return &Block{
		Header: Header{
			Number: c.number + 1, Prev: c.prev, First: c.tree.Size + 1, Count: uint32(len(events)),
			SealedAt: at, Tree: slices.Clone(tree.Peaks),
		},
		Events:     events,
		Duplicates: repeats,
	}
}

// appended goes on to a block that was written.
func (c *chain) appended(b *Block, data []byte) {
	c.number = b.Number
	c.prev = Hash(data)
	c.tree = merkle.Tree{Size: b.First - 1 + uint64(b.Count), Peaks: slices.Clone(b.Tree)}
}
