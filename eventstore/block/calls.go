package block

import (
	"strconv"

	"tollbook/domain"
)

// Fields says which fields of calls a replay needs. Direction and disposition
// come always, as they cost next to nothing.
type Fields uint32

// Fields of a call and of its envelope.
const (
	FieldTenant Fields = 1 << iota
	FieldSource
	FieldID
	FieldTime
	FieldSequence
	FieldUser
	FieldKind
	FieldCalling
	FieldCalled
	FieldBillable
	FieldAnswered
	FieldStarted
	FieldEnded
	FieldCauses // Q850 and SIPStatus
	FieldCorrelation

	AllFields = 1<<iota - 1
)

// with adds the fields that those of f are written relative to.
func (f Fields) with() Fields {
	if f&FieldCorrelation != 0 {
		f |= FieldID
	}
	if f&FieldStarted != 0 {
		f |= FieldAnswered
	}
	if f&FieldAnswered != 0 {
		f |= FieldBillable | FieldEnded
	}
	if f&FieldEnded != 0 {
		f |= FieldTime
	}
	if f&(FieldID|FieldSequence) != 0 {
		f |= FieldTenant | FieldSource
	}
	if f&(FieldCalling|FieldCalled) != 0 {
		f |= FieldUser
	}
	return f
}

// Calls calls each with the calls of the block and their positions in the book,
// in that order, until it returns an error, which Calls returns. e and c hold
// the fields needed and perhaps others; e.Data is c. Both are used again for the
// next call, and their strings may be kept.
//
// s is used and advanced as by [Decode].
func (r *Reader) Calls(s *Symbols, need Fields, each func(position uint64, e *domain.Event, c *domain.Call) error) error {
	look, err := r.lookup(s)
	if err != nil {
		return err
	}
	if err := r.readOrder(); err != nil {
		return err
	}
	cols, err := r.columns(look, need.with())
	if err != nil {
		return err
	}
	var e domain.Event
	var c domain.Call
	n := 0
	for i, o := range r.order {
		if o != orderCall {
			continue
		}
		e, c = domain.Event{Data: &c}, domain.Call{}
		cols.call(n, &e, &c)
		if err := each(r.frame.First+uint64(i), &e, &c); err != nil {
			return err
		}
		n++
	}
	return nil
}

// allCalls fills the events that are calls.
func (r *Reader) allCalls(look *lookup, events []domain.Event) error {
	if err := r.readOrder(); err != nil {
		return err
	}
	cols, err := r.columns(look, AllFields)
	if err != nil {
		return err
	}
	calls := make([]domain.Call, r.calls)
	n := 0
	for i, o := range r.order {
		if o == orderCall {
			cols.call(n, &events[i], &calls[n])
			events[i].Data = &calls[n]
			n++
		}
	}
	return nil
}

// columns are the calls of a block by field, decoded and checked. What was not
// needed is nil.
type columns struct {
	look                                *lookup
	flags                               []byte
	tenant, source, user, callKind, own []int64
	id, correlation                     []string
	time, ended, answered, started      []int64 // Instants
	sequence                            []int64
	caller, called                      []domain.Number
	others                              []int32 // of call i: its index in caller, or −1 − that in called
	billable, q850, sipStatus           []int64
}

// call fills one call.
func (c *columns) call(i int, e *domain.Event, call *domain.Call) {
	flags := c.flags[i]
	call.Direction = domain.Direction(flags & flagInbound)
	call.Disposition = domain.Disposition(flags & flagDispositionMask >> flagDispositionShift)
	if c.tenant != nil {
		e.Tenant = c.look.at(common, c.tenant[i]).text
	}
	if c.source != nil {
		e.Source = c.look.at(common, c.source[i]).text
	}
	if c.id != nil {
		e.ID = c.id[i]
	}
	if c.time != nil {
		e.Time = domain.Instant(c.time[i])
	}
	if c.sequence != nil && flags&flagSequence != 0 {
		e.Sequence = domain.Sequence{N: uint64(c.sequence[i]), Has: true}
	}
	if c.user != nil {
		call.User = c.look.at(personal, c.user[i]).text
	}
	if c.callKind != nil {
		call.Kind = c.look.at(common, c.callKind[i]).text
	}
	c.numbers(i, call)
	if c.billable != nil {
		call.BillableMS = c.billable[i]
	}
	if c.answered != nil {
		call.AnsweredAt = domain.Instant(c.answered[i])
	}
	if c.started != nil {
		call.StartedAt = domain.Instant(c.started[i])
	}
	if c.ended != nil {
		call.EndedAt = domain.Instant(c.ended[i])
	}
	if c.q850 != nil {
		call.Q850, call.SIPStatus = int32(c.q850[i]), int32(c.sipStatus[i])
	}
	if c.correlation != nil {
		call.Correlation = c.correlation[i]
	}
}

func (c *columns) numbers(i int, call *domain.Call) {
	if c.own == nil {
		return
	}
	own := c.look.at(personal, c.own[i]).number
	if at := c.others[i]; at >= 0 {
		call.Called = own
		if c.caller != nil {
			call.Calling = c.caller[at]
		}
	} else {
		call.Calling = own
		if c.called != nil {
			call.Called = c.called[-1-at]
		}
	}
}

// columns reads the columns of the fields needed, which with has completed.
func (r *Reader) columns(look *lookup, need Fields) (*columns, error) {
	c := &columns{look: look}
	n := r.calls
	var err error
	if c.flags, err = r.bytes(colFlags, n, 256); err != nil {
		return nil, err
	}
	for _, flags := range c.flags {
		if d := flags & flagDispositionMask >> flagDispositionShift; d > byte(domain.Cancelled) {
			return nil, r.corrupt("%v has the disposition %d", colFlags, d)
		}
	}
	for _, ref := range []struct {
		need  Fields
		kind  kind
		table int
		to    *[]int64
	}{
		{FieldTenant, colTenant, common, &c.tenant},
		{FieldSource, colSource, common, &c.source},
		{FieldUser, colUser, personal, &c.user},
		{FieldKind, colKind, common, &c.callKind},
	} {
		if need&ref.need == 0 {
			continue
		}
		if *ref.to, err = r.ordinals(ref.kind, n, ref.table); err != nil {
			return nil, err
		}
	}
	for i, user := range c.user {
		if look.at(personal, user).isNumber {
			return nil, r.corrupt("the user of call %d is a number", i)
		}
	}
	steps := []struct {
		need Fields
		read func(*columns, Fields) error
	}{
		{FieldID | FieldSequence, r.readCounters},
		{FieldTime, r.readTimes},
		{FieldCalling | FieldCalled, r.readNumbers},
		{FieldCauses, r.readCauses},
		{FieldCorrelation, r.readCorrelations},
	}
	if need&FieldBillable != 0 {
		if c.billable, err = r.intsIn(colBillable, n, 0, domain.MaxBillableMS); err != nil {
			return nil, err
		}
	}
	for _, step := range steps {
		if need&step.need != 0 {
			if err := step.read(c, need); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// spread reads a column of the calls that have a flag; the others get 0.
func (r *Reader) spread(k kind, flags []byte, flag byte) ([]int64, error) {
	count := 0
	for _, f := range flags {
		if f&flag != 0 {
			count++
		}
	}
	packed, err := r.ints(k, count)
	if err != nil {
		return nil, err
	}
	values := make([]int64, len(flags))
	for i, f := range flags {
		if f&flag != 0 {
			values[i], packed = packed[0], packed[1:]
		}
	}
	return values, nil
}

// readCounters reads ids and sequences, which count within a tenant's source.
func (r *Reader) readCounters(c *columns, need Fields) (err error) {
	var packed *idColumn
	if need&FieldID != 0 {
		if packed, err = r.ids(colID, r.calls, idForms); err != nil {
			return err
		}
	}
	if need&FieldSequence != 0 {
		if c.sequence, err = r.spread(colSequence, c.flags, flagSequence); err != nil {
			return err
		}
	}
	var lanes lanes
	var lane *lane
	for i, flags := range c.flags {
		sequence := c.sequence != nil && flags&flagSequence != 0
		decimal := packed != nil && packed.form[i] == idDecimal
		if !sequence && !decimal {
			continue
		}
		lane = lanes.of(c.tenant[i], c.source[i])
		if sequence {
			c.sequence[i] = int64(follow(&lane.sequence, c.sequence[i]))
		}
		if decimal {
			packed.numbers = append(packed.numbers, follow(&lane.id, packed.ints[len(packed.numbers)]))
		}
	}
	if packed != nil {
		c.id = packed.strings()
	}
	return nil
}

// readTimes reads the instants needed.
func (r *Reader) readTimes(c *columns, need Fields) (err error) {
	if c.time, err = r.ints(colTime, r.calls); err != nil {
		return err
	}
	last := int64(0)
	for i, d := range c.time {
		last += d
		c.time[i] = last
		if !inRange(domain.Instant(last)) {
			return r.corrupt("%v: time %d of call %d is out of range", colTime, last, i)
		}
	}
	if need&FieldEnded != 0 {
		c.ended, err = r.instants(c, colEnded, flagEnded, func(i int, d int64) int64 { return c.time[i] + d })
	}
	if err == nil && need&FieldAnswered != 0 {
		c.answered, err = r.instants(c, colAnswered, flagAnswered, func(i int, d int64) int64 {
			return c.hungUp(i) - c.billable[i]*milli + d
		})
	}
	if err == nil && need&FieldStarted != 0 {
		c.started, err = r.instants(c, colStarted, flagStarted, func(i int, d int64) int64 {
			if c.answered[i] != 0 {
				return c.answered[i] - d
			}
			return c.hungUp(i) - d
		})
	}
	return err
}

// hungUp is ended_at, or the time of the event where that was not said.
func (c *columns) hungUp(i int) int64 {
	if c.ended[i] != 0 {
		return c.ended[i]
	}
	return c.time[i]
}

// instants reads a column of instants that some calls have.
func (r *Reader) instants(c *columns, k kind, flag byte, absolute func(i int, d int64) int64) ([]int64, error) {
	values, err := r.spread(k, c.flags, flag)
	if err != nil {
		return nil, err
	}
	for i, flags := range c.flags {
		if flags&flag == 0 {
			continue
		}
		values[i] = absolute(i, values[i])
		if !inRange(domain.Instant(values[i])) {
			return nil, r.corrupt("%v: %d of call %d is out of range", k, values[i], i)
		}
	}
	return values, nil
}

// readNumbers reads the users' own numbers and those at the other end.
func (r *Reader) readNumbers(c *columns, need Fields) (err error) {
	if c.own, err = r.ints(colOwn, r.calls); err != nil {
		return err
	}
	symbols := int64(r.frame.before[personal]) + int64(r.frame.added[personal])
	c.others = make([]int32, r.calls)
	var callers, called int32
	for i, d := range c.own {
		own := d + c.user[i] + 1
		if own < 0 || own >= symbols || !c.look.at(personal, own).isNumber {
			return r.corrupt("%v: symbol %d of call %d is no number", colOwn, own, i)
		}
		c.own[i] = own
		if c.flags[i]&flagInbound != 0 {
			c.others[i] = callers
			callers++
		} else {
			called++
			c.others[i] = -called
		}
	}
	if need&FieldCalling != 0 {
		if c.caller, err = r.numbers(colCaller, colCallerTail, int(callers)); err != nil {
			return err
		}
	}
	if need&FieldCalled != 0 {
		c.called, err = r.numbers(colCalled, colCalledTail, int(called))
	}
	return err
}

func (r *Reader) readCauses(c *columns, _ Fields) (err error) {
	if c.q850, err = r.dictionary(colQ850, r.calls); err != nil {
		return err
	}
	if c.sipStatus, err = r.dictionary(colSIPStatus, r.calls); err != nil {
		return err
	}
	for i, q850 := range c.q850 {
		status := c.sipStatus[i]
		if q850 < 0 || q850 > 127 || status != 0 && (status < 100 || status > 699) {
			return r.corrupt("causes %d and %d of call %d are out of range", q850, status, i)
		}
	}
	return nil
}

// readCorrelations reads them and resolves those that refer to other values.
func (r *Reader) readCorrelations(c *columns, _ Fields) error {
	packed, err := r.ids(colCorrelation, r.calls, corrForms)
	if err != nil {
		return err
	}
	c.correlation = packed.strings()
	back := 0
	for i, form := range packed.form {
		switch form {
		case corrOwnID:
			c.correlation[i] = c.id[i]
		case corrEarlier:
			d := packed.ints[back]
			back++
			if d < 1 || d > int64(i) {
				return r.corrupt("%v: call %d refers %d calls back", colCorrelation, i, d)
			}
			c.correlation[i] = c.correlation[int64(i)-d]
		}
	}
	return nil
}

// An idColumn is a column of ids as it is stored.
type idColumn struct {
	form    []byte
	uuid    []byte // first bytes, second bytes, …
	uuids   int
	ints    []int64
	numbers []uint64 // of the decimals, once known
	texts   []string

	isUUID, isText, isInt byte
}

// ids reads a column of ids or correlations.
func (r *Reader) ids(k kind, n, forms int) (*idColumn, error) {
	c := &idColumn{isUUID: idUUID, isInt: idDecimal, isText: idText}
	if k == colCorrelation {
		c.isUUID, c.isInt, c.isText = corrUUID, corrEarlier, corrText
	}
	var err error
	if c.form, err = r.bytes(k+partForm, n, forms); err != nil {
		return nil, err
	}
	var count [corrForms]int
	for _, form := range c.form {
		count[form]++
	}
	c.uuids = count[c.isUUID]
	if c.uuid, err = r.raw(k+partUUID, 16*c.uuids, 0); err != nil {
		return nil, err
	}
	if len(c.uuid) != 16*c.uuids {
		return nil, r.corrupt("%v has no UUIDs", k)
	}
	if c.ints, err = r.ints(k+partInts, count[c.isInt]); err != nil {
		return nil, err
	}
	if c.texts, err = r.texts(k+partLength, count[c.isText], 0); err != nil {
		return nil, err
	}
	return c, nil
}

// strings makes the ids that stand for themselves; the others stay empty. The
// texts of all UUIDs and numbers share one allocation.
func (c *idColumn) strings() []string {
	buf := make([]byte, 0, c.uuids*uuidText+len(c.numbers)*20)
	ends := make([]int, 0, c.uuids+len(c.numbers))
	var uuid [16]byte
	uuids, numbers := 0, c.numbers
	for _, form := range c.form {
		switch {
		case form == c.isUUID:
			for b := range uuid {
				uuid[b] = c.uuid[b*c.uuids+uuids]
			}
			uuids++
			buf = appendUUIDText(buf, uuid[:])
		case form == c.isInt && len(numbers) > 0:
			buf = strconv.AppendUint(buf, numbers[0], 10)
			numbers = numbers[1:]
		default:
			continue
		}
		ends = append(ends, len(buf))
	}
	all, start := string(buf), 0
	texts := c.texts
	list := make([]string, len(c.form))
	for i, form := range c.form {
		switch {
		case form == c.isText:
			list[i], texts = texts[0], texts[1:]
		case form == c.isUUID || form == c.isInt && len(c.numbers) > 0:
			list[i] = all[start:ends[0]]
			start, ends = ends[0], ends[1:]
		}
	}
	return list
}
