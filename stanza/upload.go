// SPDX-License-Identifier: Apache-2.0

package stanza

// UploadRequest asks for a slot to upload a file (XEP-0363): the payload of an
// IQ get to the upload service, answered with [UploadSlot].
//
//	<request xmlns='urn:xmpp:http:upload:0' filename='file' size='23456' content-type='application/octet-stream'/>
type UploadRequest struct {
	Filename    string
	Size        uint64
	ContentType string
}

// Append appends the element.
func (r *UploadRequest) Append(dst []byte) []byte {
	dst = attr(open(dst, NSUpload, "request"), "filename", r.Filename)
	dst = attrUint(dst, "size", r.Size)
	dst = attrOpt(dst, "content-type", r.ContentType)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (r *UploadRequest) Parse(el Element) error {
	d := expect(el, NSUpload, "request")
	d.noText()
	r.Filename = d.str("filename", MaxID, r.Filename)
	r.Size = d.uint64("size")
	r.ContentType = d.strOpt("content-type", MaxID, r.ContentType)
	return d.err
}

// UploadSlot answers [UploadRequest]: the payload of the IQ result.
//
//	<slot xmlns='urn:xmpp:http:upload:0'>
//	  <put url='https://upload.example.org/4a771ac1/file'><header name='Authorization'>Basic Base64String==</header></put>
//	  <get url='https://download.example.org/4a771ac1/file'/>
//	</slot>
type UploadSlot struct {
	Put, Get string
	// Headers are those of the PUT request, in order. Only Authorization,
	// Cookie and Expires occur: others are dropped, and line ends in values
	// are refused (XEP-0363 §5).
	Headers []UploadHeader
}

// UploadHeader is an HTTP header in an [UploadSlot].
type UploadHeader struct {
	Name, Value string
}

// Append appends the element.
func (s *UploadSlot) Append(dst []byte) []byte {
	dst = append(open(dst, NSUpload, "slot"), '>')
	dst = attr(start(dst, "put"), "url", s.Put)
	dst = append(dst, '>')
	for _, h := range s.Headers {
		dst = attr(start(dst, "header"), "name", h.Name)
		dst = append(dst, '>')
		dst = appendEscaped(dst, h.Value)
		dst = end(dst, "header")
	}
	dst = end(dst, "put")
	dst = append(attr(start(dst, "get"), "url", s.Get), "/>"...)
	return end(dst, "slot")
}

// Parse reads the element.
func (s *UploadSlot) Parse(el Element) error {
	d := expect(el, NSUpload, "slot")
	d.noText()
	put, get := d.only(el, NSUpload, "put"), d.only(el, NSUpload, "get")
	if !put.Valid() || !get.Valid() {
		d.fail("put or get is missing")
		return d.err
	}
	pd, gd := d.child(put), d.child(get)
	s.Put, s.Get = pd.str("url", MaxURL, s.Put), gd.str("url", MaxURL, s.Get)
	s.Headers = s.Headers[:0]
	for c := range pd.list(NSUpload, "header", MaxRefs) {
		hd := pd.textChild(c)
		h := UploadHeader{Name: canonicalHeader(hd.attr("name")), Value: hd.textOf(c, MaxURL, "")}
		for i := 0; i < len(h.Value); i++ {
			if h.Value[i] == '\n' || h.Value[i] == '\r' {
				hd.fail("a line end in a header")
			}
		}
		pd.done(&hd)
		if h.Name != "" {
			s.Headers = append(s.Headers, h)
		}
	}
	d.done(&pd)
	d.done(&gd)
	return d.err
}

// canonicalHeader returns the name of a header that XEP-0363 allows, or "".
func canonicalHeader(name []byte) string {
	for _, known := range [...]string{"Authorization", "Cookie", "Expires"} {
		if len(name) != len(known) {
			continue
		}
		same := true
		for i := range name {
			same = same && name[i]|0x20 == known[i]|0x20
		}
		if same {
			return known
		}
	}
	return ""
}
