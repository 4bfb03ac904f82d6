// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"archive/tar"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Labels of everything that this package makes in an engine.
const (
	labelTest  = "lockstep.test"  // 1
	labelOwner = "lockstep.owner" // processID of the test process
	labelKeep  = "lockstep.keep"  // 1: KEEP=1 was set, nobody removes it
)

// dockerBackend runs servers in containers, by the docker command.
//
// Each container is in two networks: the front one publishes its ports on
// 127.0.0.1, the other carries federation alone and is the one that
// [Server.Partition] takes it out of.
type dockerBackend struct {
	subnet    string // of the network between the servers: its first three numbers
	addresses int    // given out

	mu     sync.Mutex
	probed bool
	engine string // why there is none
	images map[Flavour]imageOf
	front  string
	s2s    string
}

// imageOf is a flavour's image, or why there is none.
type imageOf struct{ tag, missing string }

// docker runs the docker command and returns its standard output.
func docker(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

func (b *dockerBackend) available(ctx context.Context, f Flavour) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.probed {
		b.probed = true
		b.images = map[Flavour]imageOf{}
		if _, err := exec.LookPath("docker"); err != nil {
			b.engine = "docker is not installed"
		} else {
			probe, cancel := context.WithTimeout(ctx, 10*time.Second)
			if _, err := docker(probe, nil, "version", "--format", "{{.Server.Version}}"); err != nil {
				b.engine = "no Docker engine answers: " + lastLine(err.Error())
			}
			cancel()
		}
		if b.engine == "" {
			b.reap(ctx)
		}
	}
	if b.engine != "" {
		return b.engine
	}
	i, done := b.images[f]
	if !done {
		i.tag, i.missing = ensureImage(ctx, f)
		if ctx.Err() == nil {
			b.images[f] = i
		}
	}
	return i.missing
}

// reap removes what test processes that no longer run have left behind.
func (b *dockerBackend) reap(ctx context.Context) {
	owners, err := docker(ctx, nil, "ps", "-a", "--filter", "label="+labelTest+"=1",
		"--format", `{{.ID}} {{.Label "`+labelOwner+`"}} {{.Label "`+labelKeep+`"}}`)
	if err != nil {
		return
	}
	for line := range strings.Lines(owners) {
		if f := strings.Fields(line); len(f) == 2 && ownerGone(f[1]) {
			docker(ctx, nil, "rm", "-f", "-v", f[0])
		}
	}
	nets, err := docker(ctx, nil, "network", "ls", "-q", "--filter", "label="+labelTest+"=1")
	if err != nil {
		return
	}
	for _, id := range strings.Fields(nets) {
		label, err := docker(ctx, nil, "network", "inspect", "-f",
			`{{index .Labels "`+labelOwner+`"}} {{index .Labels "`+labelKeep+`"}}`, id)
		if f := strings.Fields(label); err == nil && len(f) == 1 && ownerGone(f[0]) {
			docker(ctx, nil, "network", "rm", id)
		}
	}
}

func labels() []string {
	l := []string{"--label", labelTest + "=1", "--label", labelOwner + "=" + processID()}
	if keep() {
		l = append(l, "--label", labelKeep+"=1")
	}
	return l
}

// networks makes the process's two networks on first use.
func (b *dockerBackend) networks(ctx context.Context) (front, s2s string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.front != "" {
		return b.front, b.s2s, nil
	}
	name := fmt.Sprintf("lockstep-test-%d-%s", os.Getpid(), randomLabel())
	// Containers must not find each other around a partition: no traffic
	// between them on the front network.
	args := append([]string{"network", "create", "-o", "com.docker.network.bridge.enable_icc=false"}, labels()...)
	if _, err := docker(ctx, nil, append(args, name+"-front")...); err != nil {
		return "", "", fmt.Errorf("servers: making a network: %w", err)
	}
	if err := b.federation(ctx, name+"-s2s"); err != nil {
		docker(context.WithoutCancel(ctx), nil, "network", "rm", name+"-front")
		return "", "", fmt.Errorf("servers: making a network: %w", err)
	}
	b.front, b.s2s = name+"-front", name+"-s2s"
	return b.front, b.s2s, nil
}

// federation makes the network between the servers, in a subnet that we choose: only
// then may a container have an address of its own choice, and keep it over a
// partition and a restart. With another address, the connections that a
// partition silenced would never speak again, and names would be stale.
func (b *dockerBackend) federation(ctx context.Context, name string) (err error) {
	for range 50 {
		b.subnet = fmt.Sprintf("10.%d.%d", 64+rand.IntN(128), rand.IntN(256))
		args := append([]string{"network", "create", "--internal", "--subnet", b.subnet + ".0/24"}, labels()...)
		if _, err = docker(ctx, nil, append(args, name)...); err == nil || ctx.Err() != nil {
			return err // an overlap with another network is what the loop is for
		}
	}
	return err
}

// address is the next one on the network between the servers.
func (b *dockerBackend) address() (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addresses++
	if b.addresses > 250 {
		return "", errors.New("servers: a process can start 250 containers, not more")
	}
	return fmt.Sprintf("%s.%d", b.subnet, 2+b.addresses), nil
}

func (b *dockerBackend) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.front == "" || keep() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err1 := docker(ctx, nil, "network", "rm", b.front)
	_, err2 := docker(ctx, nil, "network", "rm", b.s2s)
	b.front, b.s2s = "", ""
	return errors.Join(err1, err2)
}

// Inside a container every server has the ports it is known for.
var insidePorts = ports{C2S: 5222, C2STLS: 5223, S2S: 5269, Component: 5347, HTTPS: 5443, API: 5280}

// create makes a stopped container with everything in it.
func (b *dockerBackend) create(ctx context.Context, f Flavour, o Options, a *ca) (instance, error) {
	front, s2s, err := b.networks(ctx)
	if err != nil {
		return nil, err
	}
	p, err := newPorts()
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	image := b.images[f].tag
	b.mu.Unlock()
	c := &container{
		name:  fmt.Sprintf("lockstep-test-%d-%s-%s", os.Getpid(), f.kind(), randomLabel()),
		s2s:   s2s,
		hosts: o.hosts(f),
		p:     p,
		lay: layout{
			Dir: "/lockstep", Data: "/var/lib/" + f.kind(), Listen: "0.0.0.0", S2S: "0.0.0.0",
			Ports: insidePorts, HTTPS: fmt.Sprintf("https://127.0.0.1:%d/", p.HTTPS),
		},
	}
	if c.ip, err = b.address(); err != nil {
		return nil, err
	}
	cfg, err := config(f, o, c.lay)
	if err != nil {
		return nil, err
	}
	cert, key, err := a.issue(c.hosts)
	if err != nil {
		return nil, err
	}
	files := []file{{"lockstep/cert.pem", cert}, {"lockstep/key.pem", key}, {"lockstep/ca.pem", a.pem()}, {"lockstep/nxdomain.pl", nxdomain}}

	mods, err := modules(f, o)
	if err != nil {
		return nil, err
	}
	for name, b := range mods {
		files = append(files, file{"lockstep/" + name, b})
	}

	args := append([]string{"create", "--name", c.name, "--network", front,
		// The engine's resolver asks this one, inside the container, for names
		// that no container has.
		"--dns", "127.0.0.1",
		"--memory", "1g", "--stop-timeout", "15",
		"--no-healthcheck",
	}, labels()...)
	for _, port := range [][2]int{{p.C2S, insidePorts.C2S}, {p.C2STLS, insidePorts.C2STLS}, {p.Component, insidePorts.Component}} {
		args = append(args, "-p", fmt.Sprintf("127.0.0.1:%d:%d", port[0], port[1]))
	}
	if o.Upload {
		args = append(args, "-p", fmt.Sprintf("127.0.0.1:%d:%d", p.HTTPS, insidePorts.HTTPS))
	}
	if f.Prosody() {
		files = append(files, file{"lockstep/prosody.cfg.lua", cfg},
			file{"lockstep/run", []byte("#!/bin/sh\n" + resolver + "exec prosody --config /lockstep/prosody.cfg.lua -F\n")})
	} else {
		args = append(args, "-p", fmt.Sprintf("127.0.0.1:%d:%d", p.API, insidePorts.API))
		files = append(files, file{"lockstep/ejabberd.yml", cfg}, file{"lockstep/run", ejabberdScript(c.lay, "/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu", 15121, resolver)})
	}
	args = append(args, "--entrypoint", "/bin/sh", image, "/lockstep/run")
	if _, err := docker(ctx, nil, args...); err != nil {
		return nil, fmt.Errorf("servers: making a container of %s: %w", image, err)
	}
	if err := errors.Join(c.heal(ctx), c.copyIn(ctx, "/", files)); err != nil {
		return nil, errors.Join(err, c.remove(context.WithoutCancel(ctx)))
	}
	return c, nil
}

//go:embed nxdomain.pl
var nxdomain []byte

const resolver = "perl /lockstep/nxdomain.pl &\n"

// ejabberdScript starts ejabberd as one process that ends on SIGTERM, without
// the epmd that ejabberdctl would leave behind.
func ejabberdScript(l layout, libs string, distPort int, more string) []byte {
	return fmt.Appendf(nil, `#!/bin/sh
mkdir -p %[1]s/log %[1]s/spool || exit 1
# Erlang sizes its tables by the limit of open files, which engines set to a billion.
[ "$(ulimit -n)" != unlimited ] && [ "$(ulimit -n)" -le 65536 ] || ulimit -n 65536
%[4]sexport EJABBERD_CONFIG_PATH=%[2]s/ejabberd.yml EJABBERD_LOG_PATH=%[1]s/log/ejabberd.log \
  EJABBERD_PID_PATH=%[1]s/ejabberd.pid ERL_LIBS=%[3]s HOME=%[1]s
exec erl -noinput -sname lockstep@localhost -setcookie lockstep -kernel inet_dist_use_interface '{127,0,0,1}' \
  -erl_epmd_port %[5]d -start_epmd false +K true +sbwt none +sbwtdcpu none +sbwtdio none \
  -mnesia dir '"%[1]s/spool"' -s ejabberd
`, l.Data, l.Dir, libs, more, distPort)
}

// A container is an instance in the engine.
type container struct {
	name  string
	s2s   string
	ip    string // on the network of the servers
	hosts []string
	p     ports
	lay   layout

	mu        sync.Mutex
	connected bool // to the network of the servers
}

func (c *container) layout() layout { return c.lay }
func (c *container) ports() ports   { return c.p }
func (c *container) where() string  { return "container " + c.name }

func (c *container) run(ctx context.Context, args ...string) error {
	_, err := docker(ctx, nil, args...)
	return err
}

func (c *container) start(ctx context.Context) error { return c.run(ctx, "start", c.name) }
func (c *container) stop(ctx context.Context) error  { return c.run(ctx, "stop", "-t", "15", c.name) }
func (c *container) kill(ctx context.Context) error  { return c.run(ctx, "kill", c.name) }

// pause freezes the container. The kernel takes a moment for that, and on a
// machine with much to do the engine now and then gives up before (unable to freeze).
func (c *container) pause(ctx context.Context) (err error) {
	for range 5 {
		if err = c.run(ctx, "pause", c.name); err == nil || !strings.Contains(err.Error(), "unable to freeze") {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	return err
}
func (c *container) resume(ctx context.Context) error {
	return c.run(ctx, "unpause", c.name)
}

func (c *container) partition(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.connected {
		return nil
	}
	err := c.run(ctx, "network", "disconnect", c.s2s, c.name)
	c.connected = err != nil
	return err
}

func (c *container) heal(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.connected {
		return nil
	}
	args := []string{"network", "connect", "--ip", c.ip}
	for _, h := range c.hosts {
		args = append(args, "--alias", h)
	}
	err := c.run(ctx, append(args, c.s2s, c.name)...)
	c.connected = err == nil
	return err
}

func (c *container) exec(ctx context.Context, command string, args ...string) ([]byte, error) {
	out, err := docker(ctx, nil, append([]string{"exec", c.name, command}, args...)...)
	return []byte(out), err
}

// cpu reads what the kernel has counted for the container: version 2 or 1 of its
// control groups.
func (c *container) cpu(ctx context.Context) (time.Duration, error) {
	out, err := docker(ctx, nil, "exec", c.name, "sh", "-c", "cat /sys/fs/cgroup/cpu.stat 2>/dev/null || cat /sys/fs/cgroup/cpuacct/cpuacct.usage")
	if err != nil {
		return 0, err
	}
	number, unit := strings.TrimSpace(out), time.Nanosecond
	if v2, ok := strings.CutPrefix(out, "usage_usec "); ok {
		number, _, _ = strings.Cut(v2, "\n")
		unit = time.Microsecond
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the container's processor time is %q", number)
	}
	return time.Duration(n) * unit, nil
}

func (c *container) writeData(ctx context.Context, files []file) error {
	return c.copyIn(ctx, c.lay.Data, files)
}

// copyIn puts files into the container, running or not, readable and writable
// for whoever the server runs as.
func (c *container) copyIn(ctx context.Context, dir string, files []file) error {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	made := map[string]bool{".": true, "/": true}
	for _, f := range files {
		var parents []string
		for d := path.Dir(f.name); !made[d]; d = path.Dir(d) {
			made[d] = true
			parents = append(parents, d)
		}
		slices.Reverse(parents)
		for _, d := range parents {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o777, ModTime: time.Now()}); err != nil {
				return err
			}
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o666, Size: int64(len(f.data)), ModTime: time.Now()}); err != nil {
			return err
		}
		if _, err := w.Write(f.data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	_, err := docker(ctx, &b, "cp", "-", c.name+":"+dir)
	return err
}

func (c *container) alive(ctx context.Context) error {
	out, err := docker(ctx, nil, "inspect", "-f", "{{.State.Running}} {{.State.ExitCode}}", c.name)
	if err != nil {
		return err
	}
	if running, code, _ := strings.Cut(out, " "); running != "true" {
		return fmt.Errorf("%w: it ended with code %s", errNotRunning, code)
	}
	return nil
}

func (c *container) logs(ctx context.Context, since time.Time, w io.Writer) error {
	args := []string{"logs", "-t"}
	if !since.IsZero() {
		args = append(args, "--since", since.UTC().Format(time.RFC3339Nano))
	}
	cmd := exec.CommandContext(ctx, "docker", append(args, c.name)...)
	cmd.Stdout, cmd.Stderr = w, w
	return cmd.Run()
}

func (c *container) remove(ctx context.Context) error {
	return c.run(ctx, "rm", "-f", "-v", c.name)
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
