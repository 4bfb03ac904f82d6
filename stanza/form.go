// SPDX-License-Identifier: Apache-2.0

package stanza

import "strconv"

// FormType is the type of a [Form] (XEP-0004 §3.1).
type FormType string

// Types of forms.
const (
	FormForm   FormType = "form"   // to be filled in
	FormSubmit FormType = "submit" // filled in
	FormCancel FormType = "cancel" // not going to be filled in
	FormResult FormType = "result" // data
)

// Types of form fields (XEP-0004 §3.3). A field without type is text-single.
const (
	FieldBoolean     = "boolean"
	FieldFixed       = "fixed"
	FieldHidden      = "hidden"
	FieldJIDMulti    = "jid-multi"
	FieldJIDSingle   = "jid-single"
	FieldListMulti   = "list-multi"
	FieldListSingle  = "list-single"
	FieldTextMulti   = "text-multi"
	FieldTextPrivate = "text-private"
	FieldTextSingle  = "text-single"
)

// Form is a data form (XEP-0004):
//
//	<x xmlns='jabber:x:data' type='submit'>
//	  <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mls:ds:0#config</value></field>
//	  <field var='access'><value>invite</value></field>
//	</x>
type Form struct {
	Type         FormType
	Title        string
	Instructions []string
	Fields       []Field
	// Reported are the columns of a result with several items (XEP-0004 §3.4),
	// Items its rows.
	Reported []Field
	Items    [][]Field
}

// MaxFields is the number of fields of a form or of a row. Duplicates are found
// by comparing pairs.
const MaxFields = 512

// Field is a field of a [Form].
type Field struct {
	Var, Type, Label, Desc string
	Required               bool
	Values                 []string
	Options                []Option
}

// Option is a choice of a list field.
type Option struct {
	Label, Value string
}

// NewForm returns a form of the given type with a FORM_TYPE field (XEP-0068).
func NewForm(t FormType, formType string) *Form {
	return &Form{Type: t, Fields: []Field{{Var: "FORM_TYPE", Type: FieldHidden, Values: []string{formType}}}}
}

// Add appends a field with values and returns the form.
func (f *Form) Add(name string, values ...string) *Form {
	f.Fields = append(f.Fields, Field{Var: name, Values: values})
	return f
}

// Field returns the field by its var, nil if there is none.
func (f *Form) Field(name string) *Field {
	for i := range f.Fields {
		if f.Fields[i].Var == name {
			return &f.Fields[i]
		}
	}
	return nil
}

// Get returns the first value of a field, "" if there is none.
func (f *Form) Get(name string) string {
	if p := f.Field(name); p != nil && len(p.Values) > 0 {
		return p.Values[0]
	}
	return ""
}

// Values returns all values of a field.
func (f *Form) Values(name string) []string {
	if p := f.Field(name); p != nil {
		return p.Values
	}
	return nil
}

// FormType returns the value of FORM_TYPE (XEP-0068), "" if there is none.
func (f *Form) FormType() string { return f.Get("FORM_TYPE") }

// Append appends the element.
func (f *Form) Append(dst []byte) []byte {
	dst = attr(open(dst, NSForm, "x"), "type", string(f.Type))
	dst = append(dst, '>')
	dst = textOpt(dst, "title", f.Title)
	for _, s := range f.Instructions {
		dst = text(dst, "instructions", s)
	}
	if len(f.Reported) > 0 {
		dst = append(start(dst, "reported"), '>')
		dst = appendFields(dst, f.Reported)
		dst = end(dst, "reported")
	}
	dst = appendFields(dst, f.Fields)
	for _, item := range f.Items {
		dst = append(start(dst, "item"), '>')
		dst = appendFields(dst, item)
		dst = end(dst, "item")
	}
	return end(dst, "x")
}

func appendFields(dst []byte, fields []Field) []byte {
	for i := range fields {
		f := &fields[i]
		dst = start(dst, "field")
		dst = attrOpt(dst, "var", f.Var)
		dst = attrOpt(dst, "type", f.Type)
		dst = attrOpt(dst, "label", f.Label)
		if f.Desc == "" && !f.Required && len(f.Values)+len(f.Options) == 0 {
			dst = append(dst, "/>"...)
			continue
		}
		dst = append(dst, '>')
		dst = textOpt(dst, "desc", f.Desc)
		if f.Required {
			dst = append(dst, "<required/>"...)
		}
		for _, v := range f.Values {
			dst = text(dst, "value", v)
		}
		for _, o := range f.Options {
			dst = attrOpt(start(dst, "option"), "label", o.Label)
			dst = append(dst, '>')
			dst = text(dst, "value", o.Value)
			dst = end(dst, "option")
		}
		dst = end(dst, "field")
	}
	return dst
}

// Parse reads the element.
func (f *Form) Parse(el Element) error {
	d := expect(el, NSForm, "x")
	d.noText()
	*f = Form{Fields: f.Fields[:0]}
	switch v := d.attr("type"); string(v) {
	case "form":
		f.Type = FormForm
	case "submit":
		f.Type = FormSubmit
	case "cancel":
		f.Type = FormCancel
	case "result":
		f.Type = FormResult
	default:
		d.fail("type is not form, submit, cancel or result: %.32q", v)
	}
	f.Fields = d.fields(f.Fields)
	var title, reported bool
	for c := el.First(); c.Valid(); c = c.Next() {
		switch {
		case c.Is(NSForm, "title") && d.once(&title, c):
			f.Title = d.textOf(c, MaxText, "")
		case c.Is(NSForm, "instructions") && d.room(len(f.Instructions), MaxRefs):
			f.Instructions = append(f.Instructions, d.textOf(c, MaxText, ""))
		case c.Is(NSForm, "reported") && d.once(&reported, c):
			f.Reported = d.row(c)
		case c.Is(NSForm, "item") && d.room(len(f.Items), MaxItems):
			f.Items = append(f.Items, d.row(c))
		}
	}
	return d.err
}

// appendIn appends an element that holds the form.
func (f *Form) appendIn(dst []byte, space, local string) []byte {
	dst = append(open(dst, space, local), '>')
	dst = f.Append(dst)
	return end(dst, local)
}

// parseIn reads an element that holds the form.
func (f *Form) parseIn(el Element, space, local string) error {
	d := expect(el, space, local)
	d.noText()
	if x := d.only(el, NSForm, "x"); x.Valid() {
		d.set(f.Parse(x))
	} else {
		d.fail("no form")
	}
	return d.err
}

// row reads the fields of one row, or of the head of the rows.
func (d *dec) row(c Element) []Field {
	rd := d.child(c)
	list := rd.fields(nil)
	d.done(&rd)
	return list
}

// fields reads the fields among the children. A var may occur once.
func (d *dec) fields(list []Field) []Field {
	for c := range d.list(NSForm, "field", MaxFields) {
		fd := d.child(c)
		f := Field{Var: fd.strOpt("var", MaxID, ""), Type: fd.strOpt("type", MaxID, ""), Label: fd.strOpt("label", MaxText, "")}
		if f.Var == "" && f.Type != FieldFixed {
			fd.fail("a field without var")
		}
		for i := range list {
			if f.Var != "" && list[i].Var == f.Var {
				fd.fail("more than one field %q", f.Var)
			}
		}
		var desc bool
		for e := c.First(); e.Valid(); e = e.Next() {
			switch {
			case e.Is(NSForm, "value") && fd.room(len(f.Values), MaxItems):
				f.Values = append(f.Values, fd.textOf(e, MaxText, ""))
			case e.Is(NSForm, "desc") && fd.once(&desc, e):
				f.Desc = fd.textOf(e, MaxText, "")
			case e.Is(NSForm, "required"):
				f.Required = true
			case e.Is(NSForm, "option") && fd.room(len(f.Options), MaxItems):
				od := fd.child(e)
				o := Option{Label: od.strOpt("label", MaxText, "")}
				if v := od.only(e, NSForm, "value"); v.Valid() {
					o.Value = od.textOf(v, MaxText, "")
				} else {
					od.fail("no <value/>")
				}
				fd.done(&od)
				f.Options = append(f.Options, o)
			}
		}
		d.done(&fd)
		list = append(list, f)
	}
	return list
}

// formReader reads typed values of a form; the first fault sticks.
type formReader struct {
	form *Form
	err  error
}

func (r *formReader) fail(name string, want string) {
	if r.err == nil {
		r.err = &SyntaxError{Element: "x", Reason: "field " + strconv.Quote(name) + ": " + want}
	}
}

// word reads a single value, or keeps the default if the field is absent.
func (r *formReader) word(name string, v *string, allowed ...string) {
	f := r.form.Field(name)
	if f == nil {
		return
	}
	if len(f.Values) != 1 {
		r.fail(name, "want one value")
		return
	}
	if len(allowed) > 0 {
		ok := false
		for _, a := range allowed {
			ok = ok || a == f.Values[0]
		}
		if !ok {
			r.fail(name, "not one of the values allowed")
			return
		}
	}
	*v = f.Values[0]
}

func (r *formReader) number(name string, v *uint64) {
	var s string
	r.word(name, &s)
	if s == "" {
		return
	}
	n, ok := parseUint([]byte(s))
	if !ok {
		r.fail(name, "not a number")
		return
	}
	*v = n
}

func (r *formReader) boolean(name string, v *bool) {
	var s string
	r.word(name, &s)
	if s == "" {
		return
	}
	b, ok := parseBool([]byte(s))
	if !ok {
		r.fail(name, "not a boolean")
		return
	}
	*v = b
}

func boolValue(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func uintValue(n uint64) string { return strconv.FormatUint(n, 10) }
