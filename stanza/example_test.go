// SPDX-License-Identifier: Apache-2.0

package stanza_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// A delivery service refuses a commit that lost the race for its epoch, and
// the client finds out which epoch it is now.
func Example() {
	msg := []byte("an MLSMessage")
	h := stanza.Header{Kind: stanza.IQ, Type: stanza.TypeSet, ID: "c1", From: "juliet@capulet.lit/balcony", To: "ops@mls.example"}
	request := h.Append(nil, &stanza.Commit{Epoch: 42, Ref: stanza.MessageRef(msg), Message: stanza.Object{Bytes: msg}})

	// The delivery service.
	var parser stanza.Parser
	s, err := parser.Parse(request)
	if err != nil {
		panic(err)
	}
	var answer []byte
	el, err := s.Payload()
	if err == nil && el.Is(stanza.NSDelivery, "commit") {
		var c stanza.Commit
		if c, err = stanza.Parse[stanza.Commit](el); err == nil {
			err = &stanza.StaleEpoch{Submitted: c.Epoch, Current: 44, Head: 1211}
		}
	}
	e, _ := stanza.AsError(err)
	answer = stanza.AppendError(answer, &s, e)

	// The client.
	s, err = parser.Parse(answer)
	if err != nil {
		panic(err)
	}
	var stale *stanza.StaleEpoch
	if errors.As(s.Err(), &stale) {
		fmt.Println(s.Err())
		fmt.Println("now in epoch", stale.Current)
	}
	// Output:
	// stanza: cancel: conflict: "The message is for epoch 42 and the group is in epoch 44, catch up to entry 1211 and try again"
	// now in epoch 44
}

// A stream is read stanza by stanza. One that is broken or too large is no
// reason to give the stream up.
func Example_stream() {
	conn := strings.NewReader(`<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='s1'>` +
		`<message from='mallory@example.org'><a></b></message>` +
		`<message from='romeo@montague.lit'><body>Hi</body></message></stream:stream>`)
	split := xmlpull.NewSplitter(conn, xmlpull.Limits{})
	header, err := split.Open()
	if err != nil {
		panic(err)
	}
	parser := stanza.NewParser(header.Context, xmlpull.Limits{})
	for {
		raw, err := split.Next()
		if err != nil {
			fmt.Println(err)
			return
		}
		s, err := parser.Parse(raw)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%s: %s\n", s.From, s.Body())
	}
	// Output:
	// xmlpull: reading byte 41: not-well-formed: end tag does not match start tag
	// romeo@montague.lit: Hi
	// EOF
}

// Fan-out writes a stanza once and the address for each recipient.
func ExampleTemplate() {
	t := stanza.NewTemplate(stanza.Header{Kind: stanza.Message, Type: stanza.TypeHeadline, From: "mls.example"}, &stanza.Resume{})
	var buf []byte
	for _, to := range []string{"juliet@capulet.lit/balcony", "romeo@montague.lit/orchard"} {
		buf = t.AppendTo(buf[:0], to)
		fmt.Printf("%s\n", buf)
	}
	// Output:
	// <message type='headline' from='mls.example' to='juliet@capulet.lit/balcony'><resume xmlns='urn:xmpp:mls:ds:0'/></message>
	// <message type='headline' from='mls.example' to='romeo@montague.lit/orchard'><resume xmlns='urn:xmpp:mls:ds:0'/></message>
}
