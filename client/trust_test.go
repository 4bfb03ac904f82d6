// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
)

func TestSafetyNumbersAndURIs(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, _, _ := pair(t, w)
	a, b := must(juliet.SafetyNumber("romeo@"+domain))(t), must(romeo.SafetyNumber("juliet@"+domain))(t)
	if a != b || len(strings.ReplaceAll(a, " ", "")) != 60 {
		t.Errorf("%q and %q", a, b)
	}
	if _, err := juliet.SafetyNumber("nobody@" + domain); err == nil {
		t.Error("a safety number with nobody")
	}
	account := must(juliet.ApplyURI(ctxShort(t), romeo.URI()))(t)
	keys := juliet.Keys("romeo@" + domain)
	if account != "romeo@"+domain || len(keys) != 1 || keys[0].Trust != client.Verified || keys[0].Source != "user" {
		t.Errorf("%s: %+v", account, keys)
	}
	for _, bad := range []string{"", "xmpp:", "xmpp:x@y?message", "xmpp:x@y?trust-message;encryption=urn:xmpp:omemo:2;trust=00", romeo.URI() + "0", "http://x"} {
		if _, _, _, err := client.ParseTrustURI(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	phone := w.join("romeo")
	phone.group(juliet.Groups()[0].JID())
	juliet.until("another number", func() bool {
		c, err := juliet.SafetyNumber("romeo@" + domain)
		return err == nil && c != a
	})
}

// TestBlindTrustBeforeVerification blocks nothing until a key of the account
// has been verified, and then a new key of it.
func TestBlindTrustBeforeVerification(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, _ := pair(t, w)
	ok(t, juliet.SetTrust(ctxShort(t), "romeo@"+domain, client.FormatFingerprint(romeo.Fingerprint()), client.Verified))
	must(jg.Send(ctxShort(t), "verified"))(t)
	phone := w.join("romeo")
	phone.group(jg.JID())
	juliet.until("the phone", func() bool { m, _ := jg.Members(); return len(m) == 3 })
	_, err := jg.Send(ctxShort(t), "to a stranger?")
	var u *client.UntrustedError
	if !errors.As(err, &u) || len(u.Devices) != 1 || u.Devices[0].Device != phone.Device() {
		t.Fatalf("sending to an unknown device: %v", err)
	}
	ok(t, juliet.SetTrust(ctxShort(t), "romeo@"+domain, phone.Fingerprint(), client.Verified))
	must(jg.Send(ctxShort(t), "to a friend"))(t)
	phone.hears("to a friend")
	ok(t, juliet.SetTrust(ctxShort(t), "romeo@"+domain, phone.Fingerprint(), client.Distrusted))
	if _, err := jg.Send(ctxShort(t), "no"); !errors.As(err, &u) {
		t.Errorf("sending to a distrusted device: %v", err)
	}
	ok(t, jg.RemoveDevice(ctxShort(t), "romeo@"+domain, phone.Device()))
	must(jg.Send(ctxShort(t), "alone again"))(t)
}

func TestAllowListAndStrict(t *testing.T) {
	w := newWorld(t)
	romeo, nurse := w.join("romeo"), w.join("nurse")
	cfg := w.config("juliet", nil)
	cfg.StorePath = t.TempDir() + "/s.db"
	cfg.Trust = client.AllowList(map[string][]string{"Romeo@" + domain: {client.FormatFingerprint(romeo.Fingerprint())}})
	juliet := w.start("juliet", cfg)
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	res := must(g.Invite(ctxShort(t), "romeo@"+domain, "nurse@"+domain))(t)
	if !res.Added("romeo@"+domain) || res.Added("nurse@"+domain) || res.Failed()[0].Status != client.InviteUntrusted {
		t.Fatalf("%+v", res)
	}
	must(g.Send(ctxShort(t), "for romeo only"))(t)

	cfg2 := w.config("mercutio", nil)
	cfg2.StorePath, cfg2.Trust = t.TempDir()+"/s.db", client.StrictTrust()
	mercutio := w.start("mercutio", cfg2)
	mg := must(mercutio.CreateGroup(ctxShort(t), "", nil))(t)
	if _, err := mg.Invite(ctxShort(t), "nurse@"+domain); !errors.Is(err, client.ErrNobodyAdded) {
		t.Errorf("strict: %v", err)
	}
	ok(t, mercutio.SetTrust(ctxShort(t), "nurse@"+domain, nurse.Fingerprint(), client.Verified))
	must(mg.Invite(ctxShort(t), "nurse@"+domain))(t)
}

// TestTrustMessages passes trust from one own device to another, and from a
// contact about its own devices only.
func TestTrustMessages(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, _ := pair(t, w)
	phone := w.join("juliet")
	pg := phone.group(jg.JID())
	juliet.until("three devices", func() bool { m, _ := jg.Members(); return len(m) == 3 })
	if err := jg.ShareTrust(ctxShort(t)); err == nil {
		t.Error("trust was told to devices that nobody has verified")
	}
	// Juliet verifies both, and says so. Her phone does not believe her yet.
	ok(t, juliet.SetTrust(ctxShort(t), "juliet@"+domain, phone.Fingerprint(), client.Verified))
	ok(t, juliet.SetTrust(ctxShort(t), "romeo@"+domain, romeo.Fingerprint(), client.Verified))
	ok(t, jg.ShareTrust(ctxShort(t)))
	must(jg.Send(ctxShort(t), "told"))(t)
	phone.hears("told")
	trust := func(a *actor, account, fp string) client.Trust {
		for _, k := range a.Keys(account) {
			if k.Fingerprint == fp {
				return k.Trust
			}
		}
		return client.Undecided
	}
	if got := trust(phone, "romeo@"+domain, romeo.Fingerprint()); got == client.Verified {
		t.Error("an unverified device was believed")
	}
	// Once the phone has verified the desk, what it said counts.
	ok(t, phone.SetTrust(ctxShort(t), "juliet@"+domain, juliet.Fingerprint(), client.Verified))
	phone.until("trust in romeo", func() bool { return trust(phone, "romeo@"+domain, romeo.Fingerprint()) == client.Verified })
	sees[*client.TrustChanged](phone)
	// Romeo may vouch for his own devices, not for juliet's.
	ok(t, romeo.SetTrust(ctxShort(t), "juliet@"+domain, juliet.Fingerprint(), client.Verified))
	// What she said of her own phone counts as soon as it is there.
	romeo.until("trust in juliet's phone", func() bool { return trust(romeo, "juliet@"+domain, phone.Fingerprint()) == client.Verified })
	_ = pg
}

// certificate makes an X.509 credential for an account.
func certificate(t *testing.T, ca *x509.Certificate, caKey any, account string, key any, public any) *tls.Certificate {
	t.Helper()
	addr, err := asn1.MarshalWithParams(account, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	oid := must(asn1.Marshal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 5}))(t)
	explicit := must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: addr}))(t)
	other := must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: append(oid, explicit...)}))(t)
	san := must(asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: other}))(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: san}},
		KeyUsage:        x509.KeyUsageDigitalSignature,
	}
	der := must(x509.CreateCertificate(rand.Reader, tmpl, ca, public, caKey))(t)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// authority is one that makes certificates, for so long, and the roots that have it.
func authority(t *testing.T, lasts time.Duration) (*x509.Certificate, ed25519.PrivateKey, *x509.CertPool) {
	t.Helper()
	pub, key, _ := ed25519.GenerateKey(rand.Reader)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Friar Laurence"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts), KeyUsage: x509.KeyUsageCertSign,
	}
	ca := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key))(t)))(t)
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	return ca, key, roots
}

func TestX509Credentials(t *testing.T) {
	w := newWorld(t)
	ca, caKey, roots := authority(t, 24*time.Hour)

	start := func(name string) *actor {
		pub, key, _ := ed25519.GenerateKey(rand.Reader)
		cfg := w.config(name, nil)
		cfg.StorePath, cfg.Roots = t.TempDir()+"/s.db", roots
		cfg.Certificate = certificate(t, ca, caKey, name+"@"+domain, key, pub)
		return w.start(name, cfg)
	}
	juliet, romeo := start("juliet"), start("romeo")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	res := must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	if !res.Added("romeo@" + domain) {
		t.Fatalf("%+v", res)
	}
	rg := romeo.group(g.JID())
	must(rg.Send(ctxShort(t), "by certificate"))(t)
	if m := juliet.hears("by certificate"); m.Sender.JID != "romeo@"+domain {
		t.Errorf("%+v", m.Sender)
	}
	sameEpoch(t, g, rg)

	// Certificates that must not be taken.
	pub, key, _ := ed25519.GenerateKey(rand.Reader)
	cfg := w.config("tybalt", nil)
	cfg.StorePath = t.TempDir() + "/s.db"
	cfg.Certificate = certificate(t, ca, caKey, "romeo@"+domain, key, pub)
	if _, err := client.New(cfg); err == nil {
		t.Error("another account's certificate was taken")
	}
	a := client.NewTestAuthenticator(roots)
	for name, c := range map[string]struct {
		cert *tls.Certificate
		key  []byte
	}{
		"another key":  {certificate(t, ca, caKey, "romeo@"+domain, key, pub), make([]byte, 32)},
		"another root": {certificate(t, &x509.Certificate{Subject: ca.Subject}, key, "romeo@"+domain, key, pub), pub},
	} {
		if err := a.ValidateCredential(mls.X509Credential(c.cert.Certificate...), c.key, mls.UseMember); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	good := certificate(t, ca, caKey, "romeo@"+domain, key, pub)
	if err := a.ValidateCredential(mls.X509Credential(good.Certificate...), pub, mls.UseMember); err != nil {
		t.Errorf("a good certificate: %v", err)
	}
	if err := client.NewTestAuthenticator(nil).ValidateCredential(mls.X509Credential(good.Certificate...), pub, mls.UseMember); err == nil {
		t.Error("taken without roots")
	}
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	point := must(ec.PublicKey.Bytes())(t)
	onP256 := certificate(t, ca, caKey, "romeo@"+domain, ec, &ec.PublicKey)
	if err := a.ValidateCredential(mls.X509Credential(onP256.Certificate...), point, mls.UseMember); err != nil {
		t.Errorf("P-256: %v", err)
	}
	for _, bad := range []mls.Credential{
		mls.BasicCredential([]byte("not a jid@@")), mls.BasicCredential(nil), mls.BasicCredential([]byte("Romeo@" + domain)),
		mls.BasicCredential([]byte("romeo@" + domain + "/orchard")), mls.X509Credential(), mls.X509Credential([]byte("x")), {Type: 0xf00d},
	} {
		if err := a.ValidateCredential(bad, pub, mls.UseMember); err == nil {
			t.Errorf("credential %v was taken", bad)
		}
	}
	if err := a.ValidateSuccessor(&mls.LeafNode{Credential: mls.BasicCredential([]byte("romeo@" + domain))}, &mls.LeafNode{Credential: mls.BasicCredential([]byte("tybalt@" + domain))}); err == nil {
		t.Error("a leaf could change its account")
	}
}

// TestExpiredCertificates goes on in a group while the certificates of its members
// run out: what is in the log holds for everybody, whatever their clocks say. Nobody
// is let in by such a certificate, and the doctor names it.
func TestExpiredCertificates(t *testing.T) {
	w := newWorld(t)
	ca, caKey, roots := authority(t, 1000*time.Hour)
	var late atomic.Int64 // the certificates are for a day
	config := func(name string, st store.Store) client.Config {
		pub, key, _ := ed25519.GenerateKey(rand.Reader)
		cfg := w.config(name, st)
		cfg.TLS.Time = time.Now
		cfg.Roots, cfg.Certificate = roots, certificate(t, ca, caKey, name+"@"+domain, key, pub)
		cfg.Clock = func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
		return cfg
	}
	cfg := config("juliet", store.NewMemory("juliet@"+domain))
	juliet, romeo := w.start("juliet", cfg), w.start("romeo", config("romeo", store.NewMemory("romeo@"+domain)))
	w.start("nurse", config("nurse", store.NewMemory("nurse@"+domain)))
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())

	late.Store(int64(48 * time.Hour))
	ok(t, rg.UpdateKeys(ctxShort(t)))
	must(rg.Send(ctxShort(t), "it is not yet near day"))(t)
	juliet.hears("it is not yet near day")
	sameEpoch(t, g, rg)
	res, err := g.Invite(ctxShort(t), "nurse@"+domain)
	if !errors.Is(err, client.ErrNobodyAdded) || !strings.Contains(res.Users[0].Reason, "certificate") {
		t.Errorf("inviting by a certificate that has expired: %v, %+v", err, res)
	}
	juliet.stop()
	cfg.Store = memoryCopy(cfg.Store)
	juliet = w.start("juliet", cfg) // with the same certificate
	g = juliet.group(g.JID())
	must(rg.Send(ctxShort(t), "it was the nightingale"))(t)
	juliet.hears("it was the nightingale")
	ok(t, g.UpdateKeys(ctxShort(t)))
	sameEpoch(t, g, rg)
	g.Lose("morning")
	ok(t, g.Sync(ctxShort(t))) // the tree has expired certificates
	must(g.Send(ctxShort(t), "the lark"))(t)
	romeo.hears("the lark")
	for _, a := range []*actor{juliet, romeo} {
		a.mu.Lock()
		if n := count[*client.Misbehaved](a); n > 0 {
			t.Errorf("%s: %s", a.name, a.eventNames())
		}
		a.mu.Unlock()
	}
	var own, group bool
	for _, f := range juliet.Doctor(ctxShort(t)) {
		own = own || f.Name == "credential" && !f.OK && strings.Contains(f.Text, "expired")
		group = group || f.Name == "group "+g.JID() && !f.OK && strings.Contains(f.Text, "romeo@"+domain) && strings.Contains(f.Text, "expired")
	}
	if !own || !group {
		t.Errorf("the doctor says %+v", juliet.Doctor(ctxShort(t)))
	}
}
