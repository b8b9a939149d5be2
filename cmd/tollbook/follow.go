package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"tollbook/api"
	"tollbook/consumers/cdr"
	"tollbook/consumers/follow"
	"tollbook/domain/cloudevents"
)

// followCmd publishes what a switch writes, as it is written. Its position is saved
// once the engine has answered, so that a restart goes on where it was; what a crash
// repeats is a duplicate.
type followCmd struct {
	Paths  []string `arg:"" optional:"" name:"PATH" help:"Files that grow, and folders of files that come whole (or grow too, with --grow)."`
	From   string   `default:"cloudevents" help:"A CDR format such as kamailio; cloudevents; or asterisk-ami, which needs --ami instead of files."`
	Tenant string   `required:"" help:"Tenant of every record."`
	Switch string   `required:"" help:"Which switch the records are of."`
	State  string   `type:"path" placeholder:"FILE" help:"Where the position is kept; without it, in the user's state directory (STATE_DIRECTORY under systemd), by tenant, format and switch."`
	Once   bool     `help:"Read to the end and leave: for cron."`

	Pattern []string      `placeholder:"'*.csv'" help:"Which files of a folder; may be given several times. Without it, all but hidden and temporary ones."`
	Grow    bool          `help:"The files in the folders grow, such as Asterisk's one CSV for each account."`
	MoveTo  string        `type:"path" placeholder:"DIR" help:"Move files of a folder here once they are booked."`
	Settle  time.Duration `default:"2s" help:"How long a file of a folder, or a last line of a rotated file, must stay unchanged to count as whole."`
	Poll    time.Duration `default:"1s" help:"How often files are looked at where changes are not announced, as on network file systems."`

	AMI        string `name:"ami" placeholder:"HOST:PORT" help:"Asterisk's manager, with --from asterisk-ami."`
	AMIUser    string `name:"user" placeholder:"NAME" help:"User of manager.conf, with read = cdr."`
	SecretFile string `type:"path" placeholder:"FILE" help:"File with its secret."`
	AMITLS     bool   `name:"ami-tls" help:"Connect to the manager over TLS."`
	AMICA      string `name:"ami-ca" type:"path" placeholder:"FILE" help:"PEM certificates to know the manager by, instead of the system's."`

	Search time.Duration `default:"10s" hidden:"" help:"How long a file that was rotated away is looked for."`
	Ping   time.Duration `default:"10s" hidden:"" help:"How often the manager is asked whether it lives."`
	engineAddress
	format
}

// fromAMI is the --from that is a connection and no files.
const fromAMI = "asterisk-ami"

// Limits of times that are given.
const (
	shortestPoll  = 10 * time.Millisecond
	longestPoll   = time.Hour
	maxSecretSize = 4096
)

// Until a try that failed is repeated: then twice as long each time.
const (
	followRetry     = 100 * time.Millisecond
	followRetryMost = 5 * time.Second
	followLast      = 5 * time.Second // how long a stop waits for what came from a manager
)

// Validate is called by kong, before anything is done.
func (c *followCmd) Validate() error {
	if err := (&publishCmd{Tenant: c.Tenant, From: c.From, Switch: c.Switch}).Validate(); err != nil {
		return err
	}
	format, _ := cdr.Lookup(c.From)
	ami, objects := c.AMI != "", format.Framing() == cdr.Objects
	switch {
	case ami && len(c.Paths) > 0:
		return errors.New("--ami goes without files")
	case ami && !objects:
		return fmt.Errorf("--from %s: the manager's events are JSON here: give %s, or json with a mapping of your own", c.From, fromAMI)
	case !ami && c.From == fromAMI && len(c.Paths) == 0:
		return fmt.Errorf("--from %s needs --ami HOST:PORT", fromAMI)
	case ami && (c.AMIUser == "" || c.SecretFile == ""):
		return errors.New("--ami needs --user and --secret-file")
	case ami && strings.ContainsAny(c.AMIUser, "\r\n"):
		return errors.New("--user: must be one line")
	case ami && c.Once:
		return errors.New("--once goes with files: a manager has no end")
	case !ami && (c.AMIUser != "" || c.SecretFile != "" || c.AMITLS || c.AMICA != ""):
		return errors.New("--user, --secret-file, --ami-tls and --ami-ca need --ami")
	case !ami && len(c.Paths) == 0:
		return errors.New("give the files or folders to follow")
	}
	for name, d := range map[string]time.Duration{"--poll": c.Poll, "--ping": c.Ping} {
		if d < shortestPoll || d > longestPoll {
			return fmt.Errorf("%s %v: must be %v to %v", name, d, shortestPoll, longestPoll)
		}
	}
	for name, d := range map[string]time.Duration{"--settle": c.Settle, "--search": c.Search} {
		if d < 0 || d > longestPoll {
			return fmt.Errorf("%s %v: must be 0 to %v", name, d, longestPoll)
		}
	}
	if ami {
		if _, _, err := net.SplitHostPort(c.AMI); err != nil {
			return fmt.Errorf("--ami %q: must be HOST:PORT, such as 127.0.0.1:5038", c.AMI)
		}
	}
	return nil
}

func (c *followCmd) Run(ctx context.Context, std Streams) error {
	log := slog.New(slog.NewTextHandler(std.Err, nil))
	statePath, err := c.state()
	if err != nil {
		return err
	}
	publish := &publishCmd{Tenant: c.Tenant, From: c.From, Switch: c.Switch}
	s := &sender{c: c, subject: publish.subject(), log: log}
	defer s.close()
	of := fmt.Sprintf("tenant %s, format %s, switch %s", c.Tenant, c.From, c.Switch)
	if c.AMI != "" {
		err = c.manager(ctx, s, of, statePath, log)
	} else {
		err = c.files(ctx, s, publish, of, statePath, log)
	}
	if err != nil && s.total.Received == 0 {
		return err
	}
	printed := c.print(std, s.total, func(w writer) {
		fmt.Fprintf(w, "%s: %s booked, %s duplicate, %s suspended; the book is at position %d\n", counted(int64(s.total.Received), "record"),
			grouped(int64(s.total.Booked)), grouped(int64(s.total.Duplicate)), grouped(int64(s.total.Suspended)), s.total.Position)
	})
	return errors.Join(err, printed)
}

func (c *followCmd) files(ctx context.Context, s *sender, publish *publishCmd, of, statePath string, log *slog.Logger) error {
	config := &follow.Config{
		Of: of, Framing: cdr.Objects, Split: cloudevents.Split, Chunks: publish.chunks, Send: s.send, MaxRecord: maxRecordBytes,
		Patterns: c.Pattern, Grow: c.Grow, MoveTo: c.MoveTo, State: statePath,
		Settle: c.Settle, Poll: c.Poll, Search: c.Search, Once: c.Once, Clock: time.Now, Log: log,
	}
	if format, ok := cdr.Lookup(c.From); ok {
		config.Framing, config.Split = format.Framing(), format.Split
	}
	if c.Once {
		s.most = requestTimeout
	}
	for _, path := range c.Paths {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		list := &config.Files
		if info, err := os.Stat(absolute); err == nil && info.IsDir() || strings.HasSuffix(path, string(filepath.Separator)) {
			list = &config.Folders
		}
		if !slices.Contains(*list, absolute) {
			*list = append(*list, absolute)
		}
	}
	f, err := follow.Open(config)
	if err != nil {
		return err
	}
	err = f.Run(ctx)
	if err == nil && c.Once && config.LeftOut > 0 {
		err = fmt.Errorf("%s could not be sent: see above", counted(int64(config.LeftOut), "line or file"))
	}
	return errors.Join(err, f.Close())
}

func (c *followCmd) manager(ctx context.Context, s *sender, of, statePath string, log *slog.Logger) error {
	secret, err := readSecret(c.SecretFile)
	if err != nil {
		return err
	}
	ami := &follow.AMI{
		Address: c.AMI, User: c.AMIUser, Secret: secret, Of: of, Send: s.send, State: statePath,
		Ping: c.Ping, Retry: followRetry, RetryMost: 10 * followRetryMost, Last: followLast, Clock: time.Now, Log: log,
	}
	if c.AMITLS || c.AMICA != "" {
		host, _, _ := net.SplitHostPort(c.AMI)
		ami.TLS = &tls.Config{ServerName: host}
	}
	if c.AMICA != "" {
		pem, err := os.ReadFile(c.AMICA)
		if err != nil {
			return fmt.Errorf("--ami-ca: %w", err)
		}
		ami.TLS.RootCAs = x509.NewCertPool()
		if !ami.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("--ami-ca %s: has no PEM certificate", c.AMICA)
		}
	}
	return ami.Run(ctx)
}

func readSecret(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("--secret-file: %w", err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxSecretSize+1))
	if err != nil {
		return "", fmt.Errorf("--secret-file: %w", err)
	}
	secret := string(bytes.TrimRight(data, "\r\n"))
	if secret == "" || len(data) > maxSecretSize || strings.ContainsAny(secret, "\r\n") {
		return "", fmt.Errorf("--secret-file %s: must have the secret on one line", path)
	}
	return secret, nil
}

// state is the path of the state file, whose directory is made.
func (c *followCmd) state() (string, error) {
	if c.State != "" {
		return c.State, nil
	}
	dir := os.Getenv("STATE_DIRECTORY")
	if dir == "" {
		dir = os.Getenv("XDG_STATE_HOME")
		if dir == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", fmt.Errorf("give --state FILE: %w", err)
			}
			dir = filepath.Join(home, ".local", "state")
		}
		dir = filepath.Join(dir, "tollbook")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("give --state FILE: %w", err)
	}
	return filepath.Join(dir, fmt.Sprintf("follow-%s-%s-%s.state", c.Tenant, c.From, c.Switch)), nil
}

// A sender publishes until it is answered, however long the engine is away.
type sender struct {
	c       *followCmd
	subject string
	most    time.Duration // how long it tries; 0: for ever
	log     *slog.Logger

	connecting sync.Mutex
	nc         *nats.Conn

	mu    sync.Mutex
	away  time.Time // since when there is no answer
	told  time.Time // when suspended records were last told of
	shown int       // of them
	total publishReport
}

func (s *sender) close() {
	if s.nc != nil {
		s.nc.Close()
	}
}

// connect makes the connection at first use; it mends itself.
func (s *sender) connect() (*nats.Conn, error) {
	s.connecting.Lock()
	defer s.connecting.Unlock()
	if s.nc != nil {
		return s.nc, nil
	}
	options, err := s.c.options()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(s.c.NATS, append(options, nats.Name("tollbook follow"), nats.Timeout(5*time.Second), nats.ErrorHandler(giveUp),
		nats.MaxReconnects(-1), nats.ReconnectWait(followRetry), nats.ReconnectBufSize(-1))...)
	if err != nil {
		return nil, fmt.Errorf("NATS at %s: %w; %s", redacted(s.c.NATS), err, s.c.advice(err))
	}
	s.nc = nc
	return nc, nil
}

// send is a Config's Send.
func (s *sender) send(ctx context.Context, payload []byte) error {
	started, wait := time.Now(), followRetry
	for {
		r, err := s.try(ctx, payload)
		switch {
		case err == nil:
			s.answered(r)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case inVain(err), s.most > 0 && time.Since(started) > s.most:
			return err
		}
		s.waits(err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, followRetryMost)
	}
}

// errInVain is returned when sending again would not help.
var errInVain = errors.New("it is in vain to try again")

func (s *sender) try(ctx context.Context, payload []byte) (api.Receipt, error) {
	nc, err := s.connect()
	if err != nil {
		return api.Receipt{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	r, err := api.NewClient(nc).Publish(ctx, s.subject, payload)
	if err != nil && nc.IsClosed() { // refused by the server, as a connection that breaks is mended
		err = fmt.Errorf("%w; %w", err, errInVain)
	}
	return r, err
}

func inVain(err error) bool {
	for _, one := range []error{errInVain, nats.ErrAuthorization, nats.ErrMaxPayload, nats.ErrSecureConnRequired, nats.ErrSecureConnWanted} {
		if errors.Is(err, one) {
			return true
		}
	}
	var (
		unknown  *tls.CertificateVerificationError
		notToTLS tls.RecordHeaderError
	)
	return errors.As(err, &unknown) || errors.As(err, &notToTLS)
}

// waits says once that there is no answer.
func (s *sender) waits(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away.IsZero() {
		s.away = time.Now()
		s.log.Warn("the engine does not answer: waiting for it; nothing is lost", "error", err)
	}
}

func (s *sender) answered(r api.Receipt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.away.IsZero() {
		s.log.Info("the engine answers again", "after", time.Since(s.away).Round(time.Millisecond))
		s.away = time.Time{}
	}
	s.total.add(r)
	for ; s.shown < len(s.total.refusals); s.shown++ {
		s.log.Warn("suspended: " + s.total.refusals[s.shown])
		s.told = time.Now()
	}
	if more := s.total.refused - len(s.total.refusals); more > 0 && time.Since(s.told) > time.Minute {
		s.log.Warn("suspended: and more; see 'tollbook suspense'", "since the first", more)
		s.told = time.Now()
	}
}
