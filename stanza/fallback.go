// SPDX-License-Identifier: Apache-2.0

package stanza

// Fallback marks text of a body that stands in for an element (XEP-0428).
//
//	<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:mls:ds:0'><body/></fallback>
//	<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='0' end='33'/></fallback>
type Fallback struct {
	// For is the namespace of the element, empty for the whole message.
	For string
	// Body tells which part of the body it is, nil if not the body.
	Body *FallbackRange
}

// FallbackRange is a part of a body, in Unicode code points from Start up to
// but not including End. If Whole is set it is all of it.
type FallbackRange struct {
	Whole      bool
	Start, End uint32
}

// Append appends the element.
func (f *Fallback) Append(dst []byte) []byte {
	dst = attrOpt(open(dst, NSFallback, "fallback"), "for", f.For)
	if f.Body == nil {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = start(dst, "body")
	if !f.Body.Whole {
		dst = attrUint(dst, "start", uint64(f.Body.Start))
		dst = attrUint(dst, "end", uint64(f.Body.End))
	}
	dst = append(dst, "/>"...)
	return end(dst, "fallback")
}

// Parse reads the element.
func (f *Fallback) Parse(el Element) error {
	d := expect(el, NSFallback, "fallback")
	d.noText()
	f.For = d.strOpt("for", MaxID, f.For)
	f.Body = nil
	if c := d.only(el, NSFallback, "body"); c.Valid() {
		cd := d.child(c)
		r := new(FallbackRange)
		_, hasStart := c.Attr("start")
		_, hasEnd := c.Attr("end")
		switch {
		case hasStart && hasEnd:
			r.Start, r.End = cd.uint32("start"), cd.uint32("end")
			if r.Start > r.End {
				cd.fail("start is behind end")
			}
		case hasStart != hasEnd:
			cd.fail("start without end, or end without start")
		default:
			r.Whole = true
		}
		d.done(&cd)
		f.Body = r
	}
	return d.err
}
