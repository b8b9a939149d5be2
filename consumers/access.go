package consumers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/bcrypt"
)

// Access says who may do what on the embedded NATS server. The zero value lets
// nobody in but the engine.
type Access struct {
	Users []User `json:"users"`
}

// A User is a name, what it may do, and what it proves itself by: exactly one of
// NKey, Password and Token.
type User struct {
	Name     string `json:"name"` // [a-z0-9][a-z0-9-]{0,62}
	Role     string `json:"role"`
	Tenant   string `json:"tenant,omitzero"`   // of a switch
	Switch   string `json:"switch,omitzero"`   // of a switch: its name in subjects and sources
	NKey     string `json:"nkey,omitzero"`     // public: U…
	Password string `json:"password,omitzero"` // bcrypt hash: $2a$…
	Token    string `json:"token,omitzero"`    // SHA-256 of it, in hex: who has one comes over HTTP only

	Tenants []string  `json:"tenants,omitempty"` // with a token: only these; empty: all
	Expires time.Time `json:"expires,omitzero"`  // with a token: no longer from then on; zero: never
}

// Roles.
const (
	RoleSwitch   = "switch"   // publishes the records of one switch, and reads nothing
	RoleOperator = "operator" // publishes and asks anything, and acts under its own name
	RoleReader   = "reader"   // asks, and changes nothing
	RoleMetrics  = "metrics"  // reads the metrics; with a token only
)

var roles = []string{RoleSwitch, RoleOperator, RoleReader, RoleMetrics}

// TokenPrefix is what tokens begin with, so that who finds one knows what it is.
const TokenPrefix = "tb_"

// Limits of an access file.
const (
	maxAccessBytes = 1 << 20
	// maxBcryptCost keeps the work for a connection to a quarter of a second: the
	// server does it before it knows the user, and a client it keeps waiting for
	// more than a second takes the server's first ping for a wrong answer.
	maxBcryptCost = 12
)

var tokenHash = regexp.MustCompile(`^[0-9a-f]{64}$`)

var bcryptHash = regexp.MustCompile(`^\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`)

// InboxPrefix is what the answers to a user's requests must be addressed to: the
// only subject of its own that it can listen on, and nobody else can.
func InboxPrefix(user string) string { return "_INBOX_" + user }

// ValidUser reports whether s can be a user's name: [a-z0-9][a-z0-9-]{0,62}.
func ValidUser(s string) bool { return ValidTenant(s) }

// ReadAccess reads an access file. Whatever is not understood is refused: a
// misspelt name must not let in more than was meant. A file that is not there is
// fs.ErrNotExist.
func ReadAccess(path string) (Access, error) {
	file, err := os.Open(path)
	if err != nil {
		return Access{}, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	switch {
	case err != nil:
		return Access{}, err
	case !info.Mode().IsRegular():
		return Access{}, fmt.Errorf("%s is not a file", path)
	case info.Mode().Perm()&0o022 != 0:
		return Access{}, fmt.Errorf("%s can be written by others (mode %04o), who could let themselves in: chmod go-w %s", path, info.Mode().Perm(), path)
	case info.Size() > maxAccessBytes:
		return Access{}, fmt.Errorf("%s has %d bytes: an access file has at most %d", path, info.Size(), maxAccessBytes)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxAccessBytes))
	if err != nil {
		return Access{}, err
	}
	a, err := parseAccess(data)
	if err != nil {
		return Access{}, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}

func parseAccess(data []byte) (Access, error) {
	var a Access
	if err := json.Unmarshal(data, &a, json.RejectUnknownMembers(true)); err != nil {
		return Access{}, accessError(data, err)
	}
	if a.Users == nil {
		return Access{}, errors.New(`users: is missing: must be a list such as {"users":[]}`)
	}
	return a, a.Check()
}

// accessError says in one line where the JSON is wrong and what belongs there.
func accessError(data []byte, err error) error {
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		rule := "must be a string"
		switch {
		case errors.Is(err, json.ErrUnknownName):
			rule = "unknown name"
		case semantic.GoType != nil && semantic.GoType.Kind() == reflect.Slice:
			rule = "must be a list"
		case semantic.GoType == reflect.TypeFor[time.Time]():
			rule = "must be a time such as 2027-01-01T00:00:00Z"
		case semantic.GoType != nil && semantic.GoType.Kind() == reflect.Struct:
			rule = "must be an object"
		}
		if semantic.JSONPointer == "" {
			return errors.New(rule)
		}
		return fmt.Errorf("%s: %s", at(semantic.JSONPointer), rule)
	}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		line := 1 + bytes.Count(data[:min(int(syntactic.ByteOffset), len(data))], []byte("\n"))
		what := syntactic.Err
		if errors.Is(err, io.ErrUnexpectedEOF) {
			what = errors.New("ends in the middle")
		}
		return fmt.Errorf("line %d: not valid JSON: %w", line, what)
	}
	return fmt.Errorf("not valid JSON: %w", err)
}

// at writes users[2].nkey for /users/2/nkey.
func at(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		if _, err := strconv.Atoi(token); err == nil {
			fmt.Fprintf(&b, "[%s]", token)
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(strings.Trim(strconv.QuoteToASCII(token[:min(len(token), 40)]), `"`))
	}
	return b.String()
}

// Check refuses users that are not whole, and two of one name or key.
func (a Access) Check() error {
	names, keys, tokens := map[string]int{}, map[string]int{}, map[string]int{}
	for i, u := range a.Users {
		if err := u.check(); err != nil {
			return fmt.Errorf("users[%d].%w", i, err)
		}
		if first, twice := names[u.Name]; twice {
			return fmt.Errorf("users[%d].name: %q is the name of users[%d] too", i, u.Name, first)
		}
		if first, twice := keys[u.NKey]; twice && u.NKey != "" {
			return fmt.Errorf("users[%d].nkey: is the key of users[%d] too: NATS knows users by their keys", i, first)
		}
		if first, twice := tokens[u.Token]; twice && u.Token != "" {
			return fmt.Errorf("users[%d].token: is that of users[%d] too", i, first)
		}
		names[u.Name], keys[u.NKey], tokens[u.Token] = i, i, i
	}
	return nil
}

func (u User) check() error {
	switch {
	case !ValidUser(u.Name):
		return fmt.Errorf("name: %.80q: must be 1 to 63 of a-z, 0-9 and -, not beginning with -", u.Name)
	case !slices.Contains(roles, u.Role):
		return fmt.Errorf("role: %.80q: must be one of %s", u.Role, strings.Join(roles, ", "))
	case u.Role != RoleSwitch && u.Tenant != "":
		return fmt.Errorf("tenant: goes with the role %s only: an %s and a %s see all tenants", RoleSwitch, RoleOperator, RoleReader)
	case u.Role != RoleSwitch && u.Switch != "":
		return fmt.Errorf("switch: goes with the role %s only", RoleSwitch)
	case u.Role == RoleSwitch && !ValidTenant(u.Tenant):
		return fmt.Errorf("tenant: %.80q: must be 1 to 63 of a-z, 0-9 and -, not beginning with -", u.Tenant)
	case u.Role == RoleSwitch && !ValidSwitch(u.Switch):
		return fmt.Errorf("switch: %.80q: must be 1 to 128 bytes of visible ASCII without . * > /", u.Switch)
	case u.Token != "" && (u.NKey != "" || u.Password != ""), u.Token == "" && (u.NKey == "") == (u.Password == ""):
		return errors.New("nkey: exactly one of nkey, password and token is needed")
	case u.Token != "" && !tokenHash.MatchString(u.Token):
		return errors.New("token: must be the SHA-256 of the token, 64 of 0-9 and a-f, never the token itself")
	case u.Token != "" && u.Role == RoleSwitch:
		return errors.New("token: a switch proves itself by an nkey or a password, also over HTTP")
	case u.Role == RoleMetrics && u.Token == "":
		return fmt.Errorf("token: is what the role %s needs", RoleMetrics)
	case u.Token == "" && len(u.Tenants) > 0:
		return errors.New("tenants: go with a token only: on NATS who may ask sees all tenants")
	case u.Token == "" && !u.Expires.IsZero():
		return errors.New("expires: goes with a token only")
	case u.Role == RoleMetrics && len(u.Tenants) > 0:
		return errors.New("tenants: the metrics are of all of them")
	case slices.ContainsFunc(u.Tenants, func(t string) bool { return !ValidTenant(t) }):
		return errors.New("tenants: each must be 1 to 63 of a-z, 0-9 and -, not beginning with -")
	case u.NKey != "" && !nkeys.IsValidPublicUserKey(u.NKey):
		return errors.New("nkey: must be the public key of a user, U and 55 more characters; the seed (SU…) stays with the user")
	}
	if u.Password != "" {
		cost, err := bcrypt.Cost([]byte(u.Password))
		// What NATS does not take for a hash it would compare as the password itself.
		if err != nil || !bcryptHash.MatchString(u.Password) {
			return errors.New("password: must be a bcrypt hash ($2a$…), never the password itself")
		}
		if cost > maxBcryptCost {
			return fmt.Errorf("password: a bcrypt cost of %d would hold up every connection: at most %d", cost, maxBcryptCost)
		}
	}
	return nil
}

// ValidSwitch reports whether s can be a switch's name: 1 to 128 bytes of visible
// ASCII without . * > /, as it stands in subjects and sources.
func ValidSwitch(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(".*>/", r)
	})
}

// EditAccess changes the access file of path, which is made if missing, by edit.
// The file is replaced whole and durably: a crash leaves the old or the new one.
// Meanwhile path+".new" keeps a second editor out, whose change would be lost;
// a crash leaves it behind.
func EditAccess(path string, edit func(*Access) error) error {
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s.new is there: another edits %s now, or did not get to its end; if nobody does, remove it", path, path)
	}
	if err != nil {
		return err
	}
	data, err := editedAccess(path, file, edit)
	if err == nil {
		_, err = file.Write(data)
	}
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// editedAccess is the file's new content; its mode goes over to file.
func editedAccess(path string, file *os.File, edit func(*Access) error) ([]byte, error) {
	a, err := ReadAccess(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		a = Access{Users: []User{}}
	case err != nil:
		return nil, err
	default:
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if err := file.Chmod(info.Mode().Perm()); err != nil {
			return nil, err
		}
	}
	if err := edit(&a); err != nil {
		return nil, err
	}
	if err := a.Check(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(a, jsontext.WithIndent("  "))
	return append(data, '\n'), err
}

// API is where the engine's service listens. Package api knows; this one, which
// it imports, is told.
type API struct {
	Prefix string   // of all its subjects
	Reads  []string // subjects that only tell
}

// AnchorSubjects are where the engine publishes the anchors of its book.
const AnchorSubjects = "tollbook-anchor.>"

// announcementSubjects are where the engine publishes its own events, of all tenants.
func announcementSubjects() (subjects []string) {
	for t := range announced {
		subjects = append(subjects, AnnouncementSubject("*", t))
	}
	slices.Sort(subjects)
	return subjects
}

// permissions are the subjects of a user, and no others: no role has $JS, $SYS,
// $SRV, or anything that another user is answered on.
func (u User) permissions(api API) *server.Permissions {
	listen := []string{InboxPrefix(u.Name) + ".>"}
	var publish, never []string
	switch u.Role {
	case RoleSwitch:
		records := u.Tenant + ".cdr.*." + u.Switch
		publish = []string{SubjectPrefix + records, api.Prefix + "publish." + records}
	case RoleOperator:
		publish = append([]string{SubjectPrefix + ">", api.Prefix + "publish.>", api.Prefix + "as." + u.Name + ".>"}, api.Reads...)
		never = announcementSubjects() // the engine's own words
		listen = append(append(listen, AnchorSubjects), never...)
	case RoleReader:
		publish = api.Reads
		listen = append(listen, AnchorSubjects)
	}
	return &server.Permissions{Publish: only(publish, never), Subscribe: only(listen, nil)}
}

// MayPublish reports whether the user may publish on an intake subject, without
// wildcards: what NATS enforces, for whoever comes another way.
func (u User) MayPublish(subject string) bool {
	if !strings.HasPrefix(subject, SubjectPrefix) || !server.IsValidLiteralSubject(subject) {
		return false
	}
	p := u.permissions(API{}).Publish
	matches := func(filter string) bool { return server.SubjectMatchesFilter(subject, filter) }
	return slices.ContainsFunc(p.Allow, matches) && !slices.ContainsFunc(p.Deny, matches)
}

// only allows these subjects. For NATS an empty list would mean all of them.
func only(allow, deny []string) *server.SubjectPermission {
	if len(allow) == 0 {
		deny = []string{">"}
	}
	return &server.SubjectPermission{Allow: allow, Deny: deny}
}

// apply has the server ask everybody who they are. The engine proves itself by
// engineKey and may do all.
func (a Access) apply(options *server.Options, api API, engineKey string) {
	options.Nkeys = []*server.NkeyUser{{Nkey: engineKey}}
	for _, u := range a.Users {
		if u.Token != "" {
			continue // comes over HTTP
		}
		if u.NKey != "" {
			options.Nkeys = append(options.Nkeys, &server.NkeyUser{Nkey: u.NKey, Permissions: u.permissions(api)})
			continue
		}
		options.Users = append(options.Users, &server.User{Username: u.Name, Password: u.Password, Permissions: u.permissions(api)})
	}
}
