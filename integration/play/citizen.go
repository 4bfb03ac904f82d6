// SPDX-License-Identifier: Apache-2.0

package play

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/lockstep-im/lockstep/mls"
)

// NewCitizen logs an account in and publishes one key package for it, whose private half
// is thrown away: a device that can be in a group and reads nothing. Citizens fill large
// groups.
func NewCitizen(ctx context.Context, part *Part) (c *Plain, device string, err error) {
	const suite = mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
	key, err := mls.GenerateSignatureKey(suite, nil)
	if err != nil {
		return nil, "", err
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	kp, err := mls.NewKeyPackage(&mls.Config{}, suite, &mls.Identity{Credential: mls.BasicCredential([]byte(part.JID())), Key: key}, &mls.KeyPackageOptions{DeviceID: id})
	if err != nil {
		return nil, "", err
	}
	c = &Plain{part: part, asked: make(map[string]chan string)}
	device = hex.EncodeToString(id)
	domain, _ := part.Host.Component()
	answer, err := c.Ask(ctx, "set", domain, "<publish xmlns='urn:xmpp:mls:kp:0' device='"+device+"'><key-package>"+
		base64.StdEncoding.EncodeToString(kp.KeyPackage.Message().Bytes())+"</key-package></publish>")
	if err == nil && !strings.Contains(answer, "<published") {
		err = fmt.Errorf("play: publishing for %s: %s", part.JID(), answer)
	}
	if err != nil {
		return nil, "", errors.Join(err, c.Close())
	}
	return c, device, nil
}
