package export_test

import (
	"flag"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	// A month in all formats a check, and each is read back: few checks, and their seeds are printed.
	if err := flag.Set("rapid.checks", "20"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
