package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"

	"tollbook/api/finance"
	"tollbook/api/login"
	"tollbook/api/rest"
	"tollbook/api/web"
	"tollbook/cmd/tollbook/deckcsv"
	"tollbook/consumers"
)

// faces are the page and the HTTP API of the engine's desk.
func (e *Engine) faces() (*web.Page, *rest.API) {
	decks := &finance.DeckDesk{Book: e.Book, Months: e.Months, Intake: e.intake, Clock: e.config.Clock, Stages: finance.StagesOf(e.config.Dir, deckcsv.Parse)}
	page := web.Config{Desk: e.desk, Decks: decks, Program: version(), Who: e.visitor, Log: e.config.Log}
	programs := rest.Config{Desk: e.desk, Decks: decks, Program: version(), Who: e.visitor, Log: e.config.Log}
	if e.guard != nil {
		read := login.OpenLog(e.config.Dir, e.config.Clock, e.config.Log)
		e.stops = append(e.stops, read.Close)
		page.Guard, page.Read, programs.Read = e.guard, read.Read, read.Read
	}
	return web.New(page), rest.New(programs)
}

// visitor is who asks over HTTP. Where nobody has to say who they are, all may
// look, and who sits at this machine may act: by its own address, as a stranger's
// web page can have a name of its own lead here.
func (e *Engine) visitor(r *http.Request) (finance.Person, error) {
	if e.guard != nil {
		return e.guard.Who(r)
	}
	person := finance.Anybody
	listen, _, _ := net.SplitHostPort(e.config.HTTPListen)
	if local := consumers.Loopback(listen) && consumers.Loopback(hostOf(r)); !local {
		person.Name = ""
		person.MayNot = "the page does not know who you are: change things on this machine, at its loopback address, or with the commands, or give serve --auth"
		person.May = func(string) (read, act bool) { return true, false }
	}
	return person, nil
}

// hostOf is the host that a request was sent to, without its port.
func hostOf(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return strings.Trim(r.Host, "[]")
}

// healthz answers whether the engine can book what comes now.
func healthz(healthy func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}
