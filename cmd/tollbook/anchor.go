package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/merkle"
)

// anchorCmd prints the signed anchor of the book as it is now: `tollbook anchor >
// FILE` keeps one. With --since it prints a proof instead, that the book still
// begins with what the older anchor was made of.
type anchorCmd struct {
	Since string `type:"existingfile" placeholder:"FILE" help:"Print the proof, as JSON, that the book begins with that of this older anchor."`
	Data  string `type:"existingdir" placeholder:"DIR" help:"Read this data directory, and sign with its key, instead of asking an engine."`
	engineAddress
	format
}

func (c *anchorCmd) Run(ctx context.Context, std Streams) error {
	var old eventstore.SignedAnchor
	if c.Since != "" {
		data, err := readBounded(c.Since, eventstore.MaxNoteBytes)
		if err != nil {
			return err
		}
		if old, err = eventstore.ReadNote(data); err != nil {
			return checkFailed(fmt.Errorf("--since %s: %w", c.Since, err))
		}
	}
	doc, err := c.anchor(ctx, std, old.Events)
	if err != nil {
		return checkFailed(err)
	}
	if c.Since == "" {
		return c.print(std, doc, func(w writer) { fmt.Fprint(w, doc.Anchor) })
	}
	anchor, err := eventstore.ReadNote([]byte(doc.Anchor))
	if err != nil {
		return checkFailed(err)
	}
	proof, err := eventstore.NewConsistency(old, anchor, doc.Hashes)
	if err != nil {
		return checkFailed(fmt.Errorf("--since %s: %w", c.Since, err))
	}
	return format{"json"}.print(std, proof, nil)
}

func (c *anchorCmd) anchor(ctx context.Context, std Streams, since uint64) (doc api.AnchorDocument, err error) {
	if c.Data == "" {
		client, done, err := c.connect()
		if err != nil {
			return doc, err
		}
		defer done()
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		return client.Anchor(ctx, api.AnchorRequest{Since: since})
	}
	key, err := signingKey(c.Data)
	if err != nil {
		return doc, err
	}
	prover, _, err := proverOf(ctx, std, c.Data, func(position uint64, _ *domain.Event) bool { return position == since })
	if err != nil {
		return doc, err
	}
	return api.NewAnchor(prover, key, since)
}

// signingKey is that of a directory that may have none.
func signingKey(dir string) (*eventstore.SigningKey, error) {
	key, err := eventstore.ReadSigningKey(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("there is no signing key in %s: 'tollbook serve' makes one, and copies of a book have none", dir)
	}
	return key, err
}

// proverOf walks the book of a directory.
func proverOf(ctx context.Context, std Streams, dir string, wanted func(uint64, *domain.Event) bool) (*eventstore.Prover, *eventstore.Place, error) {
	walk, closeLog, err := openBook(ctx, dir, "")
	if err != nil {
		return nil, nil, err
	}
	defer closeLog()
	bar := newProgress(std, "reading the book", int64(walk.Anchor.Events), "events")
	defer bar.finish()
	prover, place, err := walk.Prover(ctx, func(position uint64, e *domain.Event) bool {
		if position%merkle.ChunkLeaves == 0 {
			bar.set(position)
		}
		return wanted(position, e)
	})
	return prover, place, eventstore.Damaged(dir, err)
}

// openKey reads or makes the key that signs the book's anchors.
func (e *Engine) openKey(random io.Reader) error {
	key, made, err := eventstore.OpenSigningKey(e.config.Dir, random)
	if err != nil {
		return err
	}
	e.Key = key
	if head := e.Book.Head(); made && head.Events > 0 {
		e.config.Log.Warn("the book has events but no signing key, as after a restore (a backup does not carry it): a new one is made; what was signed before is checked with the old public key",
			"position", head.Events, "key", key.Public(), "file", eventstore.SigningKeyPath(e.config.Dir))
	}
	return nil
}

// anchorSubject is where signed anchors are published. It is not below
// tollbook., which the intake stream captures.
func (e *Engine) anchorSubject() string {
	return strings.TrimSuffix(consumers.AnchorSubjects, ">") + e.Key.Name()
}

// tellKey prints what others need to check the book.
func (e *Engine) tellKey(w io.Writer) {
	at := "none yet, as the book is empty"
	if head := e.Book.Head(); head.Events > 0 {
		at = fmt.Sprintf("of position %d", head.Events)
	}
	fmt.Fprintf(w, "public key %s; signed anchor %s; keep copies elsewhere: 'tollbook anchor', or NATS subject %s\n", e.Key.Public(), at, e.anchorSubject())
}

// anchorEvery is how often a signed anchor is published at most.
const anchorEvery = time.Second

// publishAnchors publishes the signed anchor at start, and whenever the book has
// moved on; at the end once more.
func (e *Engine) publishAnchors(ctx context.Context) error {
	ticker := time.NewTicker(anchorEvery)
	defer ticker.Stop()
	var told eventstore.Head
	for more := true; ; {
		if head := e.Book.Head(); head != told {
			told = head
			if err := e.publishAnchor(ctx); err != nil {
				e.config.Log.Warn("signed anchor not published", "position", head.Events, "error", err)
			}
		}
		if !more {
			return nil
		}
		select {
		case <-ctx.Done():
			more = false
			ctx = context.WithoutCancel(ctx)
		case <-ticker.C:
		}
	}
}

func (e *Engine) publishAnchor(ctx context.Context) error {
	signed, err := e.Key.Sign(e.Book.Prover(ctx).Checkpoint)
	if err != nil {
		return err
	}
	return e.Conn.Publish(e.anchorSubject(), []byte(signed.Note))
}
