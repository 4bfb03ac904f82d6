// SPDX-License-Identifier: Apache-2.0

package stanza

// Session opens a live session: the payload of a directed presence to a DS,
// one for all groups there, answered with [Ready]. Events for the account then
// go to that full JID until it becomes unavailable.
//
//	<session xmlns='urn:xmpp:mls:ds:0' device='5d41402abc4b2a76b9719d911017c592'/>
//
// Source: xep/mls-delivery.xml#session.
type Session struct {
	Device DeviceID
}

// Append appends the element.
func (s *Session) Append(dst []byte) []byte {
	dst = attrDevice(open(dst, NSDelivery, "session"), "device", &s.Device)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (s *Session) Parse(el Element) error {
	d := expect(el, NSDelivery, "session")
	d.noText()
	s.Device = d.device("device")
	return d.err
}

// Ready answers [Session]: the payload of a directed presence or of a headline
// message to the full JID. The client synchronises next, see [GroupsQuery].
//
//	<ready xmlns='urn:xmpp:mls:ds:0' device='5d41402abc4b2a76b9719d911017c592'>
//	  <stock xmlns='urn:xmpp:mls:kp:0' device='5d41402abc4b2a76b9719d911017c592' available='37' last-resort='true' target='50'/>
//	</ready>
//
// Source: xep/mls-delivery.xml#session.
type Ready struct {
	Device DeviceID
	// Stock tells of the device's key packages, nil if the DS keeps none for
	// the user.
	Stock *Stock
}

// Append appends the element.
func (r *Ready) Append(dst []byte) []byte {
	dst = attrDevice(open(dst, NSDelivery, "ready"), "device", &r.Device)
	if r.Stock == nil {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = r.Stock.Append(dst)
	return end(dst, "ready")
}

// Parse reads the element.
func (r *Ready) Parse(el Element) error {
	d := expect(el, NSDelivery, "ready")
	d.noText()
	r.Device = d.device("device")
	r.Stock = nil
	if c := d.only(el, NSKeyPackages, "stock"); c.Valid() {
		r.Stock = new(Stock)
		d.set(r.Stock.Parse(c))
	}
	return d.err
}
