// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"fmt"
	"time"
)

// Ping asks whether an entity is there (XEP-0199): the payload of an IQ get,
// answered with an empty result. A DS answers a client whose session it does
// not know with not-acceptable: announce again (xep/mls-delivery.xml#session).
//
//	<ping xmlns='urn:xmpp:ping'/>
type Ping struct{}

// Append appends the element.
func (*Ping) Append(dst []byte) []byte { return appendEmpty(dst, NSPing, "ping") }

// Parse reads the element.
func (*Ping) Parse(el Element) error { return parseEmpty(el, NSPing, "ping") }

// VersionQuery asks for the software (XEP-0092): the payload of an IQ get.
//
//	<query xmlns='jabber:iq:version'/>
type VersionQuery struct{}

// Append appends the element.
func (*VersionQuery) Append(dst []byte) []byte { return appendEmpty(dst, NSVersion, "query") }

// Parse reads the element.
func (*VersionQuery) Parse(el Element) error { return parseEmpty(el, NSVersion, "query") }

// Version answers [VersionQuery]: the payload of the IQ result.
//
//	<query xmlns='jabber:iq:version'><name>lockstep</name><version>0.1.0</version></query>
type Version struct {
	Name, Version, OS string
}

// Append appends the element.
func (v *Version) Append(dst []byte) []byte {
	dst = append(open(dst, NSVersion, "query"), '>')
	dst = text(dst, "name", v.Name)
	dst = text(dst, "version", v.Version)
	dst = textOpt(dst, "os", v.OS)
	return end(dst, "query")
}

// Parse reads the element.
func (v *Version) Parse(el Element) error {
	d := expect(el, NSVersion, "query")
	d.noText()
	old := *v
	*v = Version{}
	var name, version, os bool
	for c := el.First(); c.Valid(); c = c.Next() {
		switch {
		case c.Is(NSVersion, "name") && d.once(&name, c):
			v.Name = d.textOf(c, MaxID, old.Name)
		case c.Is(NSVersion, "version") && d.once(&version, c):
			v.Version = d.textOf(c, MaxID, old.Version)
		case c.Is(NSVersion, "os") && d.once(&os, c):
			v.OS = d.textOf(c, MaxID, old.OS)
		}
	}
	if !name || !version {
		d.fail("name or version is missing")
	}
	return d.err
}

// TimeQuery asks for the entity's clock (XEP-0202): the payload of an IQ get.
//
//	<time xmlns='urn:xmpp:time'/>
type TimeQuery struct{}

// Append appends the element.
func (*TimeQuery) Append(dst []byte) []byte { return appendEmpty(dst, NSTime, "time") }

// Parse reads the element.
func (*TimeQuery) Parse(el Element) error { return parseEmpty(el, NSTime, "time") }

// EntityTime answers [TimeQuery]: the payload of the IQ result.
//
//	<time xmlns='urn:xmpp:time'><tzo>+01:00</tzo><utc>2026-08-20T09:15:00Z</utc></time>
type EntityTime struct {
	// Time is the clock. Its location is the entity's offset from UTC.
	Time time.Time
}

// Append appends the element.
func (t *EntityTime) Append(dst []byte) []byte {
	_, offset := t.Time.Zone()
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	dst = append(open(dst, NSTime, "time"), "><tzo>"...)
	dst = append(dst, sign)
	dst = append2(dst, offset/3600)
	dst = append2(append(dst, ':'), offset/60%60)
	dst = append(dst, "</tzo><utc>"...)
	dst = appendTime(dst, t.Time, false)
	return append(dst, "</utc></time>"...)
}

// Parse reads the element.
func (t *EntityTime) Parse(el Element) error {
	d := expect(el, NSTime, "time")
	d.noText()
	tzo, utc := d.only(el, NSTime, "tzo"), d.only(el, NSTime, "utc")
	if !tzo.Valid() || !utc.Valid() {
		d.fail("tzo or utc is missing")
		return d.err
	}
	offset, ok := parseOffset(tzo.Text())
	if !ok {
		d.fail("tzo is not an offset: %.32q", tzo.Text())
	}
	at := d.parseStamp("utc", utc.Text())
	if d.err != nil {
		return d.err
	}
	t.Time = at
	if offset != 0 {
		t.Time = at.In(time.FixedZone(fmt.Sprintf("%+d", offset/3600), offset))
	}
	return nil
}

// parseOffset reads "Z", "+01:00" or "-05:30" as seconds east of UTC.
func parseOffset(v []byte) (int, bool) {
	if string(v) == "Z" {
		return 0, true
	}
	if len(v) != 6 || v[3] != ':' || v[0] != '+' && v[0] != '-' {
		return 0, false
	}
	h, ok1 := digits(v[1:3])
	m, ok2 := digits(v[4:6])
	if !ok1 || !ok2 || h > 14 || m > 59 {
		return 0, false
	}
	n := h*3600 + m*60
	if v[0] == '-' {
		n = -n
	}
	return n, true
}
