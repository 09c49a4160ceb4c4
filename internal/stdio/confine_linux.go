package stdio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A confined child is this program again, under a name that says so: it gives up its own rights and becomes the server.
//
// That it is a process of its own is essential. Restricting the thread of ours that forks would do for files, but the
// child would then be in the Landlock domain of that thread, which shares our memory: it could open
// /proc/PID/task/TID/mem and read every key there.
const confinedName = "vmcp-confined"

// init, so that no program that starts children can forget it: it would run itself for ever.
func init() {
	if len(os.Args) > 0 && os.Args[0] == confinedName {
		fmt.Fprintln(os.Stderr, "starting the server:", becomeConfined(os.Args[1:]))
		os.Exit(126)
	}
}

// CanHide returns nil where Config.Hide is enforced, else why it is not.
func CanHide() error {
	if _, err := landlockABI(); err != nil {
		return fmt.Errorf("the kernel has no Landlock: %w", err)
	}
	return nil
}

func landlockABI() (int, error) {
	abi, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return 0, e
	}
	return int(abi), nil
}

// confine makes cmd start confined.
func confine(cmd *exec.Cmd, hide []string) {
	args := append([]string{confinedName, strconv.Itoa(len(hide))}, hide...)
	cmd.Args = append(append(args, cmd.Path), cmd.Args...)
	cmd.Path = "/proc/self/exe" // this program, though another may have taken its place on disk
}

// becomeConfined runs in the child: args are those that confine wrote. It returns only an error.
func becomeConfined(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var hide []string
	for _, path := range args[1 : 1+n] {
		hide = append(hide, resolved(path))
	}
	path, args := args[1+n], args[2+n:]
	if err := restrict(hide); err != nil {
		return fmt.Errorf("hiding the gateway's files: %w", err)
	}
	return fmt.Errorf("%s: %w", path, syscall.Exec(path, args, os.Environ()))
}

// restrict takes away every right below the hidden paths, for good, for this thread and what it executes.
func restrict(hide []string) error {
	packageDirectories(hide)
	abi, err := landlockABI()
	if err != nil {
		return err
	}
	attr := unix.LandlockRulesetAttr{}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL // it cannot stop the gateway
	}
	// All rights that this kernel knows: 13 at first, later ones each with a bit of its own.
	ruleset := -1
	for bits := 17; ruleset < 0 && bits >= 13; bits-- {
		attr.Handled_access_fs = 1<<bits - 1
		fd, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
		switch e {
		case 0:
			ruleset = int(fd)
		case unix.EINVAL:
			err = e
		default:
			return e
		}
	}
	if ruleset < 0 {
		return err
	}
	g := grants{ruleset: ruleset, rights: attr.Handled_access_fs, hide: hide}
	if err := g.walk("/"); err != nil {
		return err
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, e := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); e != 0 {
		return e
	}
	return nil
}

type grants struct {
	ruleset int
	rights  uint64
	hide    []string
}

// walk grants all rights on everything below dir but what is hidden. Landlock only adds rights, and those of a directory
// are those of all below it, so a directory above a hidden path gets none: it can be passed through, not listed, and
// nothing can be made in it.
func (g *grants) walk(dir string) error {
	if slices.Contains(g.hide, dir) {
		return nil
	}
	if !above(dir, g.hide) {
		return g.grant(dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil { // somebody else's: only the way through is known
		for _, h := range g.hide {
			if below := strings.TrimPrefix(h, dir); below != h {
				next, _, _ := strings.Cut(strings.TrimPrefix(below, "/"), "/")
				if err := g.walk(filepath.Join(dir, next)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for _, e := range entries {
		if e.Type() == fs.ModeSymlink { // where it leads has rights of its own, or not
			continue
		}
		if err := g.walk(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// onFiles are the rights that a path other than a directory can have.
const onFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
	unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV | unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX

func (g *grants) grant(path string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) { // just gone, or nothing that could be used anyway
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: g.rights, Parent_fd: int32(fd)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return nil
	case unix.S_IFDIR:
	default:
		rule.Allowed_access &= onFiles
	}
	_, _, e := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(g.ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if e != 0 {
		return fmt.Errorf("%s: %w", path, e)
	}
	return nil
}

// packageDirectories makes what npx, uvx and their like make below HOME at first use, where a child could not.
func packageDirectories(hide []string) {
	home := resolved(os.Getenv("HOME"))
	if !above(home, hide) {
		return
	}
	for _, dir := range []string{".npm", ".cache", ".config", ".local/share"} {
		os.MkdirAll(filepath.Join(home, dir), 0o700) // a home that cannot be written to was none before
	}
}

// dropCapabilities takes from a child of root the two that read the memory maps and environment of any process past
// Landlock. Others have neither.
func dropCapabilities() error {
	drop := []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_PERFMON}
	for _, c := range drop {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) { // not root, or an older kernel
			return err
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	for _, c := range drop {
		s := &sets[c/32]
		bit := uint32(1) << (c % 32)
		s.Effective, s.Permitted, s.Inheritable = s.Effective&^bit, s.Permitted&^bit, s.Inheritable&^bit
	}
	return unix.Capset(&header, &sets[0])
}
