// SPDX-License-Identifier: Apache-2.0

package groupdata

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// MaxName is the longest group name, in bytes: enough for people, too little to
// make every GroupInfo of the group heavy.
const MaxName = 256

// HandshakeMode says how proposals and commits are framed.
type HandshakeMode uint8

const (
	// Public handshakes are PublicMessages: the delivery service keeps the
	// ratchet tree and checks every one of them.
	Public HandshakeMode = 1
	// Private handshakes are PrivateMessages: the delivery service only orders
	// them, and learns the roster as far as committers declare it.
	Private HandshakeMode = 2
)

// String gives the word that is used on the wire.
func (m HandshakeMode) String() string {
	switch m {
	case Public:
		return "public"
	case Private:
		return "private"
	}
	return fmt.Sprintf("mode %d", uint8(m))
}

// Group is the content of [ComponentGroup]. It binds a group_id to a JID, so
// that a delivery service cannot pass one group off as another. JID and
// Handshake never change during the life of a group_id.
type Group struct {
	JID       string // bare JID of the group, normalised
	Name      string // for people; may be empty
	Handshake HandshakeMode
}

const groupVersion = 1

// Encode gives the component's bytes. It fails when a field breaks a limit that
// [DecodeGroup] enforces.
func (g *Group) Encode() ([]byte, error) {
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("groupdata: encoding the group component: %w", err)
	}
	b := make([]byte, 0, 8+len(g.JID)+len(g.Name))
	b = append(b, groupVersion)
	b = appendVector(b, []byte(g.JID))
	b = appendVector(b, []byte(g.Name))
	return append(b, byte(g.Handshake)), nil
}

// DecodeGroup reads the bytes of [ComponentGroup]. It accepts only what
// [Group.Encode] can produce.
func DecodeGroup(b []byte) (*Group, error) {
	r := reader{b: b}
	if v := r.uint8(); r.err == nil && v != groupVersion {
		return nil, fmt.Errorf("groupdata: decoding the group component: unknown version %d", v)
	}
	g := &Group{JID: string(r.vector()), Name: string(r.vector()), Handshake: HandshakeMode(r.uint8())}
	err := r.end()
	if err == nil {
		err = g.check()
	}
	if err != nil {
		return nil, fmt.Errorf("groupdata: decoding the group component: %w", err)
	}
	return g, nil
}

func (g *Group) check() error {
	if err := checkJID(g.JID); err != nil {
		return err
	}
	if len(g.Name) > MaxName {
		return fmt.Errorf("name of %d bytes, at most %d are allowed", len(g.Name), MaxName)
	}
	if !utf8.ValidString(g.Name) {
		return errors.New("name is not UTF-8")
	}
	for _, c := range g.Name {
		if c < ' ' || c == 0x7f || c == 0xfffe || c == 0xffff {
			return errors.New("name holds a character that XML or a terminal cannot carry")
		}
	}
	if g.Handshake != Public && g.Handshake != Private {
		return fmt.Errorf("unknown handshake mode %d", g.Handshake)
	}
	return nil
}
