// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// processID names this process so that another one can tell whether it still
// runs: machine:pid:start. The machine is the boot and the pid namespace where
// Linux tells, and start tells apart two processes with one pid.
var processID = sync.OnceValue(func() string {
	return fmt.Sprintf("%s:%d:%s", machineID(), os.Getpid(), startOf("self"))
})

func machineID() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	ns, nerr := os.Readlink("/proc/self/ns/pid")
	if err != nil || nerr != nil {
		host, _ := os.Hostname()
		return strings.NewReplacer(":", "_", " ", "_").Replace("host-" + host)
	}
	return strings.NewReplacer(":", "", "[", "", "]", "").Replace(strings.TrimSpace(string(boot)) + "-" + ns)
}

// startOf is the process's start in clock ticks since boot (proc(5), stat field
// 22), or 0 where there is no /proc.
func startOf(pid string) string {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return "0"
	}
	// The name in field 2 may hold spaces and parentheses: count from its end.
	rest := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(rest) < 20 {
		return "0"
	}
	return rest[19]
}

// ownerGone reports whether the process that an owner label names has ended. Of
// a process on another machine, or in another container, it knows nothing and
// says no.
func ownerGone(owner string) bool {
	p := strings.Split(owner, ":")
	if len(p) != 3 || p[0] != machineID() {
		// An earlier boot of this machine leaves nothing running, but what it
		// left is still this engine's; another machine's engine is another one.
		return false
	}
	pid, err := strconv.Atoi(p[1])
	if err != nil || pid <= 0 {
		return false
	}
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	return p[2] != "0" && startOf(p[1]) != p[2]
}
