package rest

import (
	"bytes"
	"embed"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed reference.html reference.css
var referenceFiles embed.FS

// policy lets the reference use what the engine serves and nothing else.
const policy = "default-src 'none'; style-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// A referenceTag is a group of operations.
type referenceTag struct {
	Name, Description string
	Operations        []referenceOperation
}

type referenceOperation struct {
	*huma.Operation
	Body    []referenceField
	Kind    string // of the body, where it is no JSON
	Answers []referenceField
}

// A referenceField is a field of a body, with those within it behind it.
type referenceField struct {
	Depth               int
	Name, Type, Text    string
	Required, Recursive bool
}

// reference is the document for people: one page, with nothing from elsewhere.
func (a *API) reference() http.Handler {
	page := template.Must(template.ParseFS(referenceFiles, "reference.html"))
	doc := a.huma.OpenAPI()
	groups := make([]referenceTag, len(doc.Tags))
	for i, tag := range doc.Tags {
		groups[i] = referenceTag{Name: tag.Name, Description: tag.Description}
	}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		item := doc.Paths[path]
		for _, op := range []*huma.Operation{item.Get, item.Post} {
			if op == nil {
				continue
			}
			one := referenceOperation{Operation: op}
			if op.RequestBody != nil {
				for kind, media := range op.RequestBody.Content {
					if one.Body = fieldsOf(doc.Components.Schemas, media.Schema); len(one.Body) == 0 {
						one.Kind = kind
					}
				}
			}
			if ok := op.Responses["200"]; ok != nil && ok.Content["application/json"] != nil && len(ok.Content) == 1 {
				one.Answers = fieldsOf(doc.Components.Schemas, ok.Content["application/json"].Schema)
			}
			at := slices.IndexFunc(groups, func(g referenceTag) bool { return g.Name == op.Tags[0] })
			groups[at].Operations = append(groups[at].Operations, one)
		}
	}
	var text bytes.Buffer
	if err := page.Execute(&text, struct {
		*huma.OpenAPI
		Groups   []referenceTag
		Document string
	}{doc, groups, Document}); err != nil {
		panic(err) // the template and the document are both ours
	}
	style, err := referenceFiles.ReadFile("reference.css")
	if err != nil {
		panic(err) // it is embedded
	}
	mux := http.NewServeMux()
	serve := func(kind string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Content-Type", kind)
			h.Set("Content-Security-Policy", policy)
			h.Set("X-Content-Type-Options", "nosniff")
			_, _ = w.Write(body) // a client that has gone needs no answer
		}
	}
	mux.HandleFunc("GET "+Reference, serve("text/html; charset=utf-8", text.Bytes()))
	mux.HandleFunc("GET "+Reference+"/style.css", serve("text/css; charset=utf-8", style))
	return mux
}

// fieldsOf are the fields of a schema, in the order of their names but for those
// that it says come first.
func fieldsOf(registry huma.Registry, s *huma.Schema) (list []referenceField) {
	var walk func(s *huma.Schema, depth int, within []string)
	walk = func(s *huma.Schema, depth int, within []string) {
		s, name := resolved(registry, s)
		if s == nil || s.Type != huma.TypeObject {
			return
		}
		for _, field := range slices.Sorted(maps.Keys(s.Properties)) {
			p := s.Properties[field]
			one := referenceField{Depth: depth, Name: field, Type: typeOf(registry, p), Text: p.Description, Required: slices.Contains(s.Required, field)}
			inner, innerName := resolved(registry, element(registry, p))
			one.Recursive = innerName != "" && slices.Contains(within, innerName)
			list = append(list, one)
			if inner != nil && !one.Recursive {
				walk(inner, depth+1, append(slices.Clone(within), name, innerName))
			}
		}
	}
	walk(element(registry, s), 0, nil)
	return list
}

// resolved is what a schema refers to, and its name.
func resolved(registry huma.Registry, s *huma.Schema) (*huma.Schema, string) {
	if s == nil || s.Ref == "" {
		return s, ""
	}
	return registry.SchemaFromRef(s.Ref), s.Ref[strings.LastIndex(s.Ref, "/")+1:]
}

// element is what a list is of, or the schema itself.
func element(registry huma.Registry, s *huma.Schema) *huma.Schema {
	for s != nil && s.Type == huma.TypeArray {
		s = s.Items
	}
	return s
}

func typeOf(registry huma.Registry, s *huma.Schema) string {
	if s.Type == huma.TypeArray {
		return "list of " + typeOf(registry, s.Items)
	}
	r, _ := resolved(registry, s)
	switch {
	case r == nil || r.Type == "":
		return "any"
	case len(r.Enum) > 0:
		values := make([]string, len(r.Enum))
		for i, v := range r.Enum {
			values[i], _ = v.(string)
		}
		return strings.Join(values, " | ")
	case r.Format == "int64" || r.Format == "int32":
		return r.Type
	case r.Format != "":
		return r.Type + " (" + r.Format + ")"
	}
	return r.Type
}
