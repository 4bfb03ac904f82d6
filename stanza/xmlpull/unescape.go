// SPDX-License-Identifier: Apache-2.0

package xmlpull

import (
	"bytes"
	"unicode/utf8"
)

type mode uint8

const (
	modeText  mode = iota // entities, line ends, no "]]>"
	modeAttr              // entities, white space becomes a space, no '<'
	modeCDATA             // line ends only
)

// unescape checks the characters of src and returns it with references and
// line ends replaced: src itself if nothing changes, else a part of scratch.
// The result is never longer than src.
func (r *Reader) unescape(src []byte, m mode) ([]byte, bool) {
	base := len(r.scratch)
	copied := false
	from := 0 // src[from:i] is checked and not yet copied
	i := 0
	bad := func(reason string) ([]byte, bool) {
		r.malformed(reason)
		return nil, false
	}
	for i < len(src) {
		c := src[i]
		replace, width := -1, 1
		switch {
		case c >= utf8.RuneSelf:
			u, size := utf8.DecodeRune(src[i:])
			if size == 1 {
				return bad("invalid UTF-8")
			}
			if !isChar(u) {
				return bad("forbidden character")
			}
			i += size
			continue
		case c == '&' && m != modeCDATA:
			u, n := reference(src[i:])
			if n == 0 {
				return bad("bad entity or character reference")
			}
			replace, width = int(u), n
		case c == '<' && m == modeAttr:
			return bad("'<' in attribute value")
		case c == '\r':
			if i+1 < len(src) && src[i+1] == '\n' {
				width = 2
			}
			replace = '\n'
			if m == modeAttr {
				replace = ' '
			}
		case c == '\n' || c == '\t':
			if m == modeAttr {
				replace = ' '
			}
		case c < 0x20:
			return bad("forbidden character")
		case c == ']' && m == modeText && bytes.HasPrefix(src[i:], cdataEnd):
			return bad("']]>' in text")
		}
		if replace < 0 {
			i++
			continue
		}
		r.scratch = append(r.scratch, src[from:i]...)
		r.scratch = utf8.AppendRune(r.scratch, rune(replace))
		copied = true
		i += width
		from = i
	}
	if !copied {
		return src, true
	}
	r.scratch = append(r.scratch, src[from:]...)
	return r.scratch[base:len(r.scratch):len(r.scratch)], true
}

// reference reads one of the five predefined entities or a character
// reference (XML 1.0 §4.1, §4.6) and returns its character and length, or 0.
func reference(b []byte) (rune, int) {
	// The longest reference that names a character is "&#x0010FFFF;" with any
	// number of leading zeros; ten of them are plenty.
	end := bytes.IndexByte(b[:min(len(b), 24)], ';')
	if end < 2 {
		return 0, 0
	}
	name := b[1:end]
	switch string(name) {
	case "lt":
		return '<', end + 1
	case "gt":
		return '>', end + 1
	case "amp":
		return '&', end + 1
	case "quot":
		return '"', end + 1
	case "apos":
		return '\'', end + 1
	}
	if name[0] != '#' {
		return 0, 0
	}
	digits, base := name[1:], rune(10)
	if len(digits) > 0 && digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	if len(digits) == 0 {
		return 0, 0
	}
	var u rune
	for _, c := range digits {
		var d rune
		switch {
		case c >= '0' && c <= '9':
			d = rune(c - '0')
		case base == 16 && c >= 'a' && c <= 'f':
			d = rune(c-'a') + 10
		case base == 16 && c >= 'A' && c <= 'F':
			d = rune(c-'A') + 10
		default:
			return 0, 0
		}
		if u = u*base + d; u > utf8.MaxRune {
			return 0, 0
		}
	}
	if !isChar(u) {
		return 0, 0
	}
	return u, end + 1
}
