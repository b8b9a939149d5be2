package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSwitchPages: a page in docs/switches shows its configuration files as they
// are, which are what the tests of real switches run.
func TestSwitchPages(t *testing.T) {
	files, err := filepath.Glob("../../docs/switches/*/*")
	if err != nil || len(files) < 2 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(filepath.Dir(file) + ".md")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(page), "\n```\n"+string(text)+"```\n") {
			t.Errorf("%s.md does not show %s as it is", filepath.Dir(file), filepath.Base(file))
		}
	}
}
