package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestLog: the log is text or JSON, and masks the numbers that others send.
func TestLog(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		ready, log := serveWith(t, "--log-format", format, "--nats-listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
		page := regexp.MustCompile(`page (\S+?)[;\s]`).FindStringSubmatch(ready)[1]
		post(t, http.DefaultClient, page+"/v1/cdr/contoso/avaya/393331234567", jsonEvent, "{}")
		lines := strings.Split(strings.TrimSpace(log()), "\n")
		for _, line := range lines {
			if strings.Contains(line, "393331234567") {
				t.Errorf("a number: %s", line)
			}
			if strings.HasPrefix(line, "{") != (format == "json") {
				t.Errorf("--log-format %s writes %s", format, line)
			}
			if format == "json" {
				if fields := decoded[map[string]any](t, line); fields["time"] == nil || fields["level"] == nil || fields["msg"] == nil {
					t.Errorf("%s has no time, level or msg", line)
				}
			}
		}
		if !strings.Contains(strings.Join(lines, "\n"), "HTTP request refused") {
			t.Errorf("the refusal was not logged: %q", lines)
		}
	}
	refused(t, exitUsage, "--log-format", "serve", "--data", t.TempDir(), "--log-format", "xml")

	var out bytes.Buffer
	for _, key := range foreign {
		logFormat{}.logger(&out).Warn("x", key, "tollbook.contoso.cdr.kamailio.393331234567")
	}
	if masked := strings.Count(out.String(), "kamailio.39333*******"); masked != len(foreign) {
		t.Errorf("of %d keys %d are masked: %s", len(foreign), masked, out.String())
	}
}

// otherLogs are the files of commands other than serve, and those that log through
// Watermill, in its form.
var otherLogs = regexp.MustCompile(`consumers/follow/|cmd/tollbook/follow|consumers/jetstream/|_test\.go$`)

// TestLogKeys: what serve and its parts log has a key for each value, and
// docs/METRICS.md says what it is.
func TestLogKeys(t *testing.T) {
	page, err := os.ReadFile("../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*`) \\|").FindAllStringSubmatch(string(page[bytes.Index(page, []byte("\n## Logs\n")):]), -1) {
		for _, key := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			known = append(known, key[1])
		}
	}
	files, lines := token.NewFileSet(), 0
	err = filepath.WalkDir("../..", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || otherLogs.MatchString(filepath.ToSlash(file)) {
			return err
		}
		tree, err := parser.ParseFile(files, file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !logs(call) {
				return true
			}
			lines++
			if len(call.Args)%2 == 0 {
				t.Errorf("%s: a message and pairs of key and value", files.Position(call.Pos()))
			}
			for i := 1; i < len(call.Args); i += 2 {
				literal, ok := call.Args[i].(*ast.BasicLit)
				if !ok {
					t.Errorf("%s: the key is no literal", files.Position(call.Args[i].Pos()))
					continue
				}
				if key, err := strconv.Unquote(literal.Value); err != nil || !slices.Contains(known, key) {
					t.Errorf("%s: docs/METRICS.md does not say what %s is", files.Position(literal.Pos()), literal.Value)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if lines < 20 || len(known) == 0 {
		t.Errorf("%d lines are logged, with %d keys: they are not found", lines, len(known))
	}
}

// logs reports whether a call is of a method of a *slog.Logger, which here is called
// log, Log or notes.
func logs(call *ast.CallExpr) bool {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, method.Sel.Name) {
		return false
	}
	name := ""
	switch of := method.X.(type) {
	case *ast.Ident:
		name = of.Name
	case *ast.SelectorExpr:
		name = of.Sel.Name
	}
	return slices.Contains([]string{"log", "Log", "notes"}, name)
}
