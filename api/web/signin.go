package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"tollbook/api/finance"
	"tollbook/api/login"
)

// Where people say who they are.
const (
	signInPath  = "/sign-in"
	signOutPath = "/sign-out"
)

// sendToSignIn asks somebody who they are; then they see what they asked for.
func (p *Page) sendToSignIn(q *request) {
	to := "/"
	if q.Method == http.MethodGet {
		to = q.URL.RequestURI()
	}
	http.Redirect(q.w, q.Request, signInPath+"?"+url.Values{"to": {to}}.Encode(), http.StatusSeeOther)
}

func (p *Page) signInForm(q *request) error {
	return p.showSignIn(q, http.StatusOK, q.URL.Query().Get("to"), "")
}

func (p *Page) showSignIn(q *request, status int, to, problem string) error {
	return p.show(q, status, "signin", q.l.t("Sign in"), struct{ To, Problem string }{to, problem})
}

func (p *Page) signIn(q *request) error {
	if err := q.ParseForm(); err != nil {
		return err
	}
	to := q.PostForm.Get("to")
	if p.Guard == nil {
		return q.seeOther("/", "")
	}
	id, err := p.Guard.SignIn(q.PostForm.Get("token"))
	if told, ok := errors.AsType[*finance.Error](err); ok {
		return p.showSignIn(q, told.Status, to, told.Detail)
	}
	if err != nil {
		return err
	}
	http.SetCookie(q.w, &http.Cookie{
		Name: login.Cookie, Value: id, Path: "/", MaxAge: int(login.Lasts.Seconds()), HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: q.TLS != nil,
	})
	http.Redirect(q.w, q.Request, local(to), http.StatusSeeOther)
	return nil
}

func (p *Page) signOut(q *request) error {
	if c, err := q.Cookie(login.Cookie); err == nil && p.Guard != nil {
		p.Guard.SignOut(c.Value)
	}
	http.SetCookie(q.w, &http.Cookie{Name: login.Cookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: q.TLS != nil})
	http.Redirect(q.w, q.Request, signInPath, http.StatusSeeOther)
	return nil
}

// local is an address of this page, or the first page: who made the link must not
// lead elsewhere.
func local(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n") {
		return "/"
	}
	return to
}
