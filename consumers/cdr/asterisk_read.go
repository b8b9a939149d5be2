package cdr

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"tollbook/domain"
)

// Columns of Master.csv: those that are always there, and what newcdrcolumns adds.
// Between them are uniqueid (loguniqueid) and userfield (loguserfield).
var (
	masterColumns = []string{
		"accountcode", "src", "dst", "dcontext", "clid", "channel", "dstchannel", "lastapp", "lastdata",
		"start", "answer", "end", "duration", "billsec", "disposition", "amaflags",
	}
	masterNewColumns = []string{"peeraccount", "linkedid", "sequence"}
)

// masterLayouts are the columns by their number. With 17 and 20 the one in the
// middle is uniqueid or userfield.
var masterLayouts = map[int][]string{
	16: masterColumns,
	17: slices.Concat(masterColumns, []string{"uniqueid"}),
	18: slices.Concat(masterColumns, []string{"uniqueid", "userfield"}),
	19: slices.Concat(masterColumns, masterNewColumns),
	20: slices.Concat(masterColumns, []string{"uniqueid"}, masterNewColumns),
	21: slices.Concat(masterColumns, []string{"uniqueid", "userfield"}, masterNewColumns),
}

// asteriskCSVOptions are those of format asterisk.
var asteriskCSVOptions = append([]option{{name: "columns", check: checkColumns}}, asteriskOptions...)

// checkColumns checks the columns of a file of cdr_custom.
func checkColumns(value string) error {
	names := contexts(value)
	for i, name := range names {
		if !plainName(name) || name == "" {
			return errors.New("must be the names of the columns in their order, between commas, such as src,dst,channel")
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("has the column %q twice", name)
		}
	}
	for _, name := range slices.Concat(asteriskNeeded, []string{"uniqueid"}) {
		if !slices.Contains(names, name) {
			return fmt.Errorf("lacks %s, which has to be written too", name)
		}
	}
	return nil
}

// readAsterisk reads one row of Asterisk's Master.csv, with 16 to 21 columns as
// cdr.conf has them written, or of another file by the option columns. See
// [asteriskRecord] for what becomes of it.
func readAsterisk(record []byte, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	r := csv.NewReader(bytes.NewReader(record))
	r.FieldsPerRecord = -1
	row, err := r.Read()
	if errors.Is(err, io.EOF) {
		err = errors.New("the record is empty")
	}
	if err == nil {
		if _, more := r.Read(); !errors.Is(more, io.EOF) {
			err = errors.New("one record is one row, and something follows this one")
		}
	}
	if err != nil {
		return domain.Event{}, refuse(CodeSyntax, "", "", "not a row of CSV by RFC 4180: %v", err)
	}
	names := masterLayouts[len(row)]
	if list := cfg.Options["columns"]; list != "" {
		if names = contexts(list); len(names) != len(row) {
			return domain.Event{}, refuse(CodeSyntax, "", "", "the row has %s, and the switch's option columns names %d", columns(row), len(names))
		}
	} else if names == nil {
		return domain.Event{}, refuse(CodeSyntax, "", "", "the row has %s, and Master.csv has 16 to 21; of a file of cdr_custom, name the columns in the switch's option columns", columns(row))
	}
	f := make(fields, len(row))
	for i, name := range names {
		f[name] = strings.ToValidUTF8(row[i], "\uFFFD")
	}
	// Of the two columns that stand in one place, uniqueid has a form.
	if n := len(row); cfg.Options["columns"] == "" && (n == 17 || n == 20) && channelCreated(f["uniqueid"]) == 0 {
		f["userfield"] = f["uniqueid"]
		delete(f, "uniqueid")
	}
	return readAsteriskFields(f, nil, tenant, cfg)
}

// readAsteriskJSON reads one line of cdr_custom with format=json.
//
// Asterisk (22.10) writes \ before a quote and leaves a backslash alone, so that a
// name with a backslash before a quote makes a line that is no JSON. What is no JSON
// is read as Asterisk writes it: see [asteriskLine]. A line that is neither is refused.
func readAsteriskJSON(record []byte, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	f, err := asteriskObject(record)
	if err != nil {
		return domain.Event{}, refuse(CodeSyntax, "", "", "not one JSON object, nor what Asterisk writes of a text with a backslash: %v; take the call from Master.csv", err)
	}
	return readAsteriskFields(f, nil, tenant, cfg)
}

// asteriskObject are the columns of a line of cdr_custom.
func asteriskObject(record []byte) (fields, error) {
	f, err := flatAsterisk(record)
	if err != nil {
		line, ok := asteriskLine(record)
		if !ok {
			return nil, err
		}
		f = line
	}
	return f.named(columnOf)
}

// amiHeaders are the headers of a Cdr event by column. Those that are not here
// and mapped in cdr_manager.conf are named there.
var amiHeaders = map[string]string{
	"accountcode": "AccountCode", "src": "Source", "dst": "Destination", "dcontext": "DestinationContext", "clid": "CallerID",
	"channel": "Channel", "dstchannel": "DestinationChannel", "lastapp": "LastApplication", "lastdata": "LastData",
	"start": "StartTime", "answer": "AnswerTime", "end": "EndTime", "duration": "Duration", "billsec": "BillableSeconds",
	"disposition": "Disposition", "amaflags": "AMAFlags", "uniqueid": "UniqueID", "userfield": "UserField",
}

// amiColumns are the columns by header.
var amiColumns = func() map[string]string {
	m := make(map[string]string, len(amiHeaders))
	for column, header := range amiHeaders {
		m[header] = column
	}
	return m
}()

// readAsteriskAMI reads a Cdr event of Asterisk's manager: one JSON object with
// the headers as they are named. As the manager repeats nothing, it takes rows of
// Master.csv too: with 21 columns, and Sequence, LinkedID and PeerAccount mapped in
// cdr_manager.conf, they are the same events, and what was missed is made up for.
func readAsteriskAMI(record []byte, tenant string, cfg *domain.SwitchConfig) (domain.Event, error) {
	if text := bytes.TrimSpace(record); len(text) > 0 && text[0] != '{' {
		return readAsterisk(record, tenant, cfg)
	}
	f, err := flatAsterisk(record)
	if err != nil {
		return domain.Event{}, refuse(CodeSyntax, "", "", "not one JSON object: %v", err)
	}
	if event := f["Event"]; event != "Cdr" {
		return domain.Event{}, refuse(CodeField, "Event", event, "a Cdr event of Asterisk's manager is expected")
	}
	if f, err = f.named(func(header string) string {
		if column, ok := amiColumns[header]; ok {
			return column
		}
		return columnOf(header)
	}); err != nil {
		return domain.Event{}, refuse(CodeSyntax, "", "", "%v", err)
	}
	return readAsteriskFields(f, amiHeaders, tenant, cfg)
}

// columnOf is the column that a name means, whatever the case of its letters;
// other names are as they are.
func columnOf(name string) string {
	column := strings.ToLower(name)
	if column == "uniqueid" || column == "userfield" || slices.Contains(masterColumns, column) || slices.Contains(masterNewColumns, column) {
		return column
	}
	return name
}

// named are the fields by other names, of which none may come twice.
func (f fields) named(as func(name string) string) (fields, error) {
	renamed := make(fields, len(f))
	for name, text := range f {
		name = as(name)
		if _, twice := renamed[name]; twice {
			return nil, fmt.Errorf("%.40q is there twice", name)
		}
		renamed[name] = text
	}
	return renamed, nil
}

// flatAsterisk reads one JSON object, whose texts may have bytes that are no UTF-8.
func flatAsterisk(record []byte) (fields, error) {
	r := jsonWalk{jsontext.NewDecoder(bytes.NewReader(record), jsontext.AllowInvalidUTF8(true))}
	f := make(fields, 32)
	err := r.object(func(name string) error {
		if kind := r.PeekKind(); kind != jsontext.KindString && kind != jsontext.KindNumber {
			return r.SkipValue()
		}
		var text string
		err := r.text(&text)
		f[name] = text
		return err
	})
	if err == nil {
		if _, err = r.ReadToken(); err == io.EOF {
			return f, nil
		}
		err = errors.New("something follows the object")
	}
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		masked := *syntactic
		masked.JSONPointer = jsontext.Pointer(domain.MaskNumbers(string(masked.JSONPointer)))
		err = &masked
	}
	return nil, err
}

// asteriskLine reads an object as Asterisk's cdrel writes it: no blanks, and in a
// text a backslash before each quote and nothing else that is escaped. So a quote
// without one ends the text. A text that ends with a backslash would go on into the next
// name and end at its first quote, where no comma follows: such a line is not ok, and
// none is read as what it is not.
func asteriskLine(record []byte) (f fields, ok bool) {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(record), []byte("{"))
	if !ok {
		return nil, false
	}
	if rest, ok = bytes.CutSuffix(rest, []byte("}")); !ok {
		return nil, false
	}
	for f = make(fields, 32); ; {
		var name, value string
		if name, rest, ok = asteriskText(rest); !ok || name == "" {
			return nil, false
		}
		if _, twice := f[name]; twice {
			return nil, false
		}
		if rest, ok = bytes.CutPrefix(rest, []byte(":")); !ok {
			return nil, false
		}
		if value, rest, ok = asteriskText(rest); !ok {
			end := bytes.IndexByte(rest, ',')
			if end < 0 {
				end = len(rest)
			}
			if value, rest = string(rest[:end]), rest[end:]; value == "" || strings.Trim(value, "-.0123456789") != "" {
				return nil, false
			}
		}
		f[name] = value
		if len(rest) == 0 {
			return f, true
		}
		if rest, ok = bytes.CutPrefix(rest, []byte(",")); !ok {
			return nil, false
		}
	}
}

// asteriskText takes a text in quotes from the front; not ok, it takes nothing.
func asteriskText(line []byte) (text string, rest []byte, ok bool) {
	rest, ok = bytes.CutPrefix(line, []byte(`"`))
	if !ok {
		return "", line, false
	}
	var b strings.Builder
	for {
		end := bytes.IndexByte(rest, '"')
		if end < 0 {
			return "", line, false
		}
		part := rest[:end]
		rest = rest[end+1:]
		escaped := end > 0 && part[end-1] == '\\'
		if !escaped {
			b.Write(part)
			return strings.ToValidUTF8(b.String(), "\uFFFD"), rest, true
		}
		b.Write(part[:end-1])
		b.WriteByte('"')
	}
}
