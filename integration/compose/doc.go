// SPDX-License-Identifier: Apache-2.0

// Package compose holds the test of what an operator starts: docker/up.sh with
// docker/compose.yaml and docker/compose.ejabberd.yaml.
package compose
