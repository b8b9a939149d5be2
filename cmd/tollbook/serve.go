package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"tollbook/eventstore"
)

// serveCmd runs the engine until it is told to stop (SIGINT, SIGTERM) or a part
// of it fails; then it exits with 1, and starting it again carries on.
type serveCmd struct {
	Data       string        `required:"" type:"path" placeholder:"DIR" help:"Data directory; made if missing. One engine at a time may have it."`
	NATSListen string        `name:"nats-listen" default:"127.0.0.1:4222" help:"Where the embedded NATS server listens."`
	NATS       string        `name:"nats" placeholder:"URL" help:"Use this NATS server (with JetStream) instead of the embedded one."`
	NATSSync   time.Duration `name:"nats-sync" default:"0s" help:"How long a message that the embedded NATS has acknowledged may be out of reach of a power cut; 0: on disk first."`
	HTTP       string        `name:"http" default:"127.0.0.1:8080" help:"Where the page listens; empty: no page."`
}

func (c *serveCmd) Run(ctx context.Context, std Streams) error {
	log := slog.New(slog.NewTextHandler(std.Err, nil))
	loading := newProgress(std, "reading the book", 0, "events")
	engine, err := StartEngine(ctx, EngineConfig{
		Dir: c.Data, NATSListen: c.NATSListen, NATSURL: c.NATS, NATSSync: c.NATSSync, HTTPListen: c.HTTP,
		Clock: clock, Log: log, Loading: loading.set,
	})
	loading.finish()
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	head := engine.Book.Head()
	fmt.Fprintf(std.Out, "tollbook %s is ready: book %s at position %d (block %d, %s), NATS %s, page %s\n",
		version(), c.Data, head.Events, head.Block, head, engine.NATSAddress, orNone(engine.HTTPAddress))
	err = engine.Wait(ctx)
	if err == nil {
		fmt.Fprintln(std.Out, "stopping")
	}
	return errors.Join(err, engine.Stop())
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// healthCmd is for containers, whose image has no other program.
type healthCmd struct {
	HTTP string `name:"http" default:"http://127.0.0.1:8080" help:"Where the engine's page is."`
}

func (c *healthCmd) Run(ctx context.Context, std Streams) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.HTTP+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("--http %q: %w", c.HTTP, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("the engine does not answer: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the engine answers %s", response.Status)
	}
	fmt.Fprintln(std.Out, "ok")
	return nil
}

// verifyCmd walks the book of a directory, also while an engine runs on it.
type verifyCmd struct {
	Data   string `required:"" type:"existingdir" placeholder:"DIR" help:"Data directory."`
	Anchor string `type:"existingfile" placeholder:"FILE" help:"Compare with this anchor, saved elsewhere, instead of the directory's own."`
	format
}

// verifyReport is what verify prints when the book is whole.
type verifyReport struct {
	Blocks   uint64 `json:"blocks"`
	Position uint64 `json:"position"`
	Bytes    uint64 `json:"bytes"`
	Head     string `json:"head"`
	Anchor   uint64 `json:"anchor"` // the block up to which the anchor vouches
}

func (c *verifyCmd) Run(ctx context.Context, std Streams) error {
	walk, closeLog, err := openBook(ctx, c.Data, c.Anchor)
	if err != nil {
		return checkFailed(err)
	}
	defer closeLog()
	walk.Leaves = true
	report := verifyReport{Anchor: walk.Anchor.Block}
	bar := newProgress(std, "verifying", int64(walk.Anchor.Events), "events")
	head, err := walkBlocks(ctx, walk, func(size int, events uint64) {
		report.Bytes += uint64(size)
		bar.set(events)
	})
	bar.finish()
	if err != nil {
		return checkFailed(err)
	}
	report.Blocks, report.Position, report.Head = head.Block, head.Events, head.String()
	return c.print(std, report, func(w writer) {
		fmt.Fprintf(w, "The book is whole: %d blocks, %d events, %d bytes; every block continues the one before, every event is in the Merkle tree, and the anchor (block %d) is reached.\nhead %s\n",
			report.Blocks, report.Position, report.Bytes, report.Anchor, report.Head)
	})
}

// checkFailed makes damage exit with 3, and leaves other errors as they are.
func checkFailed(err error) error {
	if errors.Is(err, eventstore.ErrCorrupt) {
		return fmt.Errorf("%w: %w", errCheck, err)
	}
	return err
}
