package decks

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
)

// MaxPartBytes is the most an event of a part takes as canonical JSON. NATS
// refuses messages over 1 MiB by default, and half of it leaves room for
// headers and for senders that indent.
const MaxPartBytes = 512 << 10

// envelopeBytes is kept of MaxPartBytes for what is not rows: the envelope's
// attributes and the deck's own, each at most 128 bytes, of which every one may
// be escaped as two.
const envelopeBytes = 2 << 10

// Check refuses what would make every event of the deck refused, before the
// file is read: it makes one and has it decoded.
func (o Options) Check() error {
	o.Currency = cmp.Or(o.Currency, domain.NoCurrency)
	e := o.event(domain.MaxDeckParts, domain.MaxDeckParts, []domain.Row{
		{Prefix: "39", Country: "IT", Name: "Italy", RowType: "landline", Increment: domain.DefaultIncrement},
	})
	if over := len(e.ID) - domain.MaxIDBytes; over > 0 {
		return fmt.Errorf("deck %.150q, version %.150q: shorten them by %d bytes; both are part of the events' ids, and an id has at most %d",
			o.Deck, o.Version, over, domain.MaxIDBytes)
	}
	if _, err := cloudevents.Decode(cloudevents.Append(nil, &e), ""); err != nil {
		return fmt.Errorf("the deck's events would be refused: %w", err)
	}
	return nil
}

// Events are what publishes the sheet: tollbook.deck.published.v1, parts 1 to n
// in order, each as large as may be. They depend on the rows and the options only,
// so that publishing the same again is all duplicates.
func (s *Sheet) Events() ([]domain.Event, error) {
	var ends []int // of each part's rows
	size := 0
	for i := range s.Rows {
		n := rowBytes(&s.Rows[i])
		if size+n > MaxPartBytes-envelopeBytes {
			ends = append(ends, i)
			size = 0
		}
		size += n
	}
	ends = append(ends, len(s.Rows))
	if len(ends) > domain.MaxDeckParts {
		return nil, fmt.Errorf("the deck would come in %d parts of %d KiB; at most %d are taken", len(ends), MaxPartBytes>>10, domain.MaxDeckParts)
	}
	events := make([]domain.Event, len(ends))
	start := 0
	for i, end := range ends {
		events[i] = s.event(i+1, len(ends), s.Rows[start:end:end])
		start = end
	}
	return events, nil
}

// event is one part.
//
// Its id names the part by its place and by what it says, so that the same part
// again is the same event, and a changed one under the same version is another
// event instead of a conflict; the version then contradicts itself and shows
// as invalid until a new version is published.
func (o *Options) event(part, parts int, rows []domain.Row) domain.Event {
	deck := &domain.Deck{
		Deck: o.Deck, Version: o.Version, EffectiveFrom: o.EffectiveFrom, Currency: o.Currency,
		Part: part, Parts: parts, Rows: rows,
	}
	sum := sha256.Sum256(cloudevents.AppendData(nil, deck))
	id := fmt.Sprintf("deck/%s/%s/%d-%s", url.PathEscape(o.Deck), url.PathEscape(o.Version), part, hex.EncodeToString(sum[:8]))
	return domain.Event{Tenant: o.Tenant, Source: cmp.Or(o.Source, DefaultSource), ID: id, Time: o.Time, Data: deck}
}

// rowBytes is the most a row takes as canonical JSON, its comma included.
func rowBytes(r *domain.Row) int {
	const rest = len(`{"connect_fee":"","country":"IT","increment":"86400/86400","name":"","prefix":"","price":"","type":""},`)
	var digits [16]byte
	return rest + len(r.Prefix) + escapedBytes(r.Name) + escapedBytes(r.RowType) +
		len(r.Price.Append(digits[:0])) + len(r.ConnectFee.Append(digits[:0]))
}

// escapedBytes is the length of a text without control characters in JSON.
func escapedBytes(s string) int { return len(s) + strings.Count(s, `"`) + strings.Count(s, `\`) }
