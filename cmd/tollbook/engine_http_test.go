package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestPatient: an answer that takes longer to make than a write may take is heard.
func TestPatient(t *testing.T) {
	for _, c := range []struct {
		name string
		wrap func(http.Handler) http.Handler
		want string
	}{
		{"patient", patient, "at last"},
		{"not", func(h http.Handler) http.Handler { return h }, ""},
	} {
		server := httptest.NewUnstartedServer(c.wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(300 * time.Millisecond)
			_, _ = io.WriteString(w, "at last")
		})))
		server.Config.WriteTimeout = 100 * time.Millisecond
		server.Start()
		got := ""
		if response, err := http.Get(server.URL); err == nil {
			text, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			got = string(text)
		}
		if server.Close(); got != c.want {
			t.Errorf("%s: heard %q, want %q", c.name, got, c.want)
		}
	}
}
