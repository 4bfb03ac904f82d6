// SPDX-License-Identifier: Apache-2.0

package stanza

import "testing"

// TestProtocolShapes decodes and re-encodes complete stanzas of the protocol.
func TestProtocolShapes(t *testing.T) {
	for _, x := range []string{
		`<iq type='set' id='c1' from='alice@example.org/bot' to='ops@mls.example.org'>
  <commit xmlns='urn:xmpp:mls:ds:0' epoch='42' ref='pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4='>
    <message>AAEAAQ==</message>
    <welcome>AAEAAw==</welcome>
    <group-info>AAEABA==</group-info>
  </commit>
</iq>`,
		`<message type='groupchat' id='5f3dbc5e-e1d3-4077-a492-693f3769c7ad' from='ops@mls.example.org' to='bob@example.net/x'>
  <mls xmlns='urn:xmpp:mls:0'>AAEAAg==</mls>
  <delivery xmlns='urn:xmpp:mls:ds:0' seq='1212' epoch='43' kind='application' chain='47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' stamp='2026-08-20T09:16:00.001Z'/>
  <stanza-id xmlns='urn:xmpp:sid:0' by='ops@mls.example.org' id='5f3dbc5e-e1d3-4077-a492-693f3769c7ad'/>
  <encryption xmlns='urn:xmpp:eme:0' namespace='urn:xmpp:mls:0' name='MLS'/>
  <no-store xmlns='urn:xmpp:hints'/>
</message>`,
		`<iq type='error' id='c1' from='ops@mls.example.org' to='alice@example.org/bot'>
  <error type='cancel' by='ops@mls.example.org'>
    <conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>
    <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>Another commit was accepted for epoch 42</text>
    <stale-epoch xmlns='urn:xmpp:mls:errors:0' submitted='42' current='44' head='1211'>
      <commit epoch='42' seq='1208' ref='n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg='/>
      <commit epoch='43' seq='1210' ref='RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o='/>
    </stale-epoch>
  </error>
</iq>`,
	} {
		if err := CheckExample([]byte(x)); err != nil {
			t.Error(err)
		}
	}
}
