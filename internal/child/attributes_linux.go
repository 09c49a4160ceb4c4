package child

import "syscall"

// attributes let the child die with its parent, and keep a terminal's Ctrl-C from reaching it before we stop it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}
