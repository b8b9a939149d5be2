package consumers_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tollbook/consumers"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

const (
	someKey     = "UCQGY34BUFOEAT2ZLDQRMZWA7Q4IQNODJXF5IUJCQQIR6C5BJZHTEHJY"
	anotherKey  = "UBOJEYC6FR6IBPK5CTAXRR5XNNWZX75DXJNZSREDZNTHCQNIA6WFXS2K"
	someHash    = "$2a$10$BROdIpK9YV60bjRXgXUSk.0uETCKkXE./ESpy2/xHmllmNjoj3NQy"
	someSwitch  = `{"name":"mil-1","role":"switch","tenant":"contoso","switch":"mil-1","nkey":"` + someKey + `"}`
	someReader  = `{"name":"bi","role":"reader","password":"` + someHash + `"}`
	someoneElse = `{"name":"anna","role":"operator","nkey":"` + anotherKey + `"}`
)

// someTokenHash is of some token.
const someTokenHash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// TestBadAccessFiles: each is refused in one line that says where; the lines are
// in testdata/access.txt.
func TestBadAccessFiles(t *testing.T) {
	users := func(users ...string) string { return `{"users":[` + strings.Join(users, ",\n ") + "]}\n" }
	but := func(user, old, new string) string {
		if !strings.Contains(user, old) {
			t.Fatalf("%s is not in %s", old, user)
		}
		return users(someoneElse, strings.Replace(user, old, new, 1))
	}
	path := filepath.Join(t.TempDir(), "auth.json")
	read := func(text string) (consumers.Access, error) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return consumers.ReadAccess(path)
	}
	for _, good := range []string{users(), users(someSwitch), users(someSwitch, someReader, someoneElse), "\n" + users(someReader) + "\n "} {
		if a, err := read(good); err != nil || len(a.Users) != strings.Count(good, "name") {
			t.Errorf("%s: %+v, %v", good, a, err)
		}
	}
	var text strings.Builder
	for _, bad := range []struct{ name, file string }{
		{"nothing", ""},
		{"not JSON", "users: []"},
		{"ends in the middle", "{\n\"users\":[\n" + someSwitch},
		{"more after the end", users() + "{}"},
		{"null", "null"},
		{"a token as it is", users(`{"name":"bi","role":"reader","token":"tb_secret"}`)},
		{"a token and a password", users(`{"name":"bi","role":"reader","token":"` + someTokenHash + `","password":"x"}`)},
		{"a token of a switch", users(`{"name":"bi","role":"switch","tenant":"contoso","switch":"mil-1","token":"` + someTokenHash + `"}`)},
		{"two with one token", users(`{"name":"bi","role":"reader","token":"`+someTokenHash+`"}`, `{"name":"bo","role":"reader","token":"`+someTokenHash+`"}`)},
		{"a tenant that can be none", users(`{"name":"bi","role":"reader","tenants":["A"],"token":"` + someTokenHash + `"}`)},
		{"tenants on NATS", users(`{"name":"bi","role":"reader","tenants":["contoso"],"nkey":"UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"}`)},
		{"metrics without a token", users(`{"name":"bi","role":"metrics","nkey":"UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"}`)},
		{"expires on no day", users(`{"name":"bi","role":"reader","expires":"soon","token":"` + someTokenHash + `"}`)},
		{"a list", "[" + someSwitch + "]"},
		{"no users", "{}"},
		{"users are null", `{"users":null}`},
		{"users are an object", `{"users":{}}`},
		{"an unknown name", `{"users":[],"accounts":[]}`},
		{"a name in capitals", `{"Users":[]}`},
		{"users twice", `{"users":[],"users":[]}`},
		{"a user is a name", `{"users":["anna"]}`},
		{"an unknown name of a user", but(someReader, `"role"`, `"roles"`)},
		{"a user's permissions", but(someReader, `"role"`, `"permissions":{"publish":[">"]},"role"`)},
		{"a name of a user twice", but(someReader, `"role"`, `"name":"bi","role"`)},
		{"a number for a name", but(someReader, `"bi"`, `7`)},
		{"a list of roles", but(someReader, `"reader"`, `["reader"]`)},
		{"bytes that are not UTF-8", but(someReader, `"bi"`, "\"b\xefi\"")},
		{"no name", but(someReader, `"name":"bi",`, ``)},
		{"a name with a dot", but(someReader, `"bi"`, `"b.i"`)},
		{"a name with a wildcard", but(someReader, `"bi"`, `"*"`)},
		{"a name in capitals", but(someReader, `"bi"`, `"BI"`)},
		{"a name too long", but(someReader, `"bi"`, `"`+strings.Repeat("x", 64)+`"`)},
		{"a name that begins with -", but(someReader, `"bi"`, `"-bi"`)},
		{"no role", but(someReader, `"role":"reader",`, ``)},
		{"an unknown role", but(someReader, `"reader"`, `"admin"`)},
		{"a role in capitals", but(someReader, `"reader"`, `"Reader"`)},
		{"a reader with a tenant", but(someReader, `"role"`, `"tenant":"contoso","role"`)},
		{"an operator with a switch", users(strings.Replace(someoneElse, `"role"`, `"switch":"mil-1","role"`, 1))},
		{"a switch without tenant", but(someSwitch, `"tenant":"contoso",`, ``)},
		{"a switch of all tenants", but(someSwitch, `"contoso"`, `"*"`)},
		{"a switch of two tokens", but(someSwitch, `"contoso"`, `"contoso.cdr"`)},
		{"a switch of no tenant", but(someSwitch, `"contoso"`, `"-"`)},
		{"no switch", but(someSwitch, `"switch":"mil-1",`, ``)},
		{"any switch", but(someSwitch, `"switch":"mil-1"`, `"switch":">"`)},
		{"a switch with a slash", but(someSwitch, `"switch":"mil-1"`, `"switch":"mil/1"`)},
		{"a switch with a space", but(someSwitch, `"switch":"mil-1"`, `"switch":"mil 1"`)},
		{"neither nkey nor password", but(someReader, `,"password":"`+someHash+`"`, ``)},
		{"nkey and password", but(someReader, `"password"`, `"nkey":"`+someKey+`","password"`)},
		{"a seed for an nkey", but(someSwitch, someKey, "SUAJHZIAXNCT62M6U22IOGTTN5PCRECAOCLXS6IGI6V7J3D2NXQQ5QK6GUEA")},
		{"an nkey with a letter changed", but(someSwitch, "UCQG", "UCQH")},
		{"an account's key", but(someSwitch, someKey, "A"+someKey[1:])},
		{"a password for a hash", but(someReader, someHash, "hunter2")},
		{"a hash that is cut", but(someReader, someHash, someHash[:59])},
		{"a hash that NATS takes for a password", but(someReader, "$2a$", "$2q$")},
		{"a hash that takes years", but(someReader, "$10$", "$31$")},
		{"two users of a name", users(someSwitch, someoneElse, strings.Replace(someReader, "bi", "mil-1", 1))},
		{"two users of a key", users(someSwitch, someReader, strings.Replace(someSwitch, `"mil-1"`, `"mil-2"`, 1))},
		{"a file too long", strings.Repeat(" ", 1<<20) + users()},
	} {
		a, err := read(bad.file)
		if err == nil || len(a.Users) > 0 {
			t.Errorf("%s: taken: %+v, %v", bad.name, a, err)
			continue
		}
		line, found := strings.CutPrefix(err.Error(), path)
		if !found || strings.ContainsAny(line, "\n\r") || strings.Contains(line, "hunter2") || strings.Contains(line, "SUAJ") {
			t.Errorf("%s: not one line about the file without its secrets: %q", bad.name, err)
		}
		fmt.Fprintf(&text, "case:    %s\nrefused: auth.json%s\n\n", bad.name, line)
	}
	golden := filepath.Join("testdata", "access.txt")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(golden, []byte(text.String()), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", golden, diff)
	}
}

// TestAccessFileOfOthers: a file that others can write says nothing about who may
// come in.
func TestAccessFileOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(path, []byte(`{"users":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o600, 0o400, 0o640, 0o644, 0o660, 0o620, 0o602, 0o666, 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := consumers.ReadAccess(path)
		if wants := mode&0o022 == 0; (err == nil) != wants {
			t.Errorf("mode %04o: %v, want it taken: %v", mode, err, wants)
		}
	}
	if _, err := consumers.ReadAccess(filepath.Dir(path)); err == nil {
		t.Error("a directory is taken for an access file")
	}
}

// TestEditAccess: an edit is whole or not at all, keeps the mode, and keeps a
// second editor out.
func TestEditAccess(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "auth.json")
	add := func(name string) func(*consumers.Access) error {
		return func(a *consumers.Access) error {
			a.Users = append(a.Users, consumers.User{Name: name, Role: consumers.RoleReader, Password: someHash})
			return nil
		}
	}
	holds := func(names ...string) {
		t.Helper()
		a, err := consumers.ReadAccess(path)
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, u := range a.Users {
			got = append(got, u.Name)
		}
		if diff := cmp.Diff(names, got); diff != "" {
			t.Errorf("users (-want +got):\n%s", diff)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("beside the file: %v, %v", entries, err)
		}
	}
	mode := func(want os.FileMode) {
		t.Helper()
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("mode %v, %v, want %v", info.Mode().Perm(), err, want)
		}
	}
	if err := consumers.EditAccess(path, add("a")); err != nil {
		t.Fatal(err)
	}
	holds("a")
	mode(0o600)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := consumers.EditAccess(path, add("b")); err != nil {
		t.Fatal(err)
	}
	holds("a", "b")
	mode(0o640)

	refusal := errors.New("not now")
	if err := consumers.EditAccess(path, func(*consumers.Access) error { return refusal }); !errors.Is(err, refusal) {
		t.Errorf("a refused edit: %v", err)
	}
	if err := consumers.EditAccess(path, add("a")); err == nil || !strings.Contains(err.Error(), "users[2].name") {
		t.Errorf("a second user of a name: %v", err)
	}
	holds("a", "b")

	err := consumers.EditAccess(path, func(*consumers.Access) error {
		err := consumers.EditAccess(path, add("c"))
		if err == nil || !strings.Contains(err.Error(), "another edits") {
			t.Errorf("two editors at once: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	holds("a", "b")

	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := consumers.EditAccess(path, add("d")); err == nil {
		t.Error("a file that can't be read is replaced")
	}
	if text, err := os.ReadFile(path); string(text) != "{" {
		t.Errorf("a file that can't be read is now %q, %v", text, err)
	}
}

// TestListenAddress: without users only this machine is listened to, whatever it
// is called.
func TestListenAddress(t *testing.T) {
	for _, row := range []struct{ listen, without, with string }{
		{"127.0.0.1:4222", "", ""},
		{"127.9.9.9:0", "", ""},
		{"localhost:4222", "", ""},
		{"[::1]:4222", "", ""},
		{"[::ffff:127.0.0.1]:4222", "", ""},
		{":4222", "without --auth", ""},
		{"0.0.0.0:4222", "without --auth", ""},
		{"[::]:4222", "without --auth", ""},
		{"10.0.0.1:4222", "without --auth", ""},
		{"localhost.example:4222", "without --auth", ""},
		{"128.0.0.1:4222", "without --auth", ""},
		{"4222", "must be host:port", "must be host:port"},
		{"127.0.0.1:nats", "the port must be", "the port must be"},
		{"127.0.0.1:65536", "the port must be", "the port must be"},
		{"127.0.0.1:-1", "the port must be", "the port must be"},
	} {
		for want, access := range map[*string]*consumers.Access{&row.without: nil, &row.with: {}} {
			err := consumers.ServerConfig{Listen: row.listen, Access: access, EngineKey: someKey}.Check()
			if *want == "" && err != nil || *want != "" && (err == nil || !strings.Contains(err.Error(), *want)) {
				t.Errorf("%s, users: %v: %v, want %q", row.listen, access != nil, err, *want)
			}
		}
	}
	if err := (consumers.ServerConfig{Listen: "127.0.0.1:0", Access: &consumers.Access{}}).Check(); err == nil {
		t.Error("a server with users is started without a key for the engine")
	}
}
