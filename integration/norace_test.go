// SPDX-License-Identifier: Apache-2.0

//go:build !race

package integration_test

const raceEnabled = false
