package block

import (
	"strconv"

	"tollbook/domain"
)

// A CallRow is what rating needs of a call, its texts by their ordinals.
type CallRow struct {
	Position             uint64
	Tenant, Source, Kind uint32 // common symbols
	User                 uint32 // personal symbol
	Direction            domain.Direction
	Disposition          domain.Disposition
	ID                   domain.CallID
	Time                 domain.Instant
	AnsweredAt           domain.Instant // 0: not answered
	StartedAt            domain.Instant // 0: not said
	Called               domain.Number
	BillableMS           int64
	Sequence             domain.Sequence // where FieldSequence was asked for
}

// CallRows are the calls of a block, read for rating. They stay valid when the
// symbols grow, and may be used by another goroutine than the one that read them.
type CallRows struct {
	reader *Reader
	cols   *columns
	ids    *idColumn
}

// ratingFields are those of CallRow, but for the id.
const ratingFields = FieldTenant | FieldSource | FieldTime | FieldUser | FieldKind | FieldCalled | FieldBillable | FieldAnswered | FieldStarted

// A Ready block has its symbols, and its calls can be read by any goroutine.
type Ready struct {
	reader *Reader
	look   *lookup
}

// Ready loads the block's symbols into s as [Decode] does.
func (r *Reader) Ready(s *Symbols) (Ready, error) {
	look, err := r.lookup(s)
	return Ready{r, look}, err
}

// Duplicates are the counts of repeats, nil when there are none.
func (b Ready) Duplicates() ([]Duplicates, error) { return b.reader.duplicates(b.look) }

// CallRows reads the calls for rating, and more fields of them where CallRow has them.
func (b Ready) CallRows(more Fields) (*CallRows, error) {
	r := b.reader
	if err := r.readOrder(); err != nil {
		return nil, err
	}
	cols, err := r.columns(b.look, (ratingFields | more).with())
	if err != nil {
		return nil, err
	}
	rows := &CallRows{reader: r, cols: cols}
	if rows.ids, err = r.ids(colID, r.calls, idForms); err != nil {
		return nil, err
	}
	var lanes lanes
	for i, form := range rows.ids.form {
		if form == idDecimal {
			lane := lanes.of(cols.tenant[i], cols.source[i])
			rows.ids.numbers = append(rows.ids.numbers, follow(&lane.id, rows.ids.ints[len(rows.ids.numbers)]))
		}
	}
	return rows, nil
}

// Common is the text of a tenant, source or kind.
func (c *CallRows) Common(ordinal uint32) string { return c.cols.look.at(common, int64(ordinal)).text }

// Personal is the name of a user.
func (c *CallRows) Personal(ordinal uint32) string {
	return c.cols.look.at(personal, int64(ordinal)).text
}

// Generation is the block at which the generation of the ordinals starts.
func (c *CallRows) Generation() uint64 { return c.reader.SymbolsFrom() }

// Each calls each with the calls in the order of the book, until it returns an
// error, which Each returns. The row is used again for the next one.
func (c *CallRows) Each(each func(*CallRow) error) error {
	var row CallRow
	cols, ids := c.cols, c.ids
	n, uuids, numbers, texts := 0, 0, 0, 0
	for i, o := range c.reader.order {
		if o != orderCall {
			continue
		}
		flags := cols.flags[n]
		row.Position = c.reader.frame.First + uint64(i)
		row.Direction = domain.Direction(flags & flagInbound)
		row.Disposition = domain.Disposition(flags & flagDispositionMask >> flagDispositionShift)
		row.Tenant, row.Source = uint32(cols.tenant[n]), uint32(cols.source[n])
		row.Kind, row.User = uint32(cols.callKind[n]), uint32(cols.user[n])
		row.Time, row.BillableMS = domain.Instant(cols.time[n]), cols.billable[n]
		row.AnsweredAt, row.StartedAt = domain.Instant(cols.answered[n]), domain.Instant(cols.started[n])
		row.Sequence = domain.Sequence{}
		if cols.sequence != nil && flags&flagSequence != 0 {
			row.Sequence = domain.Sequence{N: uint64(cols.sequence[n]), Has: true}
		}
		row.ID.Text = ""
		switch ids.form[n] {
		case ids.isUUID:
			for b := range row.ID.UUID {
				row.ID.UUID[b] = ids.uuid[b*ids.uuids+uuids]
			}
			uuids++
		case ids.isInt:
			row.ID.Text = strconv.FormatUint(ids.numbers[numbers], 10)
			numbers++
		default:
			row.ID.Text = ids.texts[texts]
			texts++
		}
		if at := cols.others[n]; at >= 0 {
			row.Called = cols.look.at(personal, cols.own[n]).number
		} else {
			row.Called = cols.called[-1-at]
		}
		if err := each(&row); err != nil {
			return err
		}
		n++
	}
	return nil
}
