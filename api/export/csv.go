package export

import (
	"context"
	"strings"
	"unicode/utf8"
)

// csv writes one table by RFC 4180: CRLF after each row, quotes where a cell needs
// them, a header.
func (e *Export) csv(ctx context.Context, w *writer) error {
	var t table
	switch e.query.What {
	case Invoice:
		t = e.invoices()
	case Pools:
		t = e.pools()
	case Lines:
		t = e.lineTable("lines", true, true)
	case Calls:
		t = e.calls()
	}
	var line []byte
	if e.query.BOM {
		line = append(line, "\ufeff"...)
	}
	for i, c := range t.columns {
		line = appendField(line, i, c.name)
	}
	line = append(line, "\r\n"...)
	if _, err := w.Write(line); err != nil {
		return err
	}
	rows := int64(0)
	err := t.each(ctx, func(cells []string) error {
		rows++
		line = line[:0]
		for i, cell := range cells {
			if t.columns[i].kind == text {
				cell = Guard(cell)
			}
			line = appendField(line, i, cell)
		}
		line = append(line, "\r\n"...)
		_, err := w.Write(line)
		return err
	})
	w.wrote(t.name, rows)
	return err
}

// appendField adds a field. encoding/csv would not do: it makes CRLF of a line feed
// within a cell.
func appendField(dst []byte, i int, cell string) []byte {
	if i > 0 {
		dst = append(dst, ',')
	}
	if !strings.ContainsAny(cell, ",;\"\r\n\t") && !strings.HasPrefix(cell, " ") && !strings.HasSuffix(cell, " ") {
		return append(dst, cell...)
	}
	dst = append(dst, '"')
	for _, c := range []byte(cell) {
		if c == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// Guard makes text that others chose harmless in a spreadsheet that takes what
// begins with = + - @ for a formula: an apostrophe goes before each of these, a tab,
// a line end and an apostrophe, where it is the first thing of the text or of a part
// after one of , ; " tab and line end, as programs split there too, set to other
// countries. Spaces before it do not count. A number such as -12.50 or +390212345***
// as a whole is left as it is: it can do nothing. [Unguard] gives back exactly what
// it was.
func Guard(cell string) string {
	r, _ := utf8.DecodeRuneInString(strings.TrimLeft(cell, " "))
	if !strings.ContainsRune(formulaRunes, r) && !strings.ContainsAny(cell, splitRunes) || isNumber(cell) {
		return cell
	}
	var out strings.Builder
	first := true
	for cell != "" {
		r, n := utf8.DecodeRuneInString(cell)
		if first && strings.ContainsRune(formulaRunes, r) {
			out.WriteByte('\'')
		}
		out.WriteString(cell[:n])
		first = first && r == ' ' || strings.ContainsRune(splitRunes, r)
		cell = cell[n:]
	}
	return out.String()
}

const (
	formulaRunes = "=+-@'\t\r\n＝＋－＠"
	splitRunes   = ",;\"\t\r\n"
)

// Unguard is what Guard was given: without one apostrophe at the beginning, behind
// spaces, and so after each of , ; " tab and line end.
func Unguard(cell string) string {
	var out strings.Builder
	first := true
	for cell != "" {
		if first && cell[0] == '\'' {
			first, cell = false, cell[1:] // what it guards comes as it is
		}
		r, n := utf8.DecodeRuneInString(cell)
		out.WriteString(cell[:n])
		first = first && r == ' ' || strings.ContainsRune(splitRunes, r)
		cell = cell[n:]
	}
	return out.String()
}

// isNumber reports whether all of text is a decimal, or a telephone number, of which
// the last digits may be masked.
func isNumber(text string) bool {
	rest := strings.TrimLeft(text, "+-")
	if len(text)-len(rest) > 1 {
		return false
	}
	whole, fraction, dot := strings.Cut(rest, ".")
	if text[0] == '+' && !dot {
		whole = strings.TrimRight(whole, "*")
	}
	return digits(whole) && (!dot || digits(fraction))
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
