package block

import (
	"encoding/binary"
	"math/bits"

	"tollbook/domain"
)

// A column of integers is two sections. The first has a byte for the scale and
// then a code byte for each value; the second has the bits the codes leave open.
//
//	┌────────────┬──────────┬──────────┬─────┐   ┌─────────────────────────────┐
//	│ scale <1b> │ code <1b>│ code <1b>│  …  │   │ low bits of each magnitude  │
//	└────────────┴──────────┴──────────┴─────┘   └─────────────────────────────┘
//
// A value is sign × magnitude × 10^scale. Bit 7 of a code is the sign; the rest,
// c, gives the magnitude m:
//
//	c < 4   m = c
//	c ≥ 4   m has L = (c−4)/2 + 3 bits: a one, the bit (c−4)%2, and L−2 bits
//	        from the second section, least significant first
//
// So a value costs the entropy of its size, which zstd takes out of the codes,
// and the bits below, which have none to take.
const (
	codeSign = 0x80
	maxScale = 9
)

var scales = [maxScale + 1]int64{1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}

// codeOf is the code of a magnitude and how many bits follow it.
func codeOf(m uint64) (code byte, open uint) {
	if m < 4 {
		return byte(m), 0
	}
	length := uint(bits.Len64(m))
	return byte(4 + 2*(length-3) + uint(m>>(length-2))&1), length - 2
}

// openBits is how many bits follow a code without its sign.
var openBits = func() (open [codeSign]uint8) {
	for c := 4; c < len(open); c++ {
		open[c] = uint8((c-4)/2 + 1)
	}
	return open
}()

// appendInts adds the two sections of a column to codes and low.
func appendInts(codes, low []byte, values []int64, scale uint8) ([]byte, []byte) {
	codes = append(codes, scale)
	by := scales[scale]
	var acc uint64
	var used uint
	for _, v := range values {
		if by != 1 {
			v /= by
		}
		m, sign := uint64(v), byte(0)
		if v < 0 {
			m, sign = -m, codeSign
		}
		code, open := codeOf(m)
		codes = append(codes, code|sign)
		if open == 0 {
			continue
		}
		m &= 1<<open - 1
		acc |= m << used
		if used += open; used >= 64 {
			low = binary.LittleEndian.AppendUint64(low, acc)
			used -= 64
			acc = m >> (open - used)
		}
	}
	for ; used > 0; used -= min(used, 8) {
		low = append(low, byte(acc))
		acc >>= 8
	}
	return codes, low
}

// lowBytes is how long the second section of a column is whose codes are given,
// the first being the scale.
func lowBytes(codes []byte) int {
	total := 0
	for _, c := range codes[1:] {
		total += int(openBits[c&^codeSign])
	}
	return (total + 7) / 8
}

// lowPadding is what readInts may read beyond the second section.
const lowPadding = 16

// readInts fills values. len(codes) is len(values)+1, low has lowBytes(codes)
// bytes and lowPadding zeros after them, and the scale was checked. What
// overflows wraps around; the columns' own ranges refuse it.
func readInts(values []int64, codes, low []byte) {
	by := scales[codes[0]]
	pos := uint(0)
	for i, c := range codes[1:] {
		m := uint64(c &^ codeSign)
		if m >= 4 {
			open := uint(openBits[m])
			at, shift := pos>>3, pos&7
			v := binary.LittleEndian.Uint64(low[at:]) >> shift
			if open+shift > 64 {
				v |= uint64(low[at+8]) << (64 - shift)
			}
			m = (2|m&1)<<open | v&(1<<open-1)
			pos += open
		}
		v := int64(m)
		if c&codeSign != 0 {
			v = -v
		}
		values[i] = v * by
	}
}

// scaleOf is the largest of 0, 3, 6 and 9 whose power of ten divides all values.
func scaleOf(values []int64) uint8 {
	scale := uint8(maxScale)
	for _, v := range values {
		for v%scales[scale] != 0 {
			scale -= 3
		}
		if scale == 0 {
			break
		}
	}
	return scale
}

// dictionary turns values that recur within a block into ordinals by first
// occurrence: an ordinal equal to how many were seen before means the next of
// values.
type dictionary struct {
	ordinals []int64
	values   []int64
	seen     map[int64]int64
}

func (d *dictionary) add(v int64) {
	ordinal, ok := d.seen[v]
	if !ok {
		if d.seen == nil {
			d.seen = make(map[int64]int64)
		}
		ordinal = int64(len(d.values))
		d.seen[v] = ordinal
		d.values = append(d.values, v)
	}
	d.ordinals = append(d.ordinals, ordinal)
}

// distinct is how many values the ordinals introduce, or −1 when they are not
// what add produces.
func distinct(ordinals []int64) int {
	seen := int64(0)
	for _, o := range ordinals {
		switch {
		case o == seen:
			seen++
		case o < 0 || o > seen:
			return -1
		}
	}
	return int(seen)
}

// numbers is a column of telephone numbers, in parts that have little to do with
// each other: the shape (which digits there are), the lead (the first five
// digits, country and area), the middle, and the tail (the last four readable
// digits).
type numbers struct {
	shape []byte
	lead  dictionary
	mid   []int64
	tail  []int64
}

const (
	leadDigits = 5
	tailDigits = 4
)

// A shape's low nibble is the number of digits, masked ones included, of a
// number with a plus, and the high nibble how many are masked. Low nibble 1 is a
// short number with as many digits as the high nibble says. 0 is anonymous.
const shapeShort = 1

func shapeOf(n domain.Number) byte {
	switch {
	case n.Anonymous():
		return 0
	case n.Plus:
		return n.Masked<<4 | (n.Len + n.Masked)
	}
	return n.Len<<4 | shapeShort
}

// numberOf is the number of a shape without its digits.
func numberOf(shape byte) (n domain.Number, ok bool) {
	high, low := shape>>4, shape&15
	switch {
	case shape == 0:
		return n, true
	case low == shapeShort:
		n.Len = high
		return n, high >= 2 && high <= 6
	case low < 2 || high > low:
		return n, false
	}
	n.Plus, n.Masked, n.Len = true, high, low-high
	return n, true
}

// splitAt is how many digits of a number with that many readable ones are in
// the lead and in the middle.
func splitAt(digits uint8) (lead, mid int) {
	head := max(int(digits)-tailDigits, 0)
	return min(head, leadDigits), max(head-leadDigits, 0)
}

func (c *numbers) add(n domain.Number) {
	_, mid := splitAt(n.Len)
	head := int64(n.Digits) / scales[tailDigits]
	c.shape = append(c.shape, shapeOf(n))
	c.lead.add(head / scales[mid])
	c.mid = append(c.mid, head%scales[mid])
	c.tail = append(c.tail, int64(n.Digits)%scales[tailDigits])
}

// join is the number of its parts, if they are those of one.
func join(shape byte, lead, mid, tail int64) (domain.Number, bool) {
	n, ok := numberOf(shape)
	if !ok {
		return n, false
	}
	leadLen, midLen := splitAt(n.Len)
	if lead < 0 || lead >= scales[leadLen] || mid < 0 || mid >= scales[midLen] ||
		tail < 0 || tail >= scales[min(int(n.Len), tailDigits)] {
		return n, false
	}
	n.Digits = uint64((lead*scales[midLen]+mid)*scales[tailDigits] + tail)
	return n, n.Valid()
}
