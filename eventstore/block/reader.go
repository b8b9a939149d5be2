package block

import (
	"fmt"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// A Reader reads the columns of a block that are asked for, and decompresses no
// others. It refers to the block's bytes and must not outlive a change of them.
// It is not safe for use by several goroutines at once.
type Reader struct {
	frame    frame
	sections []section
	used     []bool // sections asked for, which a whole read compares

	order    []byte // nil until read
	calls    int
	rows     [2]int
	added    [tables][]symbol // the block's own symbols, when hasAdded
	hasAdded bool
}

// NewReader checks the checksum and reads the header and the section table.
func NewReader(data []byte) (*Reader, error) {
	if err := checkEnvelope(data); err != nil {
		return nil, err
	}
	f, sections, err := parse(data)
	if err != nil {
		return nil, err
	}
	return &Reader{frame: f, sections: sections, used: make([]bool, len(sections))}, nil
}

// Header is what the block says about itself. The caller owns it.
func (r *Reader) Header() Header {
	h := r.frame.Header
	h.Tree = append(h.Tree[:0:0], h.Tree...)
	return h
}

// SymbolsFrom is the block at which the generation of the block's symbols
// starts. Whoever wants to read or to write on from here loads the symbols of
// the blocks from that one to this.
func (r *Reader) SymbolsFrom() uint64 { return r.frame.symbolsFrom }

// Load adds the block's own symbols to s, by the rules of [Decode], and reads
// nothing else of it. It does nothing when s has them already.
func (r *Reader) Load(s *Symbols) error {
	how, err := s.stands(&r.frame)
	if err != nil || how == loadNothing {
		return err
	}
	if err := r.readAdded(); err != nil {
		return err
	}
	return r.apply(s, how)
}

// apply adds symbols that were read.
func (r *Reader) apply(s *Symbols, how load) error {
	bytes := textBytes(r.added)
	if how == loadNext && s.bytes+bytes > MaxSymbolBytes {
		return r.corrupt("symbols of more than %d bytes", MaxSymbolBytes)
	}
	s.apply(r.frame.Number, r.frame.symbolsFrom, r.added, bytes)
	return nil
}

func (r *Reader) corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: block %d: %w", ErrCorrupt, r.frame.Number, fmt.Errorf(format, args...))
}

// find returns a section, or nil when it was left out.
func (r *Reader) find(k kind) *section {
	for i := range r.sections {
		if r.sections[i].kind == k {
			r.used[i] = true
			return &r.sections[i]
		}
	}
	return nil
}

// raw decompresses a section that must have want bytes; padding zeros stand
// behind them in memory. It returns nil when the section was left out.
func (r *Reader) raw(k kind, want, padding int) ([]byte, error) {
	s := r.find(k)
	if s == nil {
		return nil, nil
	}
	if s.raw != want {
		return nil, r.corrupt("%v has %d bytes where %d are due", k, s.raw, want)
	}
	if s.codec == codecStored {
		if padding == 0 {
			return s.stored, nil
		}
		buf := make([]byte, want+padding)
		copy(buf, s.stored)
		return buf[:want], nil
	}
	buf, err := decompressor.DecodeAll(s.stored, make([]byte, 0, want+padding))
	if err != nil {
		return nil, r.corrupt("%v: %w", k, err)
	}
	if len(buf) != want {
		return nil, r.corrupt("%v has %d bytes, not %d", k, len(buf), want)
	}
	return append(buf, make([]byte, padding)...)[:want], nil
}

// bytes reads a section of one byte per value, each below limit.
func (r *Reader) bytes(k kind, n, limit int) ([]byte, error) {
	values, err := r.raw(k, n, 0)
	if values == nil {
		return make([]byte, n), err
	}
	for _, v := range values {
		if int(v) >= limit {
			return nil, r.corrupt("%v has the value %d", k, v)
		}
	}
	return values, nil
}

// ints reads a column of integers.
func (r *Reader) ints(k kind, n int) ([]int64, error) {
	if n == 0 {
		return []int64{}, nil
	}
	codes, err := r.raw(k, n+1, 0)
	if err != nil {
		return nil, err
	}
	values := make([]int64, n)
	if codes == nil {
		return values, nil
	}
	if codes[0] > maxScale {
		return nil, r.corrupt("%v has the scale %d", k, codes[0])
	}
	want := lowBytes(codes)
	low, err := r.raw(k+1, want, lowPadding)
	if err != nil {
		return nil, err
	}
	if low == nil {
		if want > 0 {
			return nil, r.corrupt("%v has no low bits", k)
		}
		low = make([]byte, lowPadding)
	}
	readInts(values, codes, low[:want+lowPadding])
	return values, nil
}

// intsIn reads a column of integers from min to max.
func (r *Reader) intsIn(k kind, n int, min, max int64) ([]int64, error) {
	values, err := r.ints(k, n)
	for _, v := range values {
		if v < min || v > max {
			return nil, r.corrupt("%v has the value %d", k, v)
		}
	}
	return values, err
}

// dictionary reads a column of values that recur.
func (r *Reader) dictionary(k kind, n int) ([]int64, error) {
	values, err := r.ints(k, n)
	if err != nil {
		return nil, err
	}
	count := distinct(values)
	if count < 0 {
		return nil, r.corrupt("%v has an ordinal ahead of its value", k)
	}
	entries, err := r.ints(k+partDictValues, count)
	if err != nil {
		return nil, err
	}
	for i, ordinal := range values {
		values[i] = entries[ordinal]
	}
	return values, nil
}

// packed reads strings as their lengths and all their bytes. The lengths on disk
// are larger by plus; what is below it is no string and gets length 0.
func (r *Reader) packed(k kind, n int, longest, plus int64) (lengths []int64, raw []byte, err error) {
	if lengths, err = r.intsIn(k, n, 0, longest+plus); err != nil {
		return nil, nil, err
	}
	total := int64(0)
	for i, l := range lengths {
		lengths[i] = max(l-plus, 0)
		if total += lengths[i]; total > MaxRawBytes {
			return nil, nil, r.corrupt("%v has more than %d bytes of text", k, MaxRawBytes)
		}
	}
	if raw, err = r.raw(k+partTextBytes, int(total), 0); err != nil {
		return nil, nil, err
	}
	if int64(len(raw)) != total {
		return nil, nil, r.corrupt("%v has no text", k)
	}
	return lengths, raw, nil
}

// texts reads strings, which share one allocation.
func (r *Reader) texts(k kind, n int, plus int64) ([]string, error) {
	lengths, raw, err := r.packed(k, n, MaxTextBytes, plus)
	if err != nil {
		return nil, err
	}
	all, list := string(raw), make([]string, n)
	for i, l := range lengths {
		list[i], all = all[:l], all[l:]
	}
	return list, nil
}

// numbers reads a column of telephone numbers.
func (r *Reader) numbers(k, tailKind kind, n int) ([]domain.Number, error) {
	shape, err := r.bytes(k+partShape, n, 256)
	if err != nil {
		return nil, err
	}
	lead, err := r.dictionary(k+partLead, n)
	if err != nil {
		return nil, err
	}
	mid, err := r.ints(k+partMid, n)
	if err != nil {
		return nil, err
	}
	tail, err := r.ints(tailKind, n)
	if err != nil {
		return nil, err
	}
	list := make([]domain.Number, n)
	for i := range list {
		number, ok := join(shape[i], lead[i], mid[i], tail[i])
		if !ok {
			return nil, r.corrupt("%v: %#x %d %d %d is no number", k, shape[i], lead[i], mid[i], tail[i])
		}
		list[i] = number
	}
	return list, nil
}

// readAdded reads the block's own symbols.
func (r *Reader) readAdded() error {
	if r.hasAdded {
		return nil
	}
	list, err := r.texts(colCommon, int(r.frame.added[common]), 0)
	if err != nil {
		return err
	}
	symbols := make([]symbol, len(list))
	for i, text := range list {
		symbols[i].text = text
	}
	n := int(r.frame.added[personal])
	lengths, err := r.ints(colPersonal, n)
	if err != nil {
		return err
	}
	people := make([]symbol, n)
	count := 0
	for i, l := range lengths {
		if l == 0 {
			people[i].isNumber = true
			count++
		}
	}
	if list, err = r.texts(colPersonal, n, 1); err != nil {
		return err
	}
	numbers, err := r.numbers(colPersonalNumber, colPersonalTail, count)
	if err != nil {
		return err
	}
	for i := range people {
		if people[i].isNumber {
			people[i].number, numbers = numbers[0], numbers[1:]
		} else {
			people[i].text = list[i]
		}
	}
	r.added = [tables][]symbol{symbols, people}
	r.hasAdded = true
	return nil
}

// readOrder reads which events are calls.
func (r *Reader) readOrder() error {
	if r.order != nil {
		return nil
	}
	order, err := r.bytes(colOrder, int(r.frame.Count), orderKinds)
	if err != nil {
		return err
	}
	var counts [orderKinds]int
	for _, o := range order {
		counts[o]++
	}
	r.calls, r.rows = counts[orderCall], [2]int{counts[orderPlainRow], counts[orderPersonalRow]}
	r.order = order
	return nil
}

// Rows calls each with the events that are no calls and their positions in the
// book, in that order, until it returns an error, which Rows returns. It needs
// no symbols.
func (r *Reader) Rows(each func(position uint64, e *domain.Event) error) error {
	if err := r.readOrder(); err != nil {
		return err
	}
	var lengths [2][]int64
	var raw [2][]byte
	for i, k := range [...]kind{colPlainRow, colPersonalRow} {
		var err error
		if lengths[i], raw[i], err = r.packed(k, r.rows[i], MaxRawBytes, 0); err != nil {
			return err
		}
	}
	for i, o := range r.order {
		if o == orderCall {
			continue
		}
		which := o - orderPlainRow
		length := lengths[which][0]
		row := raw[which][:length]
		lengths[which], raw[which] = lengths[which][1:], raw[which][length:]
		position := r.frame.First + uint64(i)
		e, err := decodeRow(row)
		if err != nil {
			return r.corrupt("event at position %d: %w", position, err)
		}
		if personalRow(e.Data.Type()) != (o == orderPersonalRow) {
			return r.corrupt("event at position %d is among the wrong rows", position)
		}
		if err := each(position, &e); err != nil {
			return err
		}
	}
	return nil
}

// decodeRow reads the canonical JSON of an event that is no call.
func decodeRow(raw []byte) (domain.Event, error) {
	e, err := cloudevents.Decode(raw, "")
	if err != nil {
		return e, err
	}
	if e.Data == nil || e.Data.Type() == domain.TypeCall {
		return e, fmt.Errorf("a row of type %s", domain.TypeCall)
	}
	return e, nil
}

// Duplicates are the counts of repeats, nil when there are none. s is as for [Reader.Calls].
func (r *Reader) Duplicates(s *Symbols) ([]Duplicates, error) {
	look, err := r.lookup(s)
	if err != nil {
		return nil, err
	}
	return r.duplicates(look)
}

func (r *Reader) duplicates(look *lookup) ([]Duplicates, error) {
	n := int(r.frame.duplicates)
	tenants, err := r.ordinals(colRepeatTenant, n, common)
	if err != nil {
		return nil, err
	}
	sources, err := r.ordinals(colRepeatSource, n, common)
	if err != nil {
		return nil, err
	}
	counts, err := r.ints(colRepeatCount, n)
	if err != nil || n == 0 {
		return nil, err
	}
	list := make([]Duplicates, n)
	for i := range list {
		if counts[i] == 0 {
			return nil, r.corrupt("%v has a count of 0", colRepeatCount)
		}
		list[i] = Duplicates{
			Tenant: look.at(common, tenants[i]).text,
			Source: look.at(common, sources[i]).text,
			N:      uint64(counts[i]),
		}
	}
	return list, nil
}

// ordinals reads a column of symbols.
func (r *Reader) ordinals(k kind, n, table int) ([]int64, error) {
	return r.intsIn(k, n, 0, int64(r.frame.before[table])+int64(r.frame.added[table])-1)
}

// lookup finds symbols in those before the block and, while they are not in s,
// the block's own.
type lookup struct {
	old, added [tables][]symbol
}

func (l *lookup) at(table int, ordinal int64) *symbol {
	if old := l.old[table]; ordinal < int64(len(old)) {
		return &old[ordinal]
	} else {
		return &l.added[table][ordinal-int64(len(old))]
	}
}

// lookup loads the block's symbols into s where they are missing.
func (r *Reader) lookup(s *Symbols) (*lookup, error) {
	if err := r.Load(s); err != nil {
		return nil, err
	}
	return &lookup{old: s.table}, nil
}

// block reads everything, and changes s only when nothing is wrong.
func (r *Reader) block(s *Symbols) (*Block, error) {
	how, err := s.stands(&r.frame)
	if err != nil {
		return nil, err
	}
	if err := r.readAdded(); err != nil {
		return nil, err
	}
	look := &lookup{added: r.added}
	if how != loadFirst {
		for t := range look.old {
			look.old[t] = s.table[t][:r.frame.before[t]]
		}
	}
	if how == loadNothing {
		for t, list := range r.added {
			for i := range list {
				if list[i] != s.table[t][int(r.frame.before[t])+i] {
					return nil, r.corrupt("its symbols are not those of the book")
				}
			}
		}
	}
	b := &Block{Header: r.Header(), Events: make([]domain.Event, r.frame.Count)}
	if b.Duplicates, err = r.duplicates(look); err != nil {
		return nil, err
	}
	if err := r.allCalls(look, b.Events); err != nil {
		return nil, err
	}
	err = r.Rows(func(position uint64, e *domain.Event) error {
		b.Events[position-r.frame.First] = *e
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, used := range r.used {
		if !used {
			return nil, r.corrupt("%v belongs to nothing", r.sections[i].kind)
		}
	}
	if how == loadNothing {
		return b, nil
	}
	return b, r.apply(s, how)
}
