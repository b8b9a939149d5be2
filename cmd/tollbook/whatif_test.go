package main

import (
	"os"
	"testing"
)

// TestWhatIfStory asks what a month would have been, and what would have been the
// cheapest.
func TestWhatIfStory(t *testing.T) {
	r, clock := newRigAt(t, "2026-08-28T12:00:00Z")
	text, err := os.ReadFile("testdata/whatif.txt")
	if err != nil {
		t.Fatal(err)
	}
	s := newStory(t, "testdata/whatif", "TOLLBOOK_NATS="+r.NATSAddress, "DATA="+r.dir)
	s.clock = clock
	golden(t, "whatif.txt", s.tell(string(text)))
}

func TestWhatIfUsage(t *testing.T) {
	dir := t.TempDir()
	broken := writeFile(t, "scenario.json", []byte(`{"tenant":"contoso","month":"2026-10","licenses":[]}`))
	prices := writeFile(t, "prices.csv", []byte("plan,country,price,currency\nPAYG,IT,0.50,EUR\nPAYG,FR,\"0,50\",EUR\n"))
	ask := func(name string, rest ...string) []string {
		return append([]string{name, "--data", dir, "--tenant", "contoso", "--month", "2026-10"}, rest...)
	}
	refused(t, exitUsage, "--tenant", "what-if", "--data", dir)
	refused(t, exitUsage, "--month", "what-if", "--data", dir, "--tenant", "contoso", "--month", "October")
	refused(t, exitUsage, "--currency", ask("what-if", "--currency", "euro")...)
	refused(t, exitUsage, "--by", ask("right-size", "--by", "price")...)
	refused(t, exitUsage, "--trials 0", ask("right-size", "--trials", "0")...)
	refused(t, exitFailed, "--add \"DOMESTIC_10\"", ask("what-if", "--add", "DOMESTIC_10")...)
	refused(t, exitFailed, "--deck \"standard\"", ask("what-if", "--deck", "standard")...)
	refused(t, exitFailed, "--grant \"any\"", ask("what-if", "--grant", "any")...)
	refused(t, exitFailed, "licenses", "what-if", "--data", dir, "--scenario", broken)
	refused(t, exitFailed, "line 3: price of PAYG in FR", ask("right-size", "--prices", prices)...)
	refused(t, exitFailed, "line 2: price of PAYG in it", ask("right-size", "--prices", writeFile(t, "lower.csv", []byte("plan,country,price,currency\nPAYG,it,0.50,EUR\n")))...)
	refused(t, exitFailed, "there is no book in "+dir, ask("what-if")...)
	refused(t, exitFailed, "there is no book in "+dir, ask("right-size")...)
}
