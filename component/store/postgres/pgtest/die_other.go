// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package pgtest

import "syscall"

func dieWithParent(*syscall.SysProcAttr) {}
