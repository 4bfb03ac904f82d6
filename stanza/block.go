// SPDX-License-Identifier: Apache-2.0

package stanza

// Block blocks JIDs at the service: the payload of an IQ set, answered with an
// empty result, with the semantics of XEP-0191. A blocked requester's claims
// look as if the user did not exist.
//
//	<block xmlns='urn:xmpp:blocking'><item jid='mallory@example.org'/></block>
type Block struct {
	// JIDs are bare or full JIDs or domains. At least one.
	JIDs []string
}

// Unblock takes JIDs off the list, or all of them if it names none.
//
//	<unblock xmlns='urn:xmpp:blocking'><item jid='mallory@example.org'/></unblock>
type Unblock struct {
	JIDs []string
}

// BlockListQuery asks for the list: the payload of an IQ get, answered with
// [BlockList].
//
//	<blocklist xmlns='urn:xmpp:blocking'/>
type BlockListQuery struct{}

// BlockList answers [BlockListQuery]: the payload of the IQ result.
//
//	<blocklist xmlns='urn:xmpp:blocking'><item jid='mallory@example.org'/></blocklist>
type BlockList struct {
	JIDs []string
}

func appendItems(dst []byte, local string, jids []string) []byte {
	dst = open(dst, NSBlocking, local)
	if len(jids) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	for _, j := range jids {
		dst = attr(start(dst, "item"), "jid", j)
		dst = append(dst, "/>"...)
	}
	return end(dst, local)
}

func parseItems(el Element, local string, jids []string, need bool) ([]string, error) {
	d := expect(el, NSBlocking, local)
	d.noText()
	jids = jids[:0]
	for c := range d.list(NSBlocking, "item", MaxItems) {
		cd := d.child(c)
		jids = append(jids, cd.jid("jid", ""))
		d.done(&cd)
	}
	if need && len(jids) == 0 {
		d.fail("no <item/>")
	}
	return jids, d.err
}

// Append appends the element.
func (b *Block) Append(dst []byte) []byte { return appendItems(dst, "block", b.JIDs) }

// Parse reads the element.
func (b *Block) Parse(el Element) (err error) {
	b.JIDs, err = parseItems(el, "block", b.JIDs, true)
	return err
}

// Append appends the element.
func (b *Unblock) Append(dst []byte) []byte { return appendItems(dst, "unblock", b.JIDs) }

// Parse reads the element.
func (b *Unblock) Parse(el Element) (err error) {
	b.JIDs, err = parseItems(el, "unblock", b.JIDs, false)
	return err
}

// Append appends the element.
func (*BlockListQuery) Append(dst []byte) []byte { return appendItems(dst, "blocklist", nil) }

// Parse reads the element.
func (*BlockListQuery) Parse(el Element) error { return parseEmpty(el, NSBlocking, "blocklist") }

// Append appends the element.
func (b *BlockList) Append(dst []byte) []byte { return appendItems(dst, "blocklist", b.JIDs) }

// Parse reads the element.
func (b *BlockList) Parse(el Element) (err error) {
	b.JIDs, err = parseItems(el, "blocklist", b.JIDs, false)
	return err
}
