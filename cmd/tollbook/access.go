package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/bcrypt"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
)

// natsLogin is who a command is for the NATS server, and by which authority it
// knows the server.
type natsLogin struct {
	User     string `name:"nats-user" env:"TOLLBOOK_NATS_USER" placeholder:"NAME" help:"User on NATS."`
	Password string `name:"nats-password" env:"TOLLBOOK_NATS_PASSWORD" placeholder:"PASSWORD" help:"Its password; better in the environment, as others see the command line."`
	NKey     string `name:"nkey" env:"TOLLBOOK_NKEY" type:"path" placeholder:"FILE" help:"File with its nkey seed, instead of a password."`
	CA       string `name:"nats-ca" env:"TOLLBOOK_NATS_CA" type:"path" placeholder:"FILE" help:"PEM certificates to know the NATS server by, over TLS, instead of the system's."`
}

func (l natsLogin) options() ([]nats.Option, error) {
	var options []nats.Option
	switch {
	case l.User == "" && l.Password == "" && l.NKey == "":
	case l.User == "":
		return nil, errors.New("--nkey and --nats-password need --nats-user: answers come to the user's own inbox")
	case strings.ContainsAny(l.User, ".*> \t\r\n"):
		return nil, fmt.Errorf("--nats-user %q: must be without dots, spaces, * and >, as it stands in the subjects of its inbox", l.User)
	case l.Password != "" && l.NKey != "":
		return nil, errors.New("--nats-password and --nkey: give one of them")
	case l.NKey != "":
		nkey, err := nats.NkeyOptionFromSeed(l.NKey)
		if err != nil {
			return nil, fmt.Errorf("--nkey %s: %w: must be a file with a user's seed (SU…), as 'tollbook access' makes it", l.NKey, err)
		}
		options = append(options, nkey, nats.CustomInboxPrefix(consumers.InboxPrefix(l.User)))
	default:
		options = append(options, nats.UserInfo(l.User, l.Password), nats.CustomInboxPrefix(consumers.InboxPrefix(l.User)))
	}
	if l.CA != "" {
		if _, err := os.Stat(l.CA); err != nil {
			return nil, fmt.Errorf("--nats-ca: %w", err)
		}
		options = append(options, nats.RootCAs(l.CA))
	}
	return options, nil
}

// advice is what to do about an error of connecting.
func (l natsLogin) advice(err error) string {
	var (
		unknown  *tls.CertificateVerificationError
		notToTLS tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, nats.ErrAuthorization) && l.User == "":
		return "the server lets in known users only: give --nats-user, with --nkey FILE or TOLLBOOK_NATS_PASSWORD"
	case errors.Is(err, nats.ErrAuthorization):
		return fmt.Sprintf("the server does not know user %s with this key or password: see 'tollbook access list', and that serve was restarted since it changed", l.User)
	case errors.As(err, &unknown):
		return "give --nats-ca the certificate of the authority that signed the server's"
	case errors.As(err, &notToTLS), errors.Is(err, nats.ErrSecureConnWanted):
		return "the server there does not speak TLS: serve needs --tls-cert and --tls-key for it"
	}
	return "start an engine with 'tollbook serve', or give --nats"
}

var urlSecret = regexp.MustCompile(`//[^/@]*@`)

// redacted is a NATS URL, or a list of them, without the passwords in it.
func redacted(url string) string { return urlSecret.ReplaceAllString(url, "//") }

// serveAccess is who may connect to serve, and how.
type serveAccess struct {
	Auth     string `type:"path" placeholder:"FILE" help:"Who may do what on the embedded NATS server, at the page and over HTTP, as 'tollbook access' makes it; without it, anyone on this machine may do all."`
	TLSCert  string `name:"tls-cert" type:"path" placeholder:"FILE" help:"PEM certificate chain of the embedded NATS server and of --http, for TLS."`
	TLSKey   string `name:"tls-key" type:"path" placeholder:"FILE" help:"Its PEM private key."`
	HTTPOpen bool   `name:"http-open" help:"Without --auth, let --http listen to other machines: the page shows every bill to whoever reaches it, and records are taken from nobody there."`
}

// read puts the files into an engine's configuration.
func (s serveAccess) read(config *EngineConfig) error {
	config.HTTPOpen = s.HTTPOpen
	if config.NATSURL != "" && (s.Auth != "" || s.TLSCert != "" || s.TLSKey != "") {
		return errors.New("--auth, --tls-cert and --tls-key are of the embedded NATS server: the one that --nats names has users and certificates of its own")
	}
	if s.Auth != "" {
		access, err := consumers.ReadAccess(s.Auth)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--auth: there is no %s: make it with 'tollbook access add-switch' or 'tollbook access add-operator'", s.Auth)
		}
		if err != nil {
			return fmt.Errorf("--auth: %w", err)
		}
		config.Access = &access
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key: one is of no use without the other")
	}
	if s.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(s.TLSCert, s.TLSKey)
		if err != nil {
			return fmt.Errorf("--tls-cert %s, --tls-key %s: %w", s.TLSCert, s.TLSKey, err)
		}
		config.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	return nil
}

// server is the embedded NATS server's configuration; engineKey is the nkey of
// the engine itself.
func (c EngineConfig) server(engineKey string) consumers.ServerConfig {
	return consumers.ServerConfig{
		Dir: c.Dir, Listen: c.NATSListen, SyncInterval: c.NATSSync, TLS: c.TLS, Log: c.Log,
		Access: c.Access, API: consumers.API{Prefix: api.Prefix, Reads: api.ReadSubjects()}, EngineKey: engineKey,
	}
}

// check refuses, before the book is read, to let strangers in.
func (c EngineConfig) check() error {
	if c.NATSURL == "" {
		if err := c.server("made later").Check(); err != nil {
			return err
		}
	}
	host, _, err := net.SplitHostPort(c.HTTPListen)
	if err == nil && !c.HTTPOpen && c.Access == nil && !consumers.Loopback(host) {
		return fmt.Errorf("--http %s: without --auth the page asks nobody who they are, so it listens to this machine only (127.0.0.1); give --auth, or --http-open to show it to whoever reaches it", c.HTTPListen)
	}
	return nil
}

// clear reports whether passwords and calls travel readable between machines.
func (c EngineConfig) clear() bool {
	remote := func(listen string) bool {
		host, _, err := net.SplitHostPort(listen)
		return err == nil && !consumers.Loopback(host)
	}
	return c.Access != nil && c.TLS == nil && (remote(c.NATSListen) || remote(c.HTTPListen))
}

// openTo says on the ready line that nobody is asked who they are.
func (c EngineConfig) openTo() string {
	host, _, _ := net.SplitHostPort(c.HTTPListen)
	switch {
	case c.Access != nil:
		return ""
	case c.NATSURL == "":
		return "; anyone on this machine may publish and ask"
	case consumers.Loopback(host):
		return "; anyone on this machine may publish over HTTP"
	}
	return ""
}

// engineLogin makes a key that the engine knows itself by until it stops. It is
// nowhere but in memory.
func engineLogin(random io.Reader) (public string, login nats.Option, err error) {
	pair, err := nkeys.CreatePairWithRand(nkeys.PrefixByteUser, random)
	if err != nil {
		return "", nil, err
	}
	public, err = pair.PublicKey()
	return public, nats.Nkey(public, pair.Sign), err
}

// accessCmd edits the file that serve --auth reads.
type accessCmd struct {
	AddSwitch   addSwitchCmd   `cmd:"" help:"Let a switch publish its own records, and nothing else."`
	AddOperator addOperatorCmd `cmd:"" help:"Let a person or program publish and ask anything, and act under its own name."`
	AddReader   addReaderCmd   `cmd:"" help:"Let a person or program ask, and change nothing."`
	AddMetrics  addMetricsCmd  `cmd:"" help:"Let a program read the metrics, by a token."`
	List        listAccessCmd  `cmd:"" help:"Who may do what."`
	Remove      removeCmd      `cmd:"" help:"Let a user in no more."`
}

type authFile struct {
	Auth string `required:"" type:"path" placeholder:"FILE" help:"The access file; made if missing."`
}

// restartNote ends what every change prints: serve reads the file once.
const restartNote = "Restart serve --auth %s for it to hold.\n"

// credential is how a new user is to prove itself, and where to find serve.
type credential struct {
	UsePassword bool   `name:"password" help:"A random password instead of an nkey."`
	Out         string `type:"path" placeholder:"FILE" help:"Write the nkey seed to this new file instead of printing it."`
	NATS        string `name:"nats" default:"nats://127.0.0.1:4222" env:"TOLLBOOK_NATS" placeholder:"URL" help:"Where the user will find the engine's NATS server; only printed."`
}

// unused refuses what is asked of a credential that is not to be made.
func (c credential) unused() error {
	if c.UsePassword || c.Out != "" {
		return errors.New("--password and --out are of a login on NATS, and --token is none: give one or the other")
	}
	return nil
}

// passwordBytes of randomness make 32 characters, which nobody guesses however
// fast their hash is. A slow one would only hold up connecting on a busy machine.
const passwordBytes = 20

// add makes the credential, puts the user into the file, and prints once what
// the user needs.
func (c credential) add(std Streams, path string, u consumers.User, random io.Reader) (err error) {
	if c.UsePassword && c.Out != "" {
		return errors.New("--out is for the seed of an nkey, and --password makes none: give one of them")
	}
	secret, err := c.make(&u, random)
	if err != nil {
		return err
	}
	if c.Out != "" {
		if err := writeSeed(c.Out, secret); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, os.Remove(c.Out))
			}
		}()
	}
	if err = addUser(path, u); err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "%s is in %s, as %s. "+restartNote+"\n", u.Name, path, described(u), path)
	fmt.Fprintf(std.Out, "server        %s\nuser          %s\n", redacted(c.NATS), u.Name)
	flags := "--nats-user " + u.Name
	switch {
	case c.UsePassword:
		fmt.Fprintf(std.Out, "password      %s   (shown this once; the file has its hash)\n", secret)
		flags = "TOLLBOOK_NATS_PASSWORD=… " + flags
	case c.Out != "":
		fmt.Fprintf(std.Out, "nkey          %s   (seed in %s, mode 0600: only the user needs it)\n", u.NKey, c.Out)
		flags += " --nkey " + c.Out
	default:
		fmt.Fprintf(std.Out, "nkey          %s\nseed          %s   (shown this once: keep it in a file of mode 0600)\n", u.NKey, secret)
		flags += " --nkey FILE"
	}
	fmt.Fprintf(std.Out, "inbox prefix  %s   (nats.CustomInboxPrefix; nats --inbox-prefix; the tollbook commands follow --nats-user)\n", consumers.InboxPrefix(u.Name))
	fmt.Fprintf(std.Out, "settings      %s\n", flags)
	if u.Role == consumers.RoleSwitch {
		own := consumers.CDRSubject(u.Tenant, consumers.FormatCloudEvents, u.Switch)
		fmt.Fprintf(std.Out, "subject       %s   (CloudEvents whose source is switch/%s or begins with switch/%s/)\n", own, u.Switch, u.Switch)
		fmt.Fprintf(std.Out, "              %s   (records of a Kamailio, once the switch is configured)\n", consumers.CDRSubject(u.Tenant, "kamailio", u.Switch))
		fmt.Fprintf(std.Out, "with answers  %spublish.%s, a request\n", api.Prefix, strings.TrimPrefix(own, consumers.SubjectPrefix))
		if c.UsePassword {
			fmt.Fprintf(std.Out, "over HTTP     POST /v1/events, POST /v1/cdr/%s/<format>/%s (HTTP Basic with user and password)\n", u.Tenant, u.Switch)
		}
	}
	return nil
}

// addUser puts a new user into the file.
func addUser(path string, u consumers.User) error {
	return consumers.EditAccess(path, func(a *consumers.Access) error {
		if slices.ContainsFunc(a.Users, func(other consumers.User) bool { return other.Name == u.Name }) {
			return fmt.Errorf("%s has a user %s already: give another name, or 'tollbook access remove' it first", path, u.Name)
		}
		a.Users = append(a.Users, u)
		return nil
	})
}

// make gives the user a new secret, of which the file has only what checks it.
func (c credential) make(u *consumers.User, random io.Reader) (secret string, err error) {
	if c.UsePassword {
		b := make([]byte, passwordBytes)
		if _, err := io.ReadFull(random, b); err != nil {
			return "", err
		}
		secret = base32.StdEncoding.EncodeToString(b)
		hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
		u.Password = string(hash)
		return secret, err
	}
	pair, err := nkeys.CreatePairWithRand(nkeys.PrefixByteUser, random)
	if err != nil {
		return "", err
	}
	seed, err := pair.Seed()
	if err != nil {
		return "", err
	}
	u.NKey, err = pair.PublicKey()
	return string(seed), err
}

// writeSeed makes a new file: over an old one, some other user would lose its key.
func writeSeed(path, seed string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	_, err = io.WriteString(file, seed+"\n")
	return errors.Join(err, file.Sync(), file.Close())
}

func described(u consumers.User) string {
	if u.Role == consumers.RoleSwitch {
		return fmt.Sprintf("switch %s of tenant %s", u.Switch, u.Tenant)
	}
	what := u.Role
	if len(u.Tenants) > 0 {
		what += " of " + strings.Join(u.Tenants, ", ")
	}
	if !u.Expires.IsZero() {
		what += " until " + u.Expires.Format(time.RFC3339)
	}
	return what
}

type addSwitchCmd struct {
	authFile
	Tenant string `required:"" help:"Whose calls the switch records."`
	Switch string `required:"" help:"The switch's name, as it stands in subjects and sources."`
	Name   string `help:"The user's name; by default the switch's."`
	credential
}

func (c *addSwitchCmd) Run(std Streams) error {
	name := c.Name
	if name == "" {
		name = c.Switch
	}
	return c.add(std, c.Auth, consumers.User{Name: name, Role: consumers.RoleSwitch, Tenant: c.Tenant, Switch: c.Switch}, rand.Reader)
}

// withToken is how somebody proves themselves over HTTP instead of on NATS.
type withToken struct {
	Token   bool     `help:"A token for the page and the HTTP API, instead of a login on NATS."`
	Tenants []string `sep:"none" placeholder:"TENANT,…" help:"With --token: only these tenants."`
	Expires string   `placeholder:"2027-01-01" help:"With --token: no longer from this day (UTC) or time on."`
}

// Validate is called by kong, before anything is done.
func (t withToken) Validate() error {
	if !t.Token && (len(t.Tenants) > 0 || t.Expires != "") {
		return errors.New("--tenants and --expires go with --token")
	}
	return nil
}

// tenants are those named. One without a name is kept, to be refused: no tenants
// would be all of them.
func (t withToken) tenants() (list []string) {
	for _, names := range t.Tenants {
		list = append(list, strings.Split(names, ",")...)
	}
	return list
}

// tokenBytes of randomness nobody guesses, so that a fast hash keeps them.
const tokenBytes = 32

// addToken makes a token, puts its hash into the file, and prints it once.
func addToken(std Streams, path string, u consumers.User, expires string, random io.Reader) error {
	b := make([]byte, tokenBytes)
	if _, err := io.ReadFull(random, b); err != nil {
		return err
	}
	token := consumers.TokenPrefix + base64.RawURLEncoding.EncodeToString(b)
	hash := sha256.Sum256([]byte(token))
	u.Token = hex.EncodeToString(hash[:])
	if expires != "" {
		at, err := time.Parse(time.RFC3339, expires)
		if err != nil {
			at, err = time.Parse(time.DateOnly, expires)
		}
		if err != nil || at.Before(domain.MinInstant.Time()) || !at.Before(domain.MaxInstant.Time()) {
			return fmt.Errorf("--expires %.40q: must be a day such as 2027-01-01, or a time such as 2027-01-01T12:00:00Z", expires)
		}
		u.Expires = at.UTC()
	}
	if err := addUser(path, u); err != nil {
		return err
	}
	_, err := fmt.Fprintf(std.Out, "%s is in %s, as %s. "+restartNote+"\ntoken  %s   (shown this once; the file has its hash)\n", u.Name, path, described(u), path, token)
	return err
}

type addMetricsCmd struct {
	Name string `arg:"" help:"The program's name."`
	authFile
	Expires string `placeholder:"2027-01-01" help:"No longer from this day (UTC) or time on."`
}

func (c *addMetricsCmd) Run(std Streams) error {
	return addToken(std, c.Auth, consumers.User{Name: c.Name, Role: consumers.RoleMetrics}, c.Expires, rand.Reader)
}

type addOperatorCmd struct {
	Name string `arg:"" help:"The user's name: what the book says who acted."`
	authFile
	credential
	withToken
}

func (c *addOperatorCmd) Run(std Streams) error {
	if c.Token {
		if err := c.unused(); err != nil {
			return err
		}
		return addToken(std, c.Auth, consumers.User{Name: c.Name, Role: consumers.RoleOperator, Tenants: c.tenants()}, c.Expires, rand.Reader)
	}
	return c.add(std, c.Auth, consumers.User{Name: c.Name, Role: consumers.RoleOperator}, rand.Reader)
}

type addReaderCmd struct {
	Name string `arg:"" help:"The user's name."`
	authFile
	credential
	withToken
}

func (c *addReaderCmd) Run(std Streams) error {
	if c.Token {
		if err := c.unused(); err != nil {
			return err
		}
		return addToken(std, c.Auth, consumers.User{Name: c.Name, Role: consumers.RoleReader, Tenants: c.tenants()}, c.Expires, rand.Reader)
	}
	return c.add(std, c.Auth, consumers.User{Name: c.Name, Role: consumers.RoleReader}, rand.Reader)
}

type listAccessCmd struct {
	authFile
	format
}

func (c *listAccessCmd) Run(std Streams) error {
	access, err := consumers.ReadAccess(c.Auth)
	if err != nil {
		return err
	}
	for i := range access.Users {
		u := &access.Users[i]
		u.Password, u.Token = "", u.Token[:min(len(u.Token), 8)] // the hashes are nobody's to see
	}
	return c.print(std, access, func(w writer) {
		t := newTable("user", "role", "proves itself by")
		for _, u := range access.Users {
			by := "password"
			switch {
			case u.NKey != "":
				by = "nkey " + u.NKey
			case u.Token != "":
				by = "token, over HTTP"
			}
			t.row(nil, u.Name, described(u), by)
		}
		t.print(w, newPaint(std.Out))
	})
}

type removeCmd struct {
	Name string `arg:"" help:"The user's name."`
	authFile
}

func (c *removeCmd) Run(std Streams) error {
	if _, err := os.Stat(c.Auth); err != nil {
		return err
	}
	err := consumers.EditAccess(c.Auth, func(a *consumers.Access) error {
		left := slices.DeleteFunc(slices.Clone(a.Users), func(u consumers.User) bool { return u.Name == c.Name })
		if len(left) == len(a.Users) {
			return fmt.Errorf("%s has no user %s", c.Auth, c.Name)
		}
		a.Users = left
		return nil
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.Out, "%s is removed from %s. "+restartNote, c.Name, c.Auth, c.Auth)
	return err
}
