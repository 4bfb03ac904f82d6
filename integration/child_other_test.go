// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package integration_test

import "syscall"

func childAttr() *syscall.SysProcAttr { return nil }
