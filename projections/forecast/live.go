package forecast

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"tollbook/domain"
	"tollbook/projections"
)

// A ClosedError says that a month is closed: nothing of it is left to forecast.
type ClosedError struct {
	Tenant, Number string
	Month          domain.Month
}

func (e *ClosedError) Error() string {
	return fmt.Sprintf("%s of %s is closed, as %s: nothing of it is left to forecast; see 'tollbook invoice --tenant %s --month %s'", e.Month, e.Tenant, e.Number, e.Tenant, e.Month)
}

// Open is an error if a month is closed.
func Open(v *projections.View, tenant string, month domain.Month) error {
	for _, closed := range v.Ledger.Closings(tenant) {
		if closed.Month == month {
			return &ClosedError{tenant, closed.Number, month}
		}
	}
	return nil
}

// Live makes forecasts of live months. It remembers the last one of each month until
// the book moves on or the hour is over, and what it has read of past months until
// they change. Its zero value is ready, and it may be used by many at once.
type Live struct {
	mu    sync.Mutex
	made  map[monthOf]*Forecast
	hours map[monthOf]instant // in which each was made
	past  map[monthOf]pastSums
}

type monthOf struct {
	tenant string
	month  domain.Month
}

type pastSums struct {
	state domain.MonthState
	*sums
}

// maxKept bounds how many pools are remembered, of forecasts and of past months
// together: some 500 bytes each.
const maxKept = 500_000

// forget makes room, if what is remembered is too much.
func (l *Live) forget() {
	pools := len(l.made) + len(l.past)
	for _, f := range l.made {
		pools += len(f.Pools)
	}
	for _, p := range l.past {
		pools += len(p.pools)
	}
	if l.made == nil || pools > maxKept {
		l.made, l.hours, l.past = map[monthOf]*Forecast{}, map[monthOf]instant{}, map[monthOf]pastSums{}
	}
}

// Of is the forecast of a month; of one that is closed, a [*ClosedError].
func (l *Live) Of(months *projections.Months, tenant string, month domain.Month, now domain.Instant) (*Forecast, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget()
	key, hour := monthOf{tenant, month}, now/instant(time.Hour)
	var in *Inputs
	past := func(v *projections.View, id domain.Month, pools int) *sums {
		state := v.Ledger.StateOf(tenant, id)
		p := l.past[monthOf{tenant, id}]
		if p.sums == nil || p.state != state {
			p = pastSums{state, sum(v.Ledger, tenant, id, domain.MaxInstant, pools)}
			l.past[monthOf{tenant, id}] = p
		}
		return p.sums
	}
	asks := []func(*projections.View) error{func(v *projections.View) error {
		if f := l.made[key]; f != nil && f.Position == v.Head.Events && l.hours[key] == hour {
			return errKnown
		}
		return Open(v, tenant, month)
	}}
	for n := range domain.Month(pastMonths) { // one at a time, so that nobody waits for all
		asks = append(asks, func(v *projections.View) error { past(v, month-1-n, 0); return nil })
	}
	asks = append(asks, func(v *projections.View) error {
		in = read(v, tenant, month, now, func(id domain.Month, pools int) *sums { return past(v, id, pools) })
		return Open(v, tenant, month)
	})
	for _, ask := range asks {
		// View asks about no month in particular, as of a closed one that has changed
		// since it would not.
		if _, err := months.View(tenant, 0, ask); errors.Is(err, errKnown) {
			return l.made[key], nil
		} else if err != nil {
			return nil, err
		}
	}
	l.made[key], l.hours[key] = in.Forecast(), hour
	return l.made[key], nil
}

// errKnown ends a question whose answer is remembered.
var errKnown = errors.New("known")
