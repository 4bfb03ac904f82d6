// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// ensureImage builds the flavour's image where it is missing or out of date, and
// returns its tag or why it cannot be had. docker/build.sh lets one build run at
// a time on a machine and returns at once when there is nothing to do.
func ensureImage(ctx context.Context, f Flavour) (image, missing string) {
	script, err := buildScript()
	if err != nil {
		if _, ierr := docker(ctx, nil, "image", "inspect", "-f", "{{.Id}}", f.image()); ierr != nil {
			return "", fmt.Sprintf("the image %s is missing, and so is docker/build.sh that makes it: %v", f.image(), err)
		}
		return f.image(), ""
	}
	out, _ := exec.CommandContext(ctx, "bash", script, "--list", string(f)).CombinedOutput()
	if strings.Contains(string(out), f.image()+" is missing") {
		fmt.Fprintf(os.Stderr, "servers: making the image %s: a minute, the first one of a machine up to four\n", f.image())
	}
	cmd := exec.CommandContext(ctx, "bash", script, "--pin", string(f))
	var errs bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &errs, 5*time.Second
	began := time.Now()
	out, err = cmd.Output()
	if ctx.Err() != nil {
		return "", fmt.Sprintf("making the image %s was not done after %s, when this test had to end: run docker/build.sh once, then the test again",
			f.image(), time.Since(began).Round(time.Second))
	}
	if err != nil {
		return "", fmt.Sprintf("docker/build.sh %s failed: %v\n%s", f, err, errs.Bytes())
	}
	return lastLine(string(out)), ""
}

// modules are lockstep's own modules of Prosody that a configuration loads.
func modules(f Flavour, o Options) (map[string][]byte, error) {
	if !f.Prosody() || !o.Multicast {
		return nil, nil
	}
	script, err := buildScript()
	if err != nil {
		return nil, fmt.Errorf("servers: looking for lockstep's modules of Prosody: %w", err)
	}
	const name = "mod_lockstep_multicast.lua"
	b, err := os.ReadFile(filepath.Join(filepath.Dir(script), "prosody", name))
	return map[string][]byte{name: b}, err
}

// buildScript finds docker/build.sh of the module that this package is part of:
// from the working directory, which tests have inside it, or else from where
// this file was compiled.
func buildScript() (string, error) {
	var starts []string
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if _, src, _, ok := runtime.Caller(0); ok && filepath.IsAbs(src) {
		starts = append(starts, filepath.Dir(src))
	}
	for _, dir := range starts {
		for {
			script := filepath.Join(dir, "docker", "build.sh")
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				if _, err := os.Stat(script); err == nil {
					return script, nil
				}
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return "", fmt.Errorf("not found above %s", strings.Join(starts, " or "))
}
