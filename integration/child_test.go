// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"os/exec"
	"runtime"
	"sync"
	"testing"
)

// startChild starts a process with childAttr. The channel says how it ended and is closed. To the kernel the
// parent that a child dies with is the thread that forked it, so that one stays for it
// until it has ended: a thread that ends for another reason, as those do that a goroutine
// keeps to itself and does not give back, takes all that it ever forked along. What the
// child writes to pipes is waited for first, until read is closed; nil if there are none.
func startChild(cmd *exec.Cmd, read <-chan struct{}) (<-chan error, error) {
	cmd.SysProcAttr = childAttr()
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		if read != nil {
			<-read
		}
		ended <- cmd.Wait()
		close(ended)
	}()
	return ended, <-started
}

// TestChildrenOutliveThreads ends threads of this process, those that may have forked the
// children among them.
func TestChildrenOutliveThreads(t *testing.T) {
	const n = 16
	var all sync.WaitGroup
	ends := make([]<-chan error, n)
	for i := range ends {
		all.Go(func() {
			cmd := exec.Command("sleep", "600")
			ended, err := startChild(cmd, nil)
			if err != nil {
				t.Error(err)
				return
			}
			ends[i] = ended
			t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	gate := make(chan struct{})
	for range 64 {
		all.Go(func() {
			runtime.LockOSThread() // and never given back
			<-gate
		})
	}
	close(gate)
	all.Wait()
	// Those threads have ended, or are about to: new ones take their place.
	for range 30 {
		if err := exec.Command("true").Run(); err != nil {
			t.Fatal(err)
		}
	}
	for i, ended := range ends {
		select {
		case err := <-ended:
			t.Errorf("child %d ended with a thread: %v", i, err)
		default:
		}
	}
}
