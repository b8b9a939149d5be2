package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// TestPageChunks: a file of pages is sent row by row in requests of a bounded size,
// and one that breaks off says in which page.
func TestPageChunks(t *testing.T) {
	page := func(first, rows int) string {
		var b strings.Builder
		b.WriteString("{\n  \"value\": [")
		for i := range rows {
			fmt.Fprintf(&b, "%s{\n  \"id\": \"%d\"}", []string{"", ", "}[min(i, 1)], first+i)
		}
		return b.String() + "],\n  \"@odata.nextLink\": \"https://graph.microsoft.com/v1.0/\"}\n"
	}
	const pageRows = requestRecords/2 + 1
	whole := page(0, pageRows) + page(pageRows, pageRows) + page(0, 0)
	for _, c := range []struct {
		name, file string
		rows       int
		err        string
	}{
		{"pages", whole, 2 * pageRows, ""},
		{"no rows", page(0, 0), 0, ""},
		{"rows", `{"id":"0"}` + "\n" + `{"id":"1"}`, 2, ""},
		{"an array", `[{"id":"0"},` + "\n" + `{"id":"1"}]`, 2, ""},
		{"broken off", page(0, pageRows) + page(pageRows, 2)[:40], pageRows, "page 2: "},
		{"nothing", " \n", 0, "is empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := 0
			err := (&publishCmd{From: "graph"}).chunks(strings.NewReader(c.file), func(payload []byte) error {
				if n := bytes.Count(payload, []byte(`"id"`)); n == 0 || n > requestRecords || len(payload) > requestBytes+1 {
					t.Errorf("a request has %d rows in %d bytes", n, len(payload))
				} else {
					rows += n
				}
				return nil
			})
			if got := fmt.Sprint(err); rows != c.rows || (err == nil) != (c.err == "") || !strings.HasPrefix(got, c.err) && err != nil {
				t.Errorf("%d rows and %v, want %d and %q", rows, err, c.rows, c.err)
			}
		})
	}
}
