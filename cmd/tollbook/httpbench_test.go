package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"tollbook/api"
	"tollbook/consumers"
	"tollbook/domain"
)

// BenchmarkHTTP books records of mod_json_cdr (9 KB) one a request, each answered once
// it is on disk, by senders that each keep a connection: over HTTP, and the same as
// requests over NATS.
func BenchmarkHTTP(b *testing.B) {
	record, err := os.ReadFile("../../consumers/cdr/testdata/freeswitch/full.json")
	if err != nil {
		b.Fatal(err)
	}
	senders := map[string]func(b *testing.B, e *Engine) func(body []byte) error{
		"http": func(_ *testing.B, e *Engine) func([]byte) error {
			client := &http.Client{Transport: &http.Transport{}}
			return func(body []byte) error {
				response, err := client.Post(e.HTTPAddress+"/v1/cdr/acme/freeswitch/fs-a", "application/json", bytes.NewReader(body))
				if err != nil {
					return err
				}
				defer func() { _ = response.Body.Close() }()
				if _, err = io.Copy(io.Discard, response.Body); response.StatusCode != http.StatusOK {
					return fmt.Errorf("%s", response.Status)
				}
				return err
			}
		},
		"nats": func(b *testing.B, e *Engine) func([]byte) error {
			nc, err := nats.Connect(e.NATSAddress)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(nc.Close)
			client := api.NewClient(nc)
			return func(body []byte) error {
				_, err := client.Publish(context.Background(), consumers.CDRSubject("acme", "freeswitch", "fs-a"), body)
				return err
			}
		},
	}
	for _, by := range []string{"http", "nats"} {
		for _, n := range []int{16, 64, 256} {
			b.Run(fmt.Sprintf("%s/senders=%d", by, n), func(b *testing.B) {
				engine, err := StartEngine(b.Context(), EngineConfig{
					Dir: b.TempDir(), NATSListen: "127.0.0.1:0", HTTPListen: "127.0.0.1:0", Clock: clock, Log: slog.New(slog.DiscardHandler),
				})
				if err != nil {
					b.Fatal(err)
				}
				if got := post(b, http.DefaultClient, engine.HTTPAddress+"/v1/events", jsonEvent, strings.TrimSpace(string(ndjson([]domain.Event{fsA("freeswitch")})))); got.receipt.Booked != 1 {
					b.Fatal(got.outcome())
				}
				var last atomic.Int64
				var all sync.WaitGroup
				b.ResetTimer()
				for range n {
					send := senders[by](b, engine)
					body := bytes.Clone(record)
					ids := idsIn(body)
					all.Go(func() {
						for i := last.Add(1); i <= int64(b.N); i = last.Add(1) {
							for _, id := range ids {
								copy(id, fmt.Sprintf("%08x", i))
							}
							if err := send(body); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
				if head := engine.Book.Head(); head.Events != uint64(b.N)+1 {
					b.Errorf("%d events are booked, want %d", head.Events, b.N+1)
				} else {
					b.ReportMetric(float64(b.N)/float64(head.Block), "records/block")
				}
				if err := engine.Stop(); err != nil {
					b.Error(err)
				}
			})
		}
	}
}

// idsIn are the places in a record of fs-a where the leg's id begins.
func idsIn(record []byte) (ids [][]byte) {
	id := []byte("7e40b3c1-668e-4826-a8ee-f16d40a89463")
	for at := 0; ; {
		i := bytes.Index(record[at:], id)
		if i < 0 {
			return ids
		}
		ids = append(ids, record[at+i:at+i+len(id)])
		at += i + len(id)
	}
}
