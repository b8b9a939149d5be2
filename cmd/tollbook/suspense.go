package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
	"tollbook/eventstore"
	"tollbook/eventstore/block"
	"tollbook/projections"
)

// suspenseCmd is the desk for records that could not be booked.
type suspenseCmd struct {
	List     suspenseListCmd     `cmd:"" default:"withargs" help:"Records in suspense, by tenant, reason and source, with what is at stake."`
	Show     suspenseShowCmd     `cmd:"" help:"One record: why, its bytes, and what became of it."`
	Recycle  suspenseRecycleCmd  `cmd:"" help:"Read records again, as they came or edited, and book them."`
	WriteOff suspenseWriteOffCmd `cmd:"" name:"write-off" help:"Give records up, with a reason."`
}

// suspenseChoice chooses records by what they have in common.
type suspenseChoice struct {
	Tenant string `help:"Only of this tenant; - is nobody's."`
	Reason string `placeholder:"CODE" help:"Only with this reason, such as syntax, number or conflict."`
	Source string `help:"Only from this source, such as switch/mil-1."`
	UpTo   uint64 `name:"up-to" placeholder:"POSITION" help:"Only up to this position of the book."`
}

func (c suspenseChoice) request() api.SuspenseRequest {
	return api.SuspenseRequest{Tenant: c.Tenant, Reason: c.Reason, Source: c.Source, UpTo: c.UpTo}
}

type suspenseListCmd struct {
	suspenseChoice
	After uint64 `placeholder:"POSITION" help:"Begin after this record."`
	Limit int    `default:"50" help:"How many records are listed, at most 1000."`
	Data  string `type:"existingdir" placeholder:"DIR" help:"Read this data directory instead of asking an engine."`
	engineAddress
	format
}

// Validate is called by kong, before anything is done.
func (c *suspenseListCmd) Validate() error {
	if c.Limit < 1 || c.Limit > api.MaxListed {
		return fmt.Errorf("--limit %d: must be 1 to %d; --after turns the page", c.Limit, api.MaxListed)
	}
	return nil
}

func (c *suspenseListCmd) Run(ctx context.Context, std Streams) error {
	q := c.request()
	q.After, q.Limit = c.After, c.Limit
	doc, err := atDesk(ctx, std, c.Data, c.engineAddress,
		func(ctx context.Context, desk *api.Desk) (api.SuspenseDocument, error) { return desk.List(ctx, q) },
		func(ctx context.Context, client *api.Client) (api.SuspenseDocument, error) {
			return client.Suspense(ctx, q)
		})
	if err != nil {
		return err
	}
	return c.print(std, doc, func(w writer) { printSuspense(w, doc, newPaint(std.Out), clock()) })
}

type suspenseShowCmd struct {
	Position uint64 `arg:"" help:"Position of the record, as listed."`
	Raw      bool   `help:"Print the record's bytes and nothing else, to edit them."`
	Data     string `type:"existingdir" placeholder:"DIR" help:"Read this data directory instead of asking an engine."`
	engineAddress
	format
}

func (c *suspenseShowCmd) Run(ctx context.Context, std Streams) error {
	doc, err := atDesk(ctx, std, c.Data, c.engineAddress,
		func(ctx context.Context, desk *api.Desk) (api.RecordDocument, error) {
			return desk.Show(ctx, c.Position)
		},
		func(ctx context.Context, client *api.Client) (api.RecordDocument, error) {
			return client.SuspendedRecord(ctx, c.Position)
		})
	if err != nil {
		return err
	}
	if c.Raw {
		_, err := std.Out.Write(doc.Raw)
		return err
	}
	return c.print(std, doc, func(w writer) { printRecord(w, doc, newPaint(std.Out), clock()) })
}

// atDesk asks the desk of a directory's book where one is given, else the engine's.
func atDesk[D any](ctx context.Context, std Streams, dir string, address engineAddress, offline func(context.Context, *api.Desk) (D, error), online func(context.Context, *api.Client) (D, error)) (d D, err error) {
	if dir != "" {
		desk, closeLog, err := deskOf(ctx, std, dir)
		if err != nil {
			return d, checkFailed(err)
		}
		defer closeLog()
		return offline(ctx, desk)
	}
	client, done, err := address.connect()
	if err != nil {
		return d, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return online(ctx, client)
}

// deskOf makes the desk from a directory's book.
func deskOf(ctx context.Context, std Streams, dir string) (*api.Desk, func(), error) {
	walk, closeLog, err := openBook(ctx, dir, "")
	if err != nil {
		return nil, nil, err
	}
	switches, months := consumers.NewSwitches(), projections.NewMonths()
	suspense := projections.NewSuspense(switches.Glimpse)
	bar := newProgress(std, "reading the book", int64(walk.Anchor.Events), "events")
	_, err = walk.Run(ctx, func(b *block.Block, head eventstore.Head, _ int) error {
		u := eventstore.Update{Head: head, First: b.First, Events: b.Events, Duplicates: b.Duplicates}
		for _, follow := range []eventstore.Follower{switches.Follow, months.Follow, suspense.Follow} {
			follow(u)
		}
		bar.set(head.Events)
		return nil
	})
	bar.finish()
	if err != nil {
		closeLog()
		return nil, nil, eventstore.Damaged(dir, err)
	}
	events := func(ctx context.Context, positions []uint64, each func(uint64, *domain.Event) error) error {
		return eventstore.Walk{Log: walk.Log}.Events(ctx, positions, each)
	}
	return &api.Desk{Suspense: suspense, Months: months, Events: events}, closeLog, nil
}

// resolveFlags are what recycling and writing off have in common.
type resolveFlags struct {
	Positions []uint64 `arg:"" optional:"" help:"Positions of the records, as listed. Without any, --tenant, --reason and --source choose."`
	suspenseChoice
	By  string `placeholder:"NAME" help:"Who decides; without it, the NATS user, or you on this machine."`
	Yes bool   `help:"Do it. Without it, records that are chosen by what they have in common are only tried."`
	Try bool   `name:"dry-run" help:"Only say what would become of them."`
	engineAddress
	format
}

// Validate is called by kong, before anything is done.
func (f *resolveFlags) Validate() error {
	named := f.Tenant != "" || f.Reason != "" || f.Source != ""
	switch {
	case len(f.Positions) == 0 && !named:
		return errors.New("name records by their positions, or choose them by --tenant, --reason or --source; 'tollbook suspense list' shows them")
	case len(f.Positions) > 0 && (named || f.UpTo != 0):
		return errors.New("name records by their positions or choose them by --tenant, --reason and --source, not both")
	case f.By != "" && asActor(f.By) != f.By:
		return fmt.Errorf("--by %q: must be a name of 1 to 64 letters, digits, -, _ and @", f.By)
	}
	return nil
}

// request is what to ask for. Records that are chosen by what they have in common
// are only tried, unless somebody has said yes.
func (f *resolveFlags) request(why string) api.ResolveRequest {
	q := api.ResolveRequest{Positions: f.Positions, Why: why, DryRun: f.Try}
	if len(f.Positions) == 0 {
		of := f.suspenseChoice.request()
		q.Of = &of
		q.DryRun = !f.Yes || f.Try
	}
	return q
}

func (f *resolveFlags) run(ctx context.Context, std Streams, q api.ResolveRequest, command string, ask func(context.Context, *api.Client, string) (api.ResolveDocument, error)) error {
	client, done, err := f.connect()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, 10*askTimeout)
	defer cancel()
	doc, err := ask(ctx, client, f.who(f.By))
	if err != nil {
		return err
	}
	again, all := "", total(doc.Counts)
	if doc.DryRun && !f.Try && int64(doc.Counts[consumers.OutcomeRefused]) < all {
		again = "nothing was done; to do it: tollbook suspense " + command + f.again(q.Why, doc.UpTo)
	}
	if err := f.print(std, doc, func(w writer) { printResolved(w, doc, again, newPaint(std.Out)) }); err != nil {
		return err
	}
	if refused := doc.Counts[consumers.OutcomeRefused]; refused > 0 && !doc.DryRun {
		return fmt.Errorf("%d of %s refused", refused, counted(all, "record"))
	}
	return nil
}

// again are the flags that do what was tried: to the same records and no later ones.
func (f *resolveFlags) again(why string, upTo uint64) string {
	// What came from the environment is there the next time, too; a password stays out of it.
	given := func(value, env string) string {
		if value == os.Getenv(env) {
			return ""
		}
		return value
	}
	address := given(f.NATS, "TOLLBOOK_NATS")
	if address == nats.DefaultURL {
		address = ""
	}
	var flags strings.Builder
	for _, flag := range [][2]string{
		{"tenant", f.Tenant}, {"reason", f.Reason}, {"source", f.Source}, {"why", why}, {"by", f.By}, {"nats", address},
		{"nats-user", given(f.User, "TOLLBOOK_NATS_USER")}, {"nkey", given(f.NKey, "TOLLBOOK_NKEY")}, {"nats-ca", given(f.CA, "TOLLBOOK_NATS_CA")},
	} {
		if flag[1] != "" {
			// With =, as a value may begin with a hyphen: nobody's tenant is one.
			fmt.Fprintf(&flags, " --%s=%s", flag[0], api.Quoted(flag[1]))
		}
	}
	fmt.Fprintf(&flags, " --up-to=%d --yes", upTo)
	return flags.String()
}

// who acts: the name given, the NATS user's, or that of the user of this machine.
func (a engineAddress) who(by string) string {
	if by == "" {
		by = a.User
	}
	if by == "" {
		if u, err := user.Current(); err == nil {
			by = u.Username
		}
	}
	return asActor(by)
}

// asActor is a name as the subjects of the service take it.
func asActor(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("-_@", r)) {
			return r
		}
		return '_'
	}, name)
	return name[:min(len(name), 64)]
}

func total(counts map[string]int) (n int64) {
	for _, count := range counts {
		n += int64(count)
	}
	return n
}

type suspenseRecycleCmd struct {
	resolveFlags
	Edited  string `type:"existingfile" placeholder:"FILE" help:"Read this instead of the record; one record only."`
	Subject string `placeholder:"SUBJECT" help:"Read it as if it had come in here, such as tollbook.contoso.call.completed; one record only."`
	Why     string `placeholder:"TEXT" help:"Why, kept in the book."`
}

// Validate is called by kong, before anything is done.
func (c *suspenseRecycleCmd) Validate() error {
	if (c.Edited != "" || c.Subject != "") && len(c.Positions) != 1 {
		return errors.New("--edited and --subject are for one record: name it by its position")
	}
	return c.resolveFlags.Validate()
}

func (c *suspenseRecycleCmd) Run(ctx context.Context, std Streams) (err error) {
	q := c.resolveFlags.request(c.Why)
	q.Subject = c.Subject
	if c.Edited != "" {
		if q.Edited, err = readBounded(c.Edited, consumers.MaxPayload/2); err != nil {
			return err
		}
	}
	return c.run(ctx, std, q, "recycle", func(ctx context.Context, client *api.Client, who string) (api.ResolveDocument, error) {
		return client.Recycle(ctx, who, q)
	})
}

type suspenseWriteOffCmd struct {
	resolveFlags
	Why string `required:"" placeholder:"TEXT" help:"Why, kept in the book."`
}

func (c *suspenseWriteOffCmd) Run(ctx context.Context, std Streams) error {
	q := c.resolveFlags.request(c.Why)
	return c.run(ctx, std, q, "write-off", func(ctx context.Context, client *api.Client, who string) (api.ResolveDocument, error) {
		return client.WriteOff(ctx, who, q)
	})
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: has more than %d bytes", path, limit)
	}
	return data, err
}

// age is how long ago something was, roughly.
func age(since string, now domain.Instant) string {
	then, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return since
	}
	switch d := now.Time().Sub(then); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

func stakes(list []api.AtStake, records int) string {
	var parts []string
	estimated := 0
	for _, a := range list {
		parts = append(parts, a.Amount+" "+string(a.Currency))
		estimated += a.Records
	}
	if estimated < records {
		parts = append(parts, fmt.Sprintf("%d unknown", records-estimated))
	}
	return strings.Join(parts, ", ")
}

func printSuspense(w writer, doc api.SuspenseDocument, p paint, now domain.Instant) {
	if len(doc.Groups) == 0 {
		fmt.Fprintf(w, "Nothing is in suspense (position %d).\n", doc.Position)
		return
	}
	groups := newTable("tenant", "reason", "source", ">records", "oldest", "at stake, if all is overage")
	for _, g := range doc.Groups {
		groups.row(nil, g.Tenant, g.Reason, g.Source, fmt.Sprint(g.Records), age(g.Oldest, now), stakes(g.AtStake, g.Records))
	}
	groups.print(w, p)
	fmt.Fprintln(w)
	for _, r := range doc.Records {
		fmt.Fprintf(w, "%s  %s, %s, %s, %d bytes, %s ago", p.bold(fmt.Sprint(r.Position)), r.Tenant, r.Reason, r.Subject, r.Bytes, age(r.SuspendedAt, now))
		if r.AtStake != nil {
			fmt.Fprintf(w, ", %s %s", r.AtStake.Amount, r.AtStake.Currency)
		}
		fmt.Fprintf(w, "\n    %s\n", r.Detail)
	}
	if doc.Next != 0 {
		fmt.Fprintf(w, "More: --after %d\n", doc.Next)
	}
}

func printRecord(w writer, doc api.RecordDocument, p paint, now domain.Instant) {
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-12s %s\n", name, value)
		}
	}
	row("position", p.bold(fmt.Sprint(doc.Position)))
	row("tenant", doc.Tenant)
	row("reason", doc.Reason)
	row("detail", doc.Detail)
	row("subject", doc.Subject)
	row("suspended", doc.SuspendedAt+" ("+age(doc.SuspendedAt, now)+" ago)")
	row("source", doc.Source)
	row("id", doc.ID)
	row("called", doc.Called)
	if doc.BillableMS > 0 {
		row("talk", fmt.Sprintf("%d.%03d s", doc.BillableMS/1000, doc.BillableMS%1000))
	}
	if doc.AtStake != nil {
		row("at stake", doc.AtStake.Amount+" "+string(doc.AtStake.Currency)+", if all is overage")
	}
	row("resolution", doc.Resolution)
	row("by", doc.By)
	row("why", doc.Why)
	row("at", doc.ResolvedAt)
	if doc.Became != nil {
		row("became", doc.Became.Tenant+" "+doc.Became.Source+" "+doc.Became.ID)
	}
	fmt.Fprintf(w, "\n%s\n", readable(doc.Raw))
	if doc.Edited != nil {
		fmt.Fprintf(w, "\nas edited:\n\n%s\n", readable(doc.Edited))
	}
}

// readable is bytes as they are, or quoted where a terminal should not have them.
func readable(raw []byte) string {
	strange := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' }
	if !utf8.Valid(raw) || strings.ContainsFunc(string(raw), strange) {
		return fmt.Sprintf("%q", raw)
	}
	return strings.TrimRight(string(raw), "\r\n")
}

// maxOutcomesShown is how many records are told of one by one.
const maxOutcomesShown = 20

func printResolved(w writer, doc api.ResolveDocument, again string, p paint) {
	if len(doc.Outcomes) == 0 {
		fmt.Fprintln(w, "No record in suspense is like that; 'tollbook suspense list' shows them.")
		return
	}
	would := ""
	if doc.DryRun {
		would = "would be "
	}
	said := func(status string) string { return would + strings.ReplaceAll(status, "-", " ") }
	for i, o := range doc.Outcomes {
		if i == maxOutcomesShown {
			fmt.Fprintf(w, "… and %d more; --format json lists up to 1000\n", total(doc.Counts)-int64(i))
			break
		}
		line := fmt.Sprintf("%d  %s", o.Position, said(o.Status))
		switch {
		case o.Status == consumers.OutcomeRefused:
			line = p.warn(line) + fmt.Sprintf(" (%s): %s", o.Reason, o.Detail)
		case o.BookedAt != 0:
			line += fmt.Sprintf(" at position %d: %s %s %s", o.BookedAt, o.Tenant, o.Source, o.ID)
		case o.ID != "":
			line += fmt.Sprintf(": %s %s %s", o.Tenant, o.Source, o.ID)
		}
		fmt.Fprintln(w, line)
	}
	var parts []string
	for _, status := range []string{consumers.OutcomeBooked, consumers.OutcomeDuplicate, consumers.OutcomeWrittenOff, consumers.OutcomeRefused} {
		if n := doc.Counts[status]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, said(status)))
		}
	}
	fmt.Fprintf(w, "%s: %s\n", counted(total(doc.Counts), "record"), strings.Join(parts, ", "))
	if again != "" {
		fmt.Fprintln(w, again)
	}
}
