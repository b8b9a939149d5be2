package cloudevents

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// A cursor walks JSON that jsontext has found valid, so it need not look for
// anything that could not be there: commas and colons are white space to it.
// The first failure sticks, and ends every loop over members and elements.
type cursor struct {
	b    []byte
	i    int
	base string // the path of the whole of b
	err  *Error
}

// next moves to the next value, name or closing bracket and returns its first byte.
func (c *cursor) next() byte {
	for {
		switch ch := c.b[c.i]; ch {
		case ' ', '\t', '\r', '\n', ',', ':':
			c.i++
		default:
			return ch
		}
	}
}

// object enters an object. It returns false at null, and fails at anything else.
func (c *cursor) object() bool {
	return c.enter('{', "must be an object")
}

// array enters an array. It returns false at null, and fails at anything else.
func (c *cursor) array() bool {
	return c.enter('[', "must be an array")
}

func (c *cursor) enter(bracket byte, rule string) bool {
	switch c.next() {
	case bracket:
		c.i++
		return true
	case 'n':
		c.skip()
		return false
	}
	c.fail(c.i, rule)
	return false
}

// member moves to the value of the object's next member and returns its name,
// or leaves the object. The name is valid until the input changes.
func (c *cursor) member() (name []byte, ok bool) {
	if c.err != nil {
		return nil, false
	}
	if c.next() == '}' {
		c.i++
		return nil, false
	}
	name = c.str()
	c.next()
	return name, true
}

// element moves to the array's next element, or leaves the array.
func (c *cursor) element() bool {
	if c.err != nil {
		return false
	}
	if c.next() == ']' {
		c.i++
		return false
	}
	return true
}

// str reads the string at the cursor. Without escapes it is a part of the input.
func (c *cursor) str() []byte {
	start := c.i
	for i := start + 1; ; i++ {
		switch c.b[i] {
		case '"':
			c.i = i + 1
			return c.b[start+1 : i]
		case '\\':
			c.i = stringEnd(c.b, start)
			text, _ := jsontext.AppendUnquote(nil, c.b[start:c.i]) // valid: no error
			return text
		}
	}
}

// literal reads the number, true, false or null at the cursor, as written.
func (c *cursor) literal() []byte {
	start := c.i
	for ; c.i < len(c.b); c.i++ {
		switch c.b[c.i] {
		case ' ', '\t', '\r', '\n', ',', ']', '}':
			return c.b[start:c.i]
		}
	}
	return c.b[start:]
}

// skip passes over the value at the cursor, however deep it is.
func (c *cursor) skip() {
	depth := 0
	for {
		switch c.next() {
		case '"':
			c.i = stringEnd(c.b, c.i)
		case '{', '[':
			depth++
			c.i++
		case '}', ']':
			depth--
			c.i++
		default:
			c.literal()
		}
		if depth == 0 {
			return
		}
	}
}

// stringEnd is the index behind the string that begins at b[i].
func stringEnd(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// fail refuses the value that begins at offset at.
func (c *cursor) fail(at int, rule string) {
	if c.err != nil {
		return
	}
	end := cursor{b: c.b, i: at}
	end.skip()
	c.err = &Error{Field: c.path(at), Value: shown(c.b[at:end.i]), Rule: rule}
}

// missing refuses the object that begins at offset at for a member it lacks.
func (c *cursor) missing(at int, name, rule string) {
	if c.err != nil {
		return
	}
	field := c.path(at)
	if field != "" {
		field += "."
	}
	c.err = &Error{Field: field + name, Rule: rule}
}

// failName refuses a member's name in the object that begins at offset at.
func (c *cursor) failName(at int, name []byte, rule string) {
	if c.err == nil {
		c.err = &Error{Field: c.path(at), Value: shown(appendText(nil, string(name))), Rule: rule}
	}
}

// path is where the value at offset at stands. It walks from the start again,
// so that reading what is in order keeps no account of its place.
func (c *cursor) path(at int) string {
	w := cursor{b: c.b}
	path := []byte(c.base)
	for {
		open := w.next()
		if w.i >= at || open != '{' && open != '[' {
			return string(path)
		}
		w.i++
		step := []byte(nil)
		for index := 0; ; index++ {
			if w.next() == '}' || w.b[w.i] == ']' {
				return string(path)
			}
			if open == '{' {
				step = append(step[:0], '.')
				step = append(step, shown(w.str())...)
				w.next()
			} else {
				step = append(strconv.AppendInt(append(step[:0], '['), int64(index), 10), ']')
			}
			start := w.i
			if w.skip(); at < w.i {
				w.i = start
				break
			}
		}
		if len(path) == 0 && step[0] == '.' {
			step = step[1:]
		}
		path = append(path, step...)
	}
}
