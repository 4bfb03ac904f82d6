// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package storetest

import (
	"os"
	"time"
)

func fdatasync(f *os.File) error { return f.Sync() }

func processTime() time.Duration { return 0 }
