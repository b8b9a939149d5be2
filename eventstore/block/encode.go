package block

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// Encode adds the bytes of b to dst. The symbols b introduces are staged: s
// itself is as before until [Staged.Commit], so that a failed append leaves
// nothing behind. s must be new or stand before block b.Number.
//
// The error is [ErrEvent] when the header or an event cannot be kept,
// [ErrTooLarge] when there are too many events, [ErrSymbols] when s stands
// elsewhere; dst is then returned as it was.
func (s *Symbols) Encode(dst []byte, b *Block) ([]byte, *Staged, error) {
	if uint64(len(b.Events)) != uint64(b.Count) {
		return dst, nil, fmt.Errorf("%w: %d events where the header says %d", ErrEvent, len(b.Events), b.Count)
	}
	if err := b.Header.check(); err != nil {
		return dst, nil, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	st, err := s.stage(b.Number)
	if err != nil {
		return dst, nil, err
	}
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	defer func() { e.st = nil }()
	e.reset(st)
	for i := range b.Events {
		if err := e.event(&b.Events[i]); err != nil {
			return dst, nil, fmt.Errorf("event at position %d %w", b.First+uint64(i), err)
		}
	}
	if err := e.repeats(b.Duplicates); err != nil {
		return dst, nil, err
	}
	e.sections()
	return e.assemble(dst, b)
}

// An encoder holds the columns of the block being encoded, and their memory for
// the next one.
type encoder struct {
	st *Staged

	order []byte
	rows  [2]texts // plain, personal
	row   []byte

	calls                                int
	tenant, source, user, callKind, own  []int64
	flags                                []byte
	id, correlation                      ids
	time, sequence                       []int64
	caller, called                       numbers
	billable, ended, answered, started   []int64
	q850, sipStatus                      dictionary
	repeatTenant, repeatSource, repeatOf []int64

	lanes        lanes
	lastTime     domain.Instant
	correlations map[string]int // the last call of the block that had it

	out        sectionWriter
	codes, low []byte
	symbols    symbolColumns
}

type symbolColumns struct {
	common, personal texts
	number           numbers
}

var encoders = sync.Pool{New: func() any {
	return &encoder{correlations: make(map[string]int)}
}}

// reset empties everything and keeps the memory.
func (e *encoder) reset(st *Staged) {
	e.st = st
	for _, b := range []*[]byte{&e.order, &e.row, &e.flags, &e.out.table, &e.out.body, &e.codes, &e.low} {
		*b = (*b)[:0]
	}
	for _, c := range []*[]int64{&e.tenant, &e.source, &e.user, &e.callKind, &e.own, &e.time, &e.sequence,
		&e.billable, &e.ended, &e.answered, &e.started, &e.repeatTenant, &e.repeatSource, &e.repeatOf} {
		*c = (*c)[:0]
	}
	for _, t := range []*texts{&e.rows[0], &e.rows[1], &e.id.text, &e.correlation.text,
		&e.symbols.common, &e.symbols.personal} {
		t.length, t.bytes = t.length[:0], t.bytes[:0]
	}
	for _, c := range []*ids{&e.id, &e.correlation} {
		c.form, c.uuid, c.ints = c.form[:0], c.uuid[:0], c.ints[:0]
	}
	for _, c := range []*numbers{&e.caller, &e.called, &e.symbols.number} {
		c.shape, c.mid, c.tail = c.shape[:0], c.mid[:0], c.tail[:0]
	}
	for _, d := range []*dictionary{&e.caller.lead, &e.called.lead, &e.symbols.number.lead, &e.q850, &e.sipStatus} {
		d.ordinals, d.values = d.ordinals[:0], d.values[:0]
		clear(d.seen)
	}
	e.out.count, e.out.raw, e.calls, e.lastTime = 0, 0, 0, 0
	e.lanes.reset()
	clear(e.correlations)
}

func (e *encoder) event(ev *domain.Event) error {
	c, ok := ev.Data.(*domain.Call)
	if ev.Data == nil || ok && c == nil {
		return fmt.Errorf("%w: it has no data", ErrEvent)
	}
	if ok {
		if err := checkCall(ev, c); err != nil {
			return fmt.Errorf("%w: %w", ErrEvent, err)
		}
		e.order = append(e.order, orderCall)
		e.call(ev, c)
		return nil
	}
	// A row that cannot be read back would close the book for ever, so it is read
	// before it is written. Rows are few beside the calls.
	e.row = cloudevents.Append(e.row[:0], ev)
	back, err := decodeRow(e.row)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEvent, err)
	}
	start := len(e.row)
	e.row = cloudevents.Append(e.row, &back)
	if !bytes.Equal(e.row[:start], e.row[start:]) {
		return fmt.Errorf("%w: its canonical form is read as another event", ErrEvent)
	}
	which := 0
	if personalRow(ev.Data.Type()) {
		which = 1
	}
	e.order = append(e.order, byte(orderPlainRow+which))
	rows := &e.rows[which]
	rows.length = append(rows.length, int64(start))
	rows.bytes = append(rows.bytes, e.row[:start]...)
	if len(rows.bytes) > MaxRawBytes {
		return ErrTooLarge
	}
	return nil
}

func (e *encoder) call(ev *domain.Event, c *domain.Call) {
	tenant, source := e.st.common(ev.Tenant), e.st.common(ev.Source)
	user := e.st.user(c.User)
	e.tenant = append(e.tenant, tenant)
	e.source = append(e.source, source)
	e.user = append(e.user, user)
	e.callKind = append(e.callKind, e.st.common(c.Kind))

	flags := byte(c.Disposition) << flagDispositionShift
	own := c.Calling
	if c.Direction == domain.Inbound {
		flags |= flagInbound
		own = c.Called
		e.caller.add(c.Calling)
	} else {
		e.called.add(c.Called)
	}
	// A user's number is introduced right after the user: most often this is 0.
	e.own = append(e.own, e.st.own(own)-user-1)

	lane := e.lanes.of(tenant, source)
	if ev.Has {
		flags |= flagSequence
		e.sequence = append(e.sequence, advance(&lane.sequence, ev.N))
	}
	e.addID(ev.ID, lane)
	e.addCorrelation(ev.ID, c.Correlation)

	e.time = append(e.time, int64(ev.Time-e.lastTime))
	e.lastTime = ev.Time
	e.billable = append(e.billable, c.BillableMS)
	base := ev.Time
	if c.EndedAt != 0 {
		flags |= flagEnded
		e.ended = append(e.ended, int64(c.EndedAt-ev.Time))
		base = c.EndedAt
	}
	if c.AnsweredAt != 0 {
		flags |= flagAnswered
		base -= domain.Instant(c.BillableMS * milli)
		e.answered = append(e.answered, int64(c.AnsweredAt-base))
		base = c.AnsweredAt
	}
	if c.StartedAt != 0 {
		flags |= flagStarted
		e.started = append(e.started, int64(base-c.StartedAt))
	}
	e.flags = append(e.flags, flags)
	e.q850.add(int64(c.Q850))
	e.sipStatus.add(int64(c.SIPStatus))
	e.calls++
}

func (e *encoder) addID(id string, lane *lane) {
	c := &e.id
	var ok bool
	if c.uuid, ok = appendUUID(c.uuid, id); ok {
		c.form = append(c.form, idUUID)
	} else if v, ok := parseDecimal(id); ok {
		c.form = append(c.form, idDecimal)
		c.ints = append(c.ints, advance(&lane.id, v))
	} else {
		c.form = append(c.form, idText)
		c.text.add(id)
	}
}

func (e *encoder) addCorrelation(id, correlation string) {
	c := &e.correlation
	if correlation == "" {
		c.form = append(c.form, corrNone)
		return
	}
	earlier, ok := e.correlations[correlation]
	e.correlations[correlation] = e.calls
	if ok {
		c.form = append(c.form, corrEarlier)
		c.ints = append(c.ints, int64(e.calls-earlier))
	} else if correlation == id {
		c.form = append(c.form, corrOwnID)
	} else if c.uuid, ok = appendUUID(c.uuid, correlation); ok {
		c.form = append(c.form, corrUUID)
	} else {
		c.form = append(c.form, corrText)
		c.text.add(correlation)
	}
}

func (e *encoder) repeats(list []Duplicates) error {
	if len(list) > MaxEvents {
		return fmt.Errorf("%w: %d counts of duplicates, more than %d", ErrEvent, len(list), MaxEvents)
	}
	for i := range list {
		d := &list[i]
		if len(d.Tenant) > MaxTextBytes || len(d.Source) > MaxTextBytes {
			return fmt.Errorf("duplicates of a source %w: its name is longer than %d bytes", ErrEvent, MaxTextBytes)
		}
		if d.N == 0 {
			return fmt.Errorf("duplicates of %s %s %w: their count is 0", d.Tenant, d.Source, ErrEvent)
		}
		e.repeatTenant = append(e.repeatTenant, e.st.common(d.Tenant))
		e.repeatSource = append(e.repeatSource, e.st.common(d.Source))
		e.repeatOf = append(e.repeatOf, int64(d.N))
	}
	return nil
}

// sections writes all columns by ascending kind.
func (e *encoder) sections() {
	for _, s := range e.st.added[common] {
		e.symbols.common.add(s.text)
	}
	for _, s := range e.st.added[personal] {
		if s.isNumber {
			e.symbols.personal.length = append(e.symbols.personal.length, 0)
			e.symbols.number.add(s.number)
			continue
		}
		e.symbols.personal.add(s.text)
		e.symbols.personal.length[len(e.symbols.personal.length)-1]++
	}
	e.bytes(colOrder, e.order)
	e.texts(colCommon, &e.symbols.common)
	e.texts(colPersonal, &e.symbols.personal)
	e.numbers(colPersonalNumber, colPersonalTail, &e.symbols.number)

	e.ints(colTenant, e.tenant, 0)
	e.ints(colSource, e.source, 0)
	e.bytes(colFlags, e.flags)
	e.ids(colID, &e.id)
	e.ints(colTime, e.time, scaleOf(e.time))
	e.ints(colSequence, e.sequence, 0)
	e.ints(colUser, e.user, 0)
	e.ints(colKind, e.callKind, 0)
	e.ints(colOwn, e.own, 0)
	e.numbers(colCaller, colCallerTail, &e.caller)
	e.numbers(colCalled, colCalledTail, &e.called)
	e.ints(colBillable, e.billable, scaleOf(e.billable))
	e.ints(colEnded, e.ended, scaleOf(e.ended))
	e.ints(colAnswered, e.answered, scaleOf(e.answered))
	e.ints(colStarted, e.started, scaleOf(e.started))
	e.dictionary(colQ850, &e.q850)
	e.dictionary(colSIPStatus, &e.sipStatus)
	e.ids(colCorrelation, &e.correlation)

	e.texts(colPlainRow, &e.rows[0])
	e.texts(colPersonalRow, &e.rows[1])
	e.ints(colRepeatTenant, e.repeatTenant, 0)
	e.ints(colRepeatSource, e.repeatSource, 0)
	e.ints(colRepeatCount, e.repeatOf, 0)
}

// bytes writes a section of one byte per value, unless all are 0.
func (e *encoder) bytes(k kind, values []byte) {
	for _, v := range values {
		if v != 0 {
			e.out.add(k, values)
			return
		}
	}
}

// ints writes a column of integers, unless all are 0.
func (e *encoder) ints(k kind, values []int64, scale uint8) {
	for _, v := range values {
		if v != 0 {
			e.codes, e.low = appendInts(e.codes[:0], e.low[:0], values, scale)
			e.out.add(k, e.codes)
			e.out.add(k+1, e.low)
			return
		}
	}
}

func (e *encoder) dictionary(k kind, d *dictionary) {
	e.ints(k, d.ordinals, 0)
	e.ints(k+partDictValues, d.values, 0)
}

func (e *encoder) texts(k kind, t *texts) {
	e.ints(k, t.length, 0)
	e.out.add(k+partTextBytes, t.bytes)
}

func (e *encoder) numbers(k, tail kind, c *numbers) {
	e.bytes(k+partShape, c.shape)
	e.dictionary(k+partLead, &c.lead)
	e.ints(k+partMid, c.mid, 0)
	e.ints(tail, c.tail, 0)
}

func (e *encoder) ids(k kind, c *ids) {
	e.bytes(k+partForm, c.form)
	e.low = transpose(e.low[:0], c.uuid)
	e.out.add(k+partUUID, e.low)
	e.ints(k+partInts, c.ints, 0)
	e.texts(k+partLength, &c.text)
}

// transpose turns UUIDs into their first bytes, their second bytes and so on: of
// UUIDs made in time order the first bytes are nearly alike.
func transpose(dst, uuids []byte) []byte {
	for i := range 16 {
		for at := i; at < len(uuids); at += 16 {
			dst = append(dst, uuids[at])
		}
	}
	return dst
}

// assemble puts header, table and sections together.
func (e *encoder) assemble(dst []byte, b *Block) ([]byte, *Staged, error) {
	f := frame{
		Header:      b.Header,
		sections:    e.out.count,
		symbolsFrom: e.st.from,
		duplicates:  uint32(len(b.Duplicates)),
	}
	for t := range tables {
		f.before[t] = uint32(e.st.base[t])
		f.added[t] = uint32(len(e.st.added[t]))
	}
	length := fixedBytes + len(f.Tree)*peakBytes + len(e.out.table) + len(e.out.body) + crcBytes
	if e.out.raw > MaxRawBytes || length > MaxBlockBytes {
		return dst, nil, fmt.Errorf("%w: %d bytes, %d decompressed", ErrTooLarge, length, e.out.raw)
	}
	f.length = uint32(length)
	start := len(dst)
	dst = f.append(dst)
	dst = append(dst, e.out.table...)
	dst = append(dst, e.out.body...)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	return dst, e.st, nil
}
