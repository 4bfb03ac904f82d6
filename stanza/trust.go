// SPDX-License-Identifier: Apache-2.0

package stanza

// TrustMessage tells which keys its sender trusts and distrusts (XEP-0434). It
// is sent inside an [Envelope] only.
//
//	<trust-message xmlns='urn:xmpp:tm:1' usage='urn:xmpp:atm:1' encryption='urn:xmpp:mls:0'>
//	  <key-owner jid='juliet@capulet.lit'>
//	    <trust>aFABnX7Q/rbTgjBySYzrT2FsYCVYb49mbca5yB734KQ=</trust>
//	    <distrust>tCP1CI3pqSTVGzFYFyPYUMfMZ9Ck/msmfD0wH/VtJBM=</distrust>
//	  </key-owner>
//	</trust-message>
//
// For MLS a key identifier is the SHA-256 of the signature public key of a
// leaf (RFC 9420 §7.2).
type TrustMessage struct {
	// Usage is the protocol that acts on it, see [NSTrustProtocol].
	Usage string
	// Encryption is the protocol of the keys: [NSMLS].
	Encryption string
	Owners     []KeyOwner
}

// KeyOwner holds the keys of one user in a [TrustMessage].
type KeyOwner struct {
	// JID is a bare JID.
	JID             string
	Trust, Distrust [][]byte
}

// MaxKeyID is the longest key identifier in bytes.
const MaxKeyID = 256

// Append appends the element.
func (t *TrustMessage) Append(dst []byte) []byte {
	dst = attr(open(dst, NSTrust, "trust-message"), "usage", t.Usage)
	dst = attr(dst, "encryption", t.Encryption)
	dst = append(dst, '>')
	for i := range t.Owners {
		o := &t.Owners[i]
		dst = attr(start(dst, "key-owner"), "jid", o.JID)
		dst = append(dst, '>')
		dst = appendKeys(dst, "trust", o.Trust)
		dst = appendKeys(dst, "distrust", o.Distrust)
		dst = end(dst, "key-owner")
	}
	return end(dst, "trust-message")
}

func appendKeys(dst []byte, local string, keys [][]byte) []byte {
	for _, k := range keys {
		dst = append(start(dst, local), '>')
		dst = AppendBase64(dst, k)
		dst = end(dst, local)
	}
	return dst
}

// Parse reads the element.
func (t *TrustMessage) Parse(el Element) error {
	d := expect(el, NSTrust, "trust-message")
	d.noText()
	t.Usage = d.str("usage", MaxID, t.Usage)
	t.Encryption = d.str("encryption", MaxID, t.Encryption)
	t.Owners = t.Owners[:0]
	for c := range d.list(NSTrust, "key-owner", MaxItems) {
		cd := d.child(c)
		o := KeyOwner{JID: cd.jid("jid", "")}
		for k := c.First(); k.Valid(); k = k.Next() {
			list := &o.Trust
			switch {
			case k.Is(NSTrust, "trust"):
			case k.Is(NSTrust, "distrust"):
				list = &o.Distrust
			default:
				continue
			}
			if !cd.room(len(*list), MaxRefs) {
				break
			}
			kd := cd.textChild(k)
			*list = append(*list, kd.blob("content", k.Text(), MaxKeyID, nil))
			if kd.err == nil && len((*list)[len(*list)-1]) == 0 {
				kd.fail("no content")
			}
			cd.done(&kd)
		}
		d.done(&cd)
		t.Owners = append(t.Owners, o)
	}
	return d.err
}
