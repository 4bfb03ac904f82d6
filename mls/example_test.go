// SPDX-License-Identifier: Apache-2.0

package mls_test

import (
	"fmt"
	"log"

	"github.com/lockstep-im/lockstep/mls"
)

const suite = mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519

func identity(name string) *mls.Identity {
	key, err := mls.GenerateSignatureKey(suite, nil)
	if err != nil {
		log.Fatal(err)
	}
	return &mls.Identity{Credential: mls.BasicCredential([]byte(name)), Key: key}
}

// Juliet creates a group, adds romeo and talks to him.
func Example() {
	// Romeo publishes a key package.
	kp, err := mls.NewKeyPackage(nil, suite, identity("romeo@montague.lit"), nil)
	if err != nil {
		log.Fatal(err)
	}

	// Juliet creates a group and adds him. Nothing has changed until the delivery
	// service has accepted the commit.
	juliet, err := mls.NewGroup(nil, suite, nil, identity("juliet@capulet.lit"), nil)
	if err != nil {
		log.Fatal(err)
	}
	pending, err := juliet.Commit(&mls.CommitOptions{Add: []*mls.KeyPackage{kp.KeyPackage}, InlineTree: true})
	if err != nil {
		log.Fatal(err)
	}
	if juliet, err = pending.Merge(); err != nil {
		log.Fatal(err)
	}

	// Romeo joins by the Welcome.
	romeo, err := mls.Join(nil, pending.Welcome().Welcome, kp, nil)
	if err != nil {
		log.Fatal(err)
	}

	// What travels is bytes.
	sent, err := juliet.Seal([]byte("Parting is such sweet sorrow"), nil)
	if err != nil {
		log.Fatal(err)
	}
	message, err := mls.ParseMessage(sent.Bytes())
	if err != nil {
		log.Fatal(err)
	}
	received, err := romeo.Process(message)
	if err != nil {
		log.Fatal(err)
	}
	if m, ok := received.(*mls.ApplicationMessage); ok {
		fmt.Printf("%s: %s\n", m.Sender.Credential().Identity, m.Data)
	}
	for m := range romeo.Members() {
		fmt.Printf("member %d is %s\n", m.Index, m.Credential().Identity)
	}
	// Output:
	// juliet@capulet.lit: Parting is such sweet sorrow
	// member 0 is juliet@capulet.lit
	// member 1 is romeo@montague.lit
}

// Romeo was away and catches up: what has gathered is prepared on all cores, and
// then processed in its order.
func ExampleGroup_Prepare() {
	kp, err := mls.NewKeyPackage(nil, suite, identity("romeo@montague.lit"), nil)
	if err != nil {
		log.Fatal(err)
	}
	juliet, err := mls.NewGroup(nil, suite, nil, identity("juliet@capulet.lit"), nil)
	if err != nil {
		log.Fatal(err)
	}
	pending, err := juliet.Commit(&mls.CommitOptions{Add: []*mls.KeyPackage{kp.KeyPackage}, InlineTree: true})
	if err != nil {
		log.Fatal(err)
	}
	if juliet, err = pending.Merge(); err != nil {
		log.Fatal(err)
	}
	romeo, err := mls.Join(nil, pending.Welcome().Welcome, kp, nil)
	if err != nil {
		log.Fatal(err)
	}
	var page []*mls.Message
	for _, line := range []string{"Romeo!", "What o'clock to-morrow", "Shall I send to thee?", "'Tis twenty years till then."} {
		m, err := juliet.Seal([]byte(line), nil)
		if err != nil {
			log.Fatal(err)
		}
		page = append(page, m)
	}

	romeo.Prepare(page)
	for _, m := range page {
		received, err := romeo.Process(m)
		if err != nil {
			log.Print(err) // a bad message stops nothing
			continue
		}
		if m, ok := received.(*mls.ApplicationMessage); ok {
			fmt.Printf("%d %s\n", m.Generation, m.Data)
		}
	}
	// Output:
	// 0 Romeo!
	// 1 What o'clock to-morrow
	// 2 Shall I send to thee?
	// 3 'Tis twenty years till then.
}

// A delivery service follows a group without reading it.
func ExamplePublicGroup() {
	juliet, err := mls.NewGroup(nil, suite, nil, identity("juliet@capulet.lit"), nil)
	if err != nil {
		log.Fatal(err)
	}
	info, err := juliet.GroupInfo(&mls.GroupInfoOptions{InlineTree: true})
	if err != nil {
		log.Fatal(err)
	}
	ds, err := mls.NewPublicGroup(nil, info.GroupInfo, nil)
	if err != nil {
		log.Fatal(err)
	}
	kp, err := mls.NewKeyPackage(nil, suite, identity("romeo@montague.lit"), nil)
	if err != nil {
		log.Fatal(err)
	}
	pending, err := juliet.Commit(&mls.CommitOptions{Add: []*mls.KeyPackage{kp.KeyPackage}})
	if err != nil {
		log.Fatal(err)
	}
	staged, err := ds.Process(pending.Message())
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range staged.Change().Added {
		fmt.Printf("%s joins at leaf %d\n", m.Credential().Identity, m.Index)
	}
	ds = staged.Merge()
	fmt.Println("epoch", ds.Epoch(), "members", ds.MemberCount())
	// Output:
	// romeo@montague.lit joins at leaf 1
	// epoch 1 members 2
}
