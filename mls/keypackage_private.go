// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// An Identity is who signs for a client: a credential and the key that it
// vouches for.
type Identity struct {
	Credential Credential
	Key        *SignaturePrivateKey
}

func (me *Identity) check(s *suite) error {
	if me == nil || me.Key == nil {
		return errors.New("mls: no Identity: a credential and a signature key are needed")
	}
	if me.Key.scheme != s.sig {
		return fmt.Errorf("mls: the identity's signature key is for %v, but cipher suite %v signs with %v", me.Key.scheme, s.cipher, s.sig)
	}
	return nil
}

// DefaultLifetime is how long a key package is valid unless
// [KeyPackageOptions] say otherwise. Every application bounds what it takes
// (RFC 9420 §7.2); those on OpenMLS take no more than these 84 days and one hour.
const DefaultLifetime = 84 * 24 * time.Hour

// lifetimeMargin is how far a lifetime begins in the past, for clocks that are
// behind.
const lifetimeMargin = time.Hour

// KeyPackageOptions are choices for a new key package; nil means the defaults.
type KeyPackageOptions struct {
	// Lifetime is for how long the key package is valid from now on. Zero means
	// [DefaultLifetime]. It is that of the leaf as well, until a commit with a path
	// or an Update renews it: a member who does neither for that long has a leaf for
	// which stacks that judge by the clock refuse to join the group (RFC 9420 §7.3).
	Lifetime time.Duration
	// LastResort marks a key package that may be used more than once
	// (RFC 9420 §16.8).
	LastResort bool
	// DeviceID is the content of the leaf's application_id extension
	// (RFC 9420 §5.3.3); nil: none. It is not listed in the capabilities, where
	// RFC 9420 §7.2 forbids it; some stacks (mls-rs, go-mls) refuse a leaf that has
	// it and does not list it.
	DeviceID []byte
	// LeafExtensions are further extensions of the leaf node. Their types are
	// added to its capabilities.
	LeafExtensions Extensions
	// Extensions are extensions of the key package. Their types are added to the
	// capabilities of its leaf.
	Extensions Extensions
}

// A PrivateKeyPackage is a key package with its private keys: what its owner
// keeps until a Welcome arrives. It prints as [redacted].
type PrivateKeyPackage struct {
	redacted
	// KeyPackage is the public part, to be published.
	KeyPackage *KeyPackage

	init *hpkePrivateKey
	leaf *hpkePrivateKey
	key  *SignaturePrivateKey
}

// newLeaf makes an unsigned leaf node for me.
func (c *config) newLeaf(s *suite, me *Identity, deviceID []byte, extra Extensions) (*LeafNode, error) {
	l := &LeafNode{
		SignatureKey: me.Key.Public(),
		Credential:   me.Credential,
		Capabilities: c.capabilities(s.cipher),
	}
	if deviceID != nil {
		l.Extensions = append(l.Extensions, Extension{ExtensionApplicationID, bytes.Clone(deviceID)})
	}
	var err error
	if l.Extensions, err = c.withComponents(append(l.Extensions, extra...)); err != nil {
		return nil, err
	}
	l.Extensions = c.withGREASE(l.Extensions)
	l.Capabilities.cover(l.Extensions)
	if !l.Capabilities.SupportsCredential(me.Credential.Type) {
		l.Capabilities.Credentials = append(l.Capabilities.Credentials, me.Credential.Type)
	}
	return l, nil
}

func (c *config) lifetime(d time.Duration) Lifetime {
	if d == 0 {
		d = DefaultLifetime
	}
	now := c.now()
	return Lifetime{uint64(max(now.Add(-lifetimeMargin).Unix(), 0)), uint64(max(now.Add(d).Unix(), 0))}
}

// NewKeyPackage makes a key package for me (RFC 9420 §10).
func NewKeyPackage(cfg *Config, cs CipherSuite, me *Identity, o *KeyPackageOptions) (*PrivateKeyPackage, error) {
	c := cfg.resolve()
	s, err := c.suite(cs)
	if err != nil {
		return nil, err
	}
	if err := me.check(s); err != nil {
		return nil, err
	}
	if o == nil {
		o = &KeyPackageOptions{}
	}
	x := o.Extensions
	if o.LastResort {
		if x, err = x.lastResort(); err != nil {
			return nil, err
		}
	}
	x = c.withGREASE(x)
	leaf, err := c.newLeaf(s, me, o.DeviceID, o.LeafExtensions)
	if err != nil {
		return nil, fmt.Errorf("mls: making key package: %w", err)
	}
	leaf.Source, leaf.Lifetime = LeafNodeKeyPackage, c.lifetime(o.Lifetime)
	leaf.Capabilities.cover(x)
	p := &PrivateKeyPackage{key: me.Key}
	if p.leaf, leaf.EncryptionKey, err = s.generateHPKEKeyPair(c.rand); err != nil {
		return nil, fmt.Errorf("mls: making key package: %w", err)
	}
	if err := leaf.sign(s, me.Key, nil, 0); err != nil {
		return nil, err
	}
	kp := &KeyPackage{Version: MLS10, CipherSuite: cs, LeafNode: leaf, Extensions: x}
	if p.init, kp.InitKey, err = s.generateHPKEKeyPair(c.rand); err != nil {
		return nil, fmt.Errorf("mls: making key package: %w", err)
	}
	if err := kp.sign(s, me.Key); err != nil {
		return nil, err
	}
	if err := c.validateKeyPackage(s, kp, sent); err != nil {
		return nil, fmt.Errorf("mls: making key package: %w", err)
	}
	p.KeyPackage = kp
	return p, nil
}

// lastResort marks the extensions of a last-resort key package twice: deployed
// stacks read the extension, the present draft the component.
func (x Extensions) lastResort() (Extensions, error) {
	x = x.With(ExtensionLastResort, []byte{})
	d, err := x.AppData()
	if err != nil {
		return nil, err
	}
	return x.With(ExtensionAppDataDictionary, d.With(ComponentLastResortKeyPackage, []byte{}).Extension().Data), nil
}

// Identity returns who the key package belongs to.
func (p *PrivateKeyPackage) Identity() *Identity {
	return &Identity{p.KeyPackage.LeafNode.Credential, p.key}
}

// Wipe erases the init key. Call it after the key package has been used, unless
// it is one of last resort (RFC 9420 §12.4.3.1, §16.8). The leaf's key lives on in
// the group.
func (p *PrivateKeyPackage) Wipe() { p.init.wipe() }

const keyPackageStateVersion = 1

// Marshal returns the key package with its private keys, to be stored where
// nobody else can read it.
func (p *PrivateKeyPackage) Marshal() []byte {
	b := appendU8(nil, keyPackageStateVersion)
	b = appendOpaque(b, p.KeyPackage.Bytes())
	b = appendOpaque(b, p.init.bytes())
	b = appendOpaque(b, p.leaf.bytes())
	return appendOpaque(b, p.key.seed)
}

// UnmarshalPrivateKeyPackage reads what Marshal wrote. It checks that the private
// keys belong to the public ones.
func UnmarshalPrivateKeyPackage(b []byte) (*PrivateKeyPackage, error) {
	r := reader{b: bytes.Clone(b)}
	if v := r.u8(); r.err == nil && v != keyPackageStateVersion {
		return nil, fmt.Errorf("mls: stored key package has version %d, this is a program for version %d", v, keyPackageStateVersion)
	}
	kp, init, leaf, key := r.opaque(), r.opaque(), r.opaque(), r.opaque()
	if err := r.done(); err != nil {
		return nil, fmt.Errorf("mls: decoding stored key package: %w", err)
	}
	defer func() { // what was read is a copy
		wipe(init)
		wipe(leaf)
		wipe(key)
	}()
	public, err := decode(kp, "key package", readKeyPackage)
	if err != nil {
		return nil, err
	}
	return newPrivateKeyPackage(public, init, leaf, key)
}

// newPrivateKeyPackage joins a key package and its encoded private keys.
func newPrivateKeyPackage(kp *KeyPackage, init, leaf, key []byte) (*PrivateKeyPackage, error) {
	s, err := kp.CipherSuite.suite()
	if err != nil {
		return nil, err
	}
	p := &PrivateKeyPackage{KeyPackage: kp}
	if p.init, err = s.parseHPKEPrivateKey(init); err != nil {
		return nil, err
	}
	if p.leaf, err = s.parseHPKEPrivateKey(leaf); err != nil {
		return nil, err
	}
	if p.key, err = ParseSignaturePrivateKey(kp.CipherSuite, key); err != nil {
		return nil, err
	}
	if !bytes.Equal(p.init.public(), kp.InitKey) || !bytes.Equal(p.leaf.public(), kp.LeafNode.EncryptionKey) ||
		!bytes.Equal(p.key.public, kp.LeafNode.SignatureKey) {
		return nil, errors.New("mls: stored key package: the private keys do not belong to the public ones")
	}
	return p, nil
}

// ImportKeyPackage joins a key package with private keys that another program
// made: the init key and the leaf's key as RFC 9180 serialises them, and the
// signature key as [ParseSignaturePrivateKey] reads it.
func ImportKeyPackage(kp *KeyPackage, initKey, leafKey, signatureKey []byte) (*PrivateKeyPackage, error) {
	return newPrivateKeyPackage(kp, initKey, leafKey, signatureKey)
}

// Export returns copies of the private keys, in the encodings that
// [ImportKeyPackage] reads. They are secrets in the clear: [PrivateKeyPackage.Marshal]
// is the way to store them, Export the one to hand them to another program.
func (p *PrivateKeyPackage) Export() (initKey, leafKey, signatureKey []byte) {
	return bytes.Clone(p.init.bytes()), bytes.Clone(p.leaf.bytes()), p.key.Bytes()
}
