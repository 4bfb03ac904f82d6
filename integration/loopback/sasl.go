// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"strconv"
	"strings"
)

// The server side of SASL: SCRAM (RFC 5802, RFC 7677), with channel binding by
// tls-exporter (RFC 9266), and PLAIN (RFC 4616).

const nsSASL = "urn:ietf:params:xml:ns:xmpp-sasl"

// Mechanism names.
const (
	scramSHA256Plus = "SCRAM-SHA-256-PLUS"
	scramSHA1Plus   = "SCRAM-SHA-1-PLUS"
	scramSHA256     = "SCRAM-SHA-256"
	scramSHA1       = "SCRAM-SHA-1"
	plain           = "PLAIN"
)

const scramIterations = 4096 // the minimum of RFC 5802 §5.1: this is a test double

// A saslFailure is answered with <failure/>.
type saslFailure string

func (f saslFailure) Error() string { return "loopback: sasl: " + string(f) }

// scramKeys are derived once per account and hash.
type scramKeys struct{ salt, stored, server []byte }

func deriveKeys(h func() hash.Hash, password string) (scramKeys, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt)
	salted, err := pbkdf2.Key(h, password, salt, scramIterations, h().Size())
	if err != nil {
		return scramKeys{}, err
	}
	client := hmacSum(h, salted, "Client Key")
	d := h()
	d.Write(client)
	return scramKeys{salt, d.Sum(nil), hmacSum(h, salted, "Server Key")}, nil
}

func hmacSum(h func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// mechanisms are those that this stream may use.
func (c *conn) mechanisms() []string {
	m := []string{scramSHA256, scramSHA1, plain}
	if c.exporter() != nil {
		m = append([]string{scramSHA256Plus, scramSHA1Plus}, m...)
		if c.s.opts.BrokenPLUS {
			m = m[1:]
		}
	}
	if c.s.opts.Mechanisms == nil {
		return m
	}
	var out []string
	for _, name := range m {
		for _, want := range c.s.opts.Mechanisms {
			if name == want {
				out = append(out, name)
			}
		}
	}
	return out
}

// exporter is the channel binding data of a TLS 1.3 stream, or nil.
func (c *conn) exporter() []byte {
	t, ok := c.net.(*tls.Conn)
	if !ok {
		return nil
	}
	state := t.ConnectionState()
	if state.Version < tls.VersionTLS13 {
		return nil
	}
	b, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	if err != nil {
		return nil
	}
	return b
}

// authenticate runs one exchange that auth began.
func (c *conn) authenticate(auth *Element) (*account, error) {
	name := auth.Attr("mechanism")
	allowed := false
	for _, m := range c.mechanisms() {
		allowed = allowed || m == name
	}
	if !allowed {
		return nil, saslFailure("invalid-mechanism")
	}
	first, err := saslData(auth)
	if err != nil {
		return nil, err
	}
	if name == plain {
		return c.plainAuth(first)
	}
	h := sha1.New
	if strings.HasPrefix(name, scramSHA256) {
		h = sha256.New
	}
	return c.scramAuth(h, strings.HasSuffix(name, "-PLUS"), string(first))
}

func saslData(e *Element) ([]byte, error) {
	text := strings.TrimSpace(e.Text())
	if text == "=" || text == "" {
		return nil, nil
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, saslFailure("incorrect-encoding")
	}
	return b, nil
}

func (c *conn) plainAuth(data []byte) (*account, error) {
	parts := bytes.Split(data, []byte{0})
	if len(parts) != 3 {
		return nil, saslFailure("malformed-request")
	}
	a := c.s.account(strings.ToLower(string(parts[1])))
	if a == nil || subtle.ConstantTimeCompare([]byte(a.password), parts[2]) != 1 {
		return nil, saslFailure("not-authorized")
	}
	return a, c.writeElement(El(nsSASL, "success"))
}

// scramAuth: client-first-message in, server-first out, client-final in, server-final out
// (RFC 5802 §3).
func (c *conn) scramAuth(h func() hash.Hash, plus bool, first string) (*account, error) {
	parts := strings.SplitN(first, ",", 3)
	if len(parts) != 3 {
		return nil, saslFailure("malformed-request")
	}
	gs2, bare := parts[0]+","+parts[1]+",", parts[2]
	var binding []byte
	switch {
	case plus && parts[0] == "p=tls-exporter" && !c.s.opts.BrokenPLUS:
		binding = c.exporter()
	case plus && strings.HasPrefix(parts[0], "p="):
		return nil, saslFailure("not-authorized") // ejabberd 23.01: "Invalid channel binding"
	case plus:
		return nil, saslFailure("malformed-request")
	case parts[0] == "y" && c.exporter() != nil && strings.Contains(strings.Join(c.mechanisms(), " "), "-PLUS"):
		return nil, saslFailure("not-authorized") // somebody removed PLUS from our list: RFC 5802 §6
	case parts[0] != "n" && parts[0] != "y":
		return nil, saslFailure("malformed-request")
	}
	attr := scramAttrs(bare)
	user := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(attr['n'])
	if user == "" || attr['r'] == "" {
		return nil, saslFailure("malformed-request")
	}
	a := c.s.account(strings.ToLower(user))
	if a == nil {
		return nil, saslFailure("not-authorized")
	}
	keys, err := a.keys(h)
	if err != nil {
		return nil, err
	}
	nonce := attr['r'] + randomID()
	serverFirst := "r=" + nonce + ",s=" + base64.StdEncoding.EncodeToString(keys.salt) + ",i=" + strconv.Itoa(scramIterations)
	if err := c.writeElement(El(nsSASL, "challenge").AddText(base64.StdEncoding.EncodeToString([]byte(serverFirst)))); err != nil {
		return nil, err
	}
	resp, err := c.next()
	if err != nil {
		return nil, err
	}
	if !resp.Is(nsSASL, "response") {
		return nil, saslFailure("aborted")
	}
	data, err := saslData(resp)
	if err != nil {
		return nil, err
	}
	final := string(data)
	cut := strings.LastIndex(final, ",p=")
	if cut < 0 {
		return nil, saslFailure("malformed-request")
	}
	attr = scramAttrs(final)
	cbind := base64.StdEncoding.EncodeToString(append([]byte(gs2), binding...))
	proof, err := base64.StdEncoding.DecodeString(attr['p'])
	if err != nil || attr['c'] != cbind || attr['r'] != nonce || len(proof) != h().Size() {
		return nil, saslFailure("not-authorized")
	}
	message := bare + "," + serverFirst + "," + final[:cut]
	signature := hmacSum(h, keys.stored, message)
	client := make([]byte, len(proof))
	subtle.XORBytes(client, proof, signature)
	d := h()
	d.Write(client)
	if subtle.ConstantTimeCompare(d.Sum(nil), keys.stored) != 1 {
		return nil, saslFailure("not-authorized")
	}
	v := "v=" + base64.StdEncoding.EncodeToString(hmacSum(h, keys.server, message))
	return a, c.writeElement(El(nsSASL, "success").AddText(base64.StdEncoding.EncodeToString([]byte(v))))
}

func scramAttrs(s string) map[byte]string {
	out := make(map[byte]string)
	for _, p := range strings.Split(s, ",") {
		if len(p) > 1 && p[1] == '=' {
			out[p[0]] = p[2:]
		}
	}
	return out
}

// saslRefusal writes what err means to the client, and reports whether it was a
// refusal rather than a broken stream.
func (c *conn) saslRefusal(err error) bool {
	var f saslFailure
	if !errors.As(err, &f) {
		return false
	}
	return c.writeElement(El(nsSASL, "failure").Add(El(nsSASL, string(f)))) == nil
}

func randomID() string {
	b := make([]byte, 9)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}
