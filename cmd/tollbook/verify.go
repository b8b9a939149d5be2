package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/go-json-experiment/json/jsontext"

	"tollbook/eventstore"
	"tollbook/eventstore/block"
)

// verifyCmd walks the book of a directory, also while an engine runs on it; or
// it checks a proof, for which it needs no book.
type verifyCmd struct {
	Data   string `required:"" xor:"what" type:"existingdir" placeholder:"DIR" help:"Data directory."`
	Proof  string `required:"" xor:"what" type:"existingfile" placeholder:"FILE" help:"Check this proof of 'tollbook explain' or 'tollbook anchor --since' instead; needs --key."`
	Anchor string `type:"existingfile" placeholder:"FILE" help:"Compare with this anchor, saved elsewhere, instead of the directory's own: one of 'tollbook anchor', or a copy of a directory's."`
	Key    string `placeholder:"FILE|KEY" help:"Public key of whoever signed the anchor or proof; without it, the directory's, which whoever can change the book can change too."`
	format
}

// Validate is called by kong, before anything is done.
func (c *verifyCmd) Validate() error {
	switch {
	case c.Proof != "" && c.Anchor != "":
		return errors.New("--anchor goes with --data: a proof has its own")
	case c.Proof != "" && c.Key == "":
		return errors.New("--proof needs --key: the public key that serve prints, or a file with it")
	case c.Key != "" && c.Proof == "" && c.Anchor == "":
		return errors.New("--key goes with --proof or --anchor")
	}
	return nil
}

// verifyReport is what verify prints when the book is whole.
type verifyReport struct {
	Blocks   uint64 `json:"blocks"`
	Position uint64 `json:"position"`
	Bytes    uint64 `json:"bytes"`
	Head     string `json:"head"`
	Anchor   uint64 `json:"anchor"`       // the block up to which the anchor vouches
	Key      string `json:"key,omitzero"` // who signed the anchor
}

func (c *verifyCmd) Run(ctx context.Context, std Streams) error {
	if c.Proof != "" {
		return c.proof(std)
	}
	report, err := c.book(ctx, std)
	if err != nil {
		return checkFailed(eventstore.Damaged(c.Data, err))
	}
	return c.print(std, report, func(w writer) {
		signed := ""
		if report.Key != "" {
			signed = ", signed by " + report.Key
		}
		fmt.Fprintf(w, "The book is whole: %d blocks, %d events, %d bytes; every block continues the one before, every event is in the Merkle tree, and the anchor (block %d%s) is reached.\nhead %s\n",
			report.Blocks, report.Position, report.Bytes, report.Anchor, signed, report.Head)
	})
}

// book walks the book of the directory against its own anchor, or the one given.
func (c *verifyCmd) book(ctx context.Context, std Streams) (report verifyReport, err error) {
	anchorFile := c.Anchor
	var signed *eventstore.SignedAnchor
	if c.Anchor != "" {
		if signed, err = savedAnchor(c.Anchor, c.Key, c.Data); err != nil {
			return report, err
		}
		if signed != nil {
			anchorFile = ""
		}
	}
	walk, closeLog, err := openCopy(c.Data, anchorFile)
	if err != nil {
		return report, err
	}
	defer closeLog()
	walk.Leaves = true
	bar := newProgress(std, "verifying", int64(walk.Anchor.Events), "events")
	defer bar.finish()
	each := func(_ *block.Block, head eventstore.Head, size int) error {
		report.Bytes += uint64(size)
		bar.set(head.Events)
		return nil
	}
	var head eventstore.Head
	if signed != nil {
		report.Anchor, report.Key = signed.Block, signed.Key
		head, err = walk.Against(ctx, signed, each)
	} else {
		report.Anchor = walk.Anchor.Block
		head, err = walk.Run(ctx, each)
	}
	report.Blocks, report.Position, report.Head = head.Block, head.Events, head.String()
	return report, err
}

// savedAnchor reads an anchor that was kept elsewhere. A signed one is checked
// with key, a file or the key itself; "": with that of the directory. Of the
// other kind, a copy of a directory's own, nil is returned.
func savedAnchor(path, key, dir string) (*eventstore.SignedAnchor, error) {
	data, err := readBounded(path, eventstore.MaxNoteBytes)
	if err != nil {
		return nil, err
	}
	if !bytes.Contains(data, []byte("\n\n")) { // which ends the text of a note
		if key != "" {
			return nil, fmt.Errorf("%w: %s is not a signed anchor, for which --key is", eventstore.ErrUnproven, path)
		}
		return nil, nil
	}
	if key == "" {
		key = eventstore.PublicKeyPath(dir)
		if _, err := os.Stat(key); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: there is no public key in %s: give the --key that belongs to the anchor", eventstore.ErrUnproven, dir)
		}
	}
	keys, err := publicKeys(key)
	if err != nil {
		return nil, err
	}
	signed, err := keys.Open(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &signed, nil
}

// publicKeys reads keys from a file, or from the argument itself.
func publicKeys(arg string) (eventstore.PublicKeys, error) {
	text, named := arg, "--key"
	if info, err := os.Stat(arg); err == nil && info.Mode().IsRegular() {
		data, err := readBounded(arg, eventstore.MaxKeyBytes)
		if err != nil {
			return nil, err
		}
		text, named = string(data), arg
	}
	keys, err := eventstore.ParsePublicKeys(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", eventstore.ErrUnproven, named, err)
	}
	return keys, nil
}

// proofReport is what verify prints of a proof that holds.
type proofReport struct {
	Kind     string         `json:"kind"`
	Position uint64         `json:"position,omitzero"` // of the event
	Event    jsontext.Value `json:"event,omitzero"`
	Old      *shownAnchor   `json:"old,omitzero"`
	Anchor   shownAnchor    `json:"anchor"`
}

// A shownAnchor is a signed anchor in words.
type shownAnchor struct {
	Key      string `json:"key"`
	Position uint64 `json:"position"`
	Block    uint64 `json:"block"`
	Head     string `json:"head"`
	SealedAt string `json:"sealed_at"`
}

func shown(a *eventstore.SignedAnchor) shownAnchor {
	return shownAnchor{a.Key, a.Events, a.Block, a.Head.String(), a.SealedAt.String()}
}

func (a shownAnchor) String() string {
	return fmt.Sprintf("%s signed (block %d, sealed %s, %s)", a.Key, a.Block, a.SealedAt, a.Head)
}

// proof checks a proof with the public key alone.
func (c *verifyCmd) proof(std Streams) error {
	keys, err := publicKeys(c.Key)
	if err != nil {
		return checkFailed(err)
	}
	report, err := checkProof(c.Proof, keys)
	if err != nil {
		return checkFailed(fmt.Errorf("%s: %w", c.Proof, err))
	}
	return c.print(std, report, func(w writer) {
		if report.Old != nil {
			fmt.Fprintf(w, "The proof holds: the %d events that %v\nbegin with the %d events that %v.\n",
				report.Anchor.Position, report.Anchor, report.Old.Position, report.Old)
			return
		}
		fmt.Fprintf(w, "The proof holds: this is the event at position %d of the %d that %v.\n%s\n",
			report.Position, report.Anchor.Position, report.Anchor, report.Event)
	})
}

func checkProof(path string, keys eventstore.PublicKeys) (report proofReport, err error) {
	data, err := readBounded(path, eventstore.MaxProofBytes)
	if err != nil {
		return report, err
	}
	proof, err := eventstore.ParseProof(data)
	if err != nil {
		return report, err
	}
	what, err := proof.Check(keys)
	if err != nil {
		return report, err
	}
	report = proofReport{Kind: proof.Kind, Position: proof.Position, Anchor: shown(&what.Anchor)}
	if proof.Kind == eventstore.ProofConsistency {
		old := shown(&what.Old)
		report.Old = &old
	} else {
		report.Event = jsontext.Value(proof.Event)
	}
	return report, nil
}

// checkFailed makes damage, and what does not hold, exit with 3, and leaves other
// errors as they are.
func checkFailed(err error) error {
	if errors.Is(err, eventstore.ErrCorrupt) || errors.Is(err, eventstore.ErrUnproven) {
		return fmt.Errorf("%w: %w", errCheck, err)
	}
	return err
}
