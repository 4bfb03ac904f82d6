// SPDX-License-Identifier: Apache-2.0

package servers

import "syscall"

// childAttr gives a server its own process group and lets it die with this
// process, however that ends, unless it is to be kept.
func childAttr() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if !keep() {
		a.Pdeathsig = syscall.SIGKILL
	}
	return a
}
