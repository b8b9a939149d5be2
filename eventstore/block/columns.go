package block

import (
	"fmt"
	"math"
	"strconv"

	"tollbook/domain"
)

// The flags of a call, one byte.
const (
	flagInbound          = 1 << 0
	flagDispositionShift = 1 // three bits
	flagDispositionMask  = 7 << flagDispositionShift
	flagAnswered         = 1 << 4 // answered_at is there
	flagStarted          = 1 << 5 // started_at is there
	flagEnded            = 1 << 6 // ended_at is there
	flagSequence         = 1 << 7 // sequence is there
)

// Values of the order column.
const (
	orderCall = iota
	orderPlainRow
	orderPersonalRow
	orderKinds
)

// Forms of an id.
const (
	idUUID    = iota // lower case, 8-4-4-4-12
	idDecimal        // canonical, below 2^64
	idText
	idForms
)

// Forms of a correlation.
const (
	corrNone    = iota
	corrUUID    // as an id
	corrText    // as an id
	corrOwnID   // the call's own id
	corrEarlier // the correlation of the call that many calls before
	corrForms
)

// milli is a millisecond in an Instant.
const milli = 1_000_000

// texts are strings: their lengths, and all bytes.
type texts struct {
	length []int64
	bytes  []byte
}

func (c *texts) add(s string) {
	c.length = append(c.length, int64(len(s)))
	c.bytes = append(c.bytes, s...)
}

// ids are strings that are often UUIDs or counters.
type ids struct {
	form []byte
	uuid []byte // 16 bytes each
	ints []int64
	text texts
}

// checkCall says why a call cannot be kept, which is why a decoder would refuse it.
func checkCall(e *domain.Event, c *domain.Call) error {
	texts := [...]struct{ name, value string }{
		{"tenant", e.Tenant}, {"source", e.Source}, {"id", e.ID},
		{"user", c.User}, {"kind", c.Kind}, {"correlation", c.Correlation},
	}
	for i := range texts {
		if len(texts[i].value) > MaxTextBytes {
			return fmt.Errorf("%s is longer than %d bytes", texts[i].name, MaxTextBytes)
		}
	}
	instants := [...]struct {
		name  string
		value domain.Instant
	}{{"answered_at", c.AnsweredAt}, {"started_at", c.StartedAt}, {"ended_at", c.EndedAt}}
	for i := range instants {
		if v := instants[i].value; v != 0 && !inRange(v) {
			return fmt.Errorf("%s %d is out of range", instants[i].name, v)
		}
	}
	switch {
	case !inRange(e.Time):
		return fmt.Errorf("time %d is out of range", e.Time)
	case !e.Has && e.N != 0:
		return fmt.Errorf("sequence is %d and not there", e.N)
	case !c.Calling.Valid():
		return fmt.Errorf("calling is no number")
	case !c.Called.Valid():
		return fmt.Errorf("called is no number")
	}
	return checkCodes(c)
}

// checkCodes is the part of a call's rules that encoder and decoder share.
func checkCodes(c *domain.Call) error {
	switch {
	case c.BillableMS < 0 || c.BillableMS > domain.MaxBillableMS:
		return fmt.Errorf("billable_ms %d is out of range", c.BillableMS)
	case c.Direction > domain.Inbound:
		return fmt.Errorf("direction %d is none", uint8(c.Direction))
	case c.Disposition > domain.Cancelled:
		return fmt.Errorf("disposition %d is none", uint8(c.Disposition))
	case c.Q850 < 0 || c.Q850 > 127:
		return fmt.Errorf("q850 %d is out of range", c.Q850)
	case c.SIPStatus != 0 && (c.SIPStatus < 100 || c.SIPStatus > 699):
		return fmt.Errorf("sip_status %d is out of range", c.SIPStatus)
	}
	return nil
}

func inRange(t domain.Instant) bool { return t >= domain.MinInstant && t <= domain.MaxInstant }

// personalRow reports whether a row of that type names people. What is not known
// to name none does.
func personalRow(t domain.Type) bool {
	switch t {
	case domain.TypePlan, domain.TypeDeck, domain.TypeTenantConfig, domain.TypeSwitchConfig:
		return false
	}
	return true
}

// lanes keeps the last sequence and the last decimal id of each (tenant, source)
// of a block.
type lanes struct {
	at   map[[2]int64]int
	list []lane
	key  [2]int64
	last int // index of key, when list is not empty
}

// A lane starts so that a counter from 0 has a first difference of 0.
type lane struct{ sequence, id uint64 }

var newLane = lane{sequence: math.MaxUint64, id: math.MaxUint64}

func (l *lanes) of(tenant, source int64) *lane {
	key := [2]int64{tenant, source}
	if len(l.list) > 0 && key == l.key {
		return &l.list[l.last]
	}
	at, ok := l.at[key]
	if !ok {
		if l.at == nil {
			l.at = make(map[[2]int64]int)
		}
		at = len(l.list)
		l.at[key] = at
		l.list = append(l.list, newLane)
	}
	l.key, l.last = key, at
	return &l.list[at]
}

func (l *lanes) reset() {
	clear(l.at)
	l.list = l.list[:0]
}

// advance returns how far v is from the successor of *last, which it becomes.
func advance(last *uint64, v uint64) int64 {
	d := int64(v - (*last + 1))
	*last = v
	return d
}

// follow is the inverse of advance.
func follow(last *uint64, d int64) uint64 {
	*last += 1 + uint64(d)
	return *last
}

const uuidText = 36

// uuidAt says where the hexadecimal pairs of a UUID are.
var uuidAt = [16]int{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

// nibble is the value of a lower-case hexadecimal digit, or 0xFF.
var nibble = func() (n [256]byte) {
	for i := range n {
		n[i] = 0xFF
	}
	for i, c := range []byte("0123456789abcdef") {
		n[c] = byte(i)
	}
	return n
}()

// appendUUID adds the 16 bytes of a canonical lower-case UUID.
func appendUUID(dst []byte, s string) ([]byte, bool) {
	if len(s) != uuidText || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return dst, false
	}
	start := len(dst)
	for _, at := range uuidAt {
		high, low := nibble[s[at]], nibble[s[at+1]]
		if high|low > 15 {
			return dst[:start], false
		}
		dst = append(dst, high<<4|low)
	}
	return dst, true
}

// appendUUIDText adds the text of 16 bytes.
func appendUUIDText(dst, uuid []byte) []byte {
	const digits = "0123456789abcdef"
	for i, b := range uuid {
		switch i {
		case 4, 6, 8, 10:
			dst = append(dst, '-')
		}
		dst = append(dst, digits[b>>4], digits[b&15])
	}
	return dst
}

// parseDecimal reads a number that strconv writes back as the same text.
func parseDecimal(s string) (uint64, bool) {
	if s == "" || len(s) > 20 || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	v, err := strconv.ParseUint(s, 10, 64)
	return v, err == nil
}
