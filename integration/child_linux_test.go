// SPDX-License-Identifier: Apache-2.0

package integration_test

import "syscall"

// childAttr lets a child die with this process, however that ends.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
