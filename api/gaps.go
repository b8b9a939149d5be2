package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/micro"

	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/projections"
)

// A GapsRequest asks which numbers of a tenant's sources came and which did not.
type GapsRequest struct {
	Tenant string `json:"tenant"`
	Source string `json:"source,omitzero"` // "": all
}

// A WaiveRequest gives numbers of a source up that are all missing, with those between.
type WaiveRequest struct {
	Tenant string             `json:"tenant"`
	Source string             `json:"source"`
	From   projections.Number `json:"from"`
	To     projections.Number `json:"to"`
	Why    string             `json:"why"`
}

// WaiveDocument says where the book has the waiver.
type WaiveDocument struct {
	Position uint64 `json:"position"`
	WaiveRequest
	By string `json:"by"`
}

func (s *Service) gaps(_ context.Context, r micro.Request) (any, error) {
	var q GapsRequest
	if err := json.Unmarshal(r.Data(), &q); err != nil {
		return nil, wrong{fmt.Errorf("the request must be JSON such as {\"tenant\":\"contoso\"}: %w", err)}
	}
	if !consumers.ValidTenant(q.Tenant) {
		return nil, wrong{fmt.Errorf("tenant %.80q: must be 1 to 63 of a-z, 0-9 and -", q.Tenant)}
	}
	return s.Gaps.Document(q.Tenant, q.Source), nil
}

func (s *Service) gapsWaive(ctx context.Context, r micro.Request) (any, error) {
	var q WaiveRequest
	who, err := actor(r.Subject())
	if err == nil {
		err = json.Unmarshal(r.Data(), &q)
	}
	if err != nil {
		return nil, wrong{err}
	}
	return WaiveGap(ctx, s.Book, s.Gaps, s.Clock(), who, q)
}

// WaiveGap gives missing numbers up.
func WaiveGap(ctx context.Context, book *eventstore.Book, gaps *projections.Gaps, now domain.Instant, who string, q WaiveRequest) (WaiveDocument, error) {
	if err := q.check(); err != nil {
		return WaiveDocument{}, wrong{err}
	}
	var result eventstore.Result
	err := book.Act(ctx, func(turn *eventstore.Turn) error {
		// Nothing comes until the turn ends, so what is missing here is when it is booked.
		if err := gaps.Waivable(q.Tenant, q.Source, uint64(q.From), uint64(q.To)); err != nil {
			return wrong{err}
		}
		result = turn.Book(domain.Event{
			Tenant: q.Tenant, Source: eventstore.GapsSource, ID: q.id(), Time: now,
			Data: &domain.GapWaived{Source: q.Source, From: uint64(q.From), To: uint64(q.To), By: who, Reason: q.Why},
		})
		return nil
	})
	if err != nil {
		return WaiveDocument{}, err
	}
	return WaiveDocument{result.Position, q, who}, nil
}

// check refuses what no book would make right.
func (q *WaiveRequest) check() error {
	if !consumers.ValidTenant(q.Tenant) {
		return fmt.Errorf("tenant %.80q: must be 1 to 63 of a-z, 0-9 and -", q.Tenant)
	}
	return checkWhy(q.Why)
}

// checkWhy refuses what is no reason for a decision.
func checkWhy(why string) error {
	switch {
	case strings.TrimSpace(why) == "":
		return errors.New("why: required, as auditors will ask for it")
	case len(why) > domain.MaxReasonBytes:
		return fmt.Errorf("why: must have at most %d bytes, this one has %d", domain.MaxReasonBytes, len(why))
	case strings.ContainsFunc(why, unicode.IsControl):
		return errors.New("why: must be one line, without control characters")
	}
	return nil
}

// id is the waiver's own: a range of a source is waived once.
func (q *WaiveRequest) id() string {
	sum := sha256.Sum256([]byte(q.Source + "\x00" + strconv.FormatUint(uint64(q.From), 10) + "\x00" + strconv.FormatUint(uint64(q.To), 10)))
	return hex.EncodeToString(sum[:])
}

// Gaps are a tenant's.
func (c *Client) Gaps(ctx context.Context, q GapsRequest) (projections.GapsDocument, error) {
	var d projections.GapsDocument
	err := c.askJSON(ctx, "gaps", q, &d)
	return d, err
}

// WaiveGap gives numbers up, in the name of who.
func (c *Client) WaiveGap(ctx context.Context, who string, q WaiveRequest) (WaiveDocument, error) {
	var d WaiveDocument
	err := c.askJSON(ctx, "as."+who+".gaps.waive", q, &d)
	return d, err
}
