package finance

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
)

// A Person is whoever asks: somebody at the page, or a program with a token.
type Person struct {
	Name string // goes into the book with what the person decides
	// What the person may do with a tenant's months: see them, change them.
	May    func(tenant string) (read, act bool)
	MayNot string // why nothing may be changed, and what to do; "": it takes an operator
}

// Anybody is who asks where nobody has to say who they are.
var Anybody = Person{Name: "page", May: func(string) (read, act bool) { return true, true }}

// Admit is why the person may not see a tenant's months, or with act not change
// them; nil: they may.
func (p *Person) Admit(tenant string, act bool) error {
	switch read, mayAct := p.May(tenant); {
	case !read:
		return &Error{http.StatusForbidden, fmt.Sprintf("tenant %.63q is not yours to see: ask an operator", tenant)}
	case act && !mayAct:
		return &Error{http.StatusForbidden, cmp.Or(p.MayNot, p.Name+" may look at "+tenant+" and change nothing: ask an operator")}
	}
	return nil
}

// StatusOf is what HTTP answers an error with, and what whoever asked is told of
// it: of an error that they can do nothing about, nothing of what it is.
func StatusOf(err error) (status int, detail string) {
	if told, ok := errors.AsType[*Error](err); ok {
		return told.Status, told.Detail
	}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is too large: it may have at most %d bytes", large.Limit)
	}
	return http.StatusInternalServerError, "the engine failed to answer: its log says why"
}
