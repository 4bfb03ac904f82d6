// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/mls"
)

type sendCmd struct {
	Group   string        `arg:"" help:"The group: its address, the part before the @, or its name."`
	Text    []string      `arg:"" optional:"" help:"The text. Without it, each line of standard input is one message."`
	File    []string      `short:"f" placeholder:"FILE" type:"existingfile" help:"Send FILE, encrypted. Can be repeated."`
	Timeout time.Duration `default:"60s" help:"How long to wait until the delivery service has accepted it."`
	JSON    bool          `help:"Write what became of it as JSON."`
}

// Run sends.
func (c *sendCmd) Run(a *app) error {
	s, err := a.online(nil, nil)
	if err != nil {
		return err
	}
	defer s.close()
	g, err := s.findGroup(c.Group)
	if err != nil {
		return err
	}
	report := func(sent *client.Sent, err error) error {
		if err != nil {
			return err
		}
		if c.JSON {
			return json.NewEncoder(a.out).Encode(map[string]any{"group": g.JID(), "id": sent.ID, "seq": sent.Seq, "epoch": sent.Epoch, "origin-id": sent.OriginID, "time": sent.Time})
		}
		return nil
	}
	one := func(send func(ctx context.Context) (*client.Sent, error)) error {
		ctx, cancel := context.WithTimeout(a.ctx, c.Timeout)
		defer cancel()
		return report(send(ctx))
	}
	for _, path := range c.File {
		err := one(func(ctx context.Context) (*client.Sent, error) {
			f, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			return g.UploadAndSend(ctx, filepath.Base(path), f, "")
		})
		if err != nil {
			return err
		}
	}
	if len(c.Text) > 0 {
		if strings.Join(c.Text, "") == "" {
			return errors.New("the text is empty: there is nothing to send")
		}
		return one(func(ctx context.Context) (*client.Sent, error) { return g.Send(ctx, strings.Join(c.Text, " ")) })
	}
	if len(c.File) > 0 {
		return nil
	}
	n := 0
	return eachLine(a.in, func(line string) error {
		if n++; line == "" {
			return nil
		}
		err := one(func(ctx context.Context) (*client.Sent, error) { return g.Send(ctx, line) })
		if err != nil {
			return fmt.Errorf("stopped at line %d: %w", n, err)
		}
		return nil
	})
}

// maxLine is the longest line that is read: more than any message may have.
const maxLine = 1 << 20

func eachLine(r io.Reader, fn func(string) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 64<<10), maxLine)
	n := 0
	for ; sc.Scan(); n++ {
		if err := fn(sc.Text()); err != nil {
			return err
		}
	}
	if errors.Is(sc.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("line %d is longer than %d bytes: send it as a file, with --file", n+1, maxLine)
	}
	return sc.Err()
}

type listenCmd struct {
	Groups []string `arg:"" optional:"" help:"Only these groups. Default: all."`
	JSON   bool     `help:"Write JSON, one object for each line."`
	Events bool     `help:"Write events too: who came and went, alarms."`
	Count  int      `short:"n" placeholder:"N" help:"End after N messages."`
	Stdin  bool     `help:"Send what comes on standard input: lines of GROUP, a blank, and the text."`
	Accept []string `placeholder:"JID" help:"Accept invitations of these accounts or domains only. Default: all."`
	Save   string   `placeholder:"DIR" type:"existingdir" help:"Save files that come into DIR."`
}

// jsonMessage is a message for scripts.
type jsonMessage struct {
	Type      string            `json:"type"` // "message"
	Group     string            `json:"group"`
	ID        string            `json:"id"`
	Seq       uint64            `json:"seq,omitempty"`
	Epoch     uint64            `json:"epoch"`
	From      string            `json:"from"`
	Device    string            `json:"device"`
	Trust     client.Trust      `json:"trust"`
	Own       bool              `json:"own,omitempty"`
	Time      time.Time         `json:"time"`
	Body      string            `json:"body,omitempty"`
	OriginID  string            `json:"origin-id,omitempty"`
	ReplyTo   *client.Reference `json:"reply-to,omitempty"`
	Reactions []string          `json:"reactions,omitempty"`
	ReactsTo  string            `json:"reacts-to,omitempty"`
	Corrects  string            `json:"corrects,omitempty"`
	Retracts  string            `json:"retracts,omitempty"`
	Received  string            `json:"received,omitempty"`
	Displayed string            `json:"displayed,omitempty"`
	ChatState string            `json:"chat-state,omitempty"`
	Files     []client.File     `json:"files,omitempty"`
	XML       string            `json:"xml"`
}

func toJSON(m *client.Message) *jsonMessage {
	return &jsonMessage{
		Type: "message", Group: m.Group.JID(), ID: m.ID, Seq: m.Seq, Epoch: m.Epoch, From: m.Sender.JID, Device: m.Sender.Device.String(),
		Trust: m.Sender.Trust, Own: m.Own, Time: m.Time, Body: m.Body, OriginID: m.OriginID, ReplyTo: m.ReplyTo, Reactions: m.Reactions,
		ReactsTo: m.ReactsTo, Corrects: m.Corrects, Retracts: m.Retracts, Received: m.Received, Displayed: m.Displayed,
		ChatState: m.ChatState, Files: m.Files, XML: string(m.XML),
	}
}

// Run writes messages until it is interrupted.
func (c *listenCmd) Run(a *app) error {
	ctx, done := context.WithCancel(a.ctx)
	defer done()
	a.ctx = ctx
	var mu sync.Mutex
	var failed error // the output takes nothing any more
	left := c.Count
	wanted := func(jid string) bool {
		local, _, _ := strings.Cut(jid, "@")
		return len(c.Groups) == 0 || slices.Contains(c.Groups, jid) || slices.Contains(c.Groups, local)
	}
	// write reports whether it has taken the message.
	write := func(m *client.Message) bool {
		mu.Lock()
		defer mu.Unlock()
		if failed != nil || c.Count > 0 && left == 0 {
			return false
		}
		var err error
		if c.JSON {
			err = json.NewEncoder(a.out).Encode(toJSON(m))
		} else if line := plainLine(m); line != "" {
			_, err = fmt.Fprintln(a.out, line)
		} else {
			return true
		}
		if err != nil {
			failed = fmt.Errorf("writing a message, which comes again the next time: %w", err)
			done()
			return false
		}
		if c.Count > 0 {
			if left--; left == 0 {
				// After this handler has returned, so that the message
				// counts as delivered.
				time.AfterFunc(50*time.Millisecond, done)
			}
		}
		return true
	}
	var s *session
	ready := make(chan struct{})
	accept := client.AcceptPolicy(client.AcceptAll)
	if len(c.Accept) > 0 {
		accept = client.AcceptFrom(c.Accept...)
	}
	s, err := a.online(func(cl *client.Client) {
		cl.OnMessage(func(ctx context.Context, m *client.Message) {
			if !wanted(m.Group.JID()) {
				return
			}
			if c.Save != "" && len(m.Files) > 0 {
				<-ready
				c.save(ctx, a, s, m)
			}
			if !write(m) {
				<-ctx.Done() // not delivered: it comes again the next time
			}
		})
		cl.OnEvent(func(_ context.Context, e client.Event) {
			if g := e.Meta().Group; g != "" && !wanted(g) {
				return
			}
			if alarm(e) && !c.Events {
				fmt.Fprintf(a.err, "lockstep: alarm: %s\n", eventLine(e))
			}
			if !c.Events {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if c.JSON {
				writeEvent(a.out, e)
			} else {
				fmt.Fprintf(a.out, "%s\t%s\t* %s\n", e.Meta().Time.Local().Format(time.RFC3339), e.Meta().Group, eventLine(e))
			}
		})
	}, accept)
	if err != nil {
		// What an earlier run has left in the store may have been enough.
		mu.Lock()
		defer mu.Unlock()
		if failed != nil || c.Count > 0 && left == 0 {
			return failed
		}
		return err
	}
	close(ready)
	defer s.close()
	if c.Stdin {
		go func() {
			err := eachLine(a.in, func(line string) error {
				name, text, _ := strings.Cut(line, " ")
				g, err := s.findGroup(name)
				if err == nil && text != "" {
					_, err = g.Send(ctx, text)
				}
				if err != nil {
					fmt.Fprintf(a.err, "lockstep: error: %v\n", strip(err))
				}
				return nil
			})
			if err != nil {
				fmt.Fprintf(a.err, "lockstep: error: reading standard input: %v\n", err)
			}
		}()
	}
	<-ctx.Done()
	mu.Lock()
	defer mu.Unlock()
	return failed
}

// save writes the files of a message into the folder, under names that are
// not taken.
func (c *listenCmd) save(ctx context.Context, a *app, s *session, m *client.Message) {
	for i := range m.Files {
		f := &m.Files[i]
		path, err := saveFile(ctx, s.Client, f, c.Save, nil)
		if err != nil {
			fmt.Fprintf(a.err, "lockstep: error: %v\n", strip(err))
			continue
		}
		fmt.Fprintf(a.err, "lockstep: saved %s\n", path)
	}
}

// saveFile downloads a file into a folder without overwriting anything.
func saveFile(ctx context.Context, c *client.Client, f *client.File, dir string, progress func(done, total int64)) (string, error) {
	b, err := c.Download(ctx, f, 0, progress)
	if err != nil {
		return "", err
	}
	ext := filepath.Ext(f.Name)
	base := strings.TrimSuffix(f.Name, ext)
	for n := 0; n < 1000; n++ {
		path := filepath.Join(dir, f.Name)
		if n > 0 {
			path = filepath.Join(dir, fmt.Sprintf("%s-%d%s", base, n, ext))
		}
		out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = out.Write(b)
		return path, errors.Join(err, out.Close())
	}
	return "", fmt.Errorf("too many files are called %q in %s", f.Name, dir)
}

// plainLine is a message as a line: time, group, sender, text, with tabs
// between. Nothing that a terminal would take for a command stays in it.
func plainLine(m *client.Message) string {
	text := m.Body
	for _, f := range m.Files {
		text = strings.TrimSpace(text + " [file " + f.String() + "]")
	}
	switch {
	case text != "" && m.Corrects != "":
		text = "(corrected) " + text
	case text == "" && m.Retracts != "":
		text = "(took a message back)"
	case text == "" && m.ReactsTo != "":
		text = "(reacts " + strings.Join(m.Reactions, " ") + ")"
	}
	if text == "" {
		return ""
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s", m.Time.Local().Format(time.RFC3339), m.Group.JID(), m.Sender.JID, clean(text))
}

// clean makes text of a stranger harmless for a terminal and for one line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r), r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return -1
		}
		return r
	}, s)
}

// shown is a stranger's name or text inside a line of this program: one that reads
// from right to left is isolated, so that it moves nothing around it (UAX #9).
func shown(s string) string {
	s = clean(s)
	for _, r := range s {
		if unicode.In(r, unicode.Hebrew, unicode.Arabic, unicode.Syriac, unicode.Thaana, unicode.Nko, unicode.Samaritan, unicode.Mandaic, unicode.Adlam) {
			return "\u2068" + s + "\u2069" // first strong isolate … pop
		}
	}
	return s
}

// alarm reports whether an event says that somebody lied.
func alarm(e client.Event) bool {
	switch e.(type) {
	case *client.ForkDetected, *client.RollbackDetected, *client.Misbehaved, *client.Undecryptable:
		return true
	}
	return false
}

func writeEvent(w io.Writer, e client.Event) {
	b, err := json.Marshal(e)
	if err != nil {
		return
	}
	fmt.Fprintf(w, "{\"type\":%q,%s\n", client.EventName(e), b[1:])
}

// eventLine puts an event into words.
func eventLine(e client.Event) string {
	names := func(list []client.Who) string {
		var out []string
		for _, w := range list {
			if !slices.Contains(out, w.JID) {
				out = append(out, w.JID)
			}
		}
		return strings.Join(out, ", ")
	}
	var s string
	switch v := e.(type) {
	case *client.Online:
		s = "online as " + v.JID
	case *client.Offline:
		s = fmt.Sprintf("offline (%v)", v.Err)
	case *client.Invited:
		s = v.By + " invites to this group"
	case *client.Joined:
		s = "this device is in the group, by " + v.By.JID
	case *client.Rejoined:
		s = "this device came back with new keys: " + v.Reason
	case *client.Removed:
		s = "this device was removed by " + v.By.JID + " " + v.Reason
	case *client.Destroyed:
		s = "the group was ended " + v.Reason
	case *client.MembersChanged:
		var parts []string
		if len(v.Added) > 0 {
			parts = append(parts, v.By.JID+" added "+names(v.Added))
		}
		if len(v.Removed) > 0 {
			parts = append(parts, v.By.JID+" removed "+names(v.Removed))
		}
		s = strings.Join(parts, "; ")
	case *client.RoleChanged:
		s = fmt.Sprintf("%s made %s %s (was %s)", v.By.JID, v.JID, v.New, v.Old)
	case *client.Renamed:
		s = fmt.Sprintf("%s renamed the group to %q", v.By.JID, v.New)
	case *client.PolicyChanged:
		s = v.By.JID + " changed the rules of the group"
	case *client.NewDevice:
		s = fmt.Sprintf("%s has a new device %s with key %s", v.Device.JID, v.Device.Device, client.FormatFingerprint(v.Device.Fingerprint))
	case *client.KeyChanged:
		s = fmt.Sprintf("device %s of %s has a new key %s", v.Device.Device, v.Device.JID, client.FormatFingerprint(v.Device.Fingerprint))
	case *client.HistoryLost:
		s = fmt.Sprintf("messages %d to %d are lost", v.From, v.To)
	case *client.Undecryptable:
		s = "a message cannot be opened: " + v.Reason
	case *client.ForkDetected:
		s = "the delivery service shows different histories: " + v.Reason
	case *client.RollbackDetected:
		s = "something went back in time: " + v.Reason
	case *client.Misbehaved:
		s = "the delivery service misbehaves: " + v.Reason
	case *client.SentLater:
		s = "a message from before went out"
	case *client.SendFailed:
		s = "a message from before was refused: " + v.Reason
	case *client.TrustChanged:
		s = fmt.Sprintf("%s says that a key of %s is %s", v.By.JID, v.Device.JID, v.Device.Trust)
	case *client.Reinitialised:
		s = fmt.Sprintf("the group goes on with the cipher suite %v (was %v)", mls.CipherSuite(v.New), mls.CipherSuite(v.Old))
		if !v.Proven {
			s += "; nothing proves that it is the same group: compare /code"
		}
		if len(v.Missing) > 0 {
			s += "; not in it yet: " + names(v.Missing)
		}
	case *client.ChangeFailed:
		s = "a change from before could not be made: " + v.Change + ": " + v.Reason
	case *client.Progress:
		s = fmt.Sprintf("catching up: %d of %d", v.Done, v.Total)
	default:
		s = client.EventName(e)
	}
	return clean(strings.TrimSpace(s))
}
