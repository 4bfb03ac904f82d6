// SPDX-License-Identifier: Apache-2.0

package loopback_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/lockstep-im/lockstep/integration/loopback"
)

func TestUpload(t *testing.T) {
	s := start(t, loopback.Options{Upload: true})
	juliet := client(t, s, "juliet", "b")
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	juliet.send("<iq type='get' id='u' to='upload.capulet.lit'><request xmlns='urn:xmpp:http:upload:0' filename='a b.jpg' size='500000' content-type='application/octet-stream'/></iq>")
	slot := juliet.expect("id='u'", "<slot")
	put := slot.Find("urn:xmpp:http:upload:0", "put").Attr("url")
	get := slot.Find("urn:xmpp:http:upload:0", "get").Attr("url")
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.CertPool()}, DisableKeepAlives: true}}
	upload := func(b []byte) int {
		req, err := http.NewRequest(http.MethodPut, put, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if n := upload(data); n != http.StatusCreated {
		t.Errorf("PUT: %d", n)
	}
	// More than a connection takes in by itself: a refusal that does not wait for
	// the body would not be seen.
	for range 20 {
		if n := upload(bytes.Repeat(data, 8)); n != http.StatusForbidden {
			t.Errorf("second PUT to the slot: %d", n)
		}
	}
	resp, err := c.Get(get)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(b, data) {
		t.Errorf("GET: %d bytes, %v", len(b), err)
	}
	juliet.send("<iq type='get' id='big' to='upload.capulet.lit'><request xmlns='urn:xmpp:http:upload:0' filename='x' size='999999999'/></iq>")
	juliet.expect("id='big'", "file-too-large")
	if n := len(s.Uploads()); n != 1 {
		t.Errorf("%d uploads", n)
	}
}

func TestMUC(t *testing.T) {
	s := start(t, loopback.Options{MUC: true})
	juliet, romeo := client(t, s, "juliet", "b"), client(t, s, "romeo", "o")
	join := "<presence to='verona@rooms.capulet.lit/%s'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
	juliet.send(join, "j")
	juliet.expect("verona@rooms.capulet.lit/j", "code='110'", "code='201'")
	romeo.send(join, "r")
	romeo.expect("verona@rooms.capulet.lit/j")
	romeo.expect("verona@rooms.capulet.lit/r", "code='110'")
	romeo.expect("<subject")
	juliet.expect("verona@rooms.capulet.lit/r")
	juliet.send("<message type='groupchat' id='g' to='verona@rooms.capulet.lit'><body>hello</body></message>")
	for _, p := range []*peer{juliet, romeo} {
		p.expect("hello", "from='verona@rooms.capulet.lit/j'", "id='g'")
	}
	nurse := client(t, s, "nurse", "n")
	nurse.send("<message type='groupchat' id='no' to='verona@rooms.capulet.lit'><body>intrusion</body></message>")
	nurse.expect("id='no'", "not-acceptable")
	nurse.send(join, "r")
	nurse.expect("conflict")
	nurse.send(join, "n")
	nurse.expect("hello", "urn:xmpp:delay")
	s.CutClient("romeo@capulet.lit")
	juliet.expect("unavailable", "verona@rooms.capulet.lit/r")
}

func TestElementRoundTrip(t *testing.T) {
	for _, x := range []string{
		"<message xmlns='jabber:client' to='a@b' xml:lang='en'><body>&lt;&amp;&gt; &quot;x&quot; &apos;y&apos;</body><x xmlns='urn:x'><y xmlns='urn:y'/><z/></x></message>",
		"<iq xmlns='jabber:client' type='get'><a xmlns='urn:a' xmlns:a0='urn:b' a0:n='v'/></iq>",
	} {
		e, err := loopback.ParseElement(x)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.String(); got != x {
			t.Errorf("got  %s\nwant %s", got, x)
		}
	}
	if _, err := loopback.ParseElement("<a><b></a>"); err == nil || !strings.Contains(err.Error(), "syntax") {
		t.Errorf("malformed: %v", err)
	}
}
