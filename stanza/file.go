// SPDX-License-Identifier: Apache-2.0

package stanza

// FileHash is a hash of a file (XEP-0300).
//
//	<hash xmlns='urn:xmpp:hashes:2' algo='sha-256'>2XarmwTlNxDAMkvymloX3S5+VbylNrJt/l5QyPa+YoU=</hash>
type FileHash struct {
	Algo  string
	Value []byte
}

func appendHashes(dst []byte, list []FileHash) []byte {
	for i := range list {
		dst = attr(open(dst, NSHash, "hash"), "algo", list[i].Algo)
		dst = append(dst, '>')
		dst = AppendBase64(dst, list[i].Value)
		dst = end(dst, "hash")
	}
	return dst
}

func (d *dec) hashes() (list []FileHash) {
	for c := range d.list(NSHash, "hash", MaxRefs) {
		cd := d.textChild(c)
		list = append(list, FileHash{Algo: cd.str("algo", MaxID, ""), Value: cd.content(nil)})
		d.done(&cd)
	}
	return list
}

// FileMetadata describes a file (XEP-0446).
//
//	<file xmlns='urn:xmpp:file:metadata:0'>
//	  <media-type>image/jpeg</media-type>
//	  <name>summit.jpg</name>
//	  <size>3032449</size>
//	  <width>4096</width>
//	  <height>2160</height>
//	  <hash xmlns='urn:xmpp:hashes:2' algo='sha-256'>2XarmwTlNxDAMkvymloX3S5+VbylNrJt/l5QyPa+YoU=</hash>
//	  <desc>Photo from the summit.</desc>
//	</file>
type FileMetadata struct {
	MediaType, Name, Desc string
	// Size is in bytes, nil if not told.
	Size *uint64
	// Width and Height are in pixels, Length in milliseconds; 0 if not told.
	Width, Height uint32
	Length        uint64
	Hashes        []FileHash
}

// Append appends the element.
func (f *FileMetadata) Append(dst []byte) []byte {
	dst = append(open(dst, NSFileMetadata, "file"), '>')
	dst = textOpt(dst, "media-type", f.MediaType)
	dst = textOpt(dst, "name", f.Name)
	if f.Size != nil {
		dst = textUint(dst, "size", *f.Size)
	}
	if f.Width != 0 {
		dst = textUint(dst, "width", uint64(f.Width))
	}
	if f.Height != 0 {
		dst = textUint(dst, "height", uint64(f.Height))
	}
	if f.Length != 0 {
		dst = textUint(dst, "length", f.Length)
	}
	dst = appendHashes(dst, f.Hashes)
	dst = textOpt(dst, "desc", f.Desc)
	return end(dst, "file")
}

func textUint(dst []byte, local string, v uint64) []byte {
	dst = append(start(dst, local), '>')
	dst = appendUint(dst, v)
	return end(dst, local)
}

// Parse reads the element.
func (f *FileMetadata) Parse(el Element) error {
	d := expect(el, NSFileMetadata, "file")
	d.noText()
	*f = FileMetadata{}
	var media, name, size, width, height, length, desc bool
	for c := el.First(); c.Valid(); c = c.Next() {
		if string(c.Space()) != NSFileMetadata {
			continue
		}
		switch string(c.Local()) {
		case "media-type":
			if d.once(&media, c) {
				f.MediaType = d.textOf(c, MaxID, "")
			}
		case "name":
			if d.once(&name, c) {
				f.Name = d.textOf(c, MaxID, "")
			}
		case "size":
			if d.once(&size, c) {
				n := d.number("size", c.Text(), 1<<63-1)
				f.Size = &n
			}
		case "width":
			if d.once(&width, c) {
				f.Width = uint32(d.number("width", c.Text(), 1<<32-1))
			}
		case "height":
			if d.once(&height, c) {
				f.Height = uint32(d.number("height", c.Text(), 1<<32-1))
			}
		case "length":
			if d.once(&length, c) {
				f.Length = d.number("length", c.Text(), 1<<63-1)
			}
		case "desc":
			// There may be one for each language; the first is kept.
			if !desc {
				desc, f.Desc = true, d.textOf(c, MaxText, "")
			}
		}
	}
	f.Hashes = d.hashes()
	return d.err
}

// Ciphers of [EncryptedSource] (XEP-0448 §4).
const (
	CipherAES128GCM = "urn:xmpp:ciphers:aes-128-gcm-nopadding:0"
	CipherAES256GCM = "urn:xmpp:ciphers:aes-256-gcm-nopadding:0"
	CipherAES256CBC = "urn:xmpp:ciphers:aes-256-cbc-pkcs7:0"
)

// EncryptedSource is where an encrypted file lies and how it is decrypted
// (XEP-0448).
//
//	<encrypted xmlns='urn:xmpp:esfs:0' cipher='urn:xmpp:ciphers:aes-256-gcm-nopadding:0'>
//	  <key>SuRJ2agVm/pQbJQlPq/B23Xt1YOOJCcEGJA5HrcYOGQ=</key>
//	  <iv>T8RDMBaiqn6Ci4Nw</iv>
//	  <hash xmlns='urn:xmpp:hashes:2' algo='sha-256'>BgKI2gp2kNCRsARNvhFmw5kFf9BBo2pTbV2D8XHTMWI=</hash>
//	  <sources xmlns='urn:xmpp:sfs:0'>
//	    <url-data xmlns='http://jabber.org/protocol/url-data' target='https://files.example.org/4a771ac1/file'/>
//	  </sources>
//	</encrypted>
type EncryptedSource struct {
	Cipher  string
	Key, IV []byte
	// Hashes are of the ciphertext.
	Hashes []FileHash
	URLs   []string
}

// String hides the key.
func (e EncryptedSource) String() string { return "{" + e.Cipher + " [redacted]}" }

// GoString hides the key.
func (e EncryptedSource) GoString() string { return e.String() }

// Append appends the element.
func (e *EncryptedSource) Append(dst []byte) []byte {
	dst = attr(open(dst, NSFileEncrypted, "encrypted"), "cipher", e.Cipher)
	dst = append(dst, "><key>"...)
	dst = AppendBase64(dst, e.Key)
	dst = append(dst, "</key><iv>"...)
	dst = AppendBase64(dst, e.IV)
	dst = append(dst, "</iv>"...)
	dst = appendHashes(dst, e.Hashes)
	dst = append(open(dst, NSFileSharing, "sources"), '>')
	dst = appendURLs(dst, e.URLs)
	dst = end(dst, "sources")
	return end(dst, "encrypted")
}

// Parse reads the element. It keeps the sources that are URLs.
func (e *EncryptedSource) Parse(el Element) error {
	d := expect(el, NSFileEncrypted, "encrypted")
	d.noText()
	*e = EncryptedSource{Cipher: d.str("cipher", MaxID, e.Cipher)}
	key, iv := d.only(el, NSFileEncrypted, "key"), d.only(el, NSFileEncrypted, "iv")
	sources := d.only(el, NSFileSharing, "sources")
	if !key.Valid() || !iv.Valid() || !sources.Valid() {
		d.fail("key, iv or sources are missing")
		return d.err
	}
	kd, vd := d.textChild(key), d.textChild(iv)
	e.Key, e.IV = kd.content(nil), vd.content(nil)
	d.done(&kd)
	d.done(&vd)
	e.Hashes = d.hashes()
	sd := d.child(sources)
	e.URLs = sd.urls()
	d.done(&sd)
	return d.err
}

func appendURLs(dst []byte, urls []string) []byte {
	for _, u := range urls {
		dst = attr(open(dst, NSURLData, "url-data"), "target", u)
		dst = append(dst, "/>"...)
	}
	return dst
}

func (d *dec) urls() (urls []string) {
	for c := range d.list(NSURLData, "url-data", MaxRefs) {
		cd := d.child(c)
		urls = append(urls, cd.str("target", MaxURL, ""))
		d.done(&cd)
	}
	return urls
}

// FileSharing shares a file (XEP-0447).
//
//	<file-sharing xmlns='urn:xmpp:sfs:0' disposition='inline' id='f1'>
//	  <file xmlns='urn:xmpp:file:metadata:0'>
//	    <media-type>image/jpeg</media-type>
//	    <name>summit.jpg</name>
//	    <size>3032449</size>
//	  </file>
//	  <sources>
//	    <encrypted xmlns='urn:xmpp:esfs:0' cipher='urn:xmpp:ciphers:aes-256-gcm-nopadding:0'>
//	      <key>SuRJ2agVm/pQbJQlPq/B23Xt1YOOJCcEGJA5HrcYOGQ=</key>
//	      <iv>T8RDMBaiqn6Ci4Nw</iv>
//	      <sources xmlns='urn:xmpp:sfs:0'>
//	        <url-data xmlns='http://jabber.org/protocol/url-data' target='https://files.example.org/4a771ac1/file'/>
//	      </sources>
//	    </encrypted>
//	  </sources>
//	</file-sharing>
//
// Sources of other kinds are ignored.
type FileSharing struct {
	// Disposition is "inline", "attachment" or empty.
	Disposition string
	// ID tells several files of one message apart.
	ID        string
	File      FileMetadata
	Encrypted []EncryptedSource
	URLs      []string
}

// Append appends the element.
func (f *FileSharing) Append(dst []byte) []byte {
	dst = attrOpt(open(dst, NSFileSharing, "file-sharing"), "disposition", f.Disposition)
	dst = attrOpt(dst, "id", f.ID)
	dst = append(dst, '>')
	dst = f.File.Append(dst)
	dst = append(start(dst, "sources"), '>')
	for i := range f.Encrypted {
		dst = f.Encrypted[i].Append(dst)
	}
	dst = appendURLs(dst, f.URLs)
	dst = end(dst, "sources")
	return end(dst, "file-sharing")
}

// Parse reads the element.
func (f *FileSharing) Parse(el Element) error {
	d := expect(el, NSFileSharing, "file-sharing")
	d.noText()
	*f = FileSharing{Disposition: d.strOpt("disposition", MaxID, f.Disposition), ID: d.strOpt("id", MaxID, f.ID)}
	if c := d.only(el, NSFileMetadata, "file"); c.Valid() {
		d.set(f.File.Parse(c))
	} else {
		d.fail("no <file/>")
	}
	if s := d.only(el, NSFileSharing, "sources"); s.Valid() {
		sd := d.child(s)
		f.URLs = sd.urls()
		for c := range sd.list(NSFileEncrypted, "encrypted", MaxRefs) {
			var e EncryptedSource
			sd.set(e.Parse(c))
			f.Encrypted = append(f.Encrypted, e)
		}
		d.done(&sd)
	}
	return d.err
}
