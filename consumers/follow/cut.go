package follow

import (
	"bytes"
	"strings"

	"tollbook/consumers/cdr"
)

// Limits of a piece: many records share an fsync, and it fits any NATS server's message.
const (
	pieceRecords = 2000
	pieceBytes   = 512 << 10
)

// Limits of a row whose quotes do not close. Beyond them one quote is taken for a
// slip of the writer, and its line is a row of its own: rows after it must not wait.
const (
	openRowBytes = cdr.MaxRecordBytes
	openRowLines = 64
)

// maxHeaderBytes is the longest header of a table. CUCM's has 3 KiB.
const maxHeaderBytes = 64 << 10

// A Splitter cuts a payload into its records, as the engine will.
type Splitter func(payload []byte, each func(raw []byte) error) error

// A cutter cuts what stands in a file into pieces of whole records.
type cutter struct {
	framing cdr.Framing // Objects, Rows or Table
	split   Splitter
}

// A piece is what can be sent at once.
type piece struct {
	payload []byte // nil: nothing of it is a record
	size    int    // bytes of the file it stands for
	header  []byte // of a table: what holds from here on
	begun   bool   // the file's first row is in it or before it
	more    bool   // a row is longer than the data: it takes more to find its end
}

// next is the first piece of data, which stands in a file behind whole rows, below
// header if the file is a table; begun: the first of them is behind it. Without
// final, the last line is one that is still being written unless it has its end.
func (c cutter) next(data, header []byte, begun, final bool) piece {
	zeros := len(data) - len(bytes.TrimLeft(data, "\x00")) // where a file was truncated below its writer, or after a power cut
	p := piece{size: zeros, header: header, begun: begun}
	if data = data[zeros:]; len(data) == 0 {
		return p
	}
	var ends []int
	for at := 0; at < len(data) && len(ends) < pieceRecords; at = ends[len(ends)-1] {
		end := c.rowEnd(data[at:], final)
		if end < 0 {
			p.more = len(ends) == 0
			break
		}
		alone := c.framing == cdr.Objects && bytes.HasPrefix(bytes.TrimSpace(data[at:at+end]), []byte{'['})
		if len(ends) > 0 && (at+end > pieceBytes || alone || data[at] == 0) {
			break
		}
		if ends = append(ends, at+end); alone { // a line with an array of records
			break
		}
	}
	if len(ends) == 0 {
		return p
	}
	if row := trimRow(data[:ends[0]]); c.framing == cdr.Table && !begun && (len(row) == 0 || isHeader(row, header)) {
		p.size += ends[0]
		if p.begun = len(row) > 0; p.begun {
			p.header = bytes.Clone(row[:min(len(row), maxHeaderBytes)])
		}
		return p
	}
	p.begun = true
	// A row that opens a quote or a bracket, which the engine would close in another
	// one, must not take those after it into suspense: it goes alone.
	for n := len(ends); ; n = (n + 1) / 2 {
		payload, rows := c.payload(data, ends[:n], header)
		if n == 1 || c.count(payload) == rows {
			p.size += ends[n-1]
			if rows > 0 {
				p.payload = payload
			}
			return p
		}
	}
}

// payload are the rows that end at ends, and how many of them are records.
func (c cutter) payload(data []byte, ends []int, header []byte) (payload []byte, rows int) {
	payload = make([]byte, 0, len(header)+1+ends[len(ends)-1]+1)
	if c.framing == cdr.Table {
		payload = append(append(payload, header...), '\n')
	}
	at := 0
	for _, end := range ends {
		row := trimRow(data[at:end])
		if len(row) > 0 && (c.framing != cdr.Table || !bytes.Equal(row, header)) {
			payload = append(append(payload, row...), '\n')
			rows++
		}
		at = end
	}
	return payload, rows
}

func (c cutter) count(payload []byte) (n int) {
	if c.split(payload, func([]byte) error { n++; return nil }) != nil {
		return -1
	}
	return n
}

// rowEnd is how long the row is that data begins with; -1: its end is not there.
func (c cutter) rowEnd(data []byte, final bool) int {
	first, quotes := 0, 0
	for at, lines := 0, 1; ; lines++ {
		line := data[at:]
		n := bytes.IndexByte(line, '\n')
		if n >= 0 {
			line = line[:n+1]
		}
		at += len(line)
		if n < 0 && !final {
			return -1
		}
		if first == 0 {
			first = at
		}
		if c.framing != cdr.Objects {
			quotes += bytes.Count(line, []byte{'"'})
		}
		switch {
		case quotes%2 == 0:
			return at
		case final && at == len(data), lines == openRowLines, at > openRowBytes:
			return first
		case at == len(data):
			return -1
		}
	}
}

func trimRow(row []byte) []byte {
	row = bytes.TrimPrefix(row, []byte("\xef\xbb\xbf"))
	row = bytes.Trim(row, "\r\n")
	if len(bytes.TrimSpace(row)) == 0 {
		return nil
	}
	return row
}

// isHeader reports whether the first row of a file is its header. It is, unless a
// header held before: a file that was truncated below its writer goes on without one.
func isHeader(row, before []byte) bool {
	if before == nil || bytes.Equal(row, before) {
		return true
	}
	now, was := columns(row), columns(before)
	same := 0
	for name := range was {
		if now[name] {
			same++
		}
	}
	return same > 0 && 2*same >= len(was)
}

// columns are the names in a header, whatever separates them.
func columns(row []byte) map[string]bool {
	names := map[string]bool{}
	for _, name := range strings.FieldsFunc(string(row), func(r rune) bool { return strings.ContainsRune(",;\t|\"", r) }) {
		if name = strings.TrimSpace(name); strings.Trim(name, "0123456789.:+- ") != "" {
			names[name] = true
		}
	}
	return names
}
