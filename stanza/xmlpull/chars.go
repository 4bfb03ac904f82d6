// SPDX-License-Identifier: Apache-2.0

package xmlpull

import (
	"encoding/binary"
	"unicode/utf8"
)

// This file knows the characters of XML 1.0 (Fifth Edition): §2.2 Char, §2.3
// NameStartChar and NameChar, and Namespaces in XML 1.0 §3 NCName.

const (
	isSpace     = 1 << iota // S: space, tab, CR, LF
	isNameStart             // ASCII part of NCName's first character
	isNameChar              // ASCII part of NCName's other characters
)

var asciiClass = func() (t [256]uint8) {
	for _, c := range " \t\r\n" {
		t[c] |= isSpace
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c] |= isNameStart | isNameChar
		t[c-'a'+'A'] |= isNameStart | isNameChar
	}
	t['_'] |= isNameStart | isNameChar
	for c := '0'; c <= '9'; c++ {
		t[c] |= isNameChar
	}
	t['-'] |= isNameChar
	t['.'] |= isNameChar
	return t
}()

// isChar reports whether r may occur in an XML document (XML 1.0 §2.2).
func isChar(r rune) bool {
	switch {
	case r < 0x20:
		return r == '\t' || r == '\n' || r == '\r'
	case r <= 0xD7FF:
		return true
	case r < 0xE000:
		return false
	case r <= 0xFFFD:
		return true
	default:
		return r >= 0x10000 && r <= 0x10FFFF
	}
}

// nameStartRune reports whether a non-ASCII r may start a name (XML 1.0 §2.3).
func nameStartRune(r rune) bool {
	switch {
	case r < 0xC0:
		return false
	case r <= 0x2FF:
		return r != 0xD7 && r != 0xF7
	case r <= 0x36F:
		return false
	case r <= 0x1FFF:
		return r != 0x37E
	case r == 0x200C || r == 0x200D:
		return true
	case r >= 0x2070 && r <= 0x218F, r >= 0x2C00 && r <= 0x2FEF,
		r >= 0x3001 && r <= 0xD7FF, r >= 0xF900 && r <= 0xFDCF,
		r >= 0xFDF0 && r <= 0xFFFD, r >= 0x10000 && r <= 0xEFFFF:
		return true
	}
	return false
}

// nameRune reports whether a non-ASCII r may continue a name (XML 1.0 §2.3).
func nameRune(r rune) bool {
	return nameStartRune(r) || r == 0xB7 || (r >= 0x300 && r <= 0x36F) || r == 0x203F || r == 0x2040
}

const (
	swarLo = 0x0101010101010101
	swarHi = 0x8080808080808080
)

// plain reports whether b needs no second look: printable ASCII without '&',
// '<' and ']'. It works on eight bytes at a time because it sees every byte of
// every base64 blob.
func plain(b []byte) bool {
	for len(b) >= 8 {
		v := binary.LittleEndian.Uint64(b)
		amp := v ^ (swarLo * '&')
		lt := v ^ (swarLo * '<')
		br := v ^ (swarLo * ']')
		// For each term the high bit of some byte is set if a byte is zero,
		// or below 0x20 in the last one; exact as a whole-word test.
		bad := ((amp - swarLo) & ^amp) | ((lt - swarLo) & ^lt) | ((br - swarLo) & ^br) |
			((v - swarLo*0x20) & ^v) | v
		if bad&swarHi != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < 0x20 || c >= utf8.RuneSelf || c == '&' || c == '<' || c == ']' {
			return false
		}
	}
	return true
}

// onlySpace reports whether b is empty or white space.
func onlySpace(b []byte) bool {
	for _, c := range b {
		if asciiClass[c]&isSpace == 0 {
			return false
		}
	}
	return true
}
