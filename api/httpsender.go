package api

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/time/rate"

	"tollbook/consumers"
)

// senders are the users of an access file that have a password, the same on HTTP
// as on NATS: HTTP Basic, or the bearer token <name>.<password>.
//
// Of a password that was right, an HMAC under a key of this process is kept, one
// of each user, so that bcrypt is not done for every record. Wrong ones are checked one
// at a time: guessing keeps no more than one processor busy.
type senders struct {
	users    map[string]*sender
	stranger []byte // a hash that nobody's password has: names that are not there take as long
	key      []byte
	checking chan struct{}
}

type sender struct {
	consumers.User
	limit *rate.Limiter // nil: none

	mu    sync.Mutex
	right []byte // HMAC of name and password; nil: none was right yet
}

// checkTimeout is how long a password waits for its turn.
const checkTimeout = 5 * time.Second

func newSenders(access consumers.Access, perSecond int) *senders {
	s := &senders{users: map[string]*sender{}, key: []byte(rand.Text()), checking: make(chan struct{}, 1)}
	cost := bcrypt.MinCost
	for _, u := range access.Users {
		if u.Password == "" {
			continue // it has an nkey, which is NATS's alone
		}
		one := &sender{User: u}
		if perSecond > 0 {
			one.limit = rate.NewLimiter(rate.Limit(perSecond), perSecond)
		}
		s.users[u.Name] = one
		if c, err := bcrypt.Cost([]byte(u.Password)); err == nil {
			cost = max(cost, c)
		}
	}
	// Of a text this short there is always a hash.
	s.stranger, _ = bcrypt.GenerateFromPassword([]byte(rand.Text()), cost)
	return s
}

// of is who sends a request, if it may send one now.
func (s *senders) of(r *http.Request) (*consumers.User, *problem) {
	name, password := credential(r)
	if password == "" {
		return nil, refuse(http.StatusUnauthorized, "say who you are: HTTP Basic with user and password, as 'tollbook access add-switch --password' makes them")
	}
	user := s.users[name]
	right, turn := s.check(r, user, name, password)
	switch {
	case !turn:
		return nil, &problem{status: http.StatusTooManyRequests, detail: "too many passwords are waiting to be checked: send it again", retry: soon}
	case !right:
		return nil, refuse(http.StatusUnauthorized, "user and password are not those of a user with a password: see 'tollbook access list', and that serve was restarted since it changed")
	case user.limit != nil && !user.limit.Allow():
		return nil, &problem{status: http.StatusTooManyRequests, detail: "user " + name + " sends more than --http-rate allows: send it again", retry: soon}
	}
	return &user.User, nil
}

// check reports whether a password is right, if its turn came to be checked.
func (s *senders) check(r *http.Request, user *sender, name, password string) (right, turn bool) {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(name + "\x00" + password))
	sum := mac.Sum(nil)
	if user.knows(sum) {
		return true, true
	}
	waiting := time.NewTimer(checkTimeout)
	defer waiting.Stop()
	select {
	case s.checking <- struct{}{}:
		defer func() { <-s.checking }()
	case <-waiting.C:
		return false, false
	case <-r.Context().Done():
		return false, false
	}
	if user.knows(sum) {
		return true, true // somebody else's turn was the same user's
	}
	hash := s.stranger
	if user != nil {
		hash = []byte(user.Password)
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || user == nil {
		return false, true
	}
	user.mu.Lock()
	user.right = sum
	user.mu.Unlock()
	return true, true
}

func (u *sender) knows(sum []byte) bool {
	if u == nil {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return hmac.Equal(u.right, sum)
}

// credential is the name and the password that a request has.
func credential(r *http.Request) (name, password string) {
	if name, password, ok := r.BasicAuth(); ok {
		return name, password
	}
	const scheme = "Bearer "
	said := r.Header.Get("Authorization")
	if len(said) < len(scheme) || !strings.EqualFold(said[:len(scheme)], scheme) {
		return "", ""
	}
	name, password, both := strings.Cut(said[len(scheme):], ".") // a name has no dot
	if !both {
		return "", "" // it is somebody's token, which is no name to be told in the log
	}
	return name, password
}
