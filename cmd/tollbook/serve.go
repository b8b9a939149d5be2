package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"tollbook/api/alerts"
)

// serveCmd runs the engine until it is told to stop (SIGINT, SIGTERM) or a part
// of it fails; then it exits with 1, and starting it again carries on.
type serveCmd struct {
	Data       string        `required:"" type:"path" placeholder:"DIR" help:"Data directory; made if missing. One engine at a time may have it."`
	NATSListen string        `name:"nats-listen" default:"127.0.0.1:4222" help:"Where the embedded NATS server listens."`
	NATS       string        `name:"nats" placeholder:"URL" help:"Use this NATS server (with JetStream) instead of the embedded one."`
	NATSSync   time.Duration `name:"nats-sync" default:"0s" help:"How long a message that the embedded NATS has acknowledged may be out of reach of a power cut; 0: on disk first."`
	HTTP       string        `name:"http" default:"127.0.0.1:8080" help:"Where the page and the HTTP intake listen; empty: neither."`
	HTTPRate   int           `name:"http-rate" default:"2000" help:"Requests a second that each user of --auth may post over HTTP; 0: no limit."`
	Mirror     string        `type:"path" placeholder:"DIR" help:"Keep a second copy of the book here, at best on another disk; made if missing."`
	Webhooks   string        `type:"path" placeholder:"FILE" help:"Where to post alerts to, of which tenants, signed with which secrets: see docs/OPERATING.md."`
	logFormat
	serveAccess
	natsLogin
}

// Validate refuses what is no rate.
func (c *serveCmd) Validate() error {
	if c.HTTPRate < 0 {
		return fmt.Errorf("--http-rate %d: must be 0 or more requests a second", c.HTTPRate)
	}
	return nil
}

func (c *serveCmd) Run(ctx context.Context, std Streams) error {
	log := c.logger(std.Err)
	config := EngineConfig{
		Dir: c.Data, NATSListen: c.NATSListen, NATSURL: c.NATS, Login: c.natsLogin, NATSSync: c.NATSSync, HTTPListen: c.HTTP, HTTPRate: c.HTTPRate,
		Mirror: c.Mirror, Clock: clock, Log: log,
	}
	if err := c.serveAccess.read(&config); err != nil {
		return err
	}
	if c.Webhooks != "" {
		hooks, err := alerts.ReadWebhooks(c.Webhooks)
		if err != nil {
			return fmt.Errorf("--webhooks: %w", err)
		}
		config.Webhooks = hooks
	}
	loading := newProgress(std, "reading the book", 0, "events")
	config.Loading = loading.set
	engine, err := StartEngine(ctx, config)
	loading.finish()
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	head := engine.Book.Head()
	fmt.Fprintf(std.Out, "tollbook %s is ready: book %s at position %d (block %d, %s), NATS %s, page %s%s\n",
		version(), c.Data, head.Events, head.Block, head, engine.NATSAddress, orNone(engine.HTTPAddress), config.openTo())
	engine.tellKey(std.Out)
	err = engine.Wait(ctx)
	if err == nil {
		fmt.Fprintln(std.Out, "stopping")
	}
	err = errors.Join(err, engine.Stop())
	if err == nil {
		err = engine.Book.Err() // the last append may have failed while it stopped
	}
	return err
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// healthCmd is for containers, whose image has no other program.
type healthCmd struct {
	HTTP string `name:"http" default:"http://127.0.0.1:8080" help:"Where the engine's page is."`
}

func (c *healthCmd) Run(ctx context.Context, std Streams) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.HTTP+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("--http %q: %w", c.HTTP, err)
	}
	// What is asked is no secret, and this machine's name is seldom in the certificate.
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("the engine does not answer: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the engine answers %s", response.Status)
	}
	fmt.Fprintln(std.Out, "ok")
	return nil
}
