// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// The functions in this file append parts of elements. Attributes are quoted
// with apostrophes and written in the order of the examples.

// open appends "<local xmlns='space'", to be closed by "/>" or ">".
func open(dst []byte, space, local string) []byte {
	dst = append(dst, '<')
	dst = append(dst, local...)
	dst = append(dst, " xmlns='"...)
	dst = append(dst, space...) // our constants hold nothing to escape
	return append(dst, '\'')
}

// start appends "<local", for a child in the namespace of its parent.
func start(dst []byte, local string) []byte {
	dst = append(dst, '<')
	return append(dst, local...)
}

// end appends "</local>".
func end(dst []byte, local string) []byte {
	dst = append(dst, '<', '/')
	dst = append(dst, local...)
	return append(dst, '>')
}

func attr[T xmlpull.Bytes](dst []byte, name string, value T) []byte {
	return xmlpull.AppendAttr(dst, name, value)
}

// attrOpt leaves an empty value out.
func attrOpt[T xmlpull.Bytes](dst []byte, name string, value T) []byte {
	if len(value) == 0 {
		return dst
	}
	return xmlpull.AppendAttr(dst, name, value)
}

func attrName(dst []byte, name string) []byte {
	dst = append(dst, ' ')
	dst = append(dst, name...)
	return append(dst, '=', '\'')
}

func attrUint(dst []byte, name string, v uint64) []byte {
	dst = strconv.AppendUint(attrName(dst, name), v, 10)
	return append(dst, '\'')
}

// attrUintOpt leaves zero out.
func attrUintOpt(dst []byte, name string, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return attrUint(dst, name, v)
}

// attrTrue writes true and leaves false, the default, out.
func attrTrue(dst []byte, name string, v bool) []byte {
	if !v {
		return dst
	}
	dst = append(attrName(dst, name), "true"...)
	return append(dst, '\'')
}

func attrBool(dst []byte, name string, v bool) []byte {
	return append(strconv.AppendBool(attrName(dst, name), v), '\'')
}

func attrBase64(dst []byte, name string, v []byte) []byte {
	dst = base64.StdEncoding.AppendEncode(attrName(dst, name), v)
	return append(dst, '\'')
}

func attrBase64Opt(dst []byte, name string, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	return attrBase64(dst, name, v)
}

// appendRefs appends an element for each reference of MLS (RFC 9420 §5.2).
func appendRefs(dst []byte, local string, refs [][]byte) []byte {
	for _, r := range refs {
		dst = attrBase64(start(dst, local), "ref", r)
		dst = append(dst, "/>"...)
	}
	return dst
}

// attrHash writes a hash and leaves the zero hash, which means none, out.
func attrHash(dst []byte, name string, v *Hash) []byte {
	if v.IsZero() {
		return dst
	}
	return attrBase64(dst, name, v[:])
}

func attrDevice(dst []byte, name string, v *DeviceID) []byte {
	dst = hex.AppendEncode(attrName(dst, name), v[:])
	return append(dst, '\'')
}

func attrDeviceOpt(dst []byte, name string, v *DeviceID) []byte {
	if v.IsZero() {
		return dst
	}
	return attrDevice(dst, name, v)
}

// appendCode appends a registry number of MLS as "0x0001".
func appendCode(dst []byte, v uint16) []byte {
	const digits = "0123456789abcdef"
	return append(dst, '0', 'x', digits[v>>12], digits[v>>8&15], digits[v>>4&15], digits[v&15])
}

func attrCode(dst []byte, name string, v uint16) []byte {
	return append(appendCode(attrName(dst, name), v), '\'')
}

// attrCodes writes a list of registry numbers, divided by spaces.
func attrCodes(dst []byte, name string, v []uint16) []byte {
	if len(v) == 0 {
		return dst
	}
	dst = attrName(dst, name)
	for i, c := range v {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = appendCode(dst, c)
	}
	return append(dst, '\'')
}

// attrStamp writes an instant with milliseconds (XEP-0082 DateTime) and leaves
// the zero time out.
func attrStamp(dst []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	return append(appendTime(attrName(dst, name), t, true), '\'')
}

// attrDate is attrStamp with milliseconds only where they are not zero.
func attrDate(dst []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	return append(appendTime(attrName(dst, name), t, false), '\'')
}

// appendTime appends t in UTC with a year of four digits. Times outside of the
// years 1 to 9999, which the format cannot express, become its ends.
func appendTime(dst []byte, t time.Time, ms bool) []byte {
	t = t.UTC()
	if y := t.Year(); y < 1 {
		t = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	} else if y > 9999 {
		t = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	y, mo, d := t.Date()
	h, mi, s := t.Clock()
	dst = append(dst, byte('0'+y/1000), byte('0'+y/100%10))
	dst = append2(dst, y%100)
	dst = append2(append(dst, '-'), int(mo))
	dst = append2(append(dst, '-'), d)
	dst = append2(append(dst, 'T'), h)
	dst = append2(append(dst, ':'), mi)
	dst = append2(append(dst, ':'), s)
	if f := t.Nanosecond() / 1e6; ms || f != 0 {
		dst = append(dst, '.', byte('0'+f/100))
		dst = append2(dst, f%100)
	}
	return append(dst, 'Z')
}

func append2(dst []byte, v int) []byte {
	return append(dst, byte('0'+v/10), byte('0'+v%10))
}

// AppendBase64 appends the base64 form of src to dst: standard alphabet,
// padded, no white space, as everywhere in the protocol.
func AppendBase64(dst, src []byte) []byte { return base64.StdEncoding.AppendEncode(dst, src) }

// text appends "<local>value</local>".
func text[T xmlpull.Bytes](dst []byte, local string, value T) []byte {
	dst = append(start(dst, local), '>')
	dst = xmlpull.AppendText(dst, value)
	return end(dst, local)
}

// textOpt leaves an empty value out.
func textOpt[T xmlpull.Bytes](dst []byte, local string, value T) []byte {
	if len(value) == 0 {
		return dst
	}
	return text(dst, local, value)
}

func appendUint(dst []byte, v uint64) []byte { return strconv.AppendUint(dst, v, 10) }

func appendEscaped[T xmlpull.Bytes](dst []byte, s T) []byte { return xmlpull.AppendText(dst, s) }

// appendEmpty appends an element that has only its name.
func appendEmpty(dst []byte, space, local string) []byte {
	return append(open(dst, space, local), "/>"...)
}
