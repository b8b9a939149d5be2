//go:build openapi

package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// generator makes Go clients of OpenAPI documents; go run fetches it from the module proxy.
const generator = "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2"

// reads prints the total of the first invoice of a month, with the generated client.
const reads = `package main

import (
	"context"
	"fmt"
	"os"

	"example.com/reads/client"
)

func main() {
	c, err := client.NewClientWithResponses(os.Args[1])
	if err != nil {
		panic(err)
	}
	month, err := c.GetMonthWithResponse(context.Background(), "contoso", "2026-10", nil)
	if err != nil {
		panic(err)
	}
	if month.JSON200 == nil {
		panic(month.Status())
	}
	for _, i := range month.JSON200.Invoices {
		fmt.Println(i.Country, i.Plan, i.Currency, i.Total)
	}
}
`

// TestGeneratedClient: a client that a public generator makes of the OpenAPI
// document compiles, and reads a month of a real engine.
func TestGeneratedClient(t *testing.T) {
	r := newHTTPRig(t)
	r.book(licensed("contoso")...)
	r.book(someCall("contoso", "a", "user000@contoso.example", 9000))
	document := askHTTP(t, http.DefaultClient, r.HTTPAddress+"/api/openapi.json", "", "")
	if document.status != http.StatusOK {
		t.Fatalf("%d %s", document.status, document.text)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/reads\n\ngo 1.26.0\n", "main.go": reads, "openapi.json": document.text,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "client"), 0o700); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		t.Helper()
		command := exec.Command(name, args...)
		command.Dir, command.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod")
		var problems strings.Builder
		command.Stderr = &problems
		out, err := command.Output()
		if err != nil {
			t.Fatalf("%s %s: %v: it needs Go and a module proxy\n%s%s", name, strings.Join(args, " "), err, out, problems.String())
		}
		return string(out)
	}
	run("go", "run", generator, "-generate", "types,client", "-package", "client", "-o", "client/client.gen.go", "openapi.json")
	run("go", "get", "./...")
	got := run("go", "run", ".", r.HTTPAddress)
	if want := "IT DOMESTIC_120 "; !strings.Contains(got, want) {
		t.Errorf("the client reads %q, want %q in it", got, want)
	}
	t.Logf("the generated client reads: %s", got)
}
