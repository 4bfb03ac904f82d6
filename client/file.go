// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// This file shares files: encrypted with a key of their own, uploaded to the
// user's server (XEP-0363), and announced inside a message (XEP-0447, XEP-0448).
// The server that keeps the file sees its size and nothing else of it.

const (
	cipherGCM = "urn:xmpp:ciphers:aes-256-gcm-nopadding:0" // XEP-0448 §3
	// maxFile is the largest file, in bytes: the cipher wants it whole.
	maxFile     = 256 << 20
	maxFileName = 255
	fileKeySize = 32
	fileIVSize  = 12
)

// File is a file in a message, or one to be sent.
type File struct {
	Name        string `json:"name"` // without a path
	MediaType   string `json:"media-type"`
	Size        int64  `json:"size"` // of the plain file, as its sender says
	Description string `json:"description,omitempty"`
	URL         string `json:"url"` // where the encrypted file is

	sha256 []byte // of the plain file
	sealed []byte // SHA-256 of the encrypted file
	key    []byte
	iv     []byte
	cipher string
}

// String names the file without the key.
func (f File) String() string { return fmt.Sprintf("%s (%d bytes)", f.Name, f.Size) }

// parseFileSharing reads a <file-sharing/> element. Everything in it is a
// stranger's: the name loses its path, sizes are checked when downloading.
func parseFileSharing(el xmlpull.Element) (*File, error) {
	f := &File{}
	meta := el.Child(stanza.NSFileMetadata, "file")
	f.Name = safeName(string(meta.Child(stanza.NSFileMetadata, "name").Text()))
	f.MediaType = string(meta.Child(stanza.NSFileMetadata, "media-type").Text())
	f.Description = string(meta.Child(stanza.NSFileMetadata, "desc").Text())
	if s := string(meta.Child(stanza.NSFileMetadata, "size").Text()); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("client: the file's size %q is no number", s)
		}
		f.Size = n
	}
	for h := meta.First(); h.Valid(); h = h.Next() {
		if algo, _ := h.Attr("algo"); h.Is(stanza.NSHash, "hash") && string(algo) == "sha-256" {
			f.sha256, _ = base64.StdEncoding.DecodeString(string(h.Text()))
		}
	}
	enc := el.Child(stanza.NSFileSharing, "sources").Child(stanza.NSFileEncrypted, "encrypted")
	if !enc.Valid() {
		return nil, errors.New("client: the file is shared without encryption")
	}
	c, _ := enc.Attr("cipher")
	f.cipher = string(c)
	var err error
	if f.key, err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(enc.Child(stanza.NSFileEncrypted, "key").Text()))); err != nil {
		return nil, errors.New("client: the file's key is not base64")
	}
	if f.iv, err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(enc.Child(stanza.NSFileEncrypted, "iv").Text()))); err != nil {
		return nil, errors.New("client: the file's iv is not base64")
	}
	for h := enc.First(); h.Valid(); h = h.Next() {
		if algo, _ := h.Attr("algo"); h.Is(stanza.NSHash, "hash") && string(algo) == "sha-256" {
			f.sealed, _ = base64.StdEncoding.DecodeString(string(h.Text()))
		}
	}
	target, _ := enc.Child(stanza.NSFileSharing, "sources").Child(stanza.NSURLData, "url-data").Attr("target")
	f.URL = string(target)
	if f.URL == "" {
		return nil, errors.New("client: the file has no place to load it from")
	}
	return f, nil
}

// safeName keeps the last part of a name and nothing that a terminal or a file
// system could take for more than a name.
func safeName(s string) string {
	s = strings.ReplaceAll(s, "\\", "/")
	s = path.Base("/" + s)
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '/' || r == ':' || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return -1
		}
		return r
	}, s)
	for len(s) > maxFileName {
		s = s[:len(s)-1]
	}
	s = strings.ToValidUTF8(s, "")
	if s == "" || s == "." || s == ".." {
		return "file"
	}
	return s
}

func (f *File) appendXML(dst []byte) []byte {
	el := func(name, value string) {
		if value == "" {
			return
		}
		dst = append(dst, "<"+name+">"...)
		dst = xmlpull.AppendText(dst, value)
		dst = append(dst, "</"+name+">"...)
	}
	dst = append(dst, "<file-sharing xmlns='"+stanza.NSFileSharing+"' disposition='attachment'><file xmlns='"+stanza.NSFileMetadata+"'>"...)
	el("media-type", f.MediaType)
	el("name", f.Name)
	el("size", strconv.FormatInt(f.Size, 10))
	dst = append(dst, "<hash xmlns='"+stanza.NSHash+"' algo='sha-256'>"+base64.StdEncoding.EncodeToString(f.sha256)+"</hash>"...)
	el("desc", f.Description)
	dst = append(dst, "</file><sources><encrypted xmlns='"+stanza.NSFileEncrypted+"'"...)
	dst = xmlpull.AppendAttr(dst, "cipher", f.cipher)
	dst = append(dst, '>')
	el("key", base64.StdEncoding.EncodeToString(f.key))
	el("iv", base64.StdEncoding.EncodeToString(f.iv))
	if len(f.sealed) > 0 {
		dst = append(dst, "<hash xmlns='"+stanza.NSHash+"' algo='sha-256'>"+base64.StdEncoding.EncodeToString(f.sealed)+"</hash>"...)
	}
	dst = append(dst, "<sources xmlns='"+stanza.NSFileSharing+"'>"...)
	dst = appendEmpty(dst, stanza.NSURLData, "url-data", "target", f.URL)
	return append(dst, "</sources></encrypted></sources></file-sharing>"...)
}

// Upload encrypts what r holds and puts it on the user's server. The result
// can be sent to any number of groups with [Group.SendFile]. progress, if not
// nil, is told how much of how much has been sent, in bytes.
func (c *Client) Upload(ctx context.Context, name, mediaType string, r io.Reader, progress func(done, total int64)) (*File, error) {
	plain, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("client: reading the file: %w", err)
	}
	if len(plain) > maxFile {
		return nil, fmt.Errorf("client: the file is larger than %d bytes", maxFile)
	}
	f := &File{Name: safeName(name), MediaType: mediaType, Size: int64(len(plain)), cipher: cipherGCM}
	if f.MediaType == "" {
		f.MediaType = mime.TypeByExtension(path.Ext(f.Name))
	}
	if f.MediaType == "" {
		f.MediaType = http.DetectContentType(plain[:min(512, len(plain))])
	}
	sum := sha256.Sum256(plain)
	f.sha256 = bytes.Clone(sum[:])
	f.key, f.iv = make([]byte, fileKeySize), make([]byte, fileIVSize)
	rand.Read(f.key)
	rand.Read(f.iv)
	aead, err := fileAEAD(f.key, f.iv)
	if err != nil {
		return nil, err
	}
	sealed := aead.Seal(plain[:0], f.iv, plain, nil)
	sum = sha256.Sum256(sealed)
	f.sealed = bytes.Clone(sum[:])
	// The name on the server tells nothing.
	slot, err := c.uploadSlot(ctx, randomID()+".bin", int64(len(sealed)))
	if err != nil {
		return nil, err
	}
	if err := c.put(ctx, slot, sealed, progress); err != nil {
		return nil, fmt.Errorf("client: uploading %q: %w", f.Name, err)
	}
	f.URL = slot.get
	return f, nil
}

func fileAEAD(key, iv []byte) (cipher.AEAD, error) {
	if len(key) != fileKeySize || len(iv) != fileIVSize {
		return nil, fmt.Errorf("client: the file's key has %d bytes and its iv %d, want %d and %d", len(key), len(iv), fileKeySize, fileIVSize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

type uploadSlot struct {
	put, get string
	header   http.Header
}

// uploadSlot asks the server for a place (XEP-0363 §5).
func (c *Client) uploadSlot(ctx context.Context, name string, size int64) (*uploadSlot, error) {
	service, err := c.findService(ctx, c.domain, stanza.NSUpload)
	if err != nil {
		return nil, fmt.Errorf("client: looking for an upload service: %w", err)
	}
	if service == "" {
		return nil, fmt.Errorf("client: %s offers no HTTP upload (XEP-0363)", c.domain)
	}
	req := appendEmpty(nil, stanza.NSUpload, "request", "filename", name, "size", strconv.FormatInt(size, 10), "content-type", "application/octet-stream")
	slot := &uploadSlot{header: make(http.Header)}
	err = c.iq(ctx, "get", service, req, func(el xmlpull.Element) error {
		put, get := el.Child(stanza.NSUpload, "put"), el.Child(stanza.NSUpload, "get")
		u, _ := put.Attr("url")
		slot.put = string(u)
		u, _ = get.Attr("url")
		slot.get = string(u)
		for h := put.First(); h.Valid(); h = h.Next() {
			n, _ := h.Attr("name")
			// Only these may be passed on (XEP-0363 §5): others could be used
			// against the HTTP server.
			switch strings.ToLower(string(n)) {
			case "authorization", "cookie", "expires":
				v := strings.NewReplacer("\r", "", "\n", "").Replace(string(h.Text()))
				slot.header.Set(string(n), v)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("client: asking %s for a place for %d bytes: %w", service, size, err)
	}
	for _, u := range []string{slot.put, slot.get} {
		if err := c.checkURL(u); err != nil {
			return nil, err
		}
	}
	return slot, nil
}

// checkURL refuses what is not to be fetched. Plain HTTP is taken where the
// stream may be plain too.
func (c *Client) checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return fmt.Errorf("client: %q is not a URL to load from", s)
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && c.cfg.AllowPlaintext) {
		return fmt.Errorf("client: not loading from %q: only https is safe", s)
	}
	return nil
}

func (c *Client) httpClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if c.cfg.TLS != nil {
		t.TLSClientConfig = c.cfg.TLS.Clone()
		t.TLSClientConfig.ServerName = ""
		t.TLSClientConfig.NextProtos = nil
	}
	return &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > 5 {
			return errors.New("too many redirects")
		}
		return c.checkURL(r.URL.String())
	}}
}

func (c *Client) put(ctx context.Context, slot *uploadSlot, b []byte, progress func(done, total int64)) error {
	var body io.Reader = bytes.NewReader(b)
	if progress != nil {
		body = &progressReader{r: body, total: int64(len(b)), fn: progress}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, slot.put, body)
	if err != nil {
		return err
	}
	req.ContentLength = int64(len(b))
	req.Header = slot.header.Clone()
	req.Header.Set("Content-Type", "application/octet-stream")
	hc := c.httpClient()
	defer hc.CloseIdleConnections()
	resp, err := hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers %s", resp.Status)
	}
	return nil
}

type progressReader struct {
	r           io.Reader
	done, total int64
	fn          func(done, total int64)
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.done += int64(n)
	p.fn(p.done, p.total)
	return n, err
}

// Download fetches a file that a message has announced, opens it and checks it
// against what its sender said. The address is the sender's choice: fetching
// tells it the client's IP address. limit is the most bytes to take, 0 for
// 256 MiB.
func (c *Client) Download(ctx context.Context, f *File, limit int64, progress func(done, total int64)) ([]byte, error) {
	if f.cipher != cipherGCM {
		return nil, fmt.Errorf("client: the file is encrypted with %q, which this client does not know", f.cipher)
	}
	aead, err := fileAEAD(f.key, f.iv)
	if err != nil {
		return nil, err
	}
	if err := c.checkURL(f.URL); err != nil {
		return nil, err
	}
	if limit <= 0 || limit > maxFile {
		limit = maxFile
	}
	if f.Size > limit {
		return nil, fmt.Errorf("client: the file has %d bytes, at most %d are taken", f.Size, limit)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL, nil)
	if err != nil {
		return nil, err
	}
	hc := c.httpClient()
	defer hc.CloseIdleConnections()
	resp, err := hc.Do(req)
	if err != nil {
		return nil, fmt.Errorf("client: downloading %q: %w", f.Name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("client: downloading %q: the server answers %s", f.Name, resp.Status)
	}
	var body io.Reader = io.LimitReader(resp.Body, limit+int64(aead.Overhead())+1)
	if progress != nil {
		body = &progressReader{r: body, total: f.Size + int64(aead.Overhead()), fn: progress}
	}
	sealed, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("client: downloading %q: %w", f.Name, err)
	}
	if int64(len(sealed)) > limit+int64(aead.Overhead()) {
		return nil, fmt.Errorf("client: downloading %q: it is larger than %d bytes", f.Name, limit)
	}
	plain, err := aead.Open(sealed[:0], f.iv, sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("client: the file %q is not what its sender encrypted", f.Name)
	}
	if len(f.sha256) > 0 {
		sum := sha256.Sum256(plain)
		if subtle.ConstantTimeCompare(sum[:], f.sha256) != 1 {
			return nil, fmt.Errorf("client: the file %q is not what its sender announced", f.Name)
		}
	}
	return plain, nil
}

// storedFile is a File with its key, for the store.
type storedFile struct {
	File
	SHA256 []byte `json:"sha256"`
	Sealed []byte `json:"sealed,omitempty"`
	Key    []byte `json:"key"`
	IV     []byte `json:"iv"`
	Cipher string `json:"cipher"`
}

// Marshal gives the file with its key, so that an application can keep it and
// download later. Keep it as secret as the file.
func (f *File) Marshal() ([]byte, error) {
	return json.Marshal(storedFile{*f, f.sha256, f.sealed, f.key, f.iv, f.cipher})
}

// UnmarshalFile is the reverse of [File.Marshal].
func UnmarshalFile(b []byte) (*File, error) {
	var s storedFile
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("client: reading a stored file: %w", err)
	}
	f := s.File
	f.sha256, f.sealed, f.key, f.iv, f.cipher = s.SHA256, s.Sealed, s.Key, s.IV, s.Cipher
	return &f, nil
}
