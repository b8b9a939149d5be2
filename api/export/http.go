package export

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
)

// Handler serves files at …/tenants/{tenant}/months/{month}/export with the query
// parameters format, what, at, lang, bom of a [Query]; with manifest=only their
// manifest instead. A file comes without its manifest, as its digest is only known
// at the end: the trailer Repr-Digest (RFC 9530) has it.
//
// begin is asked for each, and fail answers a request that came to nothing. Who may
// read what is theirs to say. broke is told why a file ends before its end.
func Handler(begin func(context.Context, Query) (*Export, error), fail func(http.ResponseWriter, *http.Request, error), broke func(error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, only, err := queryOf(r)
		var e *Export
		if err == nil {
			e, err = begin(r.Context(), q)
		}
		if err != nil {
			fail(w, r, err)
			return
		}
		tag := e.tag(only)
		w.Header().Set("ETag", tag)
		w.Header().Set("Cache-Control", "private, no-cache")
		if known(r.Header.Get("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if only {
			e.serveManifest(w, r, fail)
			return
		}
		w.Header().Set("Content-Type", e.Media())
		w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s"`, e.FileName()))
		w.Header().Set("Trailer", "Repr-Digest")
		if r.Method == http.MethodHead {
			return
		}
		m, err := e.Write(r.Context(), w)
		if err != nil {
			// The file has begun: only a broken connection says that it is no good.
			if r.Context().Err() == nil { // else it is who asked that has gone
				broke(err)
			}
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Repr-Digest", "sha-256=:"+m.base64()+":")
	})
}

func (e *Export) serveManifest(w http.ResponseWriter, r *http.Request, fail func(http.ResponseWriter, *http.Request, error)) {
	m, err := e.Write(r.Context(), io.Discard)
	var data []byte
	if err == nil {
		m.File = e.FileName()
		data, err = json.Marshal(m)
	}
	if err != nil {
		w.Header().Del("ETag")
		fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(data, '\n')) // a client that has gone needs no answer
}

// queryOf reads the parameters of a request.
func queryOf(r *http.Request) (q Query, only bool, err error) {
	q = Query{Tenant: r.PathValue("tenant"), Month: r.PathValue("month")}
	for name, values := range r.URL.Query() {
		value := values[0]
		switch name {
		case "format":
			q.Format = value
		case "what":
			q.What = value
		case "lang":
			q.Lang = value
		case "at":
			if q.At, err = strconv.ParseUint(value, 10, 64); err != nil || q.At == 0 {
				return q, false, mistake("at %.20q: must be a position, from 1 on", value)
			}
		case "bom":
			if q.BOM = value == "true"; !q.BOM && value != "false" {
				return q, false, mistake("bom %.20q: must be true or false", value)
			}
		case "manifest":
			if only = value == "only"; !only {
				return q, false, mistake("manifest %.20q: must be only", value)
			}
		default:
			return q, false, mistake("parameter %.40q: must be format, what, at, lang, bom or manifest", name)
		}
		if len(values) > 1 {
			return q, false, mistake("parameter %s: must be there once", name)
		}
	}
	return q, only, q.Check()
}

// tag names the bytes: what was asked, of which state, made by which program.
func (e *Export) tag(only bool) string {
	q, s := &e.query, &e.statement
	return fmt.Sprintf(`"%d-%s-%s-%s-%s-%t-%t-%s"`, s.Position, s.Status, q.Format, q.What, q.Lang, q.BOM, only, q.Program)
}

// known reports whether a list of If-None-Match has the tag.
func known(list, tag string) bool {
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}
