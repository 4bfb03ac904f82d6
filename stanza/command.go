// SPDX-License-Identifier: Apache-2.0

package stanza

// Command is an ad-hoc command (XEP-0050), asked for in an IQ set and answered
// in the result:
//
//	<command xmlns='http://jabber.org/protocol/commands' node='urn:xmpp:mls:ds:0#stats' action='execute'/>
//
//	<command xmlns='http://jabber.org/protocol/commands' node='urn:xmpp:mls:ds:0#stats' sessionid='s1' status='completed'>
//	  <x xmlns='jabber:x:data' type='result'>…</x>
//	  <note type='info'>done</note>
//	</command>
//
// Source: xep/mls-delivery.xml#admin.
type Command struct {
	Node      string
	SessionID string
	// Action is asked for: execute (the default, empty), next, prev, complete,
	// cancel.
	Action string
	// Status is answered: executing, completed, canceled.
	Status string
	// Actions are what may be asked for next, Execute which of them is the
	// default.
	Actions []string
	Execute string
	Form    *Form
	Notes   []CommandNote
}

// Values of [Command].Action and Status (XEP-0050 §3).
const (
	ActionExecute   = "execute"
	ActionNext      = "next"
	ActionPrev      = "prev"
	ActionComplete  = "complete"
	ActionCancel    = "cancel"
	StatusExecuting = "executing"
	StatusCompleted = "completed"
	StatusCanceled  = "canceled"
)

// CommandNote is a note on a [Command].
type CommandNote struct {
	// Type is info (the default, empty), warn or error.
	Type, Text string
}

// Append appends the element.
func (c *Command) Append(dst []byte) []byte {
	dst = attr(open(dst, NSCommands, "command"), "node", c.Node)
	dst = attrOpt(dst, "sessionid", c.SessionID)
	dst = attrOpt(dst, "action", c.Action)
	dst = attrOpt(dst, "status", c.Status)
	if c.Form == nil && len(c.Notes)+len(c.Actions) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	if len(c.Actions) > 0 {
		dst = attrOpt(start(dst, "actions"), "execute", c.Execute)
		dst = append(dst, '>')
		for _, a := range c.Actions {
			switch a {
			case ActionNext, ActionPrev, ActionComplete:
				dst = append(start(dst, a), "/>"...)
			}
		}
		dst = end(dst, "actions")
	}
	if c.Form != nil {
		dst = c.Form.Append(dst)
	}
	for _, n := range c.Notes {
		dst = attrOpt(start(dst, "note"), "type", n.Type)
		dst = append(dst, '>')
		dst = appendEscaped(dst, n.Text)
		dst = end(dst, "note")
	}
	return end(dst, "command")
}

// Parse reads the element.
func (c *Command) Parse(el Element) error {
	d := expect(el, NSCommands, "command")
	d.noText()
	*c = Command{
		Node: d.str("node", MaxID, c.Node), SessionID: d.strOpt("sessionid", MaxID, c.SessionID),
		Action: d.strOpt("action", MaxID, c.Action), Status: d.strOpt("status", MaxID, c.Status),
	}
	switch c.Action {
	case "", ActionExecute, ActionNext, ActionPrev, ActionComplete, ActionCancel:
	default:
		d.fail("action is not execute, next, prev, complete or cancel: %.32q", c.Action)
	}
	switch c.Status {
	case "", StatusExecuting, StatusCompleted, StatusCanceled:
	default:
		d.fail("status is not executing, completed or canceled: %.32q", c.Status)
	}
	if a := d.only(el, NSCommands, "actions"); a.Valid() {
		ad := d.child(a)
		c.Execute = ad.strOpt("execute", MaxID, "")
		d.done(&ad)
		for e := a.First(); e.Valid(); e = e.Next() {
			switch name := string(e.Local()); name {
			case ActionNext, ActionPrev, ActionComplete:
				if string(e.Space()) == NSCommands && d.room(len(c.Actions), 3) {
					c.Actions = append(c.Actions, name)
				}
			}
		}
	}
	if x := d.only(el, NSForm, "x"); x.Valid() {
		c.Form = new(Form)
		d.set(c.Form.Parse(x))
	}
	for e := range d.list(NSCommands, "note", MaxRefs) {
		nd := d.textChild(e)
		c.Notes = append(c.Notes, CommandNote{Type: nd.strOpt("type", MaxID, ""), Text: nd.textOf(e, MaxText, "")})
		d.done(&nd)
	}
	return d.err
}
