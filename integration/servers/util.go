// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
)

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > 2*tailSize {
		t.b = append(t.b[:0], t.b[len(t.b)-tailSize:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	b := t.b
	if len(b) > tailSize {
		b = b[len(b)-tailSize:]
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			b = b[i+1:]
		}
	}
	return string(b)
}

// multi writes to all, like io.MultiWriter, whatever one of them says.
type multi []io.Writer

func (m multi) Write(p []byte) (int, error) {
	var errs []error
	for _, w := range m {
		_, err := w.Write(p)
		errs = append(errs, err)
	}
	return len(p), errors.Join(errs...)
}

// streamOpened reports whether b holds a complete stream header with an id.
func streamOpened(b []byte) bool {
	i := bytes.Index(b, []byte("<stream:stream"))
	if i < 0 {
		return false
	}
	end := bytes.IndexByte(b[i:], '>')
	if end < 0 {
		return false
	}
	h := b[i : i+end]
	return bytes.Contains(h, []byte(" id='")) || bytes.Contains(h, []byte(` id="`))
}

// freePorts finds ports of 127.0.0.1 below the range from which the system
// takes those of outgoing connections, so that they stay free while a server is
// restarted.
func freePorts(n int) ([]int, error) {
	const low, high = 15000, 32000
	var found []int
	for range 400 {
		p := low + rand.IntN(high-low)
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			continue
		}
		// Held until all are found, so that none is found twice.
		defer l.Close()
		if found = append(found, p); len(found) == n {
			return found, nil
		}
	}
	return nil, fmt.Errorf("servers: no %d free ports on 127.0.0.1 between %d and %d", n, low, high)
}

func newPorts() (ports, error) {
	p, err := freePorts(6)
	if err != nil {
		return ports{}, err
	}
	return ports{C2S: p[0], C2STLS: p[1], S2S: p[2], Component: p[3], HTTPS: p[4], API: p[5]}, nil
}
