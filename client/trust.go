// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file is the client's part of the authentication service (RFC 9750 §4):
// which key belongs to whom, and how sure that is. Credentials bind a key to a
// bare JID by the word of the user's server; trust is what people add to it by
// comparing fingerprints.

// Trust is how sure it is that a key is the device's it claims to be of.
type Trust int8

const (
	// Distrusted keys are known to be wrong.
	Distrusted Trust = -1
	// Undecided keys wait for a person.
	Undecided Trust = 0
	// Blind keys are trusted because nothing speaks against them.
	Blind Trust = 1
	// Verified keys have been compared, or are vouched for by a verified key.
	Verified Trust = 2
)

var trustNames = map[Trust]string{Distrusted: "distrusted", Undecided: "undecided", Blind: "blind", Verified: "verified"}

// String gives the word used in output and in the store.
func (t Trust) String() string {
	if s, ok := trustNames[t]; ok {
		return s
	}
	return fmt.Sprintf("trust %d", int8(t))
}

// MarshalText gives the word.
func (t Trust) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the word.
func (t *Trust) UnmarshalText(b []byte) error {
	for v, s := range trustNames {
		if s == string(b) {
			*t = v
			return nil
		}
	}
	return fmt.Errorf("client: unknown trust %q: use distrusted, undecided, blind or verified", b)
}

// Key is what is known about the signature key of one device.
type Key struct {
	JID         string    `json:"jid"`
	Device      DeviceID  `json:"device"`
	Public      []byte    `json:"public"`
	Fingerprint string    `json:"fingerprint"`
	Trust       Trust     `json:"trust"`
	FirstSeen   time.Time `json:"first-seen"`
	LastSeen    time.Time `json:"last-seen"`
	// Source says who decided: "policy", "user", or the JID of who vouched.
	Source string `json:"source"`
}

// Fingerprint is the name of a signature key that people compare: the SHA-256
// of the public key as it is in the leaf, 64 hexadecimal digits.
func Fingerprint(public []byte) string {
	h := sha256.Sum256(public)
	return hex.EncodeToString(h[:])
}

// FormatFingerprint divides a fingerprint into eight groups for reading aloud.
func FormatFingerprint(fp string) string {
	var groups []string
	for len(fp) > 8 {
		groups, fp = append(groups, fp[:8]), fp[8:]
	}
	return strings.Join(append(groups, fp), " ")
}

// TrustPolicy decides about keys. Its methods may be called from several
// goroutines and must not call the client.
type TrustPolicy interface {
	// Judge says how far to trust a key that is seen for the first time. known
	// are the other keys seen of the same account.
	Judge(key Key, known []Key) Trust
	// Permits reports whether this client may add a device with trust t to a
	// group, and send to a group that has one.
	Permits(t Trust) bool
}

// BlindTrust is blind trust before verification: the keys of an account are
// trusted until one of them has been verified; from then on, new keys of that
// account wait for a person, and the client does not send to a group with such
// a device in it. It is the default.
func BlindTrust() TrustPolicy { return blindTrust{} }

type blindTrust struct{}

func (blindTrust) Judge(_ Key, known []Key) Trust {
	if slices.ContainsFunc(known, func(k Key) bool { return k.Trust == Verified }) {
		return Undecided
	}
	return Blind
}
func (blindTrust) Permits(t Trust) bool { return t >= Blind }

// StrictTrust trusts only what has been verified.
func StrictTrust() TrustPolicy { return strictTrust{} }

type strictTrust struct{}

func (strictTrust) Judge(Key, []Key) Trust { return Undecided }
func (strictTrust) Permits(t Trust) bool   { return t == Verified }

// AllowList trusts exactly the listed fingerprints, by bare JID, and what a
// person has verified. The client's own key needs no entry.
func AllowList(fingerprints map[string][]string) TrustPolicy {
	l := make(allowList, len(fingerprints))
	for j, fps := range fingerprints {
		for _, fp := range fps {
			l[normalOr(j)] = append(l[normalOr(j)], cleanFingerprint(fp))
		}
	}
	return l
}

type allowList map[string][]string

func (l allowList) Judge(k Key, _ []Key) Trust {
	if slices.Contains(l[k.JID], k.Fingerprint) {
		return Verified
	}
	return Distrusted
}
func (l allowList) Permits(t Trust) bool { return t == Verified }

// cleanFingerprint undoes what people and terminals do to a fingerprint.
func cleanFingerprint(fp string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'f':
			return r
		case r >= 'A' && r <= 'F':
			return r + 'a' - 'A'
		}
		return -1
	}, fp)
}

// UntrustedError says that the trust policy does not let this client send to a
// group, or add a device, because of the keys of some devices. Compare
// fingerprints and call [Client.SetTrust], or remove the devices.
type UntrustedError struct {
	Devices []Who
}

func (e *UntrustedError) Error() string {
	var b strings.Builder
	b.WriteString("client: not sending: the keys of ")
	for i, d := range e.Devices {
		if i == 3 && len(e.Devices) > 4 {
			fmt.Fprintf(&b, " and %d others", len(e.Devices)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s (device %s)", d.JID, d.Device)
	}
	b.WriteString(" are not trusted: verify them or remove the devices")
	return b.String()
}

// trustBook remembers keys. All of it is in memory; changes are returned as
// store operations so that they join the batch of what caused them.
type trustBook struct {
	mu     sync.Mutex
	policy TrustPolicy
	keys   map[string]map[string]*Key // account -> fingerprint
	own    func(fp string) bool       // reports whether a key is this device's
	now    func() time.Time

	version atomic.Uint64 // counts changes of trust
}

const trustPrefix = "t/"

func trustKey(account, fp string) string {
	a := sha256.Sum256([]byte(account))
	return trustPrefix + hex.EncodeToString(a[:8]) + "/" + fp[:min(32, len(fp))]
}

func loadTrust(s store.Store, policy TrustPolicy, own func(fp string) bool, now func() time.Time) (*trustBook, error) {
	b := &trustBook{policy: policy, keys: make(map[string]map[string]*Key), own: own, now: now}
	err := s.Scan(trustPrefix, store.PrefixEnd(trustPrefix), func(_ string, v []byte) error {
		k := new(Key)
		if err := json.Unmarshal(v, k); err != nil {
			return fmt.Errorf("client: reading trust: %w", err)
		}
		b.put(k)
		return nil
	})
	return b, err
}

func (b *trustBook) put(k *Key) {
	b.version.Add(1)
	m := b.keys[k.JID]
	if m == nil {
		m = make(map[string]*Key)
		b.keys[k.JID] = m
	}
	m[k.Fingerprint] = k
}

func (k *Key) op() store.Op {
	v, err := json.Marshal(k)
	if err != nil {
		panic("client: internal error: encoding a key: " + err.Error())
	}
	return store.Put(trustKey(k.JID, k.Fingerprint), v)
}

// of gives the trust in a key without remembering that it was seen.
func (b *trustBook) of(account string, public []byte) Trust {
	return b.ofFingerprint(account, Fingerprint(public))
}

func (b *trustBook) ofFingerprint(account, fp string) Trust {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ofLocked(account, fp)
}

func (b *trustBook) ofLocked(account, fp string) Trust {
	if b.own(fp) {
		return Verified
	}
	if k := b.keys[account][fp]; k != nil {
		return k.Trust
	}
	return Undecided
}

// seen notes a key in use and gives its trust, what to store, and the
// fingerprint that the same device had before, if another.
func (b *trustBook) seen(account string, device DeviceID, public []byte) (t Trust, ops []store.Op, before string) {
	fp := Fingerprint(public)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.own(fp) {
		return Verified, nil, ""
	}
	now := b.now().UTC()
	if k := b.keys[account][fp]; k != nil {
		if now.Sub(k.LastSeen) > 24*time.Hour || k.Public == nil {
			if k.Public == nil { // known by a code or by somebody's word
				k.Device, k.Public = device, bytes.Clone(public)
			}
			k.LastSeen = now
			ops = append(ops, k.op())
		}
		return k.Trust, ops, ""
	}
	var known []Key
	var newest time.Time
	for _, k := range b.keys[account] {
		known = append(known, *k)
		if k.Device == device && !device.IsZero() && (before == "" || k.FirstSeen.After(newest)) {
			before, newest = k.Fingerprint, k.FirstSeen
		}
	}
	k := &Key{JID: account, Device: device, Public: bytes.Clone(public), Fingerprint: fp, FirstSeen: now, LastSeen: now, Source: "policy"}
	k.Trust = b.policy.Judge(*k, known)
	b.put(k)
	return k.Trust, append(ops, k.op()), before
}

// strange reports whether a device of an account that is known, by other devices
// or because it is our own, is seen for the first time.
func (b *trustBook) strange(account string, own bool, device DeviceID, public []byte) bool {
	fp := Fingerprint(public)
	b.mu.Lock()
	defer b.mu.Unlock()
	keys := b.keys[account]
	if keys[fp] != nil || len(keys) == 0 && !own {
		return false
	}
	for _, k := range keys {
		if k.Device == device && !device.IsZero() {
			return false // the device is known, its key has changed
		}
	}
	return true
}

// set changes the trust in a key by its fingerprint. It reports the trust
// before, and false if the key was never seen: then it is remembered for the
// day it is, so that a code can be scanned before the first message.
func (b *trustBook) set(account, fp string, t Trust, source string) (old Trust, k Key, op store.Op, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.keys[account][fp]
	if e == nil {
		now := b.now().UTC()
		e = &Key{JID: account, Fingerprint: fp, FirstSeen: now, LastSeen: now}
		b.put(e)
	} else {
		known, old = true, e.Trust
	}
	e.Trust, e.Source = t, source
	b.version.Add(1)
	return old, *e, e.op(), known
}

// list gives the known keys of an account, newest first, or of all accounts.
func (b *trustBook) list(account string) []Key {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Key
	for a, m := range b.keys {
		if account != "" && a != account {
			continue
		}
		for _, k := range m {
			out = append(out, *k)
		}
	}
	slices.SortFunc(out, func(x, y Key) int {
		if c := strings.Compare(x.JID, y.JID); c != 0 {
			return c
		}
		if c := y.FirstSeen.Compare(x.FirstSeen); c != 0 {
			return c
		}
		return strings.Compare(x.Fingerprint, y.Fingerprint)
	})
	return out
}

// Keys lists the keys seen of an account (bare JID), or of everybody if it is
// empty.
func (c *Client) Keys(account string) []Key {
	if account != "" {
		account = normalOr(account)
	}
	return c.trust.list(account)
}

// SetTrust records what a person decided about a key, by its fingerprint in
// any grouping. The key need not have been seen yet.
func (c *Client) SetTrust(ctx context.Context, account, fingerprint string, t Trust) error {
	if err := c.alive(); err != nil {
		return err
	}
	account, err := bareJID(account)
	if err != nil {
		return err
	}
	fp := cleanFingerprint(fingerprint)
	if len(fp) != 2*sha256.Size {
		return fmt.Errorf("client: the fingerprint has %d hexadecimal digits, it needs %d", len(fp), 2*sha256.Size)
	}
	_, _, op, _ := c.trust.set(account, fp, t, "user")
	if err := c.store.Apply(ctx, []store.Op{op}); err != nil {
		return err
	}
	if t == Verified {
		return c.releaseTrust(ctx, fp)
	}
	return nil
}

// Fingerprint is the fingerprint of this device's own key, as it is in groups of
// the configured suite. [Client.RotateSignatureKey] changes it.
func (c *Client) Fingerprint() string {
	me, err := c.identityFor(c.suite)
	if err != nil {
		return "" // New has made it; only the store can fail
	}
	return Fingerprint(me.Key.Public())
}

// SafetyNumber is a number of 60 digits that two people compare, by voice or
// side by side: it is equal on both sides exactly if both know the same keys of
// both accounts. It changes when one of the two adds or removes a device. It
// takes the keys of the devices that share a group with this one, and of the
// own account.
func (c *Client) SafetyNumber(account string) (string, error) {
	if err := c.alive(); err != nil {
		return "", err
	}
	account, err := bareJID(account)
	if err != nil {
		return "", err
	}
	mine := c.activeFingerprints(c.account)
	theirs := c.activeFingerprints(account)
	if len(theirs) == 0 {
		return "", fmt.Errorf("client: no device of %s shares a group with this one yet", account)
	}
	return safetyNumber(c.account, mine, account, theirs), nil
}

func safetyNumber(a string, fpsA []string, b string, fpsB []string) string {
	x, y := halfSafetyNumber(a, fpsA), halfSafetyNumber(b, fpsB)
	if a > b {
		x, y = y, x
	}
	digits := x + y
	var groups []string
	for i := 0; i < len(digits); i += 5 {
		groups = append(groups, digits[i:i+5])
	}
	return strings.Join(groups, " ")
}

// halfSafetyNumber is 30 digits, some 100 bits, from an iterated hash: finding
// keys with a chosen number must cost more than one hash a try.
func halfSafetyNumber(account string, fps []string) string {
	slices.Sort(fps)
	fps = slices.Compact(fps)
	input := []byte("lockstep safety number 1\x00" + account + "\x00" + strings.Join(fps, "\x00"))
	h := sha512.Sum512(input)
	for range 5200 {
		h = sha512.Sum512(append(h[:], input...))
	}
	return digits(h[:], 6)
}

// digits gives n groups of five decimal digits from 5n bytes.
func digits(b []byte, n int) string {
	var s strings.Builder
	for i := range n {
		var v uint64
		for _, x := range b[5*i : 5*i+5] {
			v = v<<8 | uint64(x)
		}
		fmt.Fprintf(&s, "%05d", v%100000)
	}
	return s.String()
}

// URI is an address with the fingerprint of this device's key, to be shown as
// a QR code: a trust message URI of XEP-0434 §5.
func (c *Client) URI() string { return TrustURI(c.account, c.Fingerprint()) }

// TrustURI is the URI that says that the fingerprint belongs to the account.
// XEP-0434 has key identifiers in base16 there.
func TrustURI(account, fingerprint string) string {
	return "xmpp:" + account + "?trust-message;encryption=" + stanza.NSMLS + ";trust=" + fingerprint
}

// ParseTrustURI reads a URI made by [TrustURI], or by another client in the
// same form: which keys it trusts and distrusts, as fingerprints.
func ParseTrustURI(uri string) (account string, trust, distrust []string, err error) {
	fail := func(why string) (string, []string, []string, error) {
		return "", nil, nil, fmt.Errorf("client: %q is not a trust message URI: %s", uri, why)
	}
	rest, ok := strings.CutPrefix(uri, "xmpp:")
	if !ok {
		return fail("it does not begin with xmpp:")
	}
	account, query, ok := strings.Cut(rest, "?")
	if !ok {
		return fail("it has no query")
	}
	if account, err = bareJID(account); err != nil {
		return fail("its address is no JID")
	}
	parts := strings.Split(query, ";")
	if parts[0] != "trust-message" {
		return fail("its query is not trust-message")
	}
	encryption := ""
	for _, p := range parts[1:] {
		name, value, _ := strings.Cut(p, "=")
		switch name {
		case "encryption":
			encryption = value
		case "trust", "distrust":
			fp := cleanFingerprint(value)
			if len(fp) != 2*sha256.Size || len(fp) != len(value) {
				return fail("a key identifier is not 64 hexadecimal digits")
			}
			if name == "trust" {
				trust = append(trust, fp)
			} else {
				distrust = append(distrust, fp)
			}
		}
	}
	if encryption != stanza.NSMLS {
		return fail("it is for another encryption")
	}
	return account, trust, distrust, nil
}

// ApplyURI takes over what a scanned [TrustURI] says, as a decision of the
// user.
func (c *Client) ApplyURI(ctx context.Context, uri string) (account string, err error) {
	if err := c.alive(); err != nil {
		return "", err
	}
	account, trust, distrust, err := ParseTrustURI(uri)
	if err != nil {
		return "", err
	}
	for _, fp := range trust {
		if err := c.SetTrust(ctx, account, fp, Verified); err != nil {
			return "", err
		}
	}
	for _, fp := range distrust {
		if err := c.SetTrust(ctx, account, fp, Distrusted); err != nil {
			return "", err
		}
	}
	return account, nil
}
