// Package login finds out who asks over HTTP: by the token of a program, or by the
// session that somebody began at the page with theirs. It keeps the access log.
package login

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"tollbook/api/finance"
	"tollbook/consumers"
	"tollbook/domain"
)

// How long a session lasts, and how many there may be at once.
const (
	Idle        = time.Hour
	Lasts       = 12 * time.Hour
	maxSessions = 10_000
)

// Cookie is the name of a session's.
const Cookie = "tollbook-session"

// guesses is how many wrong tokens are looked at in a second, whoever sends them:
// tokens can't be guessed, but trying costs.
const guesses = 20

// A Guard knows the users of an access file that have tokens. It is safe for
// concurrent use.
type Guard struct {
	clock func() domain.Instant
	users map[[sha256.Size]byte]consumers.User // by their tokens' hashes

	wrong *rate.Limiter

	mu       sync.Mutex
	sessions map[[sha256.Size]byte]*session // by their ids' hashes
}

type session struct {
	user        consumers.User
	began, used domain.Instant
}

// NewGuard makes the guard of an access file.
func NewGuard(access consumers.Access, clock func() domain.Instant) *Guard {
	g := &Guard{
		clock: clock, users: map[[sha256.Size]byte]consumers.User{}, sessions: map[[sha256.Size]byte]*session{},
		wrong: rate.NewLimiter(guesses, guesses),
	}
	for _, u := range access.Users {
		if hash, err := hex.DecodeString(u.Token); err == nil && len(hash) == sha256.Size {
			g.users[[sha256.Size]byte(hash)] = u
		}
	}
	return g
}

// user is whose token it is. A hash of what nobody can guess is found as any key
// of a map is: how long that takes says nothing of the tokens there are.
func (g *Guard) user(token string) (consumers.User, error) {
	u, known := g.users[sha256.Sum256([]byte(token))]
	switch {
	case known && !expired(u, g.clock()):
		return u, nil
	case !g.wrong.AllowN(g.clock().Time(), 1):
		return u, &finance.Error{Status: http.StatusTooManyRequests, Detail: "too many wrong tokens: wait a second"}
	}
	return u, &finance.Error{Status: http.StatusUnauthorized, Detail: "this token is not known, or no longer: ask for one that 'tollbook access' made"}
}

// Who is behind a request.
func (g *Guard) Who(r *http.Request) (finance.Person, error) {
	u, err := g.userOf(r)
	if err != nil {
		return finance.Person{}, err
	}
	return person(u), nil
}

func (g *Guard) userOf(r *http.Request) (consumers.User, error) {
	if scheme, token, found := strings.Cut(r.Header.Get("Authorization"), " "); found && strings.EqualFold(scheme, "Bearer") {
		return g.user(strings.TrimSpace(token))
	}
	if c, err := r.Cookie(Cookie); err == nil {
		if u, ok := g.session(c.Value); ok {
			return u, nil
		}
	}
	return consumers.User{}, &finance.Error{Status: http.StatusUnauthorized, Detail: "say who you are: with a token, as 'tollbook access add-reader --token' makes one, in Authorization: Bearer, or sign in at the page"}
}

// Scrapes reports whether who asks may read the metrics; nil: they may.
func (g *Guard) Scrapes(r *http.Request) error {
	u, err := g.userOf(r)
	if err == nil && u.Role != consumers.RoleMetrics && len(u.Tenants) > 0 {
		err = &finance.Error{Status: http.StatusForbidden, Detail: "the metrics are of all tenants, and " + u.Name + " sees some: use the token of 'tollbook access add-metrics'"}
	}
	return err
}

// person is a user as the desk knows them.
func person(u consumers.User) finance.Person {
	return finance.Person{Name: u.Name, May: func(tenant string) (read, act bool) {
		sees := len(u.Tenants) == 0 || slices.Contains(u.Tenants, tenant)
		return sees && u.Role != consumers.RoleMetrics, sees && u.Role == consumers.RoleOperator
	}}
}

// SignIn begins a session with a token.
func (g *Guard) SignIn(token string) (id string, err error) {
	u, err := g.user(strings.TrimSpace(token))
	if err != nil {
		return "", err
	}
	now := g.clock()
	g.mu.Lock()
	defer g.mu.Unlock()
	for hash, s := range g.sessions {
		if s.over(now) {
			delete(g.sessions, hash)
		}
	}
	if len(g.sessions) >= maxSessions {
		return "", &finance.Error{Status: http.StatusServiceUnavailable, Detail: "too many people are signed in: wait until some have gone"}
	}
	id = rand.Text() + rand.Text()
	g.sessions[sha256.Sum256([]byte(id))] = &session{u, now, now}
	return id, nil
}

// SignOut ends a session.
func (g *Guard) SignOut(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.sessions, sha256.Sum256([]byte(id)))
}

func (g *Guard) session(id string) (consumers.User, bool) {
	now := g.clock()
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sessions[sha256.Sum256([]byte(id))]
	if s == nil || s.over(now) {
		return consumers.User{}, false
	}
	s.used = now
	return s.user, true
}

func (s *session) over(now domain.Instant) bool {
	return now-s.began >= domain.Instant(Lasts) || now-s.used >= domain.Instant(Idle) ||
		expired(s.user, now)
}

func expired(u consumers.User, now domain.Instant) bool {
	return !u.Expires.IsZero() && !now.Time().Before(u.Expires)
}
