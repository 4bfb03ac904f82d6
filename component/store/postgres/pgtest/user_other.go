// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package pgtest

import (
	"errors"
	"syscall"
)

func unprivileged(string) (*syscall.SysProcAttr, error) {
	return nil, errors.New("a private server is started on Unix only; set LOCKSTEP_POSTGRES")
}
