// SPDX-License-Identifier: Apache-2.0

package stanza

// Object is an MLSMessage inside a submission: its bytes, or the id of a
// [Stage] that holds them because they do not fit a stanza.
//
//	<welcome>AAEAAw…</welcome>
//	<welcome stage='u-7f3a'/>
type Object struct {
	Bytes []byte
	Stage string
}

// IsZero reports whether there is no object.
func (o *Object) IsZero() bool { return len(o.Bytes) == 0 && o.Stage == "" }

// append writes nothing for a missing object.
func (o *Object) append(dst []byte, local string) []byte {
	if o.IsZero() {
		return dst
	}
	dst = start(dst, local)
	if o.Stage != "" {
		dst = attr(dst, "stage", o.Stage)
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = AppendBase64(dst, o.Bytes)
	return end(dst, local)
}

func (o *Object) parse(parent *dec, c Element) {
	d := parent.textChild(c)
	o.Stage = d.strOpt("stage", MaxID, o.Stage)
	o.Bytes = d.contentOpt(o.Bytes)
	if (o.Stage == "") == (len(o.Bytes) == 0) {
		d.fail("content or a stage is needed, and only one of them")
	}
	parent.done(&d)
}

// reset forgets the object and keeps its buffer.
func (o *Object) reset() { o.Bytes, o.Stage = o.Bytes[:0], "" }
