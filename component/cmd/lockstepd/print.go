// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// printCmd prints all options as a configuration file that gives the same.
type printCmd struct{}

func (printCmd) Run(e *env) error {
	fmt.Fprintln(e.stdout, "# lockstepd", version())
	if e.file != "" {
		fmt.Fprintln(e.stdout, "# read from", e.file)
	}
	fmt.Fprintln(e.stdout, "# The secret shared with the server comes from secret-file or LOCKSTEPD_SECRET.")
	printStruct(e, reflect.ValueOf(e.opts).Elem(), "")
	return nil
}

func printStruct(e *env, v reflect.Value, prefix string) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if _, ok := f.Tag.Lookup("embed"); ok {
			section := strings.TrimSuffix(f.Tag.Get("prefix"), "-")
			fmt.Fprintf(e.stdout, "\n[%s]\n", section)
			printStruct(e, v.Field(i), section+"-")
			continue
		}
		name := f.Tag.Get("name")
		if name == "" {
			name = kebab(f.Name)
		}
		value := v.Field(i).Interface()
		text := tomlValue(value)
		if name == "store" && strings.Contains(text, "@") {
			text = `"postgres://…"  # not shown: it may hold a password`
		}
		fmt.Fprintf(e.stdout, "\n# %s", f.Tag.Get("help"))
		if d := f.Tag.Get("default"); d != "" {
			fmt.Fprintf(e.stdout, " Default: %s.", d)
		}
		fmt.Fprintf(e.stdout, "\n%s = %s\n", name, text)
	}
}

// kebab makes some-name of SomeName.
func kebab(s string) string {
	var b strings.Builder
	for i, r := range s {
		if 'A' <= r && r <= 'Z' {
			if i > 0 {
				b.WriteByte('-')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

func tomlValue(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case []string:
		var parts []string
		for _, s := range v {
			parts = append(parts, strconv.Quote(s))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]string:
		var parts []string
		for k, s := range v {
			parts = append(parts, strconv.Quote(k)+" = "+strconv.Quote(s))
		}
		slices.Sort(parts)
		return "{ " + strings.Join(parts, ", ") + " }"
	case time.Duration:
		return strconv.Quote(v.String())
	case encoding.TextMarshaler:
		b, err := v.MarshalText()
		if err != nil {
			return strconv.Quote(err.Error())
		}
		return strconv.Quote(string(b))
	}
	return fmt.Sprint(v)
}
