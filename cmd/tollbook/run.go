package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/alecthomas/kong"
	"github.com/go-json-experiment/json"
	"golang.org/x/term"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitCheck  = 3 // a check did not hold
)

// errCheck marks that what was checked is not as it should be.
var errCheck = errors.New("check failed")

// Streams are what a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// terminal reports whether w is one: only then there are colours and progress.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// cli is the command line; each field's doc is its help.
type cli struct {
	Demo          demoCmd          `cmd:"" help:"A whole month in one go: an embedded server, real events over NATS, pools and invoices."`
	Serve         serveCmd         `cmd:"" help:"Run the engine, with an embedded NATS server or beside an existing one."`
	Publish       publishCmd       `cmd:"" help:"Publish files of events or CDRs and wait until each is booked."`
	Follow        followCmd        `cmd:"" help:"Publish what a switch writes, as it is written: files, folders, Asterisk's manager."`
	ImportDeck    importDeckCmd    `cmd:"" help:"Publish a rate deck from a CSV file."`
	Deck          deckCmd          `cmd:"" help:"Rate decks: look at one before it prices anything, stage it, activate it."`
	ImportCatalog importCatalogCmd `cmd:"" help:"Publish calling plans: the built-in catalogue, or a file."`
	Pools         poolsCmd         `cmd:"" help:"A month's shared pools of minutes."`
	Invoice       invoiceCmd       `cmd:"" help:"A month's overage invoices."`
	Close         closeCmd         `cmd:"" help:"Close a month and issue its document."`
	Documents     documentsCmd     `cmd:"" help:"The documents issued to a tenant."`
	UBL           ublCmd           `cmd:"" name:"ubl" help:"Write a closed month's invoices and credit notes as UBL 2.1 XML, for accounting software."`
	Export        exportCmd        `cmd:"" help:"Write a month as a file for other programs: csv, xlsx, pdf, parquet or json, with a manifest."`
	Exceptions    exceptionsCmd    `cmd:"" help:"Waive what needs attention before a month can close."`
	Replay        replayCmd        `cmd:"" help:"Compute a month again from the book alone."`
	AuditPack     auditPackCmd     `cmd:"" help:"Put an issued document and all it depends on into one signed file."`
	Audit         auditCmd         `cmd:"" help:"Check an audit pack and make its document again, with nothing but the file."`
	Diff          diffCmd          `cmd:"" help:"What of a month changed between two positions of the book, and which events did it."`
	Forecast      forecastCmd      `cmd:"" help:"How a month will probably end: when its pools are used up, and what overage comes to."`
	Alerts        alertsCmd        `cmd:"" help:"The last alerts: pools that ran out or will, and who was told."`
	WhatIf        whatIfCmd        `cmd:"" help:"What a month would have been with other licences, plans, decks or grant rules."`
	RightSize     rightSizeCmd     `cmd:"" help:"The cheapest licences for the calls of some months."`
	Backup        backupCmd        `cmd:"" help:"Copy the book to a directory or a file, also while an engine runs on it."`
	Restore       restoreCmd       `cmd:"" help:"Put a backup in the place of a directory's book, once all of it is checked."`
	Verify        verifyCmd        `cmd:"" help:"Walk every block of the book: numbers, hashes, events, anchor. Or check a proof."`
	Anchor        anchorCmd        `cmd:"" help:"Print the signed anchor of the book, to keep elsewhere."`
	Explain       explainCmd       `cmd:"" help:"Why: what one call costs, how calls make a line, licences a pool; and the proof that an event is booked."`
	Suspense      suspenseCmd      `cmd:"" help:"The desk for records that could not be booked."`
	Gaps          gapsCmd          `cmd:"" help:"The records that never came: numbers missing in the sequences of sources."`
	Access        accessCmd        `cmd:"" help:"Who may do what: the users of serve --auth."`
	Bench         benchCmd         `cmd:"" help:"The speed figures of docs/PERFORMANCE.md, on this machine."`
	Backtest      backtestCmd      `cmd:"" help:"How far off forecasts are, on months made up for it: the table of docs/FORECAST.md."`
	Status        statusCmd        `cmd:"" help:"How far the engine is and what came in, by tenant."`
	Health        healthCmd        `cmd:"" help:"Exit 0 if the engine on this machine answers: for containers."`
	Version       versionCmd       `cmd:"" help:"Print the version."`
}

// Run runs one command and returns its exit status.
func Run(ctx context.Context, args []string, std Streams) int {
	var commands cli
	// --help makes kong exit; exited remembers it without leaving the process.
	exited := -1
	parser, err := kong.New(&commands,
		kong.Name("tollbook"),
		kong.Description("Telephone billing that finance and auditors can believe."),
		kong.Writers(std.Out, std.Err),
		kong.Exit(func(code int) { exited = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintln(std.Err, "tollbook:", err)
		return exitFailed
	}
	command, err := parser.Parse(args)
	if exited >= 0 {
		return exited
	}
	if err != nil {
		fmt.Fprintf(std.Err, "tollbook: %v; see 'tollbook --help'\n", err)
		return exitUsage
	}
	switch err := command.Run(); {
	case err == nil:
		return exitDone
	case errors.Is(err, errCheck):
		fmt.Fprintln(std.Err, "tollbook:", err)
		return exitCheck
	default:
		fmt.Fprintln(std.Err, "tollbook:", err)
		return exitFailed
	}
}

// format is the choice between text for people and exact JSON.
type format struct {
	Format string `enum:"text,json" default:"text" help:"text or json."`
}

// print writes v as one line of JSON, or calls text.
func (f format) print(std Streams, v any, text func(w writer)) error {
	if f.Format == "json" {
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(std.Out, "%s\n", data)
		return err
	}
	text(std.Out)
	return nil
}

type versionCmd struct{}

func (versionCmd) Run(std Streams) error {
	fmt.Fprintln(std.Out, "tollbook", version())
	return nil
}

// version is the module's, or the commit the binary was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "0.0.0"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "0.1.0+" + s.Value[:12]
		}
	}
	return "0.1.0"
}
