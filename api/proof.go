package api

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go/micro"

	"tollbook/domain"
	"tollbook/domain/cloudevents"
	"tollbook/eventstore"
	"tollbook/eventstore/merkle"
	"tollbook/projections"
)

// AnchorRequest asks for the signed anchor of now.
type AnchorRequest struct {
	// Since, if not 0, is how many events an older anchor has: the answer then
	// proves that the book still begins with them.
	Since uint64 `json:"since,omitzero"`
}

// AnchorDocument is what `tollbook anchor --format json` prints.
type AnchorDocument struct {
	Anchor   string `json:"anchor"` // a signed note, of several lines
	Position uint64 `json:"position"`
	// Of a request with Since: the proof; none where the book has fewer events.
	Hashes []merkle.Hash `json:"hashes,omitzero"`
}

// NewAnchor signs what p is of, and proves since, if not 0.
func NewAnchor(p *eventstore.Prover, key *eventstore.SigningKey, since uint64) (AnchorDocument, error) {
	signed, err := key.Sign(p.Checkpoint)
	if err != nil {
		return AnchorDocument{}, wrong{err}
	}
	doc := AnchorDocument{Anchor: signed.Note, Position: signed.Events}
	if since != 0 && since <= signed.Events {
		doc.Hashes, err = p.Extend(since)
	}
	return doc, err
}

// ExplainDocument is what `tollbook explain` prints of an event.
type ExplainDocument struct {
	Position uint64         `json:"position"`
	Type     domain.Type    `json:"type"`
	Event    jsontext.Value `json:"event"` // canonical
	// Of a call, or what corrects or voids one: what the call costs and why.
	Call *projections.CallDocument `json:"call,omitzero"`
	// Of a correction or void: the event of its call; or, where that is not booked,
	// which one is missing.
	Said     jsontext.Value   `json:"call_event,omitzero"`
	Dangling *projections.Ref `json:"dangling,omitzero"`

	Block ExplainedBlock    `json:"block"`
	Leaf  string            `json:"leaf"`           // of the event in the Merkle tree
	Proof *eventstore.Proof `json:"proof,omitzero"` // none where nothing can be signed
}

// An ExplainedBlock is the block that holds the event.
type ExplainedBlock struct {
	Number   uint64 `json:"number"`
	Hash     string `json:"hash"`
	SealedAt string `json:"sealed_at"`
}

// Explain says of an event what the book has of it, with a proof that is signed;
// a nil key: without one.
func Explain(p *eventstore.Prover, place *eventstore.Place, key *eventstore.SigningKey) (ExplainDocument, error) {
	leaf, hashes, err := p.Include(place)
	if err != nil {
		return ExplainDocument{}, err
	}
	doc := ExplainDocument{
		Position: place.Position, Type: place.Event.Data.Type(), Event: cloudevents.Append(nil, &place.Event),
		Block: ExplainedBlock{place.Block, sha256Text(place.Hash), place.SealedAt.String()},
		Leaf:  sha256Text(leaf),
	}
	if key != nil {
		signed, err := key.Sign(p.Checkpoint)
		if err != nil {
			return doc, err
		}
		doc.Proof = eventstore.NewInclusion(place, hashes, signed)
	}
	return doc, nil
}

func sha256Text(h merkle.Hash) string { return "sha256:" + hex.EncodeToString(h[:]) }

// NotBooked is the error about an event that is not in the book.
func NotBooked(q ExplainRequest) error {
	return fmt.Errorf("no event of tenant %.80q, source %.200q and id %.200q is booked: compare the three with what the switch sent, and see 'tollbook suspense list'", q.Tenant, q.Source, q.ID)
}

func (s *Service) anchor(ctx context.Context, r micro.Request) (any, error) {
	var q AnchorRequest
	if len(r.Data()) > 0 {
		if err := json.Unmarshal(r.Data(), &q); err != nil {
			return nil, wrong{fmt.Errorf("the request must be empty or JSON such as {\"since\":18231}: %w", err)}
		}
	}
	return NewAnchor(s.Book.Prover(ctx), s.Key, q.Since)
}

// Anchor is the signed anchor of now, with a proof since an older one if since is
// not 0.
func (c *Client) Anchor(ctx context.Context, q AnchorRequest) (AnchorDocument, error) {
	var d AnchorDocument
	err := c.askJSON(ctx, "anchor", q, &d)
	return d, err
}
