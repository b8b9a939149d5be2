package domain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// An Image is what a ledger was at one time, but for the calls, which are so many
// that they are asked for in chunks. Nothing of it changes when the ledger does.
// A ledger made of it by [Restore] is to the rules the one it was taken of.
type Image struct {
	Terms    []Event `json:"-"` // all but calls, in the order in which they were added
	Accounts []AccountImage
}

// An AccountImage is one tenant's.
type AccountImage struct {
	Tenant                string
	Users, Sources, Kinds []string // by number
	Found                 []FoundImage
	Billed                []BilledImage
	Months                []MonthImage
}

// A FoundImage is a call that was corrected or voided, and came.
type FoundImage struct {
	Ref   Ref
	Said  Instant
	Kept  bool  // the call as it was corrected is in a month
	Month Month // Kept: in this one
	Index uint32
}

// BilledImage is what a month was issued as, or adjusted to, last.
type BilledImage struct {
	Month Month
	Lines []BilledLine
}

// A BilledLine is a line of an invoice, and of which one.
type BilledLine struct {
	Country, Plan  string
	Line           Line
	Calls, Seconds int64
}

// A MonthImage is a month's calls.
type MonthImage struct {
	Month      Month
	Start, End Instant
	Unchanged  bool     // it is what it was when it was closed
	Calls      uint32   // in chunks of ImageChunk
	Dropped    []uint32 // those that were voided, or replaced by a correction
	Texts      []byte   `json:"-"` // ids that are no UUIDs

	month *month
}

// An ImageExtra is what a call has that few have.
type ImageExtra struct {
	Index  uint32
	Said   Instant // when the call was reported, where the row has no room for it
	Source uint32  // its number, where the row has no room for it
}

// Calls of an image.
const (
	ImageChunk     = chunkSize // calls
	ImageCallBytes = 48
)

// Image takes an image of the ledger.
func (l *Ledger) Image() *Image {
	img := &Image{Terms: slices.Clip(l.terms)}
	for _, tenant := range l.Tenants() {
		a := l.accounts[tenant]
		a.resolve()
		one := AccountImage{
			Tenant: tenant, Users: slices.Clip(a.users.names), Sources: slices.Clip(a.sources.names), Kinds: slices.Clip(a.kinds.names),
		}
		for ref, am := range a.amended {
			if !am.found {
				continue
			}
			found := FoundImage{Ref: ref, Said: am.said}
			if am.month != nil {
				found.Kept, found.Month, found.Index = true, am.month.id, am.index
			}
			one.Found = append(one.Found, found)
		}
		for _, id := range slices.Sorted(maps.Keys(a.issued)) {
			billed := BilledImage{Month: id}
			for line, sum := range a.issued[id] {
				billed.Lines = append(billed.Lines, BilledLine{line.country, line.plan, line.Line, sum.calls, sum.seconds})
			}
			one.Billed = append(one.Billed, billed)
		}
		for _, id := range slices.Sorted(maps.Keys(a.months)) {
			m := a.months[id]
			one.Months = append(one.Months, MonthImage{
				Month: id, Start: m.start, End: m.end, Unchanged: m.terms == a.terms() && len(m.stale) == 0 && a.closedAt[id] == madeAt{m, m.changes},
				Calls: m.calls.n, Dropped: slices.Clip(m.dropped), Texts: slices.Clip(m.calls.texts), month: m,
			})
		}
		img.Accounts = append(img.Accounts, one)
	}
	return img
}

// AppendCalls adds a chunk's calls to dst, ImageCallBytes each, and what some of
// them have beside to extra. The ledger must not be used meanwhile; between two
// chunks it may.
func (i *MonthImage) AppendCalls(dst []byte, chunk uint32, extra []ImageExtra) ([]byte, []ImageExtra) {
	l := &i.month.calls
	little := binary.LittleEndian
	for index := chunk * ImageChunk; index < min((chunk+1)*ImageChunk, i.Calls); index++ {
		c := l.at(index)
		late := *l.late.at(index)
		dst = little.AppendUint64(dst, uint64(c.at))
		dst = append(dst, c.id[:]...)
		dst = little.AppendUint64(dst, c.number)
		dst = little.AppendUint32(dst, uint32(c.billableMS()))
		dst = little.AppendUint16(dst, c.source)
		dst = little.AppendUint16(dst, c.kind)
		dst = little.AppendUint32(dst, l.user(index))
		dst = little.AppendUint32(dst, uint32(late))
		if late == manyLate || c.source == manySources {
			extra = append(extra, ImageExtra{index, l.saids[index], l.sources[index]})
		}
	}
	return dst, extra
}

// A Restored ledger is being made of an image. Months get their texts, and their calls by
// AddCalls in the order of their chunks, then Finish; the ledger can be used after Done.
type Restored struct {
	Ledger *Ledger
	image  *Image
}

var errImage = errors.New("contradicts itself")

// Restore makes a ledger of an image, without calls.
func Restore(img *Image) (*Restored, error) {
	l := NewLedger()
	for i := range img.Accounts {
		one := &img.Accounts[i]
		a := l.account(one.Tenant)
		for _, name := range one.Sources {
			a.sources.of(name)
		}
		for _, name := range one.Kinds {
			a.kind(name)
		}
		for _, name := range one.Users {
			a.user(name)
		}
		if !slices.Equal(a.sources.names, one.Sources) || !slices.Equal(a.users.names, one.Users) || !slices.Equal(a.kinds.names, one.Kinds) {
			return nil, fmt.Errorf("%w: a name of %s has two numbers", errImage, one.Tenant)
		}
	}
	for i := range img.Terms {
		e := &img.Terms[i]
		switch data := e.Data.(type) {
		case *Call:
			return nil, fmt.Errorf("%w: a call is among the terms", errImage)
		case *MonthClosed:
			l.terms = append(l.terms, *e)
			a := l.account(e.Tenant)
			a.closed = append(a.closed, data) // what it came to is in the image
		default:
			l.Add(e)
		}
	}
	for i := range img.Accounts {
		one := &img.Accounts[i]
		a := l.account(one.Tenant)
		a.sought, a.bounds = nil, true // what has come of the corrections is in the image
		if len(a.closed) > 0 {
			a.issued, a.closedAt = map[Month]map[billedLine]cell{}, map[Month]madeAt{}
		}
		for _, billed := range one.Billed {
			if a.issued == nil {
				return nil, fmt.Errorf("%w: a month of %s was billed and none closed", errImage, one.Tenant)
			}
			lines := map[billedLine]cell{}
			for _, line := range billed.Lines {
				lines[billedLine{line.Country, line.Plan, line.Line}] = cell{line.Calls, line.Seconds}
			}
			a.issued[billed.Month] = lines
		}
		for j := range one.Months {
			image := &one.Months[j]
			m := a.newMonth(image.Month)
			if m.start != image.Start || m.end != image.End {
				return nil, fmt.Errorf("%w: month %s of %s has other bounds", errImage, image.Month, one.Tenant)
			}
			image.month, a.months[image.Month] = m, m
		}
	}
	return &Restored{l, img}, nil
}

// SetTexts is called before AddCalls.
func (i *MonthImage) SetTexts(texts []byte) { i.month.calls.texts = slices.Clip(texts) }

// AddCalls adds the next chunk of a month; fill reads its rows, and may be called
// by another goroutine, at the same time as others.
func (i *MonthImage) AddCalls(rows []byte) (fill func() error, err error) {
	l := &i.month.calls
	n := len(rows) / ImageCallBytes
	if n != int(min(ImageChunk, i.Calls-l.n)) || n*ImageCallBytes != len(rows) {
		return nil, fmt.Errorf("%w: a chunk has %d bytes", errImage, len(rows))
	}
	room := int(min(ImageChunk, i.Calls)) // a small month stays small
	calls, users, late := make([]call, n, room), make([]uint32, n, room), make([]int32, n, room)
	l.chunks, l.n = append(l.chunks, calls), l.n+uint32(n)
	l.users.chunks, l.users.n = append(l.users.chunks, users), l.n
	l.late.chunks, l.late.n = append(l.late.chunks, late), l.n
	if l.spans == nil {
		l.spans = make([]chunkSpan, 0, (int(i.Calls)+ImageChunk-1)/ImageChunk) // it never moves: others may fill in theirs
	}
	l.spans = append(l.spans, chunkSpan{i.End, i.Start, &leads{}})
	span := &l.spans[len(l.spans)-1]
	a := i.month.account
	from, to := i.Start, i.End
	return func() error {
		little := binary.LittleEndian
		for j := range calls {
			row := rows[j*ImageCallBytes:][:ImageCallBytes]
			c := &calls[j]
			c.at = Instant(little.Uint64(row))
			span.add(c.at)
			c.id = [16]byte(row[8:])
			c.number = little.Uint64(row[24:])
			c.talk = little.Uint32(row[32:])
			c.source, c.kind = little.Uint16(row[36:]), little.Uint16(row[38:])
			users[j], late[j] = little.Uint32(row[40:]), int32(little.Uint32(row[44:]))
			switch {
			case c.at < from || c.at >= to, c.talk >= 1<<28, int(users[j]) >= len(a.users.names), int(c.kind) >= len(a.families) && c.kind != manyKinds,
				c.source != manySources && int(c.source) >= len(a.sources.names):
				return fmt.Errorf("%w: a call of %s", errImage, i.Month)
			}
			if c.has(flagText) && !i.month.calls.hasText(c) {
				return fmt.Errorf("%w: an id of %s", errImage, i.Month)
			}
		}
		return nil
	}, nil
}

// Finish is called when all of the month's calls were read.
func (i *MonthImage) Finish(extra []ImageExtra) error {
	m := i.month
	l := &m.calls
	if l.n != i.Calls {
		return fmt.Errorf("%w: month %s has %d calls, not %d", errImage, i.Month, l.n, i.Calls)
	}

	for _, x := range extra {
		if x.Index >= l.n || int(x.Source) >= len(m.account.sources.names) {
			return fmt.Errorf("%w: extra of %s", errImage, i.Month)
		}
		if *l.late.at(x.Index) == manyLate {
			if l.saids == nil {
				l.saids = map[uint32]Instant{}
			}
			l.saids[x.Index] = x.Said
		}
		if l.at(x.Index).source == manySources {
			if l.sources == nil {
				l.sources = map[uint32]uint32{}
			}
			l.sources[x.Index] = x.Source
		}

	}
	for _, index := range i.Dropped {
		if index >= l.n {
			return fmt.Errorf("%w: a call that was dropped of %s", errImage, i.Month)
		}
		l.at(index).setClass(gone)
	}
	m.dropped = slices.Clip(i.Dropped)
	return nil
}

// Done ends the restoring.
func (r *Restored) Done() error {
	for i := range r.image.Accounts {
		one := &r.image.Accounts[i]
		a := r.Ledger.account(one.Tenant)
		for _, found := range one.Found {
			am := a.amended[found.Ref]
			if am == nil || am.found {
				return fmt.Errorf("%w: a correction of %s", errImage, one.Tenant)
			}
			am.found, am.said = true, found.Said
			if !found.Kept {
				continue
			}
			m := a.months[found.Month]
			if m == nil || found.Index >= m.calls.n || !m.calls.at(found.Index).has(flagAmended) {
				return fmt.Errorf("%w: a corrected call of %s", errImage, one.Tenant)
			}
			am.month, am.index = m, found.Index
		}
		for j := range one.Months {
			if image := &one.Months[j]; image.Unchanged && a.closedAt != nil {
				image.month.refresh()
				a.closedAt[image.Month] = madeAt{image.month, image.month.changes}
			}
		}
	}
	return nil
}

// hasText reports whether the text of an id is there.
func (l *calls) hasText(c *call) bool {
	offset := binary.LittleEndian.Uint64(c.id[:])
	length := uint64(c.id[8]) | uint64(c.id[9])<<8
	return offset <= uint64(len(l.texts)) && length <= uint64(len(l.texts))-offset
}
