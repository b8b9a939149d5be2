package export_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/digests-1.txt")

// TestDigests keeps the bytes of version 1 of every file: a library that is upgraded
// must not change what was exported.
func TestDigests(t *testing.T) {
	d := newDesk(t, t.TempDir())
	example(d)
	var got bytes.Buffer
	for _, q := range allQueries("2026-10") {
		_, m := d.export(q)
		fmt.Fprintf(&got, "%-8s%-8s%-3s%-6t %s %d\n", q.Format, q.What, q.Lang, q.BOM, m.Digest, m.Bytes)
	}
	path := filepath.Join("testdata", "digests-1.txt")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the bytes of exports have changed; if they must, that is another export.Version. Was\n%s\nis\n%s", want, got.String())
	}
}
