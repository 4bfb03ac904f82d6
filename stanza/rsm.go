// SPDX-License-Identifier: Apache-2.0

package stanza

import "math"

// PageQuery asks for a page of a list (XEP-0059), inside the list's query:
//
//	<set xmlns='http://jabber.org/protocol/rsm'><max>200</max><after>1207</after></set>
type PageQuery struct {
	// Max is the number of items wanted at most. Nil means the service's
	// choice, zero asks for the count alone.
	Max *uint32
	// After and Before are the items that the page comes behind or before. An
	// item's id is the service's: for a log it is the seq.
	After string
	// Before, if Last is set, may be empty: the last page.
	Before string
	// Last asks for a page backwards, see Before.
	Last bool
}

// Append appends the element.
func (q *PageQuery) Append(dst []byte) []byte {
	dst = append(open(dst, NSRSM, "set"), '>')
	if q.Max != nil {
		dst = append(start(dst, "max"), '>')
		dst = appendUint(dst, uint64(*q.Max))
		dst = end(dst, "max")
	}
	dst = textOpt(dst, "after", q.After)
	if q.Last || q.Before != "" {
		if q.Before == "" {
			dst = append(dst, "<before/>"...)
		} else {
			dst = text(dst, "before", q.Before)
		}
	}
	return end(dst, "set")
}

// Parse reads the element.
func (q *PageQuery) Parse(el Element) error {
	d := expect(el, NSRSM, "set")
	d.noText()
	*q = PageQuery{}
	var max, after, before bool
	for c := el.First(); c.Valid(); c = c.Next() {
		if string(c.Space()) != NSRSM {
			continue
		}
		switch string(c.Local()) {
		case "max":
			if d.once(&max, c) {
				n := uint32(d.number("max", c.Text(), math.MaxUint32))
				q.Max = &n
			}
		case "after":
			if d.once(&after, c) {
				q.After = d.textOf(c, MaxJID, "")
			}
		case "before":
			if d.once(&before, c) {
				q.Before, q.Last = d.textOf(c, MaxJID, ""), true
			}
		}
	}
	return d.err
}

// Page describes a page of a list (XEP-0059), inside the list:
//
//	<set xmlns='http://jabber.org/protocol/rsm'><first index='0'>1208</first><last>1209</last><count>2</count></set>
type Page struct {
	// First and Last are the ids of the first and last item, empty for an
	// empty page.
	First, Last string
	// Index is the position of First in the whole list, nil if not told.
	Index *uint32
	// Count is the number of items in the whole list, nil if not told.
	Count *uint32
}

// Append appends the element.
func (p *Page) Append(dst []byte) []byte {
	dst = append(open(dst, NSRSM, "set"), '>')
	if p.First != "" {
		dst = start(dst, "first")
		if p.Index != nil {
			dst = attrUint(dst, "index", uint64(*p.Index))
		}
		dst = append(dst, '>')
		dst = appendEscaped(dst, p.First)
		dst = end(dst, "first")
	}
	dst = textOpt(dst, "last", p.Last)
	if p.Count != nil {
		dst = append(start(dst, "count"), '>')
		dst = appendUint(dst, uint64(*p.Count))
		dst = end(dst, "count")
	}
	return end(dst, "set")
}

// Parse reads the element.
func (p *Page) Parse(el Element) error {
	d := expect(el, NSRSM, "set")
	d.noText()
	*p = Page{}
	var first, last, count bool
	for c := el.First(); c.Valid(); c = c.Next() {
		if string(c.Space()) != NSRSM {
			continue
		}
		switch string(c.Local()) {
		case "first":
			if d.once(&first, c) {
				p.First = d.textOf(c, MaxJID, "")
				if _, ok := c.Attr("index"); ok {
					cd := d.textChild(c)
					n := cd.uint32("index")
					p.Index = &n
					d.done(&cd)
				}
			}
		case "last":
			if d.once(&last, c) {
				p.Last = d.textOf(c, MaxJID, "")
			}
		case "count":
			if d.once(&count, c) {
				n := uint32(d.number("count", c.Text(), math.MaxUint32))
				p.Count = &n
			}
		}
	}
	return d.err
}

// Uint32 returns a pointer to v, for optional numbers.
func Uint32(v uint32) *uint32 { return &v }

// pageQuery reads the <set/> among the children of el, if there is one.
func (d *dec) pageQuery(el Element) *PageQuery {
	c := d.only(el, NSRSM, "set")
	if !c.Valid() {
		return nil
	}
	q := new(PageQuery)
	d.set(q.Parse(c))
	return q
}

// page is pageQuery for an answer.
func (d *dec) page(el Element) *Page {
	c := d.only(el, NSRSM, "set")
	if !c.Valid() {
		return nil
	}
	p := new(Page)
	d.set(p.Parse(c))
	return p
}

// only returns the child {space}local of el, which must not occur twice.
func (d *dec) only(el Element, space, local string) Element {
	var found Element
	for c := el.First(); c.Valid(); c = c.Next() {
		if c.Is(space, local) {
			if found.Valid() {
				d.fail("more than one <%s/>", local)
			}
			found = c
		}
	}
	return found
}
