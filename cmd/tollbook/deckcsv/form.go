package deckcsv

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// headerBytes is how much of the file the header is looked for in, and
// headerLines how many of its lines.
const (
	headerBytes = 64 << 10
	headerLines = 20
)

// separators are those that files have, and what they are called.
var separators = map[rune]string{',': "comma", ';': "semicolon", '\t': "tab", '|': "pipe"}

// foreign are files that are often taken for CSV, by their first bytes.
var foreign = map[string]string{
	"PK\x03\x04":       "an Excel workbook (.xlsx) or another archive",
	"\xd0\xcf\x11\xe0": "an Excel workbook (.xls)",
	"%PDF":             "a PDF document",
	"\x1f\x8b":         "compressed with gzip",
}

// open undoes UTF-16 and skips a byte order mark. What is neither said nor seen
// to be an encoding is told cell by cell, see charset.
func open(r io.Reader) (*bufio.Reader, *charset, error) {
	in := bufio.NewReaderSize(r, headerBytes)
	start, err := in.Peek(4)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	for magic, what := range foreign {
		if bytes.HasPrefix(start, []byte(magic)) {
			return nil, nil, fmt.Errorf("the file is %s; save it as CSV", what)
		}
	}
	utf16 := func(order unicode.Endianness, mark int) (*bufio.Reader, *charset, error) {
		_, err := in.Discard(mark)
		decoded := transform.NewReader(in, unicode.UTF16(order, unicode.IgnoreBOM).NewDecoder())
		return bufio.NewReaderSize(decoded, headerBytes), &charset{name: "UTF-16", sure: true}, err
	}
	switch {
	case bytes.HasPrefix(start, []byte("\xef\xbb\xbf")):
		_, err := in.Discard(3)
		return in, &charset{name: "UTF-8", sure: true}, err
	case bytes.HasPrefix(start, []byte("\xff\xfe")):
		return utf16(unicode.LittleEndian, 2)
	case bytes.HasPrefix(start, []byte("\xfe\xff")):
		return utf16(unicode.BigEndian, 2)
	case len(start) > 1 && start[0] != 0 && start[1] == 0:
		return utf16(unicode.LittleEndian, 0)
	case len(start) > 1 && start[0] == 0 && start[1] != 0:
		return utf16(unicode.BigEndian, 0)
	}
	return in, &charset{name: "UTF-8"}, nil
}

// A charset tells UTF-8 from Windows-1252 by the first cell that is not ASCII, and
// has all others follow it.
type charset struct {
	name string
	sure bool // the file said it, or a cell has shown it
	line int  // of that cell; 0: none
}

const windows1252 = "Windows-1252"

// text is a cell as UTF-8.
func (c *charset) text(cell string, line int) (string, error) {
	ascii := true
	for i := 0; i < len(cell) && ascii; i++ {
		ascii = cell[i] < utf8.RuneSelf
	}
	if ascii {
		return cell, nil
	}
	valid := utf8.ValidString(cell)
	if !c.sure {
		c.sure, c.line = true, line
		if !valid {
			c.name = windows1252
		}
	}
	switch {
	case c.name != windows1252 && !valid:
		return "", fmt.Errorf("must be UTF-8, as %s; save the file again as UTF-8", c.seen())
	case c.name != windows1252 && strings.ContainsRune(cell, utf8.RuneError):
		return "", errors.New("has lost a letter (U+FFFD) in an earlier conversion; save the original again as UTF-8")
	case c.name != windows1252:
		return cell, nil
	case valid:
		return "", fmt.Errorf("is UTF-8, but line %d is Windows-1252; save the file again in one of them", c.line)
	}
	var b strings.Builder
	for i := 0; i < len(cell); i++ {
		r := charmap.Windows1252.DecodeByte(cell[i])
		if r == utf8.RuneError {
			return "", fmt.Errorf("byte %#x is neither UTF-8 nor Windows-1252; save the file again as UTF-8", cell[i])
		}
		b.WriteRune(r)
	}
	return b.String(), nil
}

func (c *charset) seen() string {
	if c.line > 0 {
		return fmt.Sprintf("line %d is", c.line)
	}
	return "its byte order mark says"
}

// findHeader tells the separator and how many records are before the header: by
// whichever separator a line names most columns, at least prefix and rate. Where
// none does, the first line is the header, and is refused for what it misses.
func findHeader(in *bufio.Reader) (separator rune, before int, err error) {
	start, err := in.Peek(headerBytes)
	if err != nil && err != io.EOF {
		return 0, 0, err
	}
	most := 0
	for _, c := range ",;\t|" {
		lines := csv.NewReader(bytes.NewReader(start))
		lines.Comma, lines.FieldsPerRecord, lines.LazyQuotes = c, -1, true
		for n := range headerLines {
			record, err := lines.Read()
			if err != nil {
				break
			}
			if known := namesColumns(record); known > most {
				separator, before, most = c, n, known
			}
		}
	}
	if most > 0 {
		return separator, before, nil
	}
	header, _, _ := bytes.Cut(bytes.TrimLeft(start, "\r\n"), []byte("\n"))
	separator = ','
	for _, c := range ";\t|" {
		if bytes.Count(header, []byte(string(c))) > bytes.Count(header, []byte(string(separator))) {
			separator = c
		}
	}
	return separator, 0, nil
}

// namesColumns is how many columns a record names; 0 unless prefix and rate are
// among them.
func namesColumns(record []string) int {
	var seen [columnCount + 1]bool
	known := 0
	for _, name := range record {
		name, _ = (&charset{}).text(name, 0)
		if c, ok := columnOf(name); ok && !seen[c] {
			seen[c] = true
			known++
		}
	}
	if !seen[Prefix] || !seen[Rate] {
		return 0
	}
	return known
}
