// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/mls"
)

// Options is every option, named once: as the flag --some-name, in the
// environment as LOCKSTEPD_SOME_NAME, in the file as some-name.
type Options struct {
	Domain     string `help:"JID of the component, as mls.example.org." env:"LOCKSTEPD_DOMAIN" placeholder:"DOMAIN"`
	Server     string `help:"The server's component listener: host:port, tls://host:port or unix:///path." env:"LOCKSTEPD_SERVER" default:"localhost:5347" placeholder:"ADDRESS"`
	ServerCA   string `name:"server-ca" help:"PEM file with the certificate authorities for tls:// servers; empty: the system's." env:"LOCKSTEPD_SERVER_CA" type:"path" placeholder:"FILE"`
	SecretFile string `help:"File with the secret shared with the server. Or set LOCKSTEPD_SECRET." env:"LOCKSTEPD_SECRET_FILE" type:"path" placeholder:"FILE"`
	Store      string `help:"Where everything is kept: a file (SQLite), or postgres://…" env:"LOCKSTEPD_STORE" default:"/var/lib/lockstep/lockstep.db" placeholder:"STORE"`
	StoreFile  string `help:"File with the value of store, if that holds a password." env:"LOCKSTEPD_STORE_FILE" type:"path" placeholder:"FILE"`
	HTTP       string `name:"http" help:"Address for /metrics and /healthz; empty: none." env:"LOCKSTEPD_HTTP" default:"127.0.0.1:5290" placeholder:"ADDRESS"`
	LogLevel   string `help:"Least level that is logged: debug, info, warn, error." env:"LOCKSTEPD_LOG_LEVEL" enum:"debug,info,warn,error" default:"info"`
	LogFormat  string `help:"Format of logs: text or json." env:"LOCKSTEPD_LOG_FORMAT" enum:"text,json" default:"text"`

	Name        string            `help:"Name shown to people." env:"LOCKSTEPD_NAME" default:"MLS groups"`
	Serves      []string          `help:"Domains whose accounts are local; empty: the parent of domain." env:"LOCKSTEPD_SERVES" placeholder:"DOMAIN"`
	Admins      []string          `help:"Bare JIDs of operators, who may use ad-hoc commands." env:"LOCKSTEPD_ADMINS" placeholder:"JID"`
	Contact     map[string]string `help:"Contact addresses (XEP-0157), as abuse-addresses=mailto:abuse@example.org." env:"LOCKSTEPD_CONTACT" placeholder:"KIND=URI"`
	Create      string            `help:"Who may create groups: nobody, local-users, anyone." env:"LOCKSTEPD_CREATE" enum:"nobody,local-users,anyone" default:"local-users"`
	RandomNames bool              `help:"Choose the JIDs of groups at random." env:"LOCKSTEPD_RANDOM_NAMES"`
	Consent     string            `help:"Who may add users that have not said so themselves: anyone, same-domain, allowlist." env:"LOCKSTEPD_CONSENT" default:"anyone"`
	Suites      []string          `help:"Cipher suites accepted, by number; empty: all." env:"LOCKSTEPD_SUITES" placeholder:"SUITE"`

	Nudge      string        `help:"How absent accounts are told: stored (push-friendly), live, off (clients poll)." env:"LOCKSTEPD_NUDGE" enum:"stored,live,off" default:"stored"`
	NudgeDelay time.Duration `help:"Largest random delay of a nudge, so that its moment says little about who spoke." env:"LOCKSTEPD_NUDGE_DELAY" default:"30s"`
	NudgeBody  string        `help:"Text of a stored nudge." env:"LOCKSTEPD_NUDGE_BODY" default:"New encrypted message"`
	Multicast  string        `help:"JID of a multicast service (XEP-0033); empty: look for one; none: do not." env:"LOCKSTEPD_MULTICAST" placeholder:"JID"`

	KeepSenders           bool `help:"Store with each message who sent it (needed to act on reports; the log then says who spoke)." env:"LOCKSTEPD_KEEP_SENDERS"`
	RequireExternalSender bool `help:"Refuse new groups in which the service cannot propose removals." env:"LOCKSTEPD_REQUIRE_EXTERNAL_SENDER"`

	Limits limits `embed:"" prefix:"limits-" envprefix:"LOCKSTEPD_LIMITS_"`
}

// limits are those of component.Limits; zero means its default.
type limits struct {
	MaxStanza         int           `help:"Largest stanza, in bytes." env:"MAX_STANZA" default:"500000"`
	MaxPage           int           `help:"Largest page, message or inline commit, in bytes." env:"MAX_PAGE" default:"49152"`
	MaxArtifact       int           `help:"Largest staged Welcome or GroupInfo, in bytes." env:"MAX_ARTIFACT" default:"8388608"`
	StageQuota        int64         `help:"Staged bytes per account." env:"STAGE_QUOTA" default:"16777216"`
	MaxKeyPackages    int           `help:"Key packages kept per device." env:"MAX_KEY_PACKAGES" default:"200"`
	TargetKeyPackages int           `help:"Key packages that a device should keep." env:"TARGET_KEY_PACKAGES" default:"50"`
	LowKeyPackages    int           `help:"Stock at which the owner is told." env:"LOW_KEY_PACKAGES" default:"10"`
	MaxDevices        int           `help:"Devices per account." env:"MAX_DEVICES" default:"20"`
	MaxMembers        int           `help:"Devices per group." env:"MAX_MEMBERS" default:"20000"`
	MaxGroups         int           `help:"Groups that an account may own." env:"MAX_GROUPS" default:"100"`
	MaxPending        int           `help:"Proposals that may wait in an epoch." env:"MAX_PENDING" default:"200"`
	MaxSessions       int           `help:"Live sessions per account." env:"MAX_SESSIONS" default:"50"`
	DomainSessions    int           `help:"Live sessions of another domain's accounts." env:"DOMAIN_SESSIONS" default:"20000"`
	DomainKeyPackages int           `help:"Key packages of another domain's accounts." env:"DOMAIN_KEY_PACKAGES" default:"200000"`
	MaxWelcomes       int           `help:"Welcomes of other services that may wait for a device." env:"MAX_WELCOMES" default:"200"`
	EpochWindow       int           `help:"Epochs back that a message may be from." env:"EPOCH_WINDOW" default:"1"`
	LogAge            time.Duration `help:"How long log entries wait for devices that are away." env:"LOG_AGE" default:"720h"`
	SnapshotAge       time.Duration `help:"How long a superseded epoch can be read." env:"SNAPSHOT_AGE" default:"10m"`
	WelcomeAge        time.Duration `help:"How long a Welcome waits for its device." env:"WELCOME_AGE" default:"1440h"`
	IdleDevice        time.Duration `help:"Silence after which a device is proposed for removal; negative: never." env:"IDLE_DEVICE" default:"4320h"`
	TombstoneAge      time.Duration `help:"How long the JID of a destroyed group stays taken." env:"TOMBSTONE_AGE" default:"2160h"`
	GroupIdle         time.Duration `help:"How long an unused group stays in memory." env:"GROUP_IDLE" default:"2m"`
	CachedLeaves      int           `help:"Devices of all groups in memory together, at about 1.5 KiB each." env:"CACHED_LEAVES" default:"500000"`
	MaxInFlight       int64         `help:"Bytes of requests being worked on." env:"MAX_IN_FLIGHT" default:"67108864"`
	AnswerQueue       int           `help:"Bytes of answers that may wait for the server." env:"ANSWER_QUEUE" default:"33554432"`
	EventQueue        int           `help:"Bytes of events that may wait for the server." env:"EVENT_QUEUE" default:"67108864"`

	Requests     rate `help:"Requests of an account: per second/burst." env:"REQUESTS" default:"50/500"`
	Domain       rate `help:"Requests of another domain." env:"DOMAIN" default:"1000/5000"`
	Bytes        rate `help:"Bytes of an account's requests." env:"BYTES" default:"256000/65536000"`
	DomainBytes  rate `help:"Bytes of another domain's requests." env:"DOMAIN_BYTES" default:"5120000/655360000"`
	Send         rate `help:"Messages of an account." env:"SEND" default:"20/200"`
	Claims       rate `help:"Users claimed by an account." env:"CLAIMS" default:"1/300"`
	Claimed      rate `help:"Claims of one user by others." env:"CLAIMED" default:"0.1/100"`
	DomainClaims rate `help:"Users claimed by another domain." env:"DOMAIN_CLAIMS" default:"5/1000"`
	Create       rate `help:"Groups created by an account." env:"CREATE" default:"0.0167/20"`
	Reports      rate `help:"Reports by an account." env:"REPORTS" default:"0.0167/10"`
	Invites      rate `help:"Devices added by an account whose key packages were not claimed here." env:"INVITES" default:"1/300"`
}

// rate reads "20/200": so many per second, so many at once. A negative number
// per second turns the limit off.
type rate component.Rate

func (r *rate) UnmarshalText(b []byte) error {
	per, burst, ok := strings.Cut(string(b), "/")
	if !ok {
		return fmt.Errorf("%q is no rate: write it as 20/200, per second and burst", b)
	}
	var err error
	if r.PerSecond, err = strconv.ParseFloat(per, 64); err != nil {
		return fmt.Errorf("%q is no rate: %q is no number", b, per)
	}
	if r.Burst, err = strconv.Atoi(burst); err != nil || r.Burst < 1 {
		return fmt.Errorf("%q is no rate: the burst %q is no positive number", b, burst)
	}
	return nil
}

func (r rate) MarshalText() ([]byte, error) {
	return []byte(strconv.FormatFloat(r.PerSecond, 'g', -1, 64) + "/" + strconv.Itoa(r.Burst)), nil
}

func (l *limits) component() component.Limits {
	return component.Limits{
		MaxStanza: l.MaxStanza, MaxPage: l.MaxPage, MaxArtifact: l.MaxArtifact, StageQuota: l.StageQuota,
		MaxKeyPackages: l.MaxKeyPackages, TargetKeyPackages: l.TargetKeyPackages, LowKeyPackages: l.LowKeyPackages,
		MaxDevices: l.MaxDevices, MaxMembers: l.MaxMembers, MaxGroups: l.MaxGroups, MaxPending: l.MaxPending, MaxSessions: l.MaxSessions,
		DomainSessions: l.DomainSessions, DomainKeyPackages: l.DomainKeyPackages, MaxWelcomes: l.MaxWelcomes, CachedLeaves: l.CachedLeaves,
		EpochWindow: l.EpochWindow, LogAge: l.LogAge, SnapshotAge: l.SnapshotAge, WelcomeAge: l.WelcomeAge, IdleDevice: l.IdleDevice,
		TombstoneAge: l.TombstoneAge, GroupIdle: l.GroupIdle, MaxInFlight: l.MaxInFlight, AnswerQueue: l.AnswerQueue, EventQueue: l.EventQueue,
		Requests: component.Rate(l.Requests), Domain: component.Rate(l.Domain), Send: component.Rate(l.Send), Claims: component.Rate(l.Claims),
		Claimed: component.Rate(l.Claimed), DomainClaims: component.Rate(l.DomainClaims), Create: component.Rate(l.Create), Reports: component.Rate(l.Reports),
		Bytes: component.Rate(l.Bytes), DomainBytes: component.Rate(l.DomainBytes), Invites: component.Rate(l.Invites),
	}
}

// secret reads the shared secret, each time that the service connects.
func (o *Options) secret() (string, error) {
	if o.SecretFile == "" {
		if s := os.Getenv("LOCKSTEPD_SECRET"); s != "" {
			return s, nil
		}
		return "", withHint(errors.New("there is no secret"), "put the component's secret into a file and name it with secret-file, or set LOCKSTEPD_SECRET")
	}
	b, err := os.ReadFile(o.SecretFile)
	if err != nil {
		return "", withHint(err, "secret-file must be readable by the user that runs lockstepd")
	}
	s := strings.TrimRight(string(b), "\r\n")
	if s == "" {
		return "", fmt.Errorf("%s is empty", o.SecretFile)
	}
	return s, nil
}

// secretWarning says what is wrong with how the secret is kept.
func (o *Options) secretWarning() string {
	if o.SecretFile == "" {
		return ""
	}
	st, err := os.Stat(o.SecretFile)
	if err == nil && st.Mode().Perm()&0o007 != 0 {
		return fmt.Sprintf("everybody on this machine can use %s: chmod 600 %s", o.SecretFile, o.SecretFile)
	}
	return ""
}

// storeAddress gives the store's address, which may come from a file.
func (o *Options) storeAddress() (string, error) {
	if o.StoreFile == "" {
		return o.Store, nil
	}
	b, err := os.ReadFile(o.StoreFile)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(b)), nil
}

func (o *Options) logger(w *os.File) *slog.Logger {
	var level slog.Level
	level.UnmarshalText([]byte(o.LogLevel)) // kong has checked it
	h := &slog.HandlerOptions{Level: level}
	if o.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, h))
	}
	return slog.New(slog.NewTextHandler(w, h))
}

// config makes the service's configuration, without its store.
func (o *Options) config() (component.Config, error) {
	c := component.Config{
		Domain: o.Domain, SecretFunc: o.secret, Address: o.Server, Limits: o.Limits.component(),
		Name: o.Name, Admins: o.Admins, Create: component.Audience(o.Create), RandomNames: o.RandomNames, Consent: o.Consent,
		Nudge: component.NudgeMode(o.Nudge), NudgeDelay: o.NudgeDelay, NudgeBody: o.NudgeBody, Multicast: o.Multicast,
		KeepSenders: o.KeepSenders, RequireExternalSender: o.RequireExternalSender, Version: version(),
	}
	if o.NudgeDelay == 0 {
		c.NudgeDelay = -1
	}
	if o.Domain == "" {
		return c, withHint(errors.New("domain is not set"), "set domain to the component's JID, as mls.example.org, in the configuration file or LOCKSTEPD_DOMAIN")
	}
	if len(o.Serves) > 0 {
		c.Serves = o.Serves
	}
	for kind, uri := range o.Contact {
		if c.Contact == nil {
			c.Contact = make(map[string][]string)
		}
		c.Contact[kind] = strings.Fields(uri)
	}
	for _, v := range o.Suites {
		n, err := strconv.ParseUint(v, 0, 16)
		if err != nil || !mls.CipherSuite(n).Known() {
			return c, withHint(fmt.Errorf("cipher suite %q is unknown", v), "suites are numbers, as 1 or 0x0003; leave the option out for all of them")
		}
		c.Suites = append(c.Suites, mls.CipherSuite(n))
	}
	if o.ServerCA != "" {
		pem, err := os.ReadFile(o.ServerCA)
		if err != nil {
			return c, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return c, fmt.Errorf("%s holds no certificate in PEM", o.ServerCA)
		}
		c.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return c, nil
}

// missing reports whether err means that a file is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
