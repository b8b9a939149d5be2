package domain

import (
	"cmp"
	"math/bits"
	"slices"
)

// prefixes answer which row of a deck has the longest prefix of a number: a trie
// by decimal digits whose nodes say with a bit for each digit whether a row ends
// there and whether longer ones follow. The first digits are looked up in a table.
// It takes 4 bytes a row and 12 for every prefix that others continue.
type prefixes struct {
	first uint8      // how many digits the table takes
	top   []topEntry // by them
	nodes []prefixNode
	rows  []uint32    // what each row is, those of a node together
	few   []fewDigits // of at most so many digits, in order: for numbers that have fewer
}

// bigDeck is from how many rows a table of five digits is worth its 800 kB.
const bigDeck = 50_000

// fewDigits is a row with a prefix of few digits.
type fewDigits struct{ digits, len, row uint32 }

type topEntry struct {
	row  uint32 // of the longest prefix within the first digits + 1; 0: none
	node uint32 // of those that go on + 1; 0: none
}

// A prefixNode is a prefix that longer ones continue.
type prefixNode struct {
	hasRow, hasNode uint16 // by the next digit
	row, node       uint32 // where those of the lowest digit are; the others follow
}

type prefixRow struct {
	prefix
	row uint32
}

// comparePrefixes is by digits from the left, a prefix before those that continue it.
func comparePrefixes(a, b prefix) int {
	return cmp.Or(cmp.Compare(a.digits*pow10[MaxDigits-a.len], b.digits*pow10[MaxDigits-b.len]), cmp.Compare(a.len, b.len))
}

// newPrefixes takes each prefix once, none of short numbers, and sorts them.
func newPrefixes(rows []prefixRow) *prefixes {
	slices.SortFunc(rows, func(a, b prefixRow) int { return comparePrefixes(a.prefix, b.prefix) })
	p := &prefixes{first: 3}
	if len(rows) >= bigDeck {
		p.first = 5
	}
	p.top = make([]topEntry, pow10[p.first])
	for _, r := range rows {
		if r.len > p.first {
			continue
		}
		p.few = append(p.few, fewDigits{uint32(r.digits), uint32(r.len), r.row})
		each := pow10[p.first-r.len]
		for i := r.digits * each; i < (r.digits+1)*each; i++ {
			p.top[i].row = r.row + 1 // later ones are longer
		}
	}
	for len(rows) > 0 {
		r := rows[0]
		if r.len <= p.first {
			rows = rows[1:]
			continue
		}
		// Those that begin as this one stand together, but for shorter ones.
		i := r.digits / pow10[r.len-p.first]
		var same []prefixRow
		for len(rows) > 0 && (rows[0].len <= p.first || rows[0].digits/pow10[rows[0].len-p.first] == i) {
			if rows[0].len > p.first {
				same = append(same, rows[0])
			}
			rows = rows[1:]
		}
		p.nodes = append(p.nodes, prefixNode{})
		p.top[i].node = uint32(len(p.nodes))
		p.fill(len(p.nodes)-1, same, p.first)
	}
	p.nodes, p.rows, p.few = slices.Clip(p.nodes), slices.Clip(p.rows), slices.Clip(p.few)
	return p
}

// fill makes the node of rows that share their first digits, depth of them, and
// are longer.
func (p *prefixes) fill(at int, rows []prefixRow, depth uint8) {
	var follow [10][]prefixRow
	n := prefixNode{row: uint32(len(p.rows))}
	for _, r := range rows {
		digit := r.digits / pow10[r.len-depth-1] % 10
		if r.len == depth+1 {
			n.hasRow |= 1 << digit
			p.rows = append(p.rows, r.row)
			continue
		}
		n.hasNode |= 1 << digit
		follow[digit] = append(follow[digit], r)
	}
	n.node = uint32(len(p.nodes))
	p.nodes = append(p.nodes, make([]prefixNode, bits.OnesCount16(n.hasNode))...)
	p.nodes[at] = n
	child := int(n.node)
	for _, rows := range follow {
		if len(rows) > 0 {
			p.fill(child, rows, depth+1)
			child++
		}
	}
}

// longest is the row with the longest prefix of a number's readable digits.
func (p *prefixes) longest(n Number) (row uint32, ok bool) {
	if n.Len < p.first {
		for l := n.Len; l > 0 && !ok; l-- {
			row, ok = p.short(prefix{n.Digits / pow10[n.Len-l], l, false})
		}
		return row, ok
	}
	left := n.Len - p.first
	first := n.Digits / pow10[left]
	rest := n.Digits - first*pow10[left]
	entry := p.top[first]
	best, at := entry.row, entry.node
	for at != 0 && left > 0 {
		left--
		digit := rest / pow10[left]
		rest -= digit * pow10[left]
		node := &p.nodes[at-1]
		bit := uint16(1) << digit
		if node.hasRow&bit != 0 {
			best = p.rows[node.row+uint32(bits.OnesCount16(node.hasRow&(bit-1)))] + 1
		}
		if node.hasNode&bit == 0 {
			break
		}
		at = node.node + uint32(bits.OnesCount16(node.hasNode&(bit-1))) + 1
	}
	return best - 1, best != 0
}

// has reports whether there is a row of exactly this prefix.
func (p *prefixes) has(key prefix) bool {
	if key.len <= p.first {
		_, ok := p.short(key)
		return ok
	}
	left := key.len - p.first
	first := key.digits / pow10[left]
	rest := key.digits - first*pow10[left]
	for at := p.top[first].node; at != 0; {
		left--
		digit := rest / pow10[left]
		rest -= digit * pow10[left]
		node := &p.nodes[at-1]
		bit := uint16(1) << digit
		if left == 0 {
			return node.hasRow&bit != 0
		}
		if node.hasNode&bit == 0 {
			return false
		}
		at = node.node + uint32(bits.OnesCount16(node.hasNode&(bit-1))) + 1
	}
	return false
}

func (p *prefixes) short(key prefix) (row uint32, ok bool) {
	i, ok := slices.BinarySearchFunc(p.few, key, func(r fewDigits, key prefix) int {
		return comparePrefixes(prefix{digits: uint64(r.digits), len: uint8(r.len)}, key)
	})
	if !ok {
		return 0, false
	}
	return p.few[i].row, true
}
