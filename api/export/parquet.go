package export

import (
	"context"
	"fmt"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"tollbook/projections"
)

// A ParquetCall is a row of a Parquet file: a [projections.MonthCall] with its time
// as a timestamp. What does not apply to a call's class is "".
type ParquetCall struct {
	At                 time.Time `parquet:"at,timestamp(nanosecond:utc),delta"`
	Source             string    `parquet:"source,dict"`
	ID                 string    `parquet:"id"`
	User               string    `parquet:"user,dict"`
	Kind               string    `parquet:"kind,dict"`
	Called             string    `parquet:"called"`
	BillableMS         int64     `parquet:"billable_ms"`
	Amended            bool      `parquet:"amended"`
	Class              string    `parquet:"class,dict"`
	PoolCountry        string    `parquet:"pool_country,dict"`
	PoolPlan           string    `parquet:"pool_plan,dict"`
	PoolUser           string    `parquet:"pool_user,dict"`
	Bucket             string    `parquet:"bucket,dict"`
	BilledSeconds      int64     `parquet:"billed_seconds"`
	PoolSeconds        int64     `parquet:"pool_seconds"`
	OverageSeconds     int64     `parquet:"overage_seconds"`
	Deck               string    `parquet:"deck,dict"`
	DeckVersion        string    `parquet:"deck_version,dict"`
	DestinationCountry string    `parquet:"destination_country,dict"`
	Destination        string    `parquet:"destination,dict"`
	Type               string    `parquet:"type,dict"`
	Price              string    `parquet:"price,dict"`
	ConnectFee         string    `parquet:"connect_fee,dict"`
	Currency           string    `parquet:"currency,dict"`
	Exact              string    `parquet:"exact,dict"` // a fraction such as 61/480
}

// groupRows is how many rows a row group has: what is in memory at a time.
const groupRows = 100_000

// batchRows is how many rows are handed to the library at once.
const batchRows = 1000

// parquet writes the calls, in row groups. Which state of the book they are of is in
// the file's metadata, field by field as the manifest has it; the rest is beside it.
func (e *Export) parquet(ctx context.Context, w *writer) error {
	options := []parquet.WriterOption{
		parquet.CreatedBy("tollbook", Version, ""), // nothing that a later build would write otherwise
		parquet.Compression(&zstd.Codec{Level: zstd.SpeedDefault}),
		parquet.MaxRowsPerRowGroup(groupRows),
	}
	s := &e.statement
	number := ""
	if s.Number != nil {
		number = *s.Number
	}
	for _, pair := range [][2]string{
		{"version", Version}, {"tenant", s.Tenant}, {"month", s.Month}, {"status", s.Status}, {"number", number},
		{"position", fmt.Sprint(s.Position)}, {"head", s.Head}, {"document", e.manifest(nil).Document},
	} {
		options = append(options, parquet.KeyValueMetadata("tollbook."+pair[0], pair[1]))
	}
	out := parquet.NewGenericWriter[ParquetCall](w, options...)
	batch := make([]ParquetCall, 0, batchRows)
	rows, err := e.each(ctx, func(c *projections.MonthCall) error {
		at, err := time.Parse(time.RFC3339Nano, c.At)
		if err != nil {
			return err
		}
		batch = append(batch, ParquetCall{
			at, c.Source, c.ID, c.User, c.Kind, c.Called, c.BillableMS, c.Amended, c.Class, c.PoolCountry, c.PoolPlan, c.PoolUser, c.Bucket,
			c.Billed, c.Pool, c.Overage, c.Deck, c.DeckVersion, c.Country, c.Destination, c.Type, c.Price, c.ConnectFee, c.Currency, c.Exact,
		})
		if len(batch) == cap(batch) {
			_, err = out.Write(batch)
			batch = batch[:0]
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, err := out.Write(batch); err != nil {
		return err
	}
	w.wrote("calls", rows)
	return out.Close()
}
