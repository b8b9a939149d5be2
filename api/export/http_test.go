package export_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	gocmp "github.com/google/go-cmp/cmp"

	"tollbook/api/export"
	"tollbook/projections"
)

func serve(t *testing.T, book export.Book, broke func(error)) *httptest.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /v1/tenants/{tenant}/months/{month}/export", export.Handler(
		func(ctx context.Context, q export.Query) (*export.Export, error) {
			q.Program = "test"
			return export.Begin(ctx, book, q)
		},
		func(w http.ResponseWriter, _ *http.Request, err error) {
			var m *export.Mistake
			status := http.StatusInternalServerError
			if errors.As(err, &m) {
				status = http.StatusBadRequest
			}
			http.Error(w, err.Error(), status)
		},
		broke))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// TestDownload gets every format over HTTP: the bytes are those of an export, and
// the trailer and the manifest have their digest.
func TestDownload(t *testing.T) {
	d := newDesk(t, t.TempDir())
	example(d)
	server := serve(t, d.explainer, func(err error) { t.Errorf("a file broke off: %v", err) })
	get := func(path, known string) (*http.Response, []byte) {
		t.Helper()
		request, err := http.NewRequest(http.MethodGet, server.URL+"/v1/tenants/contoso/months/2026-10/export?"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if known != "" {
			request.Header.Set("If-None-Match", known)
		}
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response, body
	}
	for _, q := range []export.Query{
		{Month: "2026-10", Format: "csv", What: "calls"}, {Month: "2026-10", Format: "xlsx", What: "calls"}, {Month: "2026-10", Format: "parquet", What: "calls"},
		{Month: "2026-10", Format: "json", What: "invoice"}, {Month: "2026-10", Format: "pdf", What: "invoice"},
	} {
		path := "format=" + q.Format + "&what=" + q.What
		want, wantManifest := d.export(q)
		response, body := get(path, "")
		sum := sha256.Sum256(want)
		digest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
		if response.StatusCode != http.StatusOK || string(body) != string(want) || response.Trailer.Get("Repr-Digest") != digest {
			t.Errorf("%s: %s, %d bytes, not %d, trailer %v, not %s", path, response.Status, len(body), len(want), response.Trailer, digest)
		}
		name := "contoso-2026-0001-" + q.What + "." + q.Format
		if got := response.Header.Get("Content-Disposition"); got != `attachment; filename="`+name+`"` {
			t.Errorf("%s: %s", path, got)
		}
		tag := response.Header.Get("ETag")
		if again, body := get(path, `"other", W/`+tag); again.StatusCode != http.StatusNotModified || len(body) > 0 {
			t.Errorf("%s again: %s", path, again.Status)
		}
		response, body = get(path+"&manifest=only", tag)
		var m export.Manifest
		if err := json.Unmarshal(body, &m); err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, response.Status, err)
		}
		wantManifest.File = name
		if diff := gocmp.Diff(wantManifest, m); diff != "" {
			t.Errorf("%s (-export +HTTP):\n%s", path, diff)
		}
	}
	for path, want := range map[string]string{
		"format=csv&color=red":           "parameter \"color\": must be format, what, at, lang, bom or manifest\n",
		"format=csv&at=0":                "at \"0\": must be a position, from 1 on\n",
		"format=csv&format=pdf":          "parameter format: must be there once\n",
		"format=csv&bom=yes":             "bom \"yes\": must be true or false\n",
		"format=csv&manifest=beside":     "manifest \"beside\": must be only\n",
		"what=calls":                     "format \"\": must be csv, xlsx, pdf, parquet or json\n",
		"format=pdf&what=calls&lang=en":  "pdf has invoice only: ask for that, or another format\n",
		"format=parquet&what=calls&at=x": "at \"x\": must be a position, from 1 on\n",
	} {
		if response, body := get(path, ""); response.StatusCode != http.StatusBadRequest || string(body) != want {
			t.Errorf("%s: %s, %s", path, response.Status, body)
		}
	}
}

// TestBrokenDownload has the calls not add up once the file has begun: the client
// sees no end of it.
func TestBrokenDownload(t *testing.T) {
	d := newDesk(t, t.TempDir())
	example(d)
	why := make(chan error, 1)
	server := serve(t, other{d.explainer, func(s *projections.Statement) { s.Counts.InPool-- }}, func(err error) { why <- err })
	response, err := server.Client().Get(server.URL + "/v1/tenants/contoso/months/2026-10/export?format=csv&what=calls")
	if err == nil { // else nothing came at all
		defer func() { _ = response.Body.Close() }()
		if body, err := io.ReadAll(response.Body); err == nil {
			t.Errorf("a whole file came: %s", body)
		}
	}
	if err := <-why; !strings.Contains(err.Error(), "the statement counts") {
		t.Errorf("the log says %v", err)
	}
}
