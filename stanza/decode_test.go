// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestDecodeBase64(t *testing.T) {
	for n := range 70 {
		b := bytes.Repeat([]byte{0xa5}, n)
		s := AppendBase64(nil, b)
		got, err := DecodeBase64([]byte("x"), s)
		if err != nil || string(got) != "x"+string(b) {
			t.Errorf("%d bytes: %x, %v", n, got, err)
		}
	}
	for _, s := range []string{
		"A", "AA", "AAA", "AAAAA", "AA==AA==", "AA=A", "A===", "====", "AB==", "AAB=", "AA-_", "AAA*",
		" AAAA", "AAAA ", "AA AA", "AAAA\n", "AA\nAA", "AA\r\nAA==", "\n\n\n\n", "AAAA\n\n\n\n", "AA==\n\n\n\n", "é===",
	} {
		if got, err := DecodeBase64(nil, []byte(s)); err == nil {
			t.Errorf("%q is %x", s, got)
		}
	}
}

func TestParseTime(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want time.Time
	}{
		{"2026-08-20T09:15:00Z", date},
		{"2026-08-20T09:15:00.123Z", stamp},
		{"2026-08-20T10:15:00.123456789+01:00", stamp.Add(456789)},
		{"2026-08-20T03:45:00-05:30", date},
		{"2024-02-29T00:00:00Z", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)},
		{"2016-12-31T23:59:60Z", time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"9999-12-31T23:59:59Z", time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
	} {
		got, ok := parseTime([]byte(tc.in))
		if !ok || !got.Equal(tc.want) {
			t.Errorf("%s is %v, %v", tc.in, got, ok)
		}
	}
	for _, in := range []string{
		"", "2026-08-20", "2026-08-20T09:15Z", "2026-08-20 09:15:00Z", "2026-08-20T09:15:00", "2026-08-20T09:15:00z",
		"2026-13-20T09:15:00Z", "2026-00-20T09:15:00Z", "2026-02-30T09:15:00Z", "2026-08-32T09:15:00Z", "2026-08-20T24:00:00Z",
		"2026-08-20T09:60:00Z", "2026-08-20T09:15:61Z", "2026-08-20T09:15:00.Z", "2026-08-20T09:15:00.5", "2026-08-20T09:15:00+1:00",
		"2026-08-20T09:15:00+24:00", "2026-08-20T09:15:00+01:60", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z",
		"0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00", "+026-08-20T09:15:00Z", "2026-08-20T09:15:00ZZ",
		"2026-08-20T09:15:00." + strings.Repeat("1", 40) + "Z",
	} {
		if got, ok := parseTime([]byte(in)); ok {
			t.Errorf("%q is %v", in, got)
		}
	}
	for _, tc := range []struct {
		t    time.Time
		ms   bool
		want string
	}{
		{date, true, "2026-08-20T09:15:00.000Z"},
		{date, false, "2026-08-20T09:15:00Z"},
		{stamp, false, "2026-08-20T09:15:00.123Z"},
		{time.Date(2026, 1, 2, 3, 4, 5, 7e6+999999, time.FixedZone("", 3600)), true, "2026-01-02T02:04:05.007Z"},
		{time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC), false, "0001-01-01T00:00:00Z"},
		{time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC), false, "9999-12-31T23:59:59Z"},
	} {
		if got := string(appendTime(nil, tc.t, tc.ms)); got != tc.want {
			t.Errorf("%v is %s", tc.t, got)
		}
	}
}

func TestIdentifiers(t *testing.T) {
	for _, s := range []string{
		"", "5d41402abc4b2a76b9719d911017c59", "5d41402abc4b2a76b9719d911017c5922", "5D41402ABC4B2A76B9719D911017C592",
		"5d41402abc4b2a76b9719d911017c59g", strings.Repeat("0", 32),
	} {
		if id, err := ParseDeviceID(s); err == nil {
			t.Errorf("%q is %v", s, id)
		}
	}
	id, err := ParseDeviceID(devA.String())
	if err != nil || id != devA {
		t.Errorf("%v, %v", id, err)
	}
	h, err := ParseHash(refA.String())
	if err != nil || h != refA {
		t.Errorf("%v, %v", h, err)
	}
	for _, s := range []string{"", "AAAA", refA.String()[:43], refA.String() + "=", strings.Repeat("A", 43) + "=", "é" + refA.String()[2:]} {
		if h, err := ParseHash(s); err == nil {
			t.Errorf("%q is %v", s, h)
		}
	}
}

func TestParseCode(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want uint16
		ok   bool
	}{
		{"0x0001", 1, true}, {"0xf00a", 0xf00a, true}, {"0xffff", 0xffff, true},
		{"0x1", 0, false}, {"0x001", 0, false}, {"0xF001", 0, false}, {"0x000g", 0, false},
		{"0x", 0, false}, {"0x00001", 0, false}, {"1", 0, false}, {"0X0001", 0, false}, {"0x-001", 0, false}, {"", 0, false},
	} {
		got, ok := parseCode([]byte(tc.in))
		if ok != tc.ok || ok && got != tc.want {
			t.Errorf("%q is %#x, %v", tc.in, got, ok)
		}
	}
}

// TestTooMany checks the limits on lists.
func TestTooMany(t *testing.T) {
	many := func(open, item string, n int, close string) string {
		return open + strings.Repeat(item, n) + close
	}
	for _, tc := range []struct {
		p     Payload
		open  string
		item  string
		close string
		limit int
	}{
		{&Block{}, "<block xmlns='urn:xmpp:blocking'>", "<item jid='a'/>", "</block>", MaxItems},
		{&UnknownProposal{}, "<unknown-proposal xmlns='urn:xmpp:mls:errors:0'>", "<proposal ref='AAAA'/>", "</unknown-proposal>", MaxRefs},
		{&RetractKeyPackages{}, "<retract xmlns='urn:xmpp:mls:kp:0' device='" + devA.String() + "'>", "<key-package ref='AAAA'/>", "</retract>", MaxItems},
		{&Reactions{}, "<reactions xmlns='urn:xmpp:reactions:0' id='1'>", "<reaction>x</reaction>", "</reactions>", MaxRefs},
	} {
		if err := parseXML(tc.p, []byte(many(tc.open, tc.item, tc.limit, tc.close))); err != nil {
			t.Errorf("%T with %d items: %v", tc.p, tc.limit, err)
		}
		err := parseXML(tc.p, []byte(many(tc.open, tc.item, tc.limit+1, tc.close)))
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("more than %d", tc.limit)) {
			t.Errorf("%T with %d items: %v", tc.p, tc.limit+1, err)
		}
	}
}

// TestRejects has what the mutations of TestSchema do not reach: faults between
// several values.
func TestRejects(t *testing.T) {
	const (
		ds  = " xmlns='urn:xmpp:mls:ds:0'"
		kp  = " xmlns='urn:xmpp:mls:kp:0'"
		ref = " ref='RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o='"
		sum = " sha-256='RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o='"
		dev = " device='5d41402abc4b2a76b9719d911017c592'"
		id  = " id='5d41402abc4b2a76b9719d911017c592'"
	)
	for _, tc := range []struct {
		p      Payload
		xml    string
		reason string
	}{
		{&PublishKeyPackages{}, `<publish` + kp + dev + `/>`, "no <key-package/>"},
		{&ClaimKeyPackages{}, `<claim` + kp + ` claim-id='1' for='a@b' cipher-suite='0x0001'/>`, "no <user/>"},
		{&ClaimKeyPackages{}, `<claim` + kp + ` claim-id='1' for='a@b' cipher-suite='0x0001'><user jid='c'/><require extensions='0x0001,0x0002'/></claim>`, "not a list"},
		{&Claimed{}, `<claimed` + kp + ` claim-id='1'><user jid='c'><device` + id + `/></user></claimed>`, "says why not"},
		{&Claimed{}, `<claimed` + kp + ` claim-id='1'><user jid='c'><device` + id + ` status='exhausted'><key-package>AAAA</key-package></device></user></claimed>`, "says why not"},
		{&CreateGroup{}, `<create` + ds + ` local='ops'/>`, "no <group-info/>"},
		{&CreateGroup{}, `<create` + ds + ` local='ops'><group-info/></create>`, "only one of them"},
		{&CreateGroup{}, `<create` + ds + ` local='ops'><group-info stage='u'>AAAA</group-info></create>`, "only one of them"},
		{&Commit{}, `<commit` + ds + ref + ` epoch='1'/>`, "no <message/>"},
		{&Commit{}, `<commit` + ds + ref + ` epoch='1'><message>AAAA</message><message>AAAA</message></commit>`, "more than one <message/>"},
		{&Send{}, `<send` + ds + ref + ` epoch='1'/>`, "no <mls/>"},
		{&Send{}, `<send` + ds + ref + ` epoch='1'><mls xmlns='urn:xmpp:mls:0'/></send>`, "no content"},
		{&Stage{}, `<stage` + ds + sum + ` id='u' part='welcome' offset='5' total='4'>AAAA</stage>`, "offset out of range"},
		{&Stage{}, `<stage` + ds + sum + ` id='u' part='welcome' offset='2' total='4'>AAAA</stage>`, "behind the total"},
		{&TreePage{}, `<tree` + ds + ` epoch='1' offset='2' total='4'>AAAA</tree>`, "behind the total"},
		{&GroupInfo{}, `<group-info` + ds + ` epoch='1' seq='1' offset='2' total='4'>AAAA</group-info>`, "behind the total"},
		{&GroupInfo{}, `<group-info` + ds + ` epoch='1' seq='1' offset='2'>AAAA</group-info>`, "offset out of range"},
		{&Entry{}, `<entry` + ds + ` seq='1' epoch='1' kind='commit'/>`, "content, or size"},
		{&Entry{}, `<entry` + ds + ` seq='1' epoch='1' kind='commit' size='4'/>`, "content, or size"},
		{&Entry{}, `<entry` + ds + ` seq='1' epoch='1' kind='commit' size='4' offset='2'>AAAA</entry>`, "behind the size"},
		{&Entry{}, `<entry` + ds + ` seq='1' epoch='1' kind='commit' gone='true'/>`, "tombstone"},
		{&Entry{}, `<entry` + ds + sum + ` seq='1' epoch='1' kind='commit' gone='true'>AAAA</entry>`, "tombstone"},
		{&Log{}, `<log` + ds + ` epoch='1' head='9'><entry seq='1' epoch='1' kind='commit'>AAAA</entry><entry seq='3' epoch='1' kind='commit'>AAAA</entry></log>`, "entry 3 follows entry 1"},
		{&LogQuery{}, `<log` + ds + `><set xmlns='http://jabber.org/protocol/rsm'><before/></set></log>`, "forwards"},
		{&LogQuery{}, `<log` + ds + `><set xmlns='http://jabber.org/protocol/rsm'><after>x</after></set></log>`, "not a number"},
		{&Ack{}, `<ack` + ds + `/>`, "only one of them"},
		{&Ack{}, `<ack` + ds + ` seq='1' kp-ref='AAAA'/>`, "only one of them"},
		{&MustCommit{}, `<must-commit xmlns='urn:xmpp:mls:errors:0'/>`, "no <proposal/>"},
		{&UnknownProposal{}, `<unknown-proposal xmlns='urn:xmpp:mls:errors:0'/>`, "no <proposal/>"},
		{&RetryAfter{}, `<retry xmlns='urn:xmpp:mls:errors:0' after='99999999999'/>`, "out of range"},
		{&RetractKeyPackages{}, `<retract` + kp + dev + `><key-package ref='` + string(AppendBase64(nil, make([]byte, 65))) + `'/></retract>`, "longer than 64"},
		{&Envelope{}, `<envelope xmlns='urn:xmpp:sce:1'><content/><from jid='a'/><to jid='b'/></envelope>`, "is missing"},
		{&Envelope{}, `<envelope xmlns='urn:xmpp:sce:1'><content/><content/><from jid='a'/><to jid='b'/><time stamp='2026-08-20T09:15:00Z'/></envelope>`, "more than one <content/>"},
		{&Fallback{}, `<fallback xmlns='urn:xmpp:fallback:0'><body start='2' end='1'/></fallback>`, "start is behind end"},
		{&Fallback{}, `<fallback xmlns='urn:xmpp:fallback:0'><body start='2'/></fallback>`, "start without end"},
		{&Form{}, `<x xmlns='jabber:x:data' type='form'><field var='a'/><field var='a'/></x>`, "more than one field"},
		{&Form{}, `<x xmlns='jabber:x:data' type='form'><field/></x>`, "without var"},
		{&Body{}, `<body>a<b xmlns='u'/></body>`, "element inside"},
		{&UploadSlot{}, "<slot xmlns='urn:xmpp:http:upload:0'><put url='a'><header name='Cookie'>a\nb</header></put><get url='b'/></slot>", "line end"},
		{&UploadSlot{}, "<slot xmlns='urn:xmpp:http:upload:0'><put url='a'/></slot>", "missing"},
		{new(Hint), `<hint xmlns='urn:xmpp:hints'/>`, "found element"},
		{new(ChatState), `<sleeping xmlns='http://jabber.org/protocol/chatstates'/>`, "found element"},
		{&Nudges{}, `<nudges` + ds + `/>`, "mode"},
		{&Commit{}, `<commit` + kp + `/>`, "found element"},
	} {
		err := parseXML(tc.p, []byte(tc.xml))
		if err == nil || !strings.Contains(err.Error(), tc.reason) {
			t.Errorf("%s\n got %v\nwant %s", tc.xml, err, tc.reason)
		}
	}
}
