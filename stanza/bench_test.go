// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// delivered is a fanned-out message.
type delivered struct {
	header   Header
	mls      MLS
	delivery Delivery
	id       StanzaID
	eme      Encryption
	hint     Hint
}

func newDelivered(size int) *delivered {
	d := &delivered{
		header:   Header{Kind: Message, Type: TypeGroupchat, ID: "5f3dbc5e-e1d3-4077-a492-693f3769c7ad", From: "ops@mls.example.org", To: "bob@example.net/x"},
		mls:      MLS{Bytes: make([]byte, size)},
		delivery: Delivery{Seq: 1212, Epoch: 43, Kind: EntryApplication, Chain: refA, Stamp: stamp},
		id:       StanzaID{By: "ops@mls.example.org", ID: "5f3dbc5e-e1d3-4077-a492-693f3769c7ad"},
		eme:      EncryptedMLS,
		hint:     HintNoStore,
	}
	for i := range d.mls.Bytes {
		d.mls.Bytes[i] = byte(i * 7)
	}
	return d
}

func (d *delivered) append(dst []byte) []byte {
	dst = d.header.AppendStart(dst)
	dst = d.mls.Append(dst)
	dst = d.delivery.Append(dst)
	dst = d.id.Append(dst)
	dst = d.eme.Append(dst)
	dst = d.hint.Append(dst)
	return Message.AppendEnd(dst)
}

// parse reads all that a client needs.
func (d *delivered) parse(p *Parser, raw []byte) error {
	s, err := p.Parse(raw)
	if err != nil {
		return err
	}
	if s.Kind != Message || string(s.From) != "ops@mls.example.org" {
		return fmt.Errorf("not from the group")
	}
	for el := s.First(); el.Valid(); el = el.Next() {
		switch string(el.Space()) {
		case NSMLS:
			err = d.mls.Parse(el)
		case NSDelivery:
			err = d.delivery.Parse(el)
		case NSSID:
			err = d.id.Parse(el)
		case NSEME:
			err = d.eme.Parse(el)
		case NSHints:
			err = d.hint.Parse(el)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// The same message for encoding/xml.
type xmlMessage struct {
	XMLName xml.Name `xml:"message"`
	Type    string   `xml:"type,attr"`
	ID      string   `xml:"id,attr"`
	From    string   `xml:"from,attr"`
	To      string   `xml:"to,attr"`
	MLS     struct {
		Data string `xml:",chardata"`
	} `xml:"urn:xmpp:mls:0 mls"`
	Delivery struct {
		Seq   uint64 `xml:"seq,attr"`
		Epoch uint64 `xml:"epoch,attr"`
		Kind  string `xml:"kind,attr"`
		Chain string `xml:"chain,attr"`
		Stamp string `xml:"stamp,attr"`
	} `xml:"urn:xmpp:mls:ds:0 delivery"`
	StanzaID struct {
		By string `xml:"by,attr"`
		ID string `xml:"id,attr"`
	} `xml:"urn:xmpp:sid:0 stanza-id"`
	Encryption struct {
		Namespace string `xml:"namespace,attr"`
		Name      string `xml:"name,attr"`
	} `xml:"urn:xmpp:eme:0 encryption"`
	NoStore struct{} `xml:"urn:xmpp:hints no-store"`
}

// BenchmarkStanza encodes and parses a message with 1 KiB of payload, base64
// included, with this package and with encoding/xml.
func BenchmarkStanza(b *testing.B) {
	d := newDelivered(1024)
	raw := d.append(nil)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(raw)))
		var dst []byte
		for b.Loop() {
			dst = d.append(dst[:0])
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(raw)))
		var p Parser
		var got delivered
		for b.Loop() {
			if err := got.parse(&p, raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode/encoding-xml", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var m xmlMessage
			m.Type, m.ID, m.From, m.To = TypeGroupchat, d.header.ID, d.header.From, d.header.To
			m.MLS.Data = base64.StdEncoding.EncodeToString(d.mls.Bytes)
			m.Delivery.Seq, m.Delivery.Epoch, m.Delivery.Kind = 1212, 43, "application"
			m.Delivery.Chain, m.Delivery.Stamp = refA.String(), stamp.Format(time.RFC3339Nano)
			m.StanzaID.By, m.StanzaID.ID = d.id.By, d.id.ID
			m.Encryption.Namespace, m.Encryption.Name = NSMLS, "MLS"
			if _, err := xml.Marshal(&m); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parse/encoding-xml", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var m xmlMessage
			if err := xml.Unmarshal(raw, &m); err != nil {
				b.Fatal(err)
			}
			if _, err := base64.StdEncoding.DecodeString(m.MLS.Data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor/base64-encode", func(b *testing.B) {
		var dst []byte
		for b.Loop() {
			dst = AppendBase64(dst[:0], d.mls.Bytes)
		}
	})
	b.Run("floor/base64-decode", func(b *testing.B) {
		src := AppendBase64(nil, d.mls.Bytes)
		var dst []byte
		for b.Loop() {
			dst, _ = DecodeBase64(dst[:0], src)
		}
	})
}

// BenchmarkFanout readdresses the message to one recipient.
func BenchmarkFanout(b *testing.B) {
	d := newDelivered(1024)
	t := NewTemplate(d.header, &d.mls, &d.delivery, &d.id, &d.eme, &d.hint)
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		dst = t.AppendTo(dst[:0], "bob@example.net/x")
	}
}

// BenchmarkSubmit parses and answers an IQ as a DS does.
func BenchmarkSubmit(b *testing.B) {
	h := Header{Kind: IQ, Type: TypeSet, ID: "m1", From: "alice@example.org/bot", To: "ops@mls.example.org"}
	raw := h.Append(nil, &Send{Epoch: 43, Ref: refA, Message: MLS{Bytes: make([]byte, 1024)}})
	b.ReportAllocs()
	var p Parser
	var in Send
	out := Accepted{Seq: 1212, Epoch: 43, ID: "5f3dbc5e-e1d3-4077-a492-693f3769c7ad", Ref: refA, Chain: refB, Stamp: stamp}
	var dst []byte
	for b.Loop() {
		s, err := p.Parse(raw)
		if err != nil {
			b.Fatal(err)
		}
		el, err := s.Payload()
		if err != nil {
			b.Fatal(err)
		}
		if err := in.Parse(el); err != nil {
			b.Fatal(err)
		}
		dst = AppendResult(dst[:0], &s, &out)
	}
}

// repeat is an endless stream of one stanza.
type repeat struct {
	raw []byte
	off int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		c := copy(p[n:], r.raw[r.off:])
		n += c
		if r.off += c; r.off == len(r.raw) {
			r.off = 0
		}
	}
	return n, nil
}

// BenchmarkStream splits and parses stanzas from a stream.
func BenchmarkStream(b *testing.B) {
	raw := newDelivered(1024).append(nil)
	head := []byte(`<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>`)
	s := xmlpull.NewSplitter(&prefixed{head: head, r: &repeat{raw: raw}}, xmlpull.Limits{})
	h, err := s.Open()
	if err != nil {
		b.Fatal(err)
	}
	p := NewParser(h.Context, xmlpull.Limits{})
	var got delivered
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		next, err := s.Next()
		if err != nil {
			b.Fatal(err)
		}
		if err := got.parse(p, next); err != nil {
			b.Fatal(err)
		}
	}
}

// prefixed reads head once, then r.
type prefixed struct {
	head []byte
	r    *repeat
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.r.Read(b)
}

// TestSteadyStateAllocs holds the promise that neither encoding nor parsing
// allocates once buffers have grown.
func TestSteadyStateAllocs(t *testing.T) {
	d := newDelivered(1024)
	raw := d.append(nil)
	dst := make([]byte, 0, 2*len(raw))
	if n := testing.AllocsPerRun(100, func() { dst = d.append(dst[:0]) }); n != 0 {
		t.Errorf("encoding allocates %v times", n)
	}
	var p Parser
	var got delivered
	if n := testing.AllocsPerRun(100, func() {
		if err := got.parse(&p, raw); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("parsing allocates %v times", n)
	}
	tmpl := NewTemplate(d.header, &d.mls, &d.delivery)
	if n := testing.AllocsPerRun(100, func() { dst = tmpl.AppendTo(dst[:0], "bob@example.net/x") }); n != 0 {
		t.Errorf("fan-out allocates %v times", n)
	}
}
