package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/go-json-experiment/json"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
)

// explainCmd says what the book has of one event: its content, where it is, and
// the proof that it is there.
type explainCmd struct {
	Tenant string `required:"" help:"Tenant; - is nobody's."`
	Source string `arg:"" help:"Source of the event, such as switch/mil-1."`
	ID     string `arg:"" name:"id" help:"Its id."`
	Proof  string `type:"path" placeholder:"FILE" help:"Write the proof here, for 'tollbook verify --proof'."`
	Data   string `type:"existingdir" placeholder:"DIR" help:"Read this data directory instead of asking an engine."`
	engineAddress
	format
}

// Validate is called by kong, before anything is done.
func (c *explainCmd) Validate() error {
	if c.Tenant != domain.NoTenant && !consumers.ValidTenant(c.Tenant) {
		return fmt.Errorf("--tenant %q: must be 1 to 63 of a-z, 0-9 and -", c.Tenant)
	}
	return nil
}

func (c *explainCmd) Run(ctx context.Context, std Streams) error {
	doc, err := c.explain(ctx, std)
	if err != nil {
		return checkFailed(err)
	}
	if doc.Proof != nil {
		if _, err := doc.Proof.Check(nil); err != nil {
			return checkFailed(fmt.Errorf("the proof that the engine made: %w", err))
		}
	}
	if c.Proof != "" {
		if err := c.write(doc.Proof); err != nil {
			return err
		}
	}
	return c.print(std, doc, func(w writer) { printExplained(w, doc, newPaint(std.Out)) })
}

func (c *explainCmd) explain(ctx context.Context, std Streams) (doc api.ExplainDocument, err error) {
	q := api.ExplainRequest{Tenant: c.Tenant, Source: c.Source, ID: c.ID}
	if c.Data == "" {
		client, done, err := c.connect()
		if err != nil {
			return doc, err
		}
		defer done()
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		return client.Explain(ctx, q)
	}
	// A copy of a book has no key: it is explained without a proof.
	key, err := eventstore.ReadSigningKey(c.Data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return doc, err
	}
	prover, place, err := proverOf(ctx, std, c.Data, func(_ uint64, e *domain.Event) bool {
		return e.ID == c.ID && e.Source == c.Source && e.Tenant == c.Tenant
	})
	if err != nil {
		return doc, err
	}
	if place == nil {
		return doc, api.NotBooked(q)
	}
	return api.Explain(prover, place, key)
}

func (c *explainCmd) write(proof *eventstore.Proof) error {
	if proof == nil {
		_, err := signingKey(c.Data)
		return fmt.Errorf("--proof: %w", err)
	}
	data, err := json.Marshal(proof)
	if err != nil {
		return err
	}
	if err := writeDurably(c.Proof, strings.NewReader(string(data)+"\n")); err != nil {
		return fmt.Errorf("--proof: %w", err)
	}
	return nil
}

func printExplained(w writer, doc api.ExplainDocument, p paint) {
	fmt.Fprintf(w, "%s  position %d\n\n%s\n\n", p.bold(string(doc.Type)), doc.Position, doc.Event)
	fmt.Fprintf(w, "block   %d, sealed %s, %s\n", doc.Block.Number, doc.Block.SealedAt, doc.Block.Hash)
	fmt.Fprintf(w, "leaf    %s\n", doc.Leaf)
	if doc.Proof == nil {
		fmt.Fprintln(w, "proof   none: this copy of the book has no signing key")
		return
	}
	fmt.Fprintf(w, "proof   %d hashes lead to the root of this signed anchor:\n\n%s", len(doc.Proof.Hashes), doc.Proof.Anchor)
}
