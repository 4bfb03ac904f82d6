// SPDX-License-Identifier: Apache-2.0

package servers

import (
	_ "embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed prosody.cfg.lua.tmpl
var prosodyTemplate string

//go:embed ejabberd.yml.tmpl
var ejabberdTemplate string

var templates = template.Must(template.Must(template.New("prosody").Parse(prosodyTemplate)).New("ejabberd").Parse(ejabberdTemplate))

// A layout says where a server finds its files and listens; it is what differs
// between a container and a process of this machine.
type layout struct {
	Dir     string // configuration and certificates, readable
	Data    string // accounts and state, writable
	Listen  string // address for clients, components and https
	S2S     string // address for other servers
	Ports   ports
	HTTPS   string // base URL of uploads as clients see it
	DNS     string // "host@port" of the resolver; empty is the system's
	LogFile string // empty is standard output
}

// ports are what a server listens on.
type ports struct {
	C2S, C2STLS, S2S, Component, HTTPS, API int
}

// config renders the configuration file of one server.
func config(f Flavour, o Options, l layout) ([]byte, error) {
	var b strings.Builder
	err := templates.ExecuteTemplate(&b, f.kind(), struct {
		Options
		Flavour    Flavour
		L          layout
		Rooms      string
		Debug      bool
		ListenErl  string
		HTTPSHost  string
		Components []Component
	}{o, f, l, "rooms." + o.Domain, debugServers(), "", strings.TrimSuffix(strings.TrimPrefix(l.HTTPS, "https://"), "/"), o.Components})
	if err != nil {
		return nil, fmt.Errorf("servers: writing the configuration of %s: %w", f, err)
	}
	return []byte(b.String()), nil
}
