package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"unicode"

	"tollbook/api"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	auditpack "tollbook/eventstore/pack"
	"tollbook/projections"
)

// auditPackCmd puts an issued document and all of the book that it depends on
// into one signed file, also while an engine runs. That is every block up to the
// one that issued it, with the records of other tenants too: any might touch the
// month, and without all of them nobody could tell that one was left out.
type auditPackCmd struct {
	Data    string `required:"" type:"existingdir" placeholder:"DIR" help:"Data directory, with the key that signs."`
	Tenant  string `required:"" help:"Tenant."`
	Month   string `required:"" placeholder:"2026-10" help:"Calendar month, closed."`
	Out     string `short:"o" required:"" type:"path" placeholder:"FILE" help:"The pack."`
	Replace bool   `help:"Replace a file that exists."`
	format
}

// Validate is called by kong, before anything is done.
func (c *auditPackCmd) Validate() error { return validMonth(c.Tenant, c.Month) }

// A packReport is what audit-pack prints.
type packReport struct {
	Path         string   `json:"path"`
	Tenant       string   `json:"tenant"`
	Month        string   `json:"month"`
	Number       string   `json:"number"`
	Position     uint64   `json:"position"`
	Digest       string   `json:"digest"`
	Blocks       uint64   `json:"blocks"`
	Events       uint64   `json:"events"`
	Bytes        int64    `json:"bytes"` // of the file
	Head         string   `json:"head"`
	Key          string   `json:"key"`
	OtherTenants []string `json:"other_tenants"` // whose records are in it as well
}

func (c *auditPackCmd) Run(ctx context.Context, std Streams) error {
	report, err := c.pack(ctx, std)
	if err != nil {
		return checkFailed(err)
	}
	return c.print(std, report, func(w writer) {
		fmt.Fprintf(w, "Document %s of %s, %s, is in %s with all it depends on: %d blocks, %d events, %d bytes.\n%s\n",
			report.Number, report.Tenant, report.Month, report.Path, report.Blocks, report.Events, report.Bytes, report.Digest)
		fmt.Fprintf(w, "Whoever got the public key by another way can check it, without this machine: tollbook audit %s --key %s\n", api.Quoted(filepath.Base(report.Path)), report.Key)
		if others := report.OtherTenants; len(others) > 0 {
			shown := strings.Join(others[:min(len(others), 5)], ", ")
			if len(others) > 5 {
				shown += fmt.Sprintf(" and %d more", len(others)-5)
			}
			fmt.Fprintln(w, newPaint(std.Out).warn(fmt.Sprintf("It holds the records of other tenants too (%s): give it to nobody who may not see those.", shown)))
		}
	})
}

func (c *auditPackCmd) pack(ctx context.Context, std Streams) (report packReport, err error) {
	if err := errors.Join(apart(c.Data, "-o", c.Out), c.free("exists")); err != nil {
		return report, err
	}
	key, err := eventstore.ReadSigningKey(c.Data)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("there is no signing key in %s, and the book's key has to sign the pack: run audit-pack on the data directory of the engine; copies of a book have no key", c.Data)
	}
	if err != nil {
		return report, err
	}
	issue, err := checkMonth(ctx, std, c.Data, c.Tenant, c.Month)
	if err != nil {
		return report, err
	}
	if err := issue.Check(); err != nil {
		return report, fmt.Errorf("%w: %w; nothing was packed: 'tollbook replay --check' shows the differences", errCheck, err)
	}
	contents := auditpack.Contents{
		Manifest: auditpack.Manifest{
			Tenant: c.Tenant, Month: c.Month, Number: issue.Number, Position: issue.Position, Version: version(), Go: runtime.Version(),
		},
		Document: issue.Document,
	}
	if contents.Program, err = ownDigest(); err != nil {
		return report, err
	}
	walk, closeLog, err := openBook(ctx, c.Data, "")
	if err != nil {
		return report, err
	}
	defer closeLog()
	// The event after the document's position is the one that issued it.
	walk.Leaves, walk.Until = true, issue.Position+1
	others := map[string]bool{}
	bar := newProgress(std, "verifying", int64(walk.Until), "events")
	end, err := walk.Run(ctx, func(b *block.Block, head eventstore.Head, _ int) error {
		bar.set(min(head.Events, walk.Until))
		for i := range b.Events {
			others[b.Events[i].Tenant] = true
		}
		return nil
	})
	bar.finish()
	if err != nil {
		return report, eventstore.Damaged(c.Data, err)
	}
	delete(others, c.Tenant)
	delete(others, domain.CatalogTenant)
	report = packReport{
		Path: c.Out, Tenant: c.Tenant, Month: c.Month, Number: issue.Number, Position: issue.Position, Digest: issue.Digest,
		Blocks: end.Block, Events: end.Events, Head: end.String(), Key: key.Public(),
		OtherTenants: append([]string{}, slices.Sorted(maps.Keys(others))...),
	}
	contents.Read, contents.Last = walk.Log.Read, end.Block
	report.Bytes, err = c.write(ctx, key, contents)
	return report, eventstore.Damaged(c.Data, err)
}

// write has the pack on disk before it gets its name. A crash leaves FILE.new,
// of no use.
func (c *auditPackCmd) write(ctx context.Context, key *eventstore.SigningKey, contents auditpack.Contents) (size int64, err error) {
	temp := c.Out + ".new"
	_ = os.Remove(temp) // of a crash; its mode would stay
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return 0, fmt.Errorf("-o: %w", err)
	}
	err = auditpack.Write(ctx, out, key, contents)
	if err == nil {
		size, err = out.Seek(0, io.SeekCurrent)
	}
	if err = errors.Join(err, out.Sync(), out.Close(), c.free("has appeared meanwhile")); err != nil {
		return 0, errors.Join(err, os.Remove(temp))
	}
	return size, errors.Join(os.Rename(temp, c.Out), syncDir(filepath.Dir(c.Out)))
}

// free refuses to replace a file unless that was asked for.
func (c *auditPackCmd) free(is string) error {
	if exists(c.Out) && !c.Replace {
		return fmt.Errorf("-o %s %s: name another file, or give --replace", c.Out, is)
	}
	return nil
}

// ownDigest is that of the file of this program.
func ownDigest() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding the program's own file, whose SHA-256 the pack names: %w", err)
	}
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("the program's own file, whose SHA-256 the pack names: %w", err)
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// auditCmd checks an audit pack, and makes its document again, with nothing but
// the file: no data directory, no engine, no network.
type auditCmd struct {
	File     string `arg:"" type:"existingfile" help:"A pack of 'tollbook audit-pack'."`
	Key      string `placeholder:"FILE|KEY" help:"Public key of whoever must have signed it, got elsewhere; without it, the pack's own, which anybody can make."`
	Anchor   string `type:"existingfile" placeholder:"FILE" help:"The pack must begin with the book of this signed anchor, saved elsewhere, too."`
	Document string `short:"o" type:"path" placeholder:"FILE" help:"Write the document here, once all of it holds."`
	format
}

// An auditReport is what audit prints of a pack that is whole.
type auditReport struct {
	checkDocument
	Blocks   uint64       `json:"blocks"`
	Events   uint64       `json:"events"`
	Bytes    uint64       `json:"bytes"` // of all blocks
	Head     string       `json:"head"`
	Key      string       `json:"key"`
	KeyGiven bool         `json:"key_given"` // false: the key is only the pack's own
	Anchor   *shownAnchor `json:"anchor,omitzero"`
	Packer   packer       `json:"packed_by"`
}

// A packer is the program that wrote a pack.
type packer struct {
	Version string `json:"version"`
	Program string `json:"program"` // sha256:… of its file
	Go      string `json:"go"`
}

func (c *auditCmd) Run(ctx context.Context, std Streams) error {
	var keys eventstore.PublicKeys
	if c.Key != "" {
		var err error
		if keys, err = publicKeys(c.Key); err != nil {
			return checkFailed(err)
		}
	}
	report, issue, err := c.audit(ctx, std, keys)
	if err != nil {
		return checkFailed(fmt.Errorf("%s: %w", c.File, err))
	}
	if report.Holds && c.Document != "" {
		if err := writeDurably(c.Document, bytes.NewReader(issue.Document)); err != nil {
			return fmt.Errorf("--document: %w", err)
		}
	}
	err = c.print(std, report, func(w writer) { printAudit(w, report, newPaint(std.Out)) })
	if problem := issue.Check(); err == nil && problem != nil {
		err = fmt.Errorf("%w: %s: %w", errCheck, c.File, problem)
	}
	return err
}

// audit checks all of a pack but whether its document holds, which the report says.
func (c *auditCmd) audit(ctx context.Context, std Streams, keys eventstore.PublicKeys) (report auditReport, issue projections.Issue, err error) {
	file, err := os.Open(c.File)
	if err != nil {
		return report, issue, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return report, issue, err
	}
	p, err := auditpack.Open(file, info.Size(), keys)
	if err != nil {
		return report, issue, err
	}
	report = auditReport{
		Blocks: p.End.Block, Events: p.End.Events, Head: p.End.String(), Key: p.Key, KeyGiven: keys != nil,
		Packer: packer{p.Version, p.Program, p.Go},
	}
	bar := newProgress(std, "auditing", int64(p.End.Events), "events")
	defer bar.finish()
	issue, err = auditBlocks(ctx, p, func(events, bytes uint64) {
		bar.set(events)
		report.Bytes = bytes
	})
	if err != nil {
		return report, issue, err
	}
	if c.Anchor != "" {
		if report.Anchor, err = c.against(ctx, p); err != nil {
			return report, issue, err
		}
	}
	report.checkDocument = checkDocument{
		Tenant: p.Tenant, Month: p.Month, Number: issue.Number, Position: issue.Position, BookedAt: issue.BookedAt, Digest: issue.Digest,
		Holds: issue.Check() == nil, Differences: issue.Differences(),
	}
	return report, issue, nil
}

// auditBlocks reads all blocks of a pack, and makes the document of its month
// again. Manifest and document have to be what the book in the pack says.
func auditBlocks(ctx context.Context, p *auditpack.Pack, progress func(events, bytes uint64)) (issue projections.Issue, err error) {
	month, err := domain.ParseMonth(p.Month)
	if err != nil {
		return issue, fmt.Errorf("%w: manifest: %w", eventstore.ErrUnproven, err)
	}
	// Twice: whether each event is in the Merkle tree, and what they make.
	walk := eventstore.Walk{Log: p, Anchor: &eventstore.Anchor{Head: p.Anchor.Head}, Leaves: true}
	_, err = walk.Run(ctx, func(*block.Block, eventstore.Head, int) error { return nil })
	if err == nil {
		issue, err = projections.Check(ctx, walk, p.Tenant, month, progress)
	}
	var reading *fs.PathError
	switch {
	case ctx.Err() != nil || errors.As(err, &reading) || errors.Is(err, eventstore.ErrCorrupt) || errors.Is(err, eventstore.ErrUnproven):
		return issue, err
	case err != nil:
		return issue, fmt.Errorf("%w: %w", eventstore.ErrUnproven, err)
	case !bytes.Equal(p.Document, issue.Document):
		return issue, fmt.Errorf("%w: document.json: is not the document that the month.closed event at position %d has", eventstore.ErrUnproven, issue.Position+1)
	}
	says := func(number string, position uint64, digest string) string {
		return fmt.Sprintf("document %s as of position %d with digest %s", number, position, digest)
	}
	if theirs, ours := says(p.Number, p.Position, p.Digest), says(issue.Number, issue.Position, issue.Digest); theirs != ours {
		return issue, fmt.Errorf("%w: manifest: it says %s, the book in the pack %s", eventstore.ErrUnproven, theirs, ours)
	}
	return issue, nil
}

// against holds the pack against an anchor that was saved elsewhere: only that
// tells a book which was written anew by who has the key.
func (c *auditCmd) against(ctx context.Context, p *auditpack.Pack) (*shownAnchor, error) {
	key := c.Key
	if key == "" {
		key = p.Key
	}
	saved, err := savedAnchor(c.Anchor, key, "")
	if err != nil {
		return nil, err
	}
	if saved.Block > p.End.Block {
		return nil, fmt.Errorf("--anchor %s is of block %d, and the pack ends with block %d: give one from before the month was closed", c.Anchor, saved.Block, p.End.Block)
	}
	walk := eventstore.Walk{Log: p, Until: saved.Events}
	if _, err := walk.Against(ctx, saved, func(*block.Block, eventstore.Head, int) error { return nil }); err != nil {
		return nil, err
	}
	anchor := shown(saved)
	return &anchor, nil
}

func printAudit(w writer, r auditReport, p paint) {
	if r.Holds {
		fmt.Fprintf(w, "The pack is whole, and what its events make is the document in it, byte for byte.\n\n")
	} else {
		fmt.Fprintf(w, "The pack is whole, but the document in it is not what its events make.\n\n")
		printDifferences(w, r.Differences, p)
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "document  %s of %s, %s, as of position %d\n", p.bold(r.Number), r.Tenant, r.Month, r.Position)
	fmt.Fprintf(w, "digest    %s\n", r.Digest)
	fmt.Fprintf(w, "book      %d blocks, %d events, %d bytes, from the first: every block continues the one before, every event is in the Merkle tree, and the signed anchor is its end\n", r.Blocks, r.Events, r.Bytes)
	fmt.Fprintf(w, "head      %s\n", r.Head)
	if r.Anchor != nil {
		fmt.Fprintf(w, "anchor    the first %d events are those that %v\n", r.Anchor.Position, r.Anchor)
	}
	fmt.Fprintf(w, "packed    by tollbook %s, %s, %s; audited by tollbook %s\n", r.Packer.Version, r.Packer.Go, r.Packer.Program, version())
	fmt.Fprintf(w, "signed    by %s\n", r.Key)
	if !r.KeyGiven {
		fmt.Fprintln(w, p.warn("That key is the pack's own, so this shows only that the pack is whole, not whose it is: compare the key with one you got elsewhere, or give that with --key."))
	}
}

// harmless is a text of a file that anybody may have made, for a terminal.
func harmless(s string) string {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Sprintf("%q", s)
	}
	return s
}
