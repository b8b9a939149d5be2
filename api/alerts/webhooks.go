package alerts

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"tollbook/consumers"
)

// Limits of a webhooks file.
const (
	maxFileBytes = 1 << 20
	maxWebhooks  = 100 // each has a goroutine and some series of metrics
	maxSecrets   = 3   // while one takes the place of another
	maxURLBytes  = 2048

	// Of a secret, in bytes, by Standard Webhooks.
	minSecretBytes = 24
	maxSecretBytes = 64

	secretPrefix = "whsec_"
)

// A Webhook is where alerts are posted to.
type Webhook struct {
	Name    string   `json:"name"`              // in logs, metrics and the queue: [a-z0-9][a-z0-9-]{0,62}
	URL     string   `json:"url"`               // http or https; may have a secret in it, so it is never shown
	Secrets []string `json:"secrets"`           // whsec_ and base64 of 24 to 64 bytes; each signs
	Tenants []string `json:"tenants,omitempty"` // only theirs; none: those of all

	signers []*standardwebhooks.Webhook
}

// wants reports whether a tenant's alerts are for this webhook.
func (w *Webhook) wants(tenant string) bool {
	return len(w.Tenants) == 0 || slices.Contains(w.Tenants, tenant)
}

// Clear reports whether alerts would travel readable between machines.
func (w *Webhook) Clear() bool {
	u, err := url.Parse(w.URL)
	return err == nil && u.Scheme == "http" && !consumers.Loopback(u.Hostname())
}

// ReadWebhooks reads a webhooks file. Whatever is not understood is refused, in one
// line that never has a secret or an address in it.
func ReadWebhooks(path string) ([]Webhook, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", path)
	case info.Mode().Perm()&0o027 != 0:
		return nil, fmt.Errorf("%s has secrets in it and can be read or written by others (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path)
	case info.Size() > maxFileBytes:
		return nil, fmt.Errorf("%s has %d bytes: a webhooks file has at most %d", path, info.Size(), maxFileBytes)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFileBytes))
	if err != nil {
		return nil, err
	}
	hooks, err := parseWebhooks(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return hooks, nil
}

func parseWebhooks(data []byte) ([]Webhook, error) {
	var file struct {
		Webhooks []Webhook `json:"webhooks"`
	}
	if err := json.Unmarshal(data, &file, json.RejectUnknownMembers(true)); err != nil {
		return nil, fileError(err)
	}
	switch n := len(file.Webhooks); {
	case n == 0:
		return nil, errors.New(`webhooks: is missing or empty: must be a list such as {"webhooks":[{"name":"finance","url":"https://…","secrets":["whsec_…"]}]}`)
	case n > maxWebhooks:
		return nil, fmt.Errorf("webhooks: there are %d, and may be at most %d", n, maxWebhooks)
	}
	return file.Webhooks, prepare(file.Webhooks)
}

// prepare checks webhooks, and makes them ready to sign.
func prepare(hooks []Webhook) error {
	names := map[string]int{}
	for i := range hooks {
		w := &hooks[i]
		if err := w.prepare(); err != nil {
			return fmt.Errorf("webhooks[%d].%w", i, err)
		}
		if first, twice := names[w.Name]; twice {
			return fmt.Errorf("webhooks[%d].name: %q is the name of webhooks[%d] too", i, w.Name, first)
		}
		names[w.Name] = i
	}
	return nil
}

func (w *Webhook) prepare() error {
	u, err := url.Parse(w.URL)
	switch {
	case !consumers.ValidTenant(w.Name):
		return fmt.Errorf("name: %.80q: must be 1 to 63 of a-z, 0-9 and -, not beginning with -", w.Name)
	case err != nil || len(w.URL) > maxURLBytes || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return fmt.Errorf("url: must be https://host/path, or http://, of at most %d bytes", maxURLBytes)
	case u.User != nil || u.Fragment != "":
		return errors.New("url: must be without user@ and #: a receiver knows the engine by its signature")
	case len(w.Secrets) == 0 || len(w.Secrets) > maxSecrets:
		return fmt.Errorf("secrets: must be a list of 1 to %d", maxSecrets)
	}
	for i, tenant := range w.Tenants {
		if !consumers.ValidTenant(tenant) {
			return fmt.Errorf("tenants[%d]: %.80q: must be 1 to 63 of a-z, 0-9 and -, not beginning with -", i, tenant)
		}
	}
	w.signers = nil
	for i, secret := range w.Secrets {
		text, ok := strings.CutPrefix(secret, secretPrefix)
		key, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil || len(key) < minSecretBytes || len(key) > maxSecretBytes {
			return fmt.Errorf("secrets[%d]: must be %s and the base64 of %d to %d random bytes: echo %s$(openssl rand -base64 32)", i, secretPrefix, minSecretBytes, maxSecretBytes, secretPrefix)
		}
		signer, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return fmt.Errorf("secrets[%d]: %w", i, err)
		}
		w.signers = append(w.signers, signer)
	}
	return nil
}

// sign is the header webhook-signature of an attempt.
func (w *Webhook) sign(id string, at time.Time, body []byte) (string, error) {
	var all []string
	for _, signer := range w.signers {
		signature, err := signer.Sign(id, at, body)
		if err != nil {
			return "", err
		}
		all = append(all, signature)
	}
	return strings.Join(all, " "), nil
}

// fileError says where a file is wrong and nothing of what it says there.
func fileError(err error) error {
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		rule := "is not what belongs here"
		if errors.Is(err, json.ErrUnknownName) {
			rule = "unknown name"
		}
		where := strings.ReplaceAll(strings.TrimPrefix(string(semantic.JSONPointer), "/"), "/", ".")
		if where == "" {
			return fmt.Errorf("%s: must be an object with a list of webhooks", rule)
		}
		return fmt.Errorf("%.80q: %s: webhooks have a name, a url, a list of secrets and perhaps one of tenants", where, rule)
	}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		return fmt.Errorf("not valid JSON, at byte %d", syntactic.ByteOffset)
	}
	return errors.New("not valid JSON")
}
