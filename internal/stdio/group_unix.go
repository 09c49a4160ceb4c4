//go:build unix

package stdio

import "syscall"

// killGroup signals all processes of the child's group; none left is no error.
func killGroup(pid int, sig syscall.Signal) { syscall.Kill(-pid, sig) }
