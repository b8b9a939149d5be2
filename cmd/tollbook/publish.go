package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/errgroup"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/consumers/cdr"
	"tollbook/domain"
)

// publishCmd sends files to a running engine and returns once each record is
// booked. Sending a file again is safe: what is booked already is a duplicate.
type publishCmd struct {
	Files  []string `arg:"" name:"FILE" help:"Files: NDJSON or a JSON array; - for standard input."`
	Tenant string   `help:"Tenant of every record; without it each event names its own."`
	From   string   `default:"cloudevents" help:"cloudevents, or a CDR format such as kamailio."`
	Switch string   `help:"Which switch the CDRs are of; for cloudevents only where the user on NATS is a switch."`
	engineAddress
	format
}

// cloudEvents is the --from of files that have events already.
const cloudEvents = consumers.FormatCloudEvents

// Limits of one request: enough that an fsync is shared by many records, little
// enough that the answer comes soon and fits any NATS server's message.
const (
	requestRecords = 2000
	requestBytes   = 512 << 10
	requestsAtOnce = 4
	requestTimeout = 30 * time.Second
	attemptTimeout = 10 * time.Second
	maxRecordBytes = consumers.MaxPayload - 4096 // with room for the subject and headers
)

// publishReport is what publish prints.
type publishReport struct {
	Received  int    `json:"received"`
	Booked    int    `json:"booked"`
	Duplicate int    `json:"duplicate"`
	Suspended int    `json:"suspended"`
	Position  uint64 `json:"position"`

	answered, billableMS int64
	refusals             []string // the first few, for people
	refused              int
}

// refusalsShown is how many refusals are printed one by one.
const refusalsShown = 10

func (c *publishCmd) Run(ctx context.Context, std Streams) error {
	subject := c.subject()
	client, done, err := c.connect()
	if err != nil {
		return err
	}
	defer done()
	var total publishReport
	for _, name := range c.Files {
		if err := c.file(ctx, std, client, subject, name, &total); err != nil {
			return fmt.Errorf("%s: %w; %d records are booked, duplicate or suspended: publishing the files again is safe", name, err, total.Received)
		}
	}
	for _, refusal := range total.refusals {
		fmt.Fprintln(std.Err, "suspended:", refusal)
	}
	if more := total.refused - len(total.refusals); more > 0 {
		fmt.Fprintf(std.Err, "suspended: and %d more\n", more)
	}
	return c.print(std, total, func(w writer) {
		fmt.Fprintf(w, "%s: %s booked, %s duplicate, %s suspended; the book is at position %d\n",
			counted(int64(total.Received), "record"), grouped(int64(total.Booked)), grouped(int64(total.Duplicate)), grouped(int64(total.Suspended)), total.Position)
		if c.Switch != "" {
			fmt.Fprintf(w, "reconciliation: %s, %d.%03d s of talk; compare with the ledger of switch %s\n",
				counted(total.answered, "answered call"), total.billableMS/1000, total.billableMS%1000, c.Switch)
		}
	})
}

// Validate is called by kong, before anything is done.
func (c *publishCmd) Validate() error {
	if c.Tenant != "" && !consumers.ValidTenant(c.Tenant) {
		return fmt.Errorf("--tenant %q: must be 1 to 63 of a-z, 0-9 and -", c.Tenant)
	}
	if c.From == cloudEvents && c.Switch == "" {
		return nil
	}
	if _, ok := cdr.Lookup(c.From); !ok && c.From != cloudEvents {
		return fmt.Errorf("--from %q: must be %s or %s", c.From, cloudEvents, strings.Join(cdr.Names(), ", "))
	}
	if c.Tenant == "" || c.Switch == "" || strings.ContainsAny(c.Switch, ".*> \t") {
		return fmt.Errorf("--from %s needs --tenant and --switch (a name without dots or spaces): CDRs do not say whose they are", c.From)
	}
	return nil
}

func (c *publishCmd) subject() string {
	switch {
	case c.From != cloudEvents || c.Switch != "":
		return consumers.CDRSubject(c.Tenant, c.From, c.Switch)
	case c.Tenant == "":
		return consumers.SubjectPrefix + domain.NoTenant + ".events"
	}
	return consumers.SubjectPrefix + c.Tenant + ".events"
}

func (c *publishCmd) file(ctx context.Context, std Streams, client *api.Client, subject, name string, total *publishReport) error {
	in, size := std.In, int64(0)
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		if info, err := file.Stat(); err == nil {
			size = info.Size()
		}
		in = file
	}
	bar := newProgress(std, name, size, "B")
	defer bar.finish()

	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(requestsAtOnce)
	var mu sync.Mutex
	var sent atomic.Int64
	err := c.chunks(in, func(payload []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		group.Go(func() error {
			r, err := publishOnce(ctx, client, subject, payload)
			if err != nil {
				return err
			}
			bar.set(uint64(sent.Add(int64(len(payload)))))
			mu.Lock()
			defer mu.Unlock()
			total.add(r)
			return nil
		})
		return nil
	})
	return errors.Join(group.Wait(), ignoreCancelled(err))
}

// ignoreCancelled leaves the group's own error to speak.
func ignoreCancelled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// publishOnce sends a request until it is answered: sending it twice is safe.
func publishOnce(ctx context.Context, client *api.Client, subject string, payload []byte) (r api.Receipt, err error) {
	deadline := time.Now().Add(requestTimeout)
	for {
		once, cancel := context.WithTimeout(ctx, attemptTimeout)
		r, err = client.Publish(once, subject, payload)
		cancel()
		again := errors.Is(err, api.ErrNoEngine) || errors.Is(err, api.ErrStopping) || errors.Is(err, context.DeadlineExceeded)
		if err == nil || ctx.Err() != nil || !again || time.Now().After(deadline) {
			return r, err
		}
		select { // the engine may be stopping or starting
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (t *publishReport) add(r api.Receipt) {
	t.Received += r.Received
	t.Booked += r.Booked
	t.Duplicate += r.Duplicate
	t.Suspended += r.Suspended
	t.Position = max(t.Position, r.Position)
	t.answered += r.Answered
	t.billableMS += r.BillableMS
	for _, one := range r.Records {
		if one.Status == "suspended" {
			t.refused++
			if len(t.refusals) < refusalsShown {
				t.refusals = append(t.refusals, fmt.Sprintf("position %d: %s", one.Position, one.Detail))
			}
		}
	}
}

// chunks cuts a file into payloads of whole records, as the format has them.
func (c *publishCmd) chunks(in io.Reader, send func(payload []byte) error) error {
	framing := cdr.Objects
	format, ok := cdr.Lookup(c.From)
	if ok {
		framing = format.Framing()
	}
	switch framing {
	case cdr.Rows, cdr.Table:
		return rowChunks(bufio.NewReaderSize(in, 1<<20), framing == cdr.Table, send)
	case cdr.Whole:
		data, err := io.ReadAll(io.LimitReader(in, maxRecordBytes+1))
		if err == nil && len(data) > maxRecordBytes {
			err = fmt.Errorf("is longer than %d bytes, the most a NATS message holds", maxRecordBytes)
		}
		if err != nil {
			return err
		}
		return send(data)
	case cdr.Pages:
		return pageChunks(bufio.NewReaderSize(in, 1<<20), format, send)
	}
	return objectChunks(in, send)
}

// objectChunks cuts lines of NDJSON, or, where the file begins with [ or its
// first line is not a whole JSON value, sends all of it.
func objectChunks(in io.Reader, send func(payload []byte) error) error {
	r := bufio.NewReaderSize(in, 1<<20)
	first, err := firstByte(r)
	if err != nil {
		return err
	}
	if first == '[' {
		return arrayChunks(r, send)
	}
	return lineChunks(r, send)
}

// pageChunks sends the rows of pages together. A file that ends or breaks inside a
// page fails, naming which; the pages before it are sent.
func pageChunks(r *bufio.Reader, format cdr.Format, send func(payload []byte) error) error {
	first, err := firstByte(r)
	if err != nil {
		return err
	}
	if first == '[' {
		return arrayChunks(r, send)
	}
	var payload []byte
	rows := 0
	flush := func() error {
		if rows == 0 {
			return nil
		}
		out := payload
		payload, rows = make([]byte, 0, requestBytes+4096), 0
		return send(out)
	}
	d := jsontext.NewDecoder(r, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	for page := 1; ; page++ {
		value, err := d.ReadValue()
		if errors.Is(err, io.EOF) {
			return flush()
		}
		if err != nil {
			return errors.Join(flush(), fmt.Errorf("page %d: %w", page, err))
		}
		err = format.Split(value, func(row []byte) error {
			if len(row) > maxRecordBytes {
				return fmt.Errorf("has a row longer than %d bytes, the most a NATS message holds", maxRecordBytes)
			}
			if len(payload)+len(row) > requestBytes || rows == requestRecords {
				if err := flush(); err != nil {
					return err
				}
			}
			payload = append(append(payload, row...), '\n')
			rows++
			return nil
		})
		if err != nil {
			return fmt.Errorf("page %d: %w", page, err)
		}
	}
}

func firstByte(r *bufio.Reader) (byte, error) {
	if bom, err := r.Peek(3); err == nil && bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		_, _ = r.Discard(3)
	}
	for {
		b, err := r.ReadByte()
		if errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("is empty")
		}
		if err != nil {
			return 0, err
		}
		if !bytes.ContainsRune([]byte(" \t\r\n"), rune(b)) {
			return b, r.UnreadByte()
		}
	}
}

// lineChunks sends lines together. A line over the limit is refused here: NATS
// would not take it.
func lineChunks(r *bufio.Reader, send func([]byte) error) error {
	var payload []byte
	records, number := 0, 0
	flush := func() error {
		if records == 0 {
			return nil
		}
		out := payload
		payload, records = make([]byte, 0, requestBytes+4096), 0
		return send(out)
	}
	for {
		line, err := readLine(r)
		number++
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			if len(payload)+len(line) > requestBytes || records == requestRecords {
				if err := flush(); err != nil {
					return err
				}
			}
			payload = append(append(payload, bytes.TrimRight(line, "\r\n")...), '\n')
			records++
		}
		if err != nil {
			return flush()
		}
	}
}

// rowChunks sends rows of CSV together, below the header if there is one. A row
// ends where a line does outside quotes.
func rowChunks(r *bufio.Reader, header bool, send func([]byte) error) error {
	var head, payload []byte
	rows, number := 0, 1
	flush := func() error {
		if rows == 0 {
			return nil
		}
		out := payload
		payload, rows = append(make([]byte, 0, requestBytes+4096), head...), 0
		return send(out)
	}
	for {
		row, lines, err := readRow(r)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("line %d: %w", number, err)
		}
		number += lines
		switch {
		case len(bytes.TrimSpace(row)) == 0:
		case header && head == nil:
			head = append(bytes.TrimRight(row, "\r\n"), '\n')
			payload = append(payload, head...)
		default:
			if rows > 0 && len(payload)+len(row) > requestBytes || rows == requestRecords {
				if err := flush(); err != nil {
					return err
				}
			}
			payload = append(append(payload, bytes.TrimRight(row, "\r\n")...), '\n')
			rows++
		}
		if err != nil {
			return flush()
		}
	}
}

// readRow reads lines until the quotes are even.
func readRow(r *bufio.Reader) (row []byte, lines int, err error) {
	for {
		line, err := readLine(r)
		row = append(row, line...)
		lines++
		if len(row) > maxRecordBytes {
			return nil, lines, fmt.Errorf("a row is longer than %d bytes: a quote is not closed", maxRecordBytes)
		}
		if err != nil || bytes.Count(row, []byte{'"'})%2 == 0 {
			return row, lines, err
		}
	}
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxRecordBytes {
			return nil, fmt.Errorf("is longer than %d bytes, the most a NATS message holds: split the event (a deck can come in parts)", maxRecordBytes)
		}
		if line == nil && err == nil {
			return part, nil // valid until the next read: the caller copies it
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}
