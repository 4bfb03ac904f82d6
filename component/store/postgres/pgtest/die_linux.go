// SPDX-License-Identifier: Apache-2.0

package pgtest

import "syscall"

// dieWithParent makes the kernel stop the server when this process ends,
// however it does.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
