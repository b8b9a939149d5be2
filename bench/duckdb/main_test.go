package main

import (
	"context"
	"testing"

	"tollbook/cmd/tollbook/traffic"
)

// TestCompare: a month of 20,000 calls comes to the same in both ways.
func TestCompare(t *testing.T) {
	if err := compare(context.Background(), t.TempDir(), traffic.Month(7, 3000, 20_000), 1); err != nil {
		t.Fatal(err)
	}
}
