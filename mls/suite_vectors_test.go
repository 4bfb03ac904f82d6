// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
)

// This file runs testdata/suites.json: the project's own vectors for the
// cryptography of every cipher suite, the post-quantum ones too, for which
// nobody publishes any. They were made by this code (go test ./mls -run
// TestSuiteVectors -update-vectors): they do not prove it right, the official
// vectors do that for suites 1 to 7, but they hold it still, and other
// implementations can run them.
//
// A case names an operation with its inputs, and says whether it gives the
// outputs ("ok") or is refused ("refused").

var updateVectors = flag.Bool("update-vectors", false, "write the project's own test vectors anew")

const suiteVectorFile = "testdata/suites.json"

type suiteVector struct {
	CipherSuite CipherSuite         `json:"cipher_suite"`
	Name        string              `json:"name"` // of the suite
	Op          string              `json:"op"`
	Comment     string              `json:"comment,omitempty"`
	Expect      string              `json:"expect"`
	In          map[string]hexBytes `json:"in"`
	Out         map[string]hexBytes `json:"out,omitempty"`
}

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// u32In reads a number among the inputs.
func u32In(in map[string]hexBytes, name string) uint32 {
	if len(in[name]) != 4 {
		panic(fmt.Sprintf("vector has no number %q", name))
	}
	return binary.BigEndian.Uint32(in[name])
}

func u32Hex(n uint32) hexBytes { return binary.BigEndian.AppendUint32(nil, n) }

var errRefused = errors.New("refused")

// suiteOps are the operations: inputs to outputs, or an error.
var suiteOps = map[string]func(s *suite, in map[string]hexBytes) (map[string]hexBytes, error){
	"expand_with_label": func(s *suite, in map[string]hexBytes) (map[string]hexBytes, error) {
		return map[string]hexBytes{"out": s.expandWithLabel(in["secret"], string(in["label"]), in["context"], int(u32In(in, "length")))}, nil
	},
	"ref_hash": func(s *suite, in map[string]hexBytes) (map[string]hexBytes, error) {
		return map[string]hexBytes{"out": s.refHash(string(in["label"]), in["value"])}, nil
	},
	"verify_mac": func(s *suite, in map[string]hexBytes) (map[string]hexBytes, error) {
		if !s.verifyMAC(in["key"], in["data"], in["tag"]) {
			return nil, errRefused
		}
		return nil, nil
	},
	"derive_key_pair": func(s *suite, in map[string]hexBytes) (map[string]hexBytes, error) {
		priv, pub, err := s.deriveKeyPair(in["ikm"])
		if err != nil {
			return nil, err
		}
		return map[string]hexBytes{"private": priv.bytes(), "public_hash": s.hash(pub)}, nil
	},
	"hpke_public_key": func(s *suite, in map[string]hexBytes) (map[string]hexBytes, error) {
		return nil, s.checkHPKEPublicKey(in["public"])
	},
	"decrypt_with_label": func(s *suite, in map[string]hexBytes) (map[string]hexBytes, error) {
		priv, err := s.parseHPKEPrivateKey(in["private"])
		if err != nil {
			return nil, err
		}
		pt, err := s.decryptWithLabel(priv, string(in["label"]), in["context"], HPKECiphertext{KEMOutput: in["kem_output"], Ciphertext: in["ciphertext"]})
		return map[string]hexBytes{"plaintext": pt}, err
	},
	"external_init": func(s *suite, in map[string]hexBytes) (map[string]hexBytes, error) {
		secret, err := s.externalInitReceive(in["external_secret"], in["kem_output"])
		return map[string]hexBytes{"init_secret": secret}, err
	},
	"signature_public_key": func(s *suite, in map[string]hexBytes) (map[string]hexBytes, error) {
		return nil, s.checkSignaturePublicKey(in["public"])
	},
	"verify_with_label": func(s *suite, in map[string]hexBytes) (map[string]hexBytes, error) {
		key, err := ParseSignaturePrivateKey(s.cipher, in["private"])
		if err != nil {
			return nil, err
		}
		err = s.verifyWithLabel(key.Public(), string(in["label"]), in["content"], in["signature"])
		return map[string]hexBytes{"public_hash": s.hash(key.Public())}, err
	},
	"key_schedule": func(s *suite, in map[string]hexBytes) (map[string]hexBytes, error) {
		psk, err := s.pskSecret([][]byte{in["psk_id"]}, [][]byte{in["psk"]})
		if err != nil {
			return nil, err
		}
		e := s.epochSecretsFromInit(in["init_secret"], in["commit_secret"], psk, in["group_context"])
		exported, err := s.exporter(e.exporterSecret, "label", []byte("context"), 40)
		if err != nil {
			return nil, err
		}
		_, pub, err := s.externalKeyPair(e.externalSecret)
		if err != nil {
			return nil, err
		}
		return map[string]hexBytes{
			"psk_secret": psk, "joiner_secret": e.joinerSecret, "welcome_secret": e.welcomeSecret, "epoch_secret": e.epochSecret,
			"epoch_authenticator": e.epochAuthenticator, "encryption_secret": e.encryptionSecret, "init_secret": e.initSecret,
			"exported": exported, "external_pub_hash": s.hash(pub),
		}, nil
	},
	"secret_tree": func(s *suite, in map[string]hexBytes) (map[string]hexBytes, error) {
		tree := newSecretTree(s, bytes.Clone(in["encryption_secret"]), u32In(in, "leaves"))
		m, err := tree.peek(LeafIndex(u32In(in, "leaf")), ratchetKind(u32In(in, "ratchet")), u32In(in, "generation"))
		if err != nil {
			return nil, err
		}
		return map[string]hexBytes{"key": m.key(), "nonce": m.nonce()}, nil
	},
}

func TestSuiteVectors(t *testing.T) {
	t.Parallel()
	if *updateVectors {
		writeSuiteVectors(t)
	}
	b, err := os.ReadFile(suiteVectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var cases []suiteVector
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&cases); err != nil {
		t.Fatal(err)
	}
	ran := map[CipherSuite]map[string]int{}
	for i, c := range cases {
		name := fmt.Sprintf("case %d: %v %s %s", i, c.CipherSuite, c.Op, c.Comment)
		s, err := c.CipherSuite.suite()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s.name != c.Name {
			t.Errorf("%s: the suite of that number was %s", name, c.Name)
			continue
		}
		op := suiteOps[c.Op]
		if op == nil {
			t.Errorf("%s: no such operation", name)
			continue
		}
		if ran[c.CipherSuite] == nil {
			ran[c.CipherSuite] = map[string]int{}
		}
		ran[c.CipherSuite][c.Op+" "+c.Expect]++
		out, err := op(s, c.In)
		switch c.Expect {
		case "ok":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got, want := slices.Sorted(maps.Keys(out)), slices.Sorted(maps.Keys(c.Out)); !slices.Equal(got, want) {
				t.Errorf("%s: outputs %v, want %v", name, got, want)
			}
			for field, want := range c.Out {
				wantBytes(t, name+": "+field, out[field], want)
			}
		case "refused":
			if err == nil {
				t.Errorf("%s: accepted", name)
			}
		default:
			t.Errorf("%s: expects %q", name, c.Expect)
		}
	}
	for _, s := range suites {
		newKEM, newScheme := introduces(s)
		for op := range suiteOps {
			if slices.Contains(kemOps, op) && !newKEM || slices.Contains(schemeOps, op) && !newScheme {
				continue
			}
			if ran[s.cipher][op+" ok"] == 0 {
				t.Errorf("%v: no case of %s", s.cipher, op)
			}
			if !slices.Contains(totalOps, op) && ran[s.cipher][op+" refused"] == 0 {
				t.Errorf("%v: no bad case of %s", s.cipher, op)
			}
		}
	}
}

// Cases about keys alone are made once for each KEM and signature scheme, to
// keep the file small; the operations of totalOps have no bad inputs.
var (
	kemOps    = []string{"hpke_public_key", "external_init"}
	schemeOps = []string{"signature_public_key", "verify_with_label"}
	totalOps  = []string{"expand_with_label", "ref_hash", "derive_key_pair", "key_schedule"}
)

// introduces reports whether s is the first suite with its KEM, and with its
// signature scheme.
func introduces(s *suite) (newKEM, newScheme bool) {
	newKEM, newScheme = true, true
	for _, other := range suites {
		if other == s {
			break
		}
		newKEM = newKEM && other.kem != s.kem
		newScheme = newScheme && other.sig != s.sig
	}
	return newKEM, newScheme
}

func writeSuiteVectors(t *testing.T) {
	t.Helper()
	var cases []suiteVector
	for _, s := range suites {
		newKEM, newScheme := introduces(s)
		add := func(op, comment, expect string, in map[string]hexBytes) {
			t.Helper()
			if slices.Contains(kemOps, op) && !newKEM || slices.Contains(schemeOps, op) && !newScheme {
				return
			}
			c := suiteVector{CipherSuite: s.cipher, Name: s.name, Op: op, Comment: comment, Expect: expect, In: in}
			out, err := suiteOps[op](s, in)
			if (err == nil) != (expect == "ok") {
				t.Fatalf("%v %s %s: %v", s.cipher, op, comment, err)
			}
			if expect == "ok" {
				c.Out = out
			}
			cases = append(cases, c)
		}
		with := func(in map[string]hexBytes, field string, v []byte) map[string]hexBytes {
			out := maps.Clone(in)
			out[field] = v
			return out
		}
		flip := func(b []byte, i int) []byte {
			out := bytes.Clone(b)
			out[i] ^= 1
			return out
		}
		secret := s.hash([]byte(s.name))
		other := s.hash(secret)

		add("expand_with_label", "", "ok", map[string]hexBytes{"secret": secret, "label": hexBytes("label"), "context": other, "length": u32Hex(100)})
		add("ref_hash", "", "ok", map[string]hexBytes{"label": hexBytes(refLabelKeyPackage), "value": other})

		mac := map[string]hexBytes{"key": secret, "data": other, "tag": s.mac(secret, other)}
		add("verify_mac", "", "ok", mac)
		add("verify_mac", "empty tag", "refused", with(mac, "tag", nil))
		add("verify_mac", "cut tag", "refused", with(mac, "tag", mac["tag"][:s.nh-1]))
		add("verify_mac", "lengthened tag", "refused", with(mac, "tag", append(bytes.Clone(mac["tag"]), 0)))
		add("verify_mac", "altered tag", "refused", with(mac, "tag", flip(mac["tag"], s.nh-1)))

		priv, pub, err := s.deriveKeyPair(secret)
		if err != nil {
			t.Fatal(err)
		}
		add("derive_key_pair", "", "ok", map[string]hexBytes{"ikm": secret})
		add("hpke_public_key", "", "ok", map[string]hexBytes{"public": pub})
		add("hpke_public_key", "a byte short", "refused", map[string]hexBytes{"public": pub[1:]})
		bad := badPublicKeys(s, pub)
		for _, what := range slices.Sorted(maps.Keys(bad)) {
			if _, hybrid := s.kem.(*hybridKEM); !hybrid { // theirs are those of their halves
				add("hpke_public_key", what, "refused", map[string]hexBytes{"public": bad[what]})
			}
		}

		ct, err := s.encryptWithLabel(nil, pub, "UpdatePathNode", other, []byte("path secret"))
		if err != nil {
			t.Fatal(err)
		}
		enc := map[string]hexBytes{"private": priv.bytes(), "label": hexBytes("UpdatePathNode"), "context": other, "kem_output": ct.KEMOutput, "ciphertext": ct.Ciphertext}
		add("decrypt_with_label", "", "ok", enc)
		if s.postQuantum { // their KEM outputs are long
			add("decrypt_with_label", "cut KEM output", "refused", with(enc, "kem_output", ct.KEMOutput[:32]))
		} else {
			add("decrypt_with_label", "another label", "refused", with(enc, "label", []byte("Welcome")))
			add("decrypt_with_label", "another context", "refused", with(enc, "context", secret))
			add("decrypt_with_label", "altered ciphertext", "refused", with(enc, "ciphertext", flip(ct.Ciphertext, 0)))
			add("decrypt_with_label", "cut ciphertext", "refused", with(enc, "ciphertext", ct.Ciphertext[:15]))
			add("decrypt_with_label", "altered KEM output", "refused", with(enc, "kem_output", flip(ct.KEMOutput, 5)))
		}
		kemOutput, _, err := s.externalInitSend(nil, pub)
		if err != nil {
			t.Fatal(err)
		}
		add("external_init", "", "ok", map[string]hexBytes{"external_secret": secret, "kem_output": kemOutput})
		add("external_init", "empty KEM output", "refused", map[string]hexBytes{"external_secret": secret, "kem_output": nil})

		key, err := GenerateSignatureKey(s.cipher, bytes.NewReader(bytes.Repeat(secret, 4)))
		if err != nil {
			t.Fatal(err)
		}
		sig, err := s.signWithLabel(key, "LeafNodeTBS", other)
		if err != nil {
			t.Fatal(err)
		}
		signed := map[string]hexBytes{"private": key.Bytes(), "label": hexBytes("LeafNodeTBS"), "content": other, "signature": sig}
		add("verify_with_label", "", "ok", signed)
		add("verify_with_label", "empty signature", "refused", with(signed, "signature", nil))
		if len(sig) < 1000 {
			add("verify_with_label", "another label", "refused", with(signed, "label", []byte("KeyPackageTBS")))
			add("verify_with_label", "another content", "refused", with(signed, "content", secret))
			add("verify_with_label", "altered signature", "refused", with(signed, "signature", flip(sig, len(sig)-5)))
			add("verify_with_label", "lengthened signature", "refused", with(signed, "signature", append(bytes.Clone(sig), 0)))
		}
		spub := key.Public()
		add("signature_public_key", "", "ok", map[string]hexBytes{"public": spub})
		add("signature_public_key", "empty", "refused", map[string]hexBytes{"public": nil})
		switch s.sig {
		case sigEd25519, sigEd448:
			add("signature_public_key", "low order", "refused", map[string]hexBytes{"public": append(hexBytes{1}, make([]byte, len(spub)-1)...)})
		case sigP256, sigP384, sigP521:
			add("signature_public_key", "not on the curve", "refused", map[string]hexBytes{"public": flip(spub, len(spub)-1)})
		}

		add("key_schedule", "", "ok", map[string]hexBytes{
			"init_secret": secret, "commit_secret": other, "group_context": bytes.Repeat([]byte("context"), 30),
			"psk_id": hexBytes("encoded PreSharedKeyID"), "psk": hexBytes("o happy dagger"),
		})
		tree := map[string]hexBytes{"encryption_secret": secret, "leaves": u32Hex(100), "leaf": u32Hex(67), "ratchet": u32Hex(uint32(ratchetApplication)), "generation": u32Hex(5)}
		add("secret_tree", "", "ok", tree)
		add("secret_tree", "handshake, last leaf", "ok", with(with(tree, "ratchet", u32Hex(uint32(ratchetHandshake))), "leaf", u32Hex(127)))
		add("secret_tree", "leaf outside the tree", "refused", with(tree, "leaf", u32Hex(128)))
		add("secret_tree", "last generation, too far ahead", "refused", with(tree, "generation", u32Hex(1<<32-1)))
	}
	var b bytes.Buffer // one case on each line
	for i, c := range cases {
		line, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString([]string{"[\n", ",\n"}[min(i, 1)])
		b.Write(line)
	}
	b.WriteString("\n]\n")
	if err := os.WriteFile(suiteVectorFile, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
