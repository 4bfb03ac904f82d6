// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package servers

import "syscall"

// childAttr gives a server its own process group.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
