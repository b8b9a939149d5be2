package projections

import "tollbook/domain"

// A PoolQuery names a pool of a month. Country and User may be left out where the
// plan has one pool.
type PoolQuery struct {
	Country string
	Plan    string
	User    string // of a pool of one user
}

// A PoolView is a pool of a month: how it is used up, by whom and for what. All of
// it is of one position. Times are RFC 3339 in UTC, sums are seconds.
type PoolView struct {
	AsOf
	From            string            `json:"from"` // the month
	To              string            `json:"to"`   // not in it
	Pool            Pool              `json:"pool"`
	Linked          bool              `json:"linked"`  // its buckets end together
	Slots           []PoolSlot        `json:"slots"`   // those in which calls drew on it, in order
	Held            []HeldLicences    `json:"held"`    // from the month's first instant on
	Counted         bool              `json:"counted"` // false: users and destinations are being counted, ask again in a moment
	Users           []UserDraw        `json:"users"`   // who drew most first
	AllUsers        int               `json:"all_users"`
	Destinations    []DestinationDraw `json:"destinations"`
	AllDestinations int               `json:"all_destinations"`
	OutsideCalls    int64             `json:"outside_calls"` // charged, but in no bucket: none of the above has them
	OutsideSeconds  int64             `json:"outside_seconds"`
	Overflow        []MonthCall       `json:"overflow"` // the first calls with overage
	Next            *After            `json:"next"`     // where the overflow goes on; null: nowhere
}

// A PoolSlot is an hour in which calls drew on a pool, or a day of a pool of one
// user. Over all slots billed − overage is what the pool's buckets have used.
type PoolSlot struct {
	From    string  `json:"from"`
	To      string  `json:"to"`
	Billed  []int64 `json:"billed_seconds"` // by bucket
	Overage []int64 `json:"overage_seconds"`
}

// HeldLicences is from when on so many licences of a pool are held.
type HeldLicences struct {
	From     string `json:"from"`
	Licences int64  `json:"licences"`
}

// A Draw is what calls draw on a pool's buckets. Those of all users add up to what
// the pool's buckets have used and over them; so do those of all destinations.
type Draw struct {
	Calls   int64 `json:"calls"`
	Billed  int64 `json:"billed_seconds"`
	Overage int64 `json:"overage_seconds"`
}

// A UserDraw is a user's.
type UserDraw struct {
	User string `json:"user"`
	Draw
}

// A DestinationDraw is that of the calls to a destination, whatever they cost.
type DestinationDraw struct {
	Country     string `json:"destination_country"`
	Destination string `json:"destination"`
	Type        string `json:"type"`
	Draw
}

// An OverflowPage is a page of the calls of a pool that have overage.
type OverflowPage struct {
	AsOf
	Country string      `json:"country"`
	Plan    string      `json:"plan"`
	User    string      `json:"user,omitzero"`
	Calls   []MonthCall `json:"calls"` // by R7's order
	Next    *After      `json:"next"`  // where the next page begins; null: this is the last
}

// How much a view of a pool has.
const (
	MaxTop    = 1000 // users, and destinations
	firstOver = 20   // calls with overage
)

// usedAtOnce is how many calls are summed before others may ask the view again:
// one or two milliseconds.
const usedAtOnce = 1 << 14

// A PoolReading is a view of a pool that was read and can be put into words when the
// view is somebody else's again.
type PoolReading struct {
	asOf    AsOf
	curve   domain.PoolCurve
	usage   domain.PoolUsage
	counted bool
	over    CallPage
}

// PoolView reads a pool with its top users and destinations. The first time that a
// pool is looked at its calls are counted, in part, and ready is false until all are;
// who is not patient gets the rest of the view.
func (v *View) PoolView(tenant string, month domain.Month, q PoolQuery, top int, patient bool) (r PoolReading, ready bool, err error) {
	key, err := v.poolKey(tenant, month, q)
	if err != nil {
		return r, false, err
	}
	r.usage, r.counted = v.Ledger.PoolUsage(tenant, month, key, min(max(top, 0), MaxTop), usedAtOnce)
	if !r.counted && patient {
		return r, false, nil
	}
	var known bool
	if r.curve, known = v.Ledger.PoolCurve(tenant, month, key); !known {
		return r, false, noPool(tenant, month)
	}
	r.asOf = v.asOf(tenant, month)
	r.over.asOf = r.asOf
	r.over.calls, r.over.more = v.Ledger.Overflow(tenant, month, key, nil, firstOver)
	return r, true, nil
}

// Overflow reads a page of the calls with overage, those after one; nil: from the
// first on. Each page is of its own position. How a call is divided does not depend
// on later ones: pages one after another have every call once, and as it is now, if
// nothing comes meanwhile that belongs before where they are.
func (v *View) Overflow(tenant string, month domain.Month, q PoolQuery, after *After, limit int) (page CallPage, key domain.PoolKey, err error) {
	if key, err = v.poolKey(tenant, month, q); err != nil {
		return page, key, err
	}
	var from *domain.Share
	if after != nil {
		call, err := after.call()
		if err != nil {
			return page, key, err
		}
		from = &domain.Share{At: call.At, Ref: call.Ref}
	}
	page.asOf = v.asOf(tenant, month)
	page.calls, page.more = v.Ledger.Overflow(tenant, month, key, from, min(max(limit, 1), MaxPage))
	return page, key, nil
}

// poolKey is the pool that q names.
func (v *View) poolKey(tenant string, month domain.Month, q PoolQuery) (domain.PoolKey, error) {
	country, user, err := v.pool(tenant, month, q.Country, q.Plan, q.User)
	return domain.PoolKey{Country: country, Plan: q.Plan, User: user}, err
}

// Overflow is the page in words.
func (p *CallPage) Overflow(key domain.PoolKey) OverflowPage {
	d := p.Document()
	return OverflowPage{d.AsOf, key.Country, key.Plan, key.User, d.Calls, d.Next}
}

// Document is the view in words.
func (r *PoolReading) Document() PoolView {
	c := &r.curve
	over := r.over.Document()
	d := PoolView{
		AsOf: r.asOf, From: c.From.String(), To: c.To.String(), Pool: pool(&c.PoolRating), Linked: c.Linked,
		Slots: make([]PoolSlot, len(c.Slots)), Held: make([]HeldLicences, len(c.Held)),
		Counted: r.counted, Users: make([]UserDraw, len(r.usage.Users)), AllUsers: r.usage.AllUsers,
		Destinations: make([]DestinationDraw, len(r.usage.Destinations)), AllDestinations: r.usage.AllDestinations,
		OutsideCalls: c.OutsideCalls, OutsideSeconds: c.OutsideSeconds, Overflow: over.Calls, Next: over.Next,
	}
	for i, s := range c.Slots {
		d.Slots[i] = PoolSlot{s.From.String(), s.To.String(), s.Billed, s.Over}
	}
	for i, h := range c.Held {
		d.Held[i] = HeldLicences{h.From.String(), h.Licences}
	}
	for i, u := range r.usage.Users {
		d.Users[i] = UserDraw{u.User, drawOf(u.UsageSum)}
	}
	for i, u := range r.usage.Destinations {
		d.Destinations[i] = DestinationDraw{u.Country, u.Name, u.RowType, drawOf(u.UsageSum)}
	}
	return d
}

func drawOf(s domain.UsageSum) Draw { return Draw{s.Calls, s.Seconds, s.Over} }
