// SPDX-License-Identifier: Apache-2.0

// Command lockstepd is an MLS delivery service for XMPP. It attaches to a
// Prosody or ejabberd as an external component (XEP-0114), and every user of
// that server, and of servers federated with it, can have end-to-end encrypted
// groups.
//
//	lockstepd serve                        run the service
//	lockstepd check                        say what is wrong with the setup, and what to do
//	lockstepd config                       print every option, its default and its meaning
//	lockstepd group list                   list groups
//	lockstepd group show JID               show a group (never its content)
//	lockstepd user show JID                show an account's devices and groups
//	lockstepd user purge JID               remove an account and its devices from their groups
//	lockstepd backup FILE                  copy the store while it is in use
//	lockstepd version
//
// Options come from flags, then from the environment (LOCKSTEPD_…), then from the
// configuration file (--config, or /etc/lockstep/lockstepd.toml if it is there),
// then from the defaults. Secrets never come from flags.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/lockstep-im/lockstep/component"
)

// cli is the command line.
type cli struct {
	Config  string `help:"Configuration file." type:"path" env:"LOCKSTEPD_CONFIG" placeholder:"FILE"`
	Options `embed:""`

	Serve    serveCmd   `cmd:"" help:"Run the service."`
	Check    checkCmd   `cmd:"" help:"Say what is wrong with configuration, store, link, secret and clock, and what to do."`
	Health   healthCmd  `cmd:"" help:"Ask the running service whether it is well, for health checks of containers."`
	Print    printCmd   `cmd:"" name:"config" help:"Print every option with its value and meaning, as a configuration file."`
	Group    groupCmd   `cmd:"" help:"Look at groups (never at their content)."`
	User     userCmd    `cmd:"" help:"Look at accounts, or purge them."`
	Report   reportCmd  `cmd:"" help:"Look at reports of abuse, broken commits and forks, or delete them."`
	Backup   backupCmd  `cmd:"" help:"Copy the store to a new file while it is in use."`
	Version_ versionCmd `cmd:"" name:"version" help:"Print the version."`
}

// env is what commands work with.
type env struct {
	opts   *Options
	file   string // configuration file in use, "" if none
	stdout io.Writer
	stderr io.Writer
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main with everything that a test wants to replace.
func run(args []string, stdout, stderr io.Writer) int {
	var c cli
	file, explicit := configFile(args)
	res, err := newFileResolver(file, explicit)
	if err != nil {
		return fail(stderr, err)
	}
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("lockstepd"),
		kong.Description("An MLS delivery service for XMPP: end-to-end encrypted groups on the Prosody or ejabberd that you already run."),
		kong.UsageOnError(), kong.Writers(stdout, stderr), kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Resolvers(res),
	)
	if err != nil {
		return fail(stderr, err)
	}
	if err := res.check(parser.Model.Node); err != nil {
		return fail(stderr, err)
	}
	ctx, err := parser.Parse(args)
	if exit >= 0 {
		return exit // help was asked for
	}
	if err != nil {
		fmt.Fprintf(stderr, "lockstepd: error: %s\n", strings.TrimPrefix(err.Error(), "lockstepd: "))
		fmt.Fprintln(stderr, "lockstepd: hint: lockstepd --help lists commands and flags")
		return 2
	}
	if err := ctx.Run(&env{opts: &c.Options, file: res.path, stdout: stdout, stderr: stderr}); err != nil {
		return fail(stderr, err)
	}
	return 0
}

// hinted is an error that says what to do.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

func withHint(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// fail prints an error with its hint.
func fail(w io.Writer, err error) int {
	fmt.Fprintf(w, "lockstepd: error: %s\n", err)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(w, "lockstepd: hint: %s\n", hint)
	}
	return 1
}

func hintOf(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	var se *component.StreamError
	if errors.As(err, &se) {
		return se.Hint()
	}
	return ""
}

type versionCmd struct{}

func (versionCmd) Run(e *env) error {
	fmt.Fprintln(e.stdout, "lockstepd", version())
	return nil
}

// version is that of the module, or the revision that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	rev, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			rev = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+"
		}
	}
	if rev == "" {
		return "devel"
	}
	return "devel-" + rev + dirty
}
