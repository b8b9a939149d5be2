package api

import (
	"context"
	"net/http"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"tollbook/consumers"
)

// TestPasswordsAreCheckedOnce: a password that was right before needs no turn, so
// that the guesses of others hold nobody up; and it is right for its own user only.
func TestPasswordsAreCheckedOnce(t *testing.T) {
	hash := func(password string) string {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		return string(hash)
	}
	s := newSenders(consumers.Access{Users: []consumers.User{
		{Name: "anna", Role: consumers.RoleOperator, Password: hash("secret")},
		{Name: "bob", Role: consumers.RoleOperator, Password: hash("other")},
	}}, 0)
	gone, cancel := context.WithCancel(t.Context())
	cancel() // who waits in vain does not wait for long
	for _, row := range []struct {
		name, password string
		taken          bool // somebody else's guess is being checked
		want           int
	}{
		{"anna", "secret", true, http.StatusTooManyRequests},
		{"anna", "guess", false, http.StatusUnauthorized},
		{"anna", "secret", false, http.StatusOK},
		{"anna", "secret", true, http.StatusOK},
		{"bob", "other", true, http.StatusTooManyRequests},
		{"bob", "secret", false, http.StatusUnauthorized},
		{"bob", "other", false, http.StatusOK},
		{"bob", "other", true, http.StatusOK},
		{"anna", "secret", true, http.StatusOK},
		{"anna", "other", true, http.StatusTooManyRequests},
		{"eve", "secret", true, http.StatusTooManyRequests},
		{"eve", "secret", false, http.StatusUnauthorized},
	} {
		ctx := t.Context()
		if row.taken {
			ctx = gone
			s.checking <- struct{}{}
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(row.name, row.password)
		got := http.StatusOK
		if user, refused := s.of(r); refused != nil {
			got = refused.status
		} else if user.Name != row.name {
			t.Errorf("%s is taken for %s", row.name, user.Name)
		}
		if row.taken {
			<-s.checking
		}
		if got != row.want {
			t.Errorf("%+v: %d", row, got)
		}
	}
}
