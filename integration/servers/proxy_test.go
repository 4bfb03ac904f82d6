// SPDX-License-Identifier: Apache-2.0

package servers_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/integration/servers"
)

// listener echoes what it gets, and counts the bytes.
func listener(t *testing.T) (addr string, received chan []byte) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	received = make(chan []byte, 64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var b bytes.Buffer
				io.Copy(io.MultiWriter(c, &b), c)
				received <- b.Bytes()
			}()
		}
	}()
	return l.Addr().String(), received
}

func proxied(t *testing.T) (*servers.Proxy, func() net.Conn, chan []byte) {
	t.Helper()
	addr, received := listener(t)
	p, err := servers.NewProxy(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}, received
}

// roundTrip writes and wants it back within the time.
func roundTrip(c net.Conn, text string, wait time.Duration) error {
	c.SetDeadline(time.Now().Add(wait))
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, len(text)))
	return err
}

func TestProxyStall(t *testing.T) {
	p, dial, _ := proxied(t)
	c := dial()
	if err := roundTrip(c, "hello", patience); err != nil {
		t.Fatal(err)
	}
	p.Stall()
	if err := roundTrip(c, "lost?", 200*time.Millisecond); err == nil {
		t.Error("a stalled proxy lets data through")
	}
	late := dial()
	io.WriteString(late, "late")
	p.Heal()
	c.SetDeadline(time.Now().Add(patience))
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "lost?" {
		t.Errorf("after healing: %q, %v", got, err)
	}
	late.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(late, got[:4]); err != nil || string(got[:4]) != "late" {
		t.Errorf("a connection made while stalled: %q, %v", got[:4], err)
	}
}

func TestProxyCut(t *testing.T) {
	p, dial, _ := proxied(t)
	c := dial()
	if err := roundTrip(c, "hello", patience); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if err := roundTrip(c, "x", patience); err == nil {
		t.Error("a cut connection lives")
	}
	// The reset may come before the dialer has its connection.
	if c, err := net.Dial("tcp", p.Addr()); err == nil {
		if err := roundTrip(c, "x", patience); err == nil {
			t.Error("a cut proxy lets new connections through")
		}
		c.Close()
	}
	p.Heal()
	if err := roundTrip(dial(), "hello", patience); err != nil {
		t.Error(err)
	}
}

func TestProxyCutAfter(t *testing.T) {
	p, dial, received := proxied(t)
	c := dial()
	if err := roundTrip(c, "0123456789", patience); err != nil {
		t.Fatal(err)
	}
	p.CutAfter(4)
	io.WriteString(c, "abcdefgh")
	if got := string(<-received); got != "0123456789abcd" {
		t.Errorf("the listener got %q, want all up to the fourth byte", got)
	}
	if err := roundTrip(dial(), "hello", patience); err != nil {
		t.Errorf("a new connection after the cut: %v", err)
	}
}

func TestProxyRate(t *testing.T) {
	p, dial, _ := proxied(t)
	p.Rate(20_000)
	began := time.Now()
	if err := roundTrip(dial(), string(make([]byte, 10_000)), patience); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("10 kB at 20 kB/s took %s", took)
	}
}
