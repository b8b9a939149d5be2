package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/eventstore/sqlite"
	"tollbook/projections"
)

type writer = io.Writer

// openBook opens the book of a directory for reading, also while an engine
// writes it. anchorPath "" is the directory's own anchor. The anchor is read
// first, so that the log has reached it whatever the engine does meanwhile.
func openBook(ctx context.Context, dir, anchorPath string) (eventstore.Walk, func(), error) {
	walk, closeLog, err := openCopy(dir, anchorPath)
	return walk, closeLog, eventstore.Damaged(dir, err)
}

// openCopy is openBook of a directory that nobody puts a backup back into.
func openCopy(dir, anchorPath string) (eventstore.Walk, func(), error) {
	if err := eventstore.CheckRestored(dir); err != nil {
		return eventstore.Walk{}, nil, err
	}
	path := eventstore.LogPath(dir)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return eventstore.Walk{}, nil, fmt.Errorf("there is no book in %s (no %s)", dir, path)
	}
	if anchorPath == "" {
		anchorPath = eventstore.AnchorPath(dir)
	}
	anchor, err := eventstore.ReadAnchor(anchorPath)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: the book has no anchor (%s); put back a copy of it", eventstore.ErrCorrupt, anchorPath)
	}
	if err != nil {
		return eventstore.Walk{}, nil, err
	}
	log, err := sqlite.OpenReadOnly(path)
	if err != nil {
		return eventstore.Walk{}, nil, err
	}
	return eventstore.Walk{Log: log, Anchor: anchor}, func() { _ = log.Close() }, nil
}

func walkBlocks(ctx context.Context, walk eventstore.Walk, each func(size int, events uint64)) (eventstore.Head, error) {
	return walk.Run(ctx, func(_ *block.Block, head eventstore.Head, size int) error {
		each(size, head.Events)
		return nil
	})
}

// checkMonth makes a closed month's document again from a directory's book alone.
func checkMonth(ctx context.Context, std Streams, dir, tenant, month string) (projections.Issue, error) {
	id, err := domain.ParseMonth(month)
	if err != nil {
		return projections.Issue{}, err
	}
	walk, closeLog, err := openBook(ctx, dir, "")
	if err != nil {
		return projections.Issue{}, err
	}
	defer closeLog()
	bar := newProgress(std, "replaying", int64(walk.Anchor.Events), "events")
	defer bar.finish()
	issue, err := projections.Check(ctx, walk, tenant, id, func(events, _ uint64) { bar.set(events) })
	return issue, eventstore.Damaged(dir, err)
}

// replayMonth computes a month from a directory's book alone, as of a position or,
// where that is given, a time.
func replayMonth(ctx context.Context, std Streams, dir, tenant, month string, at uint64, asOf string) (projections.Statement, error) {
	id, err := domain.ParseMonth(month)
	if err != nil {
		return projections.Statement{}, err
	}
	walk, closeLog, err := openBook(ctx, dir, "")
	if err != nil {
		return projections.Statement{}, err
	}
	defer closeLog()
	if asOf != "" {
		if at, err = positionAsOf(ctx, walk, asOf); err != nil {
			return projections.Statement{}, eventstore.Damaged(dir, err)
		}
	}
	bar := newProgress(std, "replaying", int64(endOr(at, walk.Anchor.Events)), "events")
	defer bar.finish()
	statement, err := projections.Replay(ctx, walk, tenant, id, at, func(events, _ uint64) { bar.set(events) })
	return statement, eventstore.Damaged(dir, err)
}
