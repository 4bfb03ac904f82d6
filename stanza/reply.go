// SPDX-License-Identifier: Apache-2.0

package stanza

// AppendResult appends the result of the IQ req, with the addresses swapped and
// its id, and payload, which may be nil (RFC 6120 §8.2.3).
func AppendResult(dst []byte, req *Stanza, payload Payload) []byte {
	dst = appendReply(dst, req, TypeResult)
	if payload == nil {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = payload.Append(dst)
	return req.Kind.AppendEnd(dst)
}

// AppendError appends the error that answers the stanza req (RFC 6120 §8.3). It
// does not echo the payload: it may be ciphertext. Stanzas of type error, and
// IQ results, must not be answered; for them AppendError returns dst as it is.
func AppendError(dst []byte, req *Stanza, e *Error) []byte {
	if req.Kind == Other || req.Type == TypeError || req.Kind == IQ && req.Type == TypeResult {
		return dst
	}
	dst = appendReply(dst, req, TypeError)
	dst = append(dst, '>')
	dst = e.Append(dst)
	return req.Kind.AppendEnd(dst)
}

func appendReply(dst []byte, req *Stanza, typ string) []byte {
	dst = start(dst, req.Kind.String())
	dst = attr(dst, "type", typ)
	dst = attrOpt(dst, "id", req.ID)
	dst = attrOpt(dst, "from", req.To)
	return attrOpt(dst, "to", req.From)
}
