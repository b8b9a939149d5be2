package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzhttp"

	"tollbook/api/finance"
	"tollbook/domain"
	"tollbook/projections"
)

// Where the API is. Reference is for people.
const (
	Prefix    = "/api/v1"
	Document  = "/api/openapi" // .json, .yaml; -3.0.json for programs that know no newer one
	Reference = "/docs"
)

// maxBody is how many bytes a request may have, but for decks.
const maxBody = 8 << 20

// readWithin is how long a client may take to send a request, as to any handler of
// the engine.
const readWithin = time.Minute

// A Config is what the API answers from, and whom.
type Config struct {
	Desk  *finance.Desk
	Decks *finance.DeckDesk
	// Who is behind a request. An error is all that is answered. nil: everybody is
	// [finance.Anybody].
	Who func(*http.Request) (finance.Person, error)
	// Read, if not nil, is told of what somebody reads that names people or numbers,
	// before it is answered.
	Read    func(r *http.Request, who finance.Person, tenant, what string)
	Program string // its version
	Log     *slog.Logger
}

// An API serves the operations. It is safe for concurrent use.
type API struct {
	Config
	huma    huma.API
	handler http.Handler

	closing sync.Once
	closed  chan struct{} // ends what would be sent for ever
}

// New makes the API.
func New(c Config) *API {
	a := &API{Config: c, closed: make(chan struct{})}
	if a.Who == nil {
		a.Who = func(*http.Request) (finance.Person, error) { return finance.Anybody, nil }
	}
	mux := http.NewServeMux()
	a.huma = humago.New(mux, config(c.Program))
	a.huma.UseMiddleware(a.enter)
	a.register()
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		a.fail(w, r, &finance.Error{Status: http.StatusNotFound, Detail: fmt.Sprintf("no operation %s %.80q: see %s", r.Method, r.URL.Path, Reference)})
	})
	reference := a.reference()
	mux.Handle("GET "+Reference, reference)
	mux.Handle("GET "+Reference+"/", reference)
	whole := http.NewServeMux()
	// Files have digests of their bytes, and streams end late: neither is packed.
	whole.HandleFunc("GET "+Prefix+"/tenants/{tenant}/months/{month}/export", a.export)
	whole.HandleFunc("GET "+Prefix+"/events", a.events)
	whole.Handle("/", gzhttp.GzipHandler(mux))
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.fail(w, r, &finance.Error{Status: http.StatusForbidden, Detail: "a page of another site asks for this: ask from a program, or from the engine's own pages"})
	}))
	a.handler = guard.Handler(whole)
	return a
}

// ServeHTTP answers a request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Close ends the streams that would go on for ever.
func (a *API) Close() { a.closing.Do(func() { close(a.closed) }) }

// Huma has these once for the whole program, which may have more than one API.
func init() {
	huma.NewError = newProblem
	huma.DefaultArrayNullable = false // a list of nothing is []
}

// config is the document without its operations, and how bodies are written.
func config(program string) huma.Config {
	registry := huma.NewMapRegistry("#/components/schemas/", nameOf)
	registry.RegisterTypeAlias(reflect.TypeFor[jsontext.Value](), reflect.TypeFor[anyJSON]())
	registry.RegisterTypeAlias(reflect.TypeFor[projections.Number](), reflect.TypeFor[string]())
	format := huma.Format{
		Marshal: func(w io.Writer, v any) error { return json.MarshalWrite(w, v) },
		Unmarshal: func(data []byte, v any) error {
			return json.Unmarshal(data, v, json.RejectUnknownMembers(true))
		},
	}
	c := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Tollbook", Version: program,
				Description: "What finance asks of the book, and decides. Amounts, prices and exact shares are decimal strings or fractions, times are UTC, durations are seconds unless the name says otherwise.",
			},
			Components: &huma.Components{
				Schemas: registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "A token that 'tollbook access' made. On loopback without --auth none is needed."},
				},
			},
			Security: []map[string][]string{{"token": {}}, {}},
			Tags:     tags,
		},
		OpenAPIPath: Document, Formats: map[string]huma.Format{"application/json": format, "json": format}, DefaultFormat: "application/json",
		RejectUnknownQueryParameters: true,
	}
	return c
}

// anyJSON is any JSON value.
type anyJSON struct{}

// Schema is the empty one.
func (anyJSON) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Description: "Any JSON value."}
}

// nameOf names a type: by its own name, and before it the package's where that says
// of what it is.
func nameOf(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch pkg := t.PkgPath()[strings.LastIndex(t.PkgPath(), "/")+1:]; pkg {
	case "whatif", "decks", "forecast":
		return strings.ToUpper(pkg[:1]) + pkg[1:] + name
	}
	return name
}

// Keys of an operation's metadata.
const (
	metaActs     = "acts"     // it changes something
	metaPersonal = "personal" // its answer names people, numbers or calls
	metaMoves    = "moves"    // its answer depends on more than the book's position
)

type askedKey struct{}

// asked is who asks, and what.
type asked struct {
	who finance.Person
	url url.URL
	tag string // of the state that is asked; "": its position does not say all
}

// enter lets in who may ask an operation, and answers what the asker knows already.
func (a *API) enter(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	op := ctx.Operation()
	tenant := ctx.Param("tenant")
	acts, personal := op.Metadata[metaActs] != nil, op.Metadata[metaPersonal] != nil
	person, err := a.admit(r, tenant, acts)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "private, no-cache")
	q := asked{who: person, url: *r.URL}
	if op.Method == http.MethodGet && op.Metadata[metaMoves] == nil {
		// Weak, as packed bytes have the same tag. The gaps are told last of what is
		// booked: whatever is answered has come as far as they have, or further. The
		// hash tells another book of as many events.
		head := a.Desk.Gaps.Head()
		q.tag = fmt.Sprintf(`W/"%d-%x-%s"`, head.Events, head.Hash[:8], a.Program)
		if known(r.Header.Values("If-None-Match"), q.tag) {
			w.Header().Set("ETag", q.tag)
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	if personal && a.Read != nil {
		a.Read(r, person, tenant, op.OperationID)
	}
	next(huma.WithValue(ctx, askedKey{}, q))
}

// known reports whether a list of If-None-Match has the tag.
func known(lists []string, tag string) bool {
	for _, list := range lists {
		for one := range strings.SplitSeq(list, ",") {
			if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == strings.TrimPrefix(tag, "W/") {
				return true
			}
		}
	}
	return false
}

// admit is who asks, if they may.
func (a *API) admit(r *http.Request, tenant string, act bool) (finance.Person, error) {
	person, err := a.Who(r)
	if err == nil && tenant != "" {
		err = person.Admit(tenant, act)
	}
	return person, err
}

func (a *API) export(w http.ResponseWriter, r *http.Request) {
	tenant := r.PathValue("tenant")
	person, err := a.admit(r, tenant, false)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	if a.Read != nil {
		a.Read(r, person, tenant, "export")
	}
	a.Desk.ExportHandler(a.Program, a.Log, a.fail).ServeHTTP(w, r)
}

func (a *API) events(w http.ResponseWriter, r *http.Request) {
	if _, err := a.admit(r, "", false); err != nil {
		a.fail(w, r, err)
		return
	}
	a.Desk.Stream(w, r, a.closed)
}

// A Problem is why a request was not answered (RFC 9457).
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail" doc:"One line: what is wrong, where, and what to do."`
}

func (p *Problem) Error() string  { return p.Detail }
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of problem details.
func (p *Problem) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

// newProblem is huma's constructor of errors: what does not fit the document.
func newProblem(status int, text string, errs ...error) huma.StatusError {
	p := &Problem{http.StatusText(status), status, text}
	var details []string
	for _, err := range errs {
		if err == nil {
			continue
		}
		if d, ok := errors.AsType[*huma.ErrorDetail](err); ok && d.Location != "" {
			details = append(details, d.Location+": "+d.Message)
		} else {
			details = append(details, err.Error())
		}
	}
	if len(details) > 0 {
		p.Detail = strings.Join(details, "; ")
	}
	return p
}

// problem is what an error is answered as.
func (a *API) problem(err error) *Problem {
	status, detail := finance.StatusOf(err)
	if status >= http.StatusInternalServerError && !errors.Is(err, context.Canceled) { // by a client that has gone
		a.Log.Error("HTTP API", "error", domain.MaskNumbers(err.Error()))
	}
	return &Problem{http.StatusText(status), status, detail}
}

// fail answers an error.
func (a *API) fail(w http.ResponseWriter, _ *http.Request, err error) {
	p := a.problem(err)
	w.Header().Set("Content-Type", problemType)
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="Tollbook"`)
	}
	w.WriteHeader(p.Status)
	_ = json.MarshalWrite(w, p) // a client that has gone needs no answer
}

// A MonthPath names a tenant's month.
type MonthPath struct {
	TenantPath
	Month string `path:"month" example:"2026-10" doc:"Calendar month of the tenant's zone."`
}

// A TenantPath names a tenant. Huma sees only fields of exported types.
type TenantPath struct {
	Tenant string `path:"tenant" maxLength:"63" example:"contoso" doc:"Tenant."`
}

// An AtQuery is which state of the book is asked.
type AtQuery struct {
	At uint64 `query:"at" doc:"As of this position of the book; without it, an open month as it is now, a closed one as it was issued."`
}

// An answer is a document, and where the next page of it is.
type answer[D any] struct {
	ETag string `header:"ETag" doc:"The state that was asked, for If-None-Match."`
	Link string `header:"Link" doc:"The next page, as rel=\"next\" (RFC 8288); none: this is the last."`
	Body D
}

// An operation as the table has it.
type operation struct {
	id, method, path, tag string
	summary               string
	meta                  []string
	body                  int64 // bytes; 0: maxBody
}

// add registers an operation. do answers with a document and the cursor of its next page.
func add[I, D any](a *API, o operation, do func(context.Context, finance.Person, *I) (D, string, error)) {
	op := huma.Operation{
		OperationID: o.id, Method: o.method, Path: Prefix + o.path, Tags: []string{o.tag}, Summary: o.summary,
		Metadata: map[string]any{}, BodyReadTimeout: readWithin, MaxBodyBytes: o.body, Errors: []int{400, 401, 403, 404, 409, 422, 503},
	}
	if o.body == 0 {
		op.MaxBodyBytes = maxBody
	}
	for _, m := range o.meta {
		op.Metadata[m] = true
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*answer[D], error) {
		q, _ := ctx.Value(askedKey{}).(asked)
		doc, next, err := do(ctx, q.who, in)
		if err != nil {
			return nil, a.problem(err)
		}
		out := &answer[D]{ETag: q.tag, Body: doc}
		if next != "" {
			values := q.url.Query()
			values.Set("cursor", next)
			out.Link = fmt.Sprintf(`<%s?%s>; rel="next"`, q.url.EscapedPath(), values.Encode())
		}
		return out, nil
	})
}

// get registers a question about a document of one page.
func get[I, D any](a *API, o operation, do func(context.Context, *I) (D, error)) {
	if o.method == "" {
		o.method = http.MethodGet
	}
	add(a, o, func(ctx context.Context, _ finance.Person, in *I) (doc D, _ string, err error) {
		doc, err = do(ctx, in)
		return doc, "", err
	})
}

// act registers a decision of somebody.
func act[I, D any](a *API, o operation, do func(context.Context, finance.Person, *I) (D, error)) {
	o.method = http.MethodPost
	o.meta = append(o.meta, metaActs)
	add(a, o, func(ctx context.Context, who finance.Person, in *I) (doc D, _ string, err error) {
		doc, err = do(ctx, who, in)
		return doc, "", err
	})
}
