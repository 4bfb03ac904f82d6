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
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/lockstep-im/lockstep/stanza"
)

// This file shares files: encrypted with a key of their own, uploaded to the
// user's server (XEP-0363), and announced inside a message (XEP-0447, XEP-0448).
// The server that keeps the file sees its size and nothing else of it.

const (
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

// fileOf reads what a message says about a file. Everything in it is a stranger's:
// the name loses its path, sizes are checked when downloading.
func fileOf(s *stanza.FileSharing) (*File, error) {
	f := &File{Name: safeName(s.File.Name), MediaType: s.File.MediaType, Description: s.File.Desc, sha256: hashOf(s.File.Hashes)}
	if n := s.File.Size; n != nil {
		if *n > math.MaxInt64 {
			return nil, fmt.Errorf("client: the file's size %d is not possible", *n)
		}
		f.Size = int64(*n)
	}
	if len(s.Encrypted) == 0 {
		return nil, errors.New("client: the file is shared without encryption")
	}
	enc := s.Encrypted[0]
	f.cipher, f.key, f.iv, f.sealed = enc.Cipher, enc.Key, enc.IV, hashOf(enc.Hashes)
	if len(enc.URLs) == 0 || enc.URLs[0] == "" {
		return nil, errors.New("client: the file has no place to load it from")
	}
	f.URL = enc.URLs[0]
	return f, nil
}

const hashSHA256 = "sha-256" // XEP-0300

func hashOf(list []stanza.FileHash) []byte {
	for _, h := range list {
		if h.Algo == hashSHA256 {
			return h.Value
		}
	}
	return nil
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

// sharing is what a message says about the file.
func (f *File) sharing() *stanza.FileSharing {
	size := uint64(f.Size)
	enc := stanza.EncryptedSource{Cipher: f.cipher, Key: f.key, IV: f.iv, URLs: []string{f.URL}}
	if len(f.sealed) > 0 {
		enc.Hashes = []stanza.FileHash{{Algo: hashSHA256, Value: f.sealed}}
	}
	return &stanza.FileSharing{
		Disposition: "attachment", Encrypted: []stanza.EncryptedSource{enc},
		File: stanza.FileMetadata{
			MediaType: f.MediaType, Name: f.Name, Size: &size, Desc: f.Description, Hashes: []stanza.FileHash{{Algo: hashSHA256, Value: f.sha256}},
		},
	}
}

// Upload encrypts what r holds and puts it on the user's server. The result
// can be sent to any number of groups with [Group.SendFile]. progress, if not
// nil, is told how much of how much has been sent, in bytes.
func (c *Client) Upload(ctx context.Context, name, mediaType string, r io.Reader, progress func(done, total int64)) (*File, error) {
	if err := c.alive(); err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("client: reading the file: %w", err)
	}
	if len(plain) > maxFile {
		return nil, fmt.Errorf("client: the file is larger than %d bytes", maxFile)
	}
	f := &File{Name: safeName(name), MediaType: mediaType, Size: int64(len(plain)), cipher: stanza.CipherAES256GCM}
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
	var got stanza.UploadSlot
	err = c.ask(ctx, "get", service, &stanza.UploadRequest{Filename: name, Size: uint64(size), ContentType: "application/octet-stream"}, &got)
	if err != nil {
		return nil, fmt.Errorf("client: asking %s for a place for %d bytes: %w", service, size, err)
	}
	slot := &uploadSlot{put: got.Put, get: got.Get, header: make(http.Header)}
	for _, h := range got.Headers {
		slot.header.Set(h.Name, h.Value)
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
	if err := c.alive(); err != nil {
		return nil, err
	}
	if f.cipher != stanza.CipherAES256GCM {
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
