//go:build !linux

package child

import "syscall"

// attributes keep a terminal's Ctrl-C from reaching the child before we stop it.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
