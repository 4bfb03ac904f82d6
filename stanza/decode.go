// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// Element is a handle on a parsed XML element. See [xmlpull.Element].
type Element = xmlpull.Element

// SyntaxError says why a payload was refused. To its sender it is a
// bad-request (RFC 6120 §8.3.3.1): see [AsError].
type SyntaxError struct {
	// Element is the local name of the element at fault.
	Element string
	// Reason says what is wrong with it.
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("stanza: parsing <%s/>: %s", e.Element, e.Reason)
}

// dec reads one element. The first fault sticks, and values read after it are
// zero, so that a Parse method reads like the element's schema.
type dec struct {
	el  Element
	err error
}

// expect starts to read el, which must have the given expanded name.
func expect(el Element, space, local string) dec {
	d := dec{el: el}
	if !el.Is(space, local) {
		d.err = &SyntaxError{Element: local, Reason: fmt.Sprintf("found element %.64q of namespace %.64q instead", el.Local(), el.Space())}
	}
	return d
}

// child starts to read an element below d whose name the caller has checked,
// and which has no text.
func (d *dec) child(el Element) dec {
	c := d.textChild(el)
	c.noText()
	return c
}

// textChild is child for an element that has text.
func (d *dec) textChild(el Element) dec { return dec{el: el, err: d.err} }

// done keeps the fault of a child.
func (d *dec) done(c *dec) {
	if d.err == nil {
		d.err = c.err
	}
}

func (d *dec) fail(format string, args ...any) {
	if d.err == nil {
		d.err = &SyntaxError{Element: string(d.el.Local()), Reason: fmt.Sprintf(format, args...)}
	}
}

// set notes err, from another Parse.
func (d *dec) set(err error) {
	if d.err == nil && err != nil {
		d.err = err
	}
}

// once counts a child that may occur only once: *seen must be false.
func (d *dec) once(seen *bool, c Element) bool {
	if *seen {
		d.fail("more than one <%s/>", c.Local())
	}
	*seen = true
	return d.err == nil
}

// room reports whether another item fits into a list of n.
func (d *dec) room(n, limit int) bool {
	if n >= limit {
		d.fail("more than %d items", limit)
	}
	return d.err == nil
}

// list visits the children {space}local, of which there may be limit.
func (d *dec) list(space, local string, limit int) iter.Seq[Element] {
	return func(yield func(Element) bool) {
		n := 0
		for c := d.el.First(); c.Valid(); c = c.Next() {
			if !c.Is(space, local) {
				continue
			}
			if !d.room(n, limit) || !yield(c) {
				return
			}
			n++
		}
	}
}

// noText refuses text where only elements belong.
func (d *dec) noText() {
	if d.el.HasText() {
		d.fail("text where none belongs")
	}
}

// attr returns a required attribute.
func (d *dec) attr(name string) []byte {
	v, ok := d.el.Attr(name)
	if !ok || len(v) == 0 {
		d.fail("missing attribute %q", name)
	}
	return v
}

// str returns a required attribute as a string of at most limit bytes. If old
// has the same value it is returned, so that parsing into a used struct need
// not allocate.
func (d *dec) str(name string, limit int, old string) string {
	return d.keep(name, d.attr(name), limit, old)
}

// strOpt is str for an optional attribute.
func (d *dec) strOpt(name string, limit int, old string) string {
	v, _ := d.el.Attr(name)
	return d.keep(name, v, limit, old)
}

func (d *dec) keep(name string, v []byte, limit int, old string) string {
	if len(v) > limit {
		d.fail("%s longer than %d bytes", name, limit)
	}
	if d.err != nil {
		return ""
	}
	if string(v) == old {
		return old
	}
	return string(v)
}

func (d *dec) jid(name, old string) string    { return d.str(name, MaxJID, old) }
func (d *dec) jidOpt(name, old string) string { return d.strOpt(name, MaxJID, old) }

// uint returns a required number.
func (d *dec) uint(name string, limit uint64) uint64 {
	return d.number(name, d.attr(name), limit)
}

// uintOpt returns an optional number, zero by default.
func (d *dec) uintOpt(name string, limit uint64) uint64 {
	v, ok := d.el.Attr(name)
	if !ok {
		return 0
	}
	return d.number(name, v, limit)
}

func (d *dec) uint64(name string) uint64    { return d.uint(name, math.MaxUint64) }
func (d *dec) uint64Opt(name string) uint64 { return d.uintOpt(name, math.MaxUint64) }
func (d *dec) uint32(name string) uint32    { return uint32(d.uint(name, math.MaxUint32)) }
func (d *dec) uint32Opt(name string) uint32 { return uint32(d.uintOpt(name, math.MaxUint32)) }

func (d *dec) number(name string, v []byte, limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	n, ok := parseUint(v)
	if !ok {
		d.fail("%s is not a number: %.32q", name, v)
		return 0
	}
	if n > limit {
		d.fail("%s out of range", name)
		return 0
	}
	return n
}

// parseUint reads a decimal number, in the one way to write it: without sign
// and leading zeros. The seq of a page is compared as text by others.
func parseUint(v []byte) (uint64, bool) {
	if len(v) == 0 || len(v) > 20 || v[0] == '0' && len(v) > 1 {
		return 0, false
	}
	var n uint64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		c := uint64(c - '0')
		if n > (math.MaxUint64-c)/10 {
			return 0, false
		}
		n = n*10 + c
	}
	return n, true
}

// boolean returns an optional xs:boolean, false by default.
func (d *dec) boolean(name string) bool {
	v, ok := d.el.Attr(name)
	if !ok {
		return false
	}
	b, ok := parseBool(v)
	if !ok {
		d.fail("%s is not a boolean: %.32q", name, v)
	}
	return b
}

func parseBool(v []byte) (value, ok bool) {
	switch string(v) {
	case "true", "1":
		return true, true
	case "false", "0":
		return false, true
	}
	return false, false
}

// hash returns a required SHA-256 value in base64.
func (d *dec) hash(name string) Hash {
	return d.parseHash(name, d.attr(name))
}

// hashOpt returns the zero hash for a missing attribute.
func (d *dec) hashOpt(name string) Hash {
	v, ok := d.el.Attr(name)
	if !ok {
		return Hash{}
	}
	return d.parseHash(name, v)
}

func (d *dec) parseHash(name string, v []byte) (h Hash) {
	if d.err != nil {
		return h
	}
	var buf [48]byte
	n := 0
	if len(v) == 44 {
		n, _ = decodeBase64(buf[:], v)
	}
	if n != len(h) {
		d.fail("%s is not a SHA-256 hash in base64", name)
		return h
	}
	if copy(h[:], buf[:]); h.IsZero() {
		d.fail("%s is zero, which is no hash", name)
	}
	return h
}

// base64 returns a required attribute of at most limit bytes once decoded.
func (d *dec) base64(name string, limit int, old []byte) []byte {
	return d.blob(name, d.attr(name), limit, old)
}

func (d *dec) base64Opt(name string, limit int, old []byte) []byte {
	if _, ok := d.el.Attr(name); !ok {
		return old[:0]
	}
	return d.base64(name, limit, old)
}

// refs reads the references of MLS (RFC 9420 §5.2) in the children {space}local.
func (d *dec) refs(space, local string, limit int, list [][]byte) [][]byte {
	for c := range d.list(space, local, limit) {
		cd := d.child(c)
		list = append(list, cd.base64("ref", MaxKeyPackageRef, nil))
		d.done(&cd)
	}
	return list
}

// content returns the base64 text of the element, decoded into the capacity of
// old. It must not be empty.
func (d *dec) content(old []byte) []byte {
	b := d.contentOpt(old)
	if len(b) == 0 {
		d.fail("no content")
	}
	return b
}

// contentOpt is content that may be empty.
func (d *dec) contentOpt(old []byte) []byte {
	return d.blob("content", d.el.Text(), math.MaxInt, old)
}

func (d *dec) blob(name string, v []byte, limit int, old []byte) []byte {
	if d.err != nil {
		return old[:0]
	}
	b, err := DecodeBase64(old[:0], v)
	if err != nil {
		d.fail("%s is not base64", name)
		return old[:0]
	}
	if len(b) > limit {
		d.fail("%s longer than %d bytes", name, limit)
		return old[:0]
	}
	return b
}

var errBase64 = errors.New("stanza: decoding base64: not the standard alphabet, padded, without white space")

// DecodeBase64 appends the bytes that src is the base64 form of to dst. It
// accepts exactly what [AppendBase64] makes: standard alphabet, padded, zero
// trailing bits, no white space.
func DecodeBase64(dst, src []byte) ([]byte, error) {
	if len(src) == 0 {
		return dst, nil
	}
	room := base64.StdEncoding.DecodedLen(len(src))
	dst = slices.Grow(dst, room)
	n, ok := decodeBase64(dst[len(dst):len(dst)+room], src)
	if !ok {
		return dst, errBase64
	}
	return dst[:len(dst)+n], nil
}

var strictBase64 = base64.StdEncoding.Strict()

func decodeBase64(dst, src []byte) (int, bool) {
	if len(src)%4 != 0 {
		return 0, false
	}
	n, err := strictBase64.Decode(dst, src)
	// The standard library skips line ends; then too little has come out.
	pad := 0
	for pad < 2 && pad < len(src) && src[len(src)-1-pad] == '=' {
		pad++
	}
	return n, err == nil && n == len(src)/4*3-pad
}

// device returns a required device id.
func (d *dec) device(name string) DeviceID {
	return d.parseDevice(name, d.attr(name))
}

func (d *dec) deviceOpt(name string) DeviceID {
	v, ok := d.el.Attr(name)
	if !ok {
		return DeviceID{}
	}
	return d.parseDevice(name, v)
}

func (d *dec) parseDevice(name string, v []byte) (id DeviceID) {
	if d.err != nil {
		return id
	}
	if !id.parse(v) {
		d.fail("%s is not a device id: %.64q", name, v)
	}
	return id
}

// code returns a required registry number of MLS.
func (d *dec) code(name string) uint16 {
	v := d.attr(name)
	if d.err != nil {
		return 0
	}
	c, ok := parseCode(v)
	if !ok {
		d.fail("%s is not a number of the form 0x0001: %.32q", name, v)
	}
	return c
}

// codes returns an optional list of registry numbers, divided by spaces.
func (d *dec) codes(name string, old []uint16) []uint16 {
	old = old[:0]
	v, _ := d.el.Attr(name)
	for len(v) > 0 && d.err == nil {
		field := v
		if i := slices.Index(v, ' '); i >= 0 {
			field, v = v[:i], v[i+1:]
		} else {
			v = nil
		}
		if len(field) == 0 {
			continue
		}
		c, ok := parseCode(field)
		if !ok {
			d.fail("%s is not a list of numbers of the form 0x0001: %.32q", name, field)
		} else if d.room(len(old), MaxRefs) {
			old = append(old, c)
		}
	}
	return old
}

// parseCode reads "0x0001": four hexadecimal digits, in lower case.
func parseCode(v []byte) (uint16, bool) {
	if len(v) != 6 || v[0] != '0' || v[1] != 'x' {
		return 0, false
	}
	var n uint16
	for _, c := range v[2:] {
		x := unhex(c)
		if x > 15 {
			return 0, false
		}
		n = n<<4 | uint16(x)
	}
	return n, true
}

// unhex gives the value of a hexadecimal digit in lower case, more than 15 for
// any other character.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// stamp returns a required instant.
func (d *dec) stamp(name string) time.Time {
	return d.parseStamp(name, d.attr(name))
}

// stampOpt returns the zero time for a missing attribute.
func (d *dec) stampOpt(name string) time.Time {
	v, ok := d.el.Attr(name)
	if !ok {
		return time.Time{}
	}
	return d.parseStamp(name, v)
}

func (d *dec) parseStamp(name string, v []byte) time.Time {
	if d.err != nil {
		return time.Time{}
	}
	t, ok := parseTime(v)
	if !ok {
		d.fail("%s is not a date and time: %.40q", name, v)
	}
	return t
}

// parseTime reads an XEP-0082 DateTime, with the fraction cut to nanoseconds.
func parseTime(v []byte) (time.Time, bool) {
	var zero time.Time
	if len(v) < len("2006-01-02T15:04:05Z") || len(v) > 40 {
		return zero, false
	}
	year, ok1 := digits(v[0:4])
	month, ok2 := digits(v[5:7])
	day, ok3 := digits(v[8:10])
	hour, ok4 := digits(v[11:13])
	minute, ok5 := digits(v[14:16])
	second, ok6 := digits(v[17:19])
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 ||
		v[4] != '-' || v[7] != '-' || v[10] != 'T' || v[13] != ':' || v[16] != ':' ||
		year < 1 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 60 {
		return zero, false
	}
	rest := v[19:]
	nano := 0
	if rest[0] == '.' {
		scale := int(1e8)
		i := 1
		for ; i < len(rest) && rest[i] >= '0' && rest[i] <= '9'; i++ {
			nano += int(rest[i]-'0') * scale
			scale /= 10
		}
		if i == 1 {
			return zero, false
		}
		rest = rest[i:]
	}
	offset := 0
	switch {
	case len(rest) == 1 && rest[0] == 'Z':
	case len(rest) == 6 && (rest[0] == '+' || rest[0] == '-') && rest[3] == ':':
		h, ok1 := digits(rest[1:3])
		m, ok2 := digits(rest[4:6])
		if !ok1 || !ok2 || h > 23 || m > 59 {
			return zero, false
		}
		offset = h*3600 + m*60
		if rest[0] == '-' {
			offset = -offset
		}
	default:
		return zero, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, nano, time.UTC)
	if t.Day() != day && second < 60 {
		return zero, false // such as 30 February
	}
	t = t.Add(-time.Duration(offset) * time.Second)
	// The zero time means none here, and the format has no year 0.
	return t, !t.IsZero() && t.Year() >= 1 && t.Year() <= 9999
}

func digits(v []byte) (int, bool) {
	n := 0
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// textOf returns the text of child element c as a string of at most limit
// bytes.
func (d *dec) textOf(c Element, limit int, old string) string {
	return d.keep(string(c.Local()), c.Text(), limit, old)
}

// lang returns xml:lang of el itself, "" if absent or absurdly long.
func lang(el Element) string {
	v, _ := el.AttrNS(xmlpull.NSXML, "lang")
	if len(v) > 64 {
		return ""
	}
	return string(v)
}

// parseEmpty reads an element that has only its name.
func parseEmpty(el Element, space, local string) error {
	d := expect(el, space, local)
	d.noText()
	return d.err
}
