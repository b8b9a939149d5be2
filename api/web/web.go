package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzhttp"

	"tollbook/api/finance"
	"tollbook/api/login"
)

//go:embed templates assets
var files embed.FS

// policy lets the page use what the engine serves and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// maxForm is how many bytes a form may have: the longest record that can be
// edited by hand, and its reason, as a form writes them.
const maxForm = 4 << 20

// A Config is what the page shows, and to whom.
type Config struct {
	Desk  *finance.Desk
	Decks *finance.DeckDesk
	// Who is behind a request. An error is all that is shown. nil: everybody is
	// [finance.Anybody].
	Who func(*http.Request) (finance.Person, error)
	// Guard, if not nil, is whom people sign in with.
	Guard *login.Guard
	// Read, if not nil, is told of what somebody reads that names people or numbers.
	Read    func(r *http.Request, who finance.Person, tenant, what string)
	Program string // its version, which exports name
	Log     *slog.Logger
}

// A Page serves the pages. It is safe for concurrent use.
type Page struct {
	Config
	templates []map[string]*template.Template // by the position of the language, then the page's name
	assets    map[string]asset
	handler   http.Handler

	closing sync.Once
	closed  chan struct{} // ends what would be sent for ever
}

// An asset is a file that pages need.
type asset struct {
	kind, tag string
	body      []byte
}

// New makes the page.
func New(c Config) *Page {
	p := &Page{Config: c, assets: readAssets(), closed: make(chan struct{})}
	if p.Who == nil {
		p.Who = func(*http.Request) (finance.Person, error) { return finance.Anybody, nil }
	}
	for _, l := range locales {
		p.templates = append(p.templates, p.parse(l))
	}
	mux := http.NewServeMux()
	for name := range p.assets {
		mux.HandleFunc("GET /"+name, p.asset)
	}
	for pattern, handle := range p.routes() {
		mux.Handle(pattern, gzhttp.GzipHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.answer(w, r, handle) })))
	}
	// Files have digests of their bytes, and streams end late: neither is packed.
	mux.HandleFunc("GET /{tenant}/{month}/export", func(w http.ResponseWriter, r *http.Request) { p.answer(w, r, p.export) })
	mux.HandleFunc("GET /events", p.events)
	p.handler = http.NewCrossOriginProtection().Handler(mux)
	return p
}

// routes are the pages.
func (p *Page) routes() map[string]func(*request) error {
	return map[string]func(*request) error{
		"/":                             p.nowhere,
		"GET /{$}":                      p.home,
		"GET " + signInPath:             p.signInForm,
		"POST " + signInPath:            p.signIn,
		"POST " + signOutPath:           p.signOut,
		"GET /{tenant}":                 p.tenant,
		"GET /{tenant}/{month}":         p.month,
		"GET /{tenant}/{month}/pool":    p.pool,
		"GET /{tenant}/{month}/invoice": p.invoice,
		"GET /{tenant}/{month}/what-if": p.whatIf,
		"GET /{tenant}/{month}/line":    p.line,
		"GET /{tenant}/{month}/call":    p.call,
		"GET /{tenant}/{month}/close":   p.checklist,
		"POST /{tenant}/{month}/close":  p.close,
		"GET /{tenant}/search":          p.search,
		"GET /{tenant}/suspense":        p.suspense,
		"POST /{tenant}/suspense":       p.resolve,
		"GET /{tenant}/gaps":            p.gaps,
		"POST /{tenant}/gaps":           p.waiveGap,
		"GET /{tenant}/exceptions":      p.exceptions,
		"POST /{tenant}/exceptions":     p.waiveException,
		"GET /{tenant}/decks":           p.decks,
		"POST /{tenant}/decks":          p.stageDeck,
		"GET /{tenant}/documents":       p.documents,
		"POST /{tenant}/documents":      p.replay,
	}
}

// Close ends the streams of those who are looking.
func (p *Page) Close() { p.closing.Do(func() { close(p.closed) }) }

func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	p.handler.ServeHTTP(w, r)
}

func readAssets() map[string]asset {
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	entries, err := fs.ReadDir(files, "assets")
	if err != nil {
		panic(err) // they are in the binary
	}
	assets := map[string]asset{}
	for _, e := range entries {
		body, err := fs.ReadFile(files, "assets/"+e.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(body)
		assets[e.Name()] = asset{kinds[path.Ext(e.Name())], hex.EncodeToString(sum[:8]), body}
	}
	return assets
}

// asset serves a file. Its address in pages has the digest of what it is, so that
// it can be kept.
func (p *Page) asset(w http.ResponseWriter, r *http.Request) {
	a := p.assets[strings.TrimPrefix(r.URL.Path, "/")]
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("ETag", `"`+a.tag+`"`)
	if r.URL.RawQuery == a.tag {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
}

// parse makes the templates of a language: each page with the layout around it.
func (p *Page) parse(l *locale) map[string]*template.Template {
	funcs := l.funcs()
	funcs["asset"] = func(name string) string { return "/" + name + "?" + p.assets[name].tag }
	base := template.Must(template.New("").Funcs(funcs).ParseFS(files, "templates/layout.html", "templates/parts.html"))
	pages, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		panic(err)
	}
	set := map[string]*template.Template{}
	for _, file := range pages {
		if name := strings.TrimSuffix(path.Base(file), ".html"); name != "layout" && name != "parts" {
			set[name] = template.Must(template.Must(base.Clone()).ParseFS(files, file))
		}
	}
	return set
}

// events tells of the book's position whenever it has grown, as server-sent events.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	person, err := p.Who(r)
	if err == nil {
		err = person.Admit(r.FormValue("tenant"), false)
	}
	if err != nil {
		status, detail := finance.StatusOf(err)
		http.Error(w, detail, status)
		return
	}
	p.Desk.Stream(w, r, p.closed)
}
