// SPDX-License-Identifier: Apache-2.0

package xmlpull

import "unicode/utf8"

// Bytes is text as a string or a byte slice.
type Bytes interface{ ~string | ~[]byte }

// AppendText appends s to dst as character data. A byte that is not UTF-8 or a
// character that XML forbids becomes U+FFFD: it cannot be sent, and dropping
// it in silence would let two different strings look alike.
func AppendText[T Bytes](dst []byte, s T) []byte { return appendEscaped(dst, s, false) }

// AppendAttr appends " name='value'" to dst, with value escaped as by
// [AppendText], and quotes, tabs and line ends too. The name is the program's
// own and must be a valid one.
func AppendAttr[T Bytes](dst []byte, name string, value T) []byte {
	dst = append(dst, ' ')
	dst = append(dst, name...)
	dst = append(dst, '=', '\'')
	dst = appendEscaped(dst, value, true)
	return append(dst, '\'')
}

// escapeASCII marks the bytes that cannot be copied as they are.
var escapeASCII = func() (t [256]bool) {
	for c := 0; c < 0x20; c++ {
		t[c] = true
	}
	for c := utf8.RuneSelf; c < 256; c++ {
		t[c] = true
	}
	for _, c := range `&<>'"` {
		t[c] = true
	}
	return t
}()

func appendEscaped[T Bytes](dst []byte, s T, attr bool) []byte {
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if !escapeASCII[c] {
			i++
			continue
		}
		esc, size := "\uFFFD", 1
		switch c {
		case '&':
			esc = "&amp;"
		case '<':
			esc = "&lt;"
		case '>':
			esc = "&gt;"
		case '\'':
			if esc = "'"; attr {
				esc = "&apos;"
			}
		case '"':
			if esc = "\""; attr {
				esc = "&quot;"
			}
		case '\t':
			if esc = "\t"; attr {
				esc = "&#9;"
			}
		case '\n':
			if esc = "\n"; attr {
				esc = "&#10;"
			}
		case '\r':
			// A literal CR reads back as LF (XML 1.0 §2.11).
			esc = "&#13;"
		default:
			if c >= utf8.RuneSelf {
				var u rune
				if u, size = decodeRune(s[i:]); size > 1 && isChar(u) {
					i += size
					continue
				}
			}
		}
		dst = append(dst, s[from:i]...)
		dst = append(dst, esc...)
		i += size
		from = i
	}
	return append(dst, s[from:]...)
}

// decodeRune decodes the first rune of s without a conversion that allocates.
func decodeRune[T Bytes](s T) (rune, int) {
	var b [utf8.UTFMax]byte
	n := copy(b[:], s)
	return utf8.DecodeRune(b[:n])
}

// AppendAttrValue appends s to dst, escaped for an attribute value of either
// quote.
func AppendAttrValue[T Bytes](dst []byte, s T) []byte { return appendEscaped(dst, s, true) }
