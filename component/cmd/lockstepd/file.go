// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/alecthomas/kong"
)

// This file reads the configuration file. It is strict: a key that means nothing
// is an error that names the one that was probably meant.

const defaultFile = "/etc/lockstep/lockstepd.toml"

// configFile finds the configuration file before the flags are parsed, because
// it gives their defaults. explicit says that somebody named it.
func configFile(args []string) (path string, explicit bool) {
	for i, a := range args {
		switch {
		case a == "--":
			i = len(args)
		case a == "--config" && i+1 < len(args):
			return args[i+1], true
		case strings.HasPrefix(a, "--config="):
			return strings.TrimPrefix(a, "--config="), true
		}
		if i == len(args) {
			break
		}
	}
	if p := os.Getenv("LOCKSTEPD_CONFIG"); p != "" {
		return p, true
	}
	return defaultFile, false
}

// fileResolver gives kong the values of the file.
type fileResolver struct {
	path   string // "" if there is no file
	values map[string]any
}

func newFileResolver(path string, explicit bool) (*fileResolver, error) {
	r := &fileResolver{values: make(map[string]any)}
	b, err := os.ReadFile(path)
	switch {
	case missing(err) && !explicit:
		return r, nil
	case err != nil:
		return nil, withHint(fmt.Errorf("reading the configuration: %w", err), "lockstepd config prints a complete file to begin with")
	}
	r.path = path
	var tree map[string]any
	if _, err := toml.Decode(string(b), &tree); err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return nil, fmt.Errorf("%s: line %d: %s", path, pe.Position.Line, pe.Message)
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := r.flatten("", tree); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// flatten makes "limits-max-page" of [limits] max-page. A table of contact
// addresses is a value.
func (r *fileResolver) flatten(prefix string, tree map[string]any) error {
	for key, v := range tree {
		name := prefix + key
		sub, ok := v.(map[string]any)
		switch {
		case ok && name == "contact":
			var parts []string
			for k, uri := range sub {
				parts = append(parts, fmt.Sprintf("%s=%v", k, uri))
			}
			slices.Sort(parts)
			r.values[name] = strings.Join(parts, ";")
		case ok:
			if err := r.flatten(name+"-", sub); err != nil {
				return err
			}
		default:
			if list, ok := v.([]any); ok {
				var parts []string
				for _, l := range list {
					parts = append(parts, fmt.Sprint(l))
				}
				v = strings.Join(parts, ",")
			}
			r.values[name] = fmt.Sprint(v)
		}
	}
	return nil
}

// Validate implements kong.Resolver.
func (r *fileResolver) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver: the environment goes before the file.
func (r *fileResolver) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, e := range flag.Envs {
		if _, ok := os.LookupEnv(e); ok {
			return nil, nil
		}
	}
	v, ok := r.values[flag.Name]
	if !ok || v == "" && flag.Default == "" {
		return nil, nil // kong would make the current folder of an empty path
	}
	return v, nil
}

// check refuses keys that no option has.
func (r *fileResolver) check(root *kong.Node) error {
	var known []string
	for _, f := range root.Flags {
		if f.Name != "config" && f.Name != "help" {
			known = append(known, f.Name)
		}
	}
	var unknown []string
	for key := range r.values {
		if !slices.Contains(known, key) {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	key := unknown[0]
	if key == "secret" {
		return withHint(fmt.Errorf("%s: the secret does not belong into the configuration file", r.path), "put it into a file of its own and name that with secret-file, or set LOCKSTEPD_SECRET")
	}
	return withHint(fmt.Errorf("%s: unknown key %q", r.path, key), "did you mean %q? lockstepd config prints every key", nearest(key, known))
}

// nearest finds the known word with the least edits.
func nearest(word string, known []string) string {
	best, least := "", 1<<30
	for _, k := range known {
		if d := distance(word, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
