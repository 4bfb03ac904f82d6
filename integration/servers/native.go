// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// nativeBackend runs the servers that are installed on this machine, as
// processes of this user on loopback. Federation goes over high ports, which
// every server learns from a name server of its own, through one proxy for each
// pair of servers, which is what [Server.Partition] stalls.
type nativeBackend struct {
	mu        sync.Mutex
	instances []*process
}

// installed returns the version of the Prosody or ejabberd on this machine.
func installed(kind string) (version string, err error) {
	switch kind {
	case "prosody":
		if _, err := exec.LookPath("prosody"); err != nil {
			return "", errors.New("prosody is not installed")
		}
		for _, f := range []string{"/usr/lib/prosody/prosody.version", "/usr/local/lib/prosody/prosody.version"} {
			if v, err := os.ReadFile(f); err == nil {
				return strings.TrimSpace(string(v)), nil
			}
		}
		return "", errors.New("the installed prosody does not say its version")
	default:
		if _, err := exec.LookPath("erl"); err != nil {
			return "", errors.New("ejabberd is not installed")
		}
		libs, _ := filepath.Glob("/usr/lib/*/ejabberd-*/ebin/ejabberd.app")
		if len(libs) == 0 {
			return "", errors.New("ejabberd is not installed")
		}
		_, v, _ := strings.Cut(filepath.Base(filepath.Dir(filepath.Dir(libs[0]))), "-")
		return v, nil
	}
}

// generationOf maps an installed version to the flavour that stands for it.
func generationOf(kind, version string) Flavour {
	major, err := strconv.Atoi(strings.SplitN(version, ".", 2)[0])
	switch {
	case err != nil:
		return ""
	case kind == "prosody" && strings.HasPrefix(version, "0.12"):
		return Prosody12
	case kind == "prosody" && major >= 13:
		return Prosody13
	case kind == "ejabberd" && major == 23:
		return Ejabberd23
	case kind == "ejabberd" && major >= 24:
		return Ejabberd24
	}
	return ""
}

func (b *nativeBackend) available(_ context.Context, f Flavour) string {
	v, err := installed(f.kind())
	if err != nil {
		return err.Error()
	}
	if got := generationOf(f.kind(), v); got != f {
		return fmt.Sprintf("the installed %s is %s", f.kind(), v)
	}
	return ""
}

func (b *nativeBackend) create(_ context.Context, f Flavour, o Options, a *ca) (instance, error) {
	p, err := newPorts()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lockstep-test-"+f.kind()+"-")
	if err != nil {
		return nil, fmt.Errorf("servers: making a folder: %w", err)
	}
	s := &process{
		b: b, f: f, hosts: o.hosts(f), p: p, root: dir,
		lay: layout{
			Dir: dir, Data: filepath.Join(dir, "data"), Listen: "127.0.0.1", S2S: "127.0.0.1", Ports: p,
			HTTPS: fmt.Sprintf("https://127.0.0.1:%d/", p.HTTPS), LogFile: filepath.Join(dir, "server.log"),
		},
		links: map[*process]*Proxy{},
	}
	if err := s.prepare(f, o, a); err != nil {
		return nil, errors.Join(err, s.remove(context.Background()))
	}
	b.mu.Lock()
	b.instances = append(b.instances, s)
	b.mu.Unlock()
	return s, nil
}

func (b *nativeBackend) close() error { return nil }

// A process is an instance on this machine.
type process struct {
	b     *nativeBackend
	f     Flavour
	hosts []string
	p     ports
	root  string
	lay   layout
	ns    *nameserver
	argv  []string
	env   []string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	cut   bool
	links map[*process]*Proxy // this server's way to the others
}

func (s *process) prepare(f Flavour, o Options, a *ca) (err error) {
	if s.ns, err = newNameserver(s.resolve); err != nil {
		return err
	}
	s.lay.DNS = fmt.Sprintf("127.0.0.1@%d", s.ns.port())
	if err := os.Mkdir(s.lay.Data, 0o700); err != nil {
		return err
	}
	cfg, err := config(f, o, s.lay)
	if err != nil {
		return err
	}
	cert, key, err := a.issue(s.hosts)
	if err != nil {
		return err
	}
	files := []file{{"cert.pem", cert}, {"key.pem", key}, {"ca.pem", a.pem()}}
	mods, err := modules(f, o)
	if err != nil {
		return err
	}
	for name, b := range mods {
		files = append(files, file{name, b})
	}
	if f.Prosody() {
		files = append(files, file{"prosody.cfg.lua", cfg})
		s.argv = []string{"prosody", "--config", filepath.Join(s.root, "prosody.cfg.lua"), "-F"}
	} else {
		dist, err := freePorts(1)
		if err != nil {
			return err
		}
		libs, _ := filepath.Glob("/usr/lib/*/ejabberd-*")
		if len(libs) == 0 {
			return errors.New("servers: ejabberd is not installed")
		}
		// Without an empty resolv_conf the system's resolver would win.
		inetrc := fmt.Sprintf("{lookup,[native]}.\n{resolv_conf,\"\"}.\n{nameserver,{127,0,0,1},%d}.\n", s.ns.port())
		files = append(files, file{"ejabberd.yml", cfg}, file{"inetrc", []byte(inetrc)},
			file{"run", ejabberdScript(s.lay, filepath.Dir(libs[0]), dist[0], fmt.Sprintf("export ERL_INETRC=%s/inetrc\n", s.root))})
		s.argv = []string{"/bin/sh", filepath.Join(s.root, "run")}
	}
	return writeFiles(s.root, files)
}

func writeFiles(dir string, files []file) error {
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(name, f.data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// resolve is where another domain's server is for this one: a proxy of this
// pair.
func (s *process) resolve(domain string) (port int, ok bool) {
	s.b.mu.Lock()
	var peer *process
	for _, o := range s.b.instances {
		for _, h := range o.hosts {
			if h == domain {
				peer = o
			}
		}
	}
	s.b.mu.Unlock()
	if peer == nil {
		return 0, false
	}
	peer.mu.Lock()
	peerCut := peer.cut
	peer.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	link := s.links[peer]
	if link == nil {
		var err error
		if link, err = NewProxy(fmt.Sprintf("127.0.0.1:%d", peer.p.S2S)); err != nil {
			return 0, false
		}
		if s.cut || peerCut {
			link.Stall()
		}
		s.links[peer] = link
	}
	_, p, _ := strings.Cut(link.Addr(), ":")
	port, err := strconv.Atoi(p)
	return port, err == nil
}

func (s *process) layout() layout { return s.lay }
func (s *process) ports() ports   { return s.p }

func (s *process) where() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, _ := installed(s.f.kind())
	if s.cmd == nil {
		return fmt.Sprintf("%s %s in %s", s.f.kind(), v, s.root)
	}
	return fmt.Sprintf("%s %s, process %d in %s", s.f.kind(), v, s.cmd.Process.Pid, s.root)
}

func (s *process) start(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		select {
		case <-s.ended:
		default:
			return errors.New("it runs already")
		}
	}
	log, err := os.OpenFile(filepath.Join(s.root, "output.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.argv[0], s.argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.root, log, log
	cmd.Env = append(os.Environ(), s.env...)
	cmd.SysProcAttr = childAttr()
	ended, started := make(chan struct{}), make(chan error)
	go func() {
		// The child dies with the thread that started it, where the system
		// offers that: this one stays until then, and beyond, since it may have
		// started others before.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.cmd, s.ended = cmd, ended
	return nil
}

func (s *process) running() (*exec.Cmd, chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return nil, nil, errNotRunning
	}
	select {
	case <-s.ended:
		return nil, nil, errNotRunning
	default:
		return s.cmd, s.ended, nil
	}
}

// signal reaches the server's whole process group: ejabberd has helpers.
func (s *process) signal(sig syscall.Signal) (chan struct{}, error) {
	cmd, ended, err := s.running()
	if err != nil {
		return nil, err
	}
	return ended, syscall.Kill(-cmd.Process.Pid, sig)
}

func (s *process) stop(ctx context.Context) error {
	cmd, ended, err := s.running()
	if err != nil {
		return err
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	case <-time.After(15 * time.Second):
	}
	return errors.Join(errors.New("it did not end on SIGTERM"), s.kill(ctx))
}

func (s *process) kill(context.Context) error {
	ended, err := s.signal(syscall.SIGKILL)
	if err != nil {
		return err
	}
	<-ended
	return nil
}

func (s *process) pause(context.Context) error {
	_, err := s.signal(syscall.SIGSTOP)
	return err
}

func (s *process) resume(context.Context) error {
	_, err := s.signal(syscall.SIGCONT)
	return err
}

func (s *process) partition(context.Context) error { return s.setCut(true) }
func (s *process) heal(context.Context) error      { return s.setCut(false) }

// setCut stalls or heals every link of this server, in both directions. A link
// to a server that is itself cut off stays stalled.
func (s *process) setCut(cut bool) error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.mu.Lock()
	s.cut = cut
	s.mu.Unlock()
	isCut := func(p *process) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.cut
	}
	for _, from := range s.b.instances {
		from.mu.Lock()
		links := make(map[*process]*Proxy, len(from.links))
		for to, l := range from.links {
			links[to] = l
		}
		from.mu.Unlock()
		for to, l := range links {
			if isCut(from) || isCut(to) {
				l.Stall()
			} else {
				l.Heal()
			}
		}
	}
	return nil
}

// cpu reads what Linux has counted for the process; elsewhere it is an error.
func (s *process) cpu(context.Context) (time.Duration, error) {
	cmd, _, err := s.running()
	if err != nil {
		return 0, err
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// proc(5): the second field is a name in brackets and may hold anything;
	// the 14th and 15th are ticks in user and kernel mode, 100 a second.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is too short")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

func (s *process) exec(ctx context.Context, command string, args ...string) ([]byte, error) {
	return exec.CommandContext(ctx, command, args...).CombinedOutput()
}

func (s *process) writeData(_ context.Context, files []file) error {
	return writeFiles(s.lay.Data, files)
}

func (s *process) alive(context.Context) error {
	_, _, err := s.running()
	return err
}

// logs copies the whole log: its lines have times.
func (s *process) logs(_ context.Context, _ time.Time, w io.Writer) error {
	var errs []error
	for _, name := range []string{filepath.Join(s.root, "output.log"), s.lay.LogFile} {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			_, err = io.Copy(w, f)
			f.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *process) remove(ctx context.Context) error {
	s.b.mu.Lock()
	for i, o := range s.b.instances {
		if o == s {
			s.b.instances = append(s.b.instances[:i:i], s.b.instances[i+1:]...)
			break
		}
	}
	s.b.mu.Unlock()
	err := s.kill(ctx)
	if errors.Is(err, errNotRunning) {
		err = nil
	}
	if s.ns != nil {
		s.ns.close()
	}
	s.mu.Lock()
	for _, l := range s.links {
		l.Close()
	}
	s.mu.Unlock()
	return errors.Join(err, os.RemoveAll(s.root))
}
