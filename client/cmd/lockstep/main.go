// SPDX-License-Identifier: Apache-2.0

// Command lockstep is end-to-end encrypted groups on XMPP for a person at a
// terminal, and for scripts.
//
//	lockstep demo                    a story on this machine: needs nothing
//	lockstep chat                    talk
//	lockstep send GROUP TEXT         say one thing
//	lockstep listen --json           what is said, line by line
//	lockstep group create NAME       and invite, remove, role, leave …
//	lockstep device list             this account's devices
//	lockstep verify JID              compare keys
//	lockstep doctor                  what is wrong
//
// The account comes from --account, $LOCKSTEP_ACCOUNT or the configuration
// file; the password from a prompt, $LOCKSTEP_PASSWORD or a file, never from an
// argument, which every process on the machine can read.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
)

// cli is the command line. Options of the account can also come from the
// environment and the configuration file, in that order.
type cli struct {
	Account      string   `short:"a" placeholder:"JID" env:"LOCKSTEP_ACCOUNT" help:"The account, such as romeo@montague.lit."`
	PasswordFile string   `placeholder:"FILE" env:"LOCKSTEP_PASSWORD_FILE" help:"Read the password from FILE. Default: $$LOCKSTEP_PASSWORD, or a prompt."`
	Server       string   `placeholder:"HOST:PORT" env:"LOCKSTEP_SERVER" help:"Connect there instead of where DNS says."`
	DirectTLS    bool     `name:"direct-tls" env:"LOCKSTEP_DIRECT_TLS" help:"The server expects TLS at once."`
	Plaintext    bool     `env:"LOCKSTEP_PLAINTEXT" help:"Go on without TLS. Only for a server on this machine."`
	CAFile       string   `name:"ca-file" placeholder:"FILE" env:"LOCKSTEP_CA_FILE" help:"Trust the certificate authorities in FILE, PEM, and no others."`
	Service      string   `placeholder:"JID" env:"LOCKSTEP_SERVICE" help:"The delivery service. Default: discovered."`
	Suites       []string `placeholder:"SUITE" env:"LOCKSTEP_SUITES" help:"Numbers of further cipher suites in which others can add this device, such as 0x0003. Default: 0x0001."`
	State        string   `placeholder:"FILE" env:"LOCKSTEP_STATE" help:"Where keys and groups are kept. Default: in $$XDG_DATA_HOME/lockstep."`
	StateKeyFile string   `name:"state-key-file" placeholder:"FILE" env:"LOCKSTEP_STATE_KEY_FILE" help:"Encrypt the state with the 32-byte key in FILE, 64 hexadecimal digits."`
	Strict       bool     `env:"LOCKSTEP_STRICT" help:"Trust only verified devices."`
	Config       string   `placeholder:"FILE" env:"LOCKSTEP_CONFIG" help:"Configuration file. Default: $$XDG_CONFIG_HOME/lockstep/config.toml."`
	Verbose      bool     `short:"v" help:"Tell on standard error what happens."`

	Demo    demoCmd    `cmd:"" help:"Play a short story on this machine that shows what lockstep does, and check it."`
	Chat    chatCmd    `cmd:"" help:"Talk in a terminal window."`
	Send    sendCmd    `cmd:"" help:"Send one message, or each line of standard input."`
	Listen  listenCmd  `cmd:"" help:"Write what is said, one line for each message."`
	Group   groupCmd   `cmd:"" help:"List and change groups."`
	Device  deviceCmd  `cmd:"" help:"List and remove this account's devices."`
	Verify  verifyCmd  `cmd:"" help:"Show and compare keys."`
	Doctor  doctorCmd  `cmd:"" help:"Look for what is wrong and say what to do."`
	Version versionCmd `cmd:"" help:"Show the version."`
}

// app is what commands run on.
type app struct {
	cli *cli
	in  io.Reader
	out io.Writer
	err io.Writer
	ctx context.Context
}

// errQuiet ends the program with status 1 and no more words.
var errQuiet = errors.New("")

func main() {
	if arg := os.Getenv(demoEnv); arg != "" {
		if err := demoService(arg); err != nil {
			fmt.Fprintln(os.Stderr, "lockstep: delivery service:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process: it returns the exit status.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &cli{}
	exit := -1
	parser, err := kong.New(c,
		kong.Name("lockstep"),
		kong.Description("End-to-end encrypted groups on XMPP. Try: lockstep demo"),
		kong.UsageOnError(),
		kong.Writers(out, errOut),
		kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
	)
	if err != nil {
		fmt.Fprintln(errOut, "lockstep: internal error:", err)
		return 2
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if exit >= 0 {
		return exit // --help
	}
	if err != nil {
		fmt.Fprintf(errOut, "lockstep: error: %v\n", err)
		fmt.Fprintf(errOut, "lockstep: hint: %s --help says what can be given\n", commandOf(err))
		return 2
	}
	a := &app{cli: c, in: in, out: out, err: errOut, ctx: ctx}
	if err := k.Run(a); err != nil {
		if !errors.Is(err, errQuiet) || err.Error() != "" {
			fmt.Fprintf(errOut, "lockstep: error: %v\n", strip(err))
			if h := hint(err); h != "" {
				fmt.Fprintf(errOut, "lockstep: hint: %s\n", h)
			}
		}
		return 1
	}
	return 0
}

// commandOf is as much of the command as was understood.
func commandOf(err error) string {
	var pe *kong.ParseError
	if errors.As(err, &pe) && pe.Context != nil {
		if n := pe.Context.Selected(); n != nil {
			return n.FullPath()
		}
	}
	return "lockstep"
}

// packages are the names that this program's errors begin with.
var packages = strings.NewReplacer(": client: ", ": ", "(last: client: ", "(last: ", ": store: ", ": ", ": stanza: ", ": ")

// strip takes package names out: a person reads this.
func strip(err error) string { return strings.TrimPrefix(packages.Replace(": "+err.Error()), ": ") }

// hint says what to do about an error, where that can be said.
func hint(err error) string {
	var auth *client.AuthError
	var untrusted *client.UntrustedError
	var queued *client.QueuedError
	var cert *tls.CertificateVerificationError
	var noHost *net.DNSError
	var noRoute *net.OpError
	switch {
	case errors.As(err, &auth):
		return "check the password: $LOCKSTEP_PASSWORD, --password-file, or the prompt"
	case errors.As(err, &untrusted):
		return "lockstep verify shows keys to compare; lockstep verify JID --trust FINGERPRINT accepts one"
	case errors.As(err, &queued):
		return "it goes out when a lockstep command of this account is online again; do not send it twice"
	case errors.As(err, &cert):
		return "look at the certificate's dates and names, and at this machine's clock; an authority of one's own is named with --ca-file"
	case errors.As(err, &noHost):
		return "look at the account's domain, or name the server with --server HOST:PORT"
	case errors.As(err, &noRoute):
		return "look whether the server runs and is at --server HOST:PORT; lockstep doctor goes through the steps"
	case errors.Is(err, syscall.ENOSPC), strings.Contains(err.Error(), "disk is full"):
		return "make room on the disk, or keep the state elsewhere with --state FILE"
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return "the state must be where this user may write: --state FILE"
	case errors.Is(err, store.ErrLocked):
		return "another lockstep runs with this account's state; end it, or give this one its own device with --state FILE"
	case errors.Is(err, client.ErrNoService):
		return "ask the server's operator for a lockstep delivery service, or name one elsewhere with --service"
	case errors.Is(err, client.ErrNotMember):
		return "lockstep group list shows the groups of this device"
	}
	return ""
}

type versionCmd struct{}

// Run shows the version.
func (versionCmd) Run(a *app) error {
	version, revision := "devel", ""
	if bi, ok := debug.ReadBuildInfo(); ok {
		if v := bi.Main.Version; v != "" && v != "(devel)" {
			version = v
		}
		for _, s := range bi.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				revision = " " + s.Value[:12]
			}
		}
		fmt.Fprintf(a.out, "lockstep %s%s %s\n", version, revision, bi.GoVersion)
		return nil
	}
	fmt.Fprintln(a.out, "lockstep", version)
	return nil
}
