// Package stdio runs an MCP server as a child process and carries messages to and from it, one JSON text a line.
//
// It owns the process: its environment, what it cannot reach, its group, its end, and what it last said on stderr. It
// knows nothing of MCP but the framing; a message is a line.
package stdio

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	defaultMaxLine = 16 << 20
	stopPatience   = 2 * time.Second        // after closing stdin, and again after SIGTERM
	drainPatience  = 200 * time.Millisecond // for what is left in the pipe when the child has exited
	finishPatience = 5 * time.Second        // for the rest of a line that was begun
	stderrLines    = 20
	stderrBytes    = 4 << 10
)

// inherited is all that a child gets of our environment: a server needs no secret of the gateway.
var inherited = []string{"PATH", "HOME", "LANG", "TMPDIR", "USER"}

// Config says what to run.
type Config struct {
	Command []string          // program and arguments
	Env     map[string]string // besides PATH, HOME, LANG, TMPDIR and USER of this process
	// Hide are absolute paths of files and directories that the child can neither read, list nor change, whatever its
	// arguments, where CanHide says that this can be had. Directories above them it cannot list, and make nothing there;
	// what is beside them stays as it is. Nor can it signal, trace or read the memory of processes that are not its own.
	Hide    []string
	MaxLine int         // bytes of one line from the child; 0: 16 MiB
	Log     *zap.Logger // stderr of the child, at debug level; nil: none
	Loud    bool        // stderr at info level
}

// Process is a running child. Write, Stop, Done and Err are safe for concurrent use, Read is for one goroutine.
type Process struct {
	cmd      *exec.Cmd
	maxLine  int
	out      *bufio.Reader
	outFile  *os.File
	line     []byte
	skipping bool // the rest of a line that was too long comes

	writing chan struct{} // a lock that a context can give up waiting for
	in      *os.File
	tail    *tail
	temp    string // directory of its temporary files; empty: the usual one

	done     chan struct{} // closed when the child has exited and err is set
	err      error
	stopOnce sync.Once
}

// ErrLineTooLong is what Read returns for a line over the limit. The next Read goes on after that line.
var ErrLineTooLong = errors.New("the server wrote a line that is too long")

// Start runs the command in a process group of its own. On Linux the child is killed when this process dies.
func Start(cfg Config) (*Process, error) {
	if len(cfg.Command) == 0 {
		return nil, errors.New("starting an MCP server: no command given")
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.MaxLine == 0 {
		cfg.MaxLine = defaultMaxLine
	}
	path, err := exec.LookPath(cfg.Command[0])
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", cfg.Command[0], err)
	}
	p := &Process{
		cmd:     exec.Command(cfg.Command[0], cfg.Command[1:]...),
		maxLine: cfg.MaxLine,
		writing: make(chan struct{}, 1),
		tail:    &tail{log: cfg.Log, level: zap.DebugLevel},
		done:    make(chan struct{}),
	}
	if cfg.Loud {
		p.tail.level = zap.InfoLevel
	}
	p.cmd.Path, p.cmd.Env = path, environ(cfg.Env)
	if len(cfg.Hide) > 0 && CanHide() == nil {
		if p.temp, err = temporary(cfg.Hide); err != nil {
			return nil, fmt.Errorf("starting %s: %w", cfg.Command[0], err)
		}
		if _, given := cfg.Env["TMPDIR"]; p.temp != "" && !given {
			p.cmd.Env = append(p.cmd.Env, "TMPDIR="+p.temp) // of two values the last counts
		}
		confine(p.cmd, cfg.Hide)
	}
	p.cmd.SysProcAttr = processAttributes()

	var pipes [3][2]*os.File
	for i := range pipes {
		r, w, err := os.Pipe()
		if err != nil {
			p.discard(pipes)
			return nil, fmt.Errorf("starting %s: %w", cfg.Command[0], err)
		}
		pipes[i] = [2]*os.File{r, w}
	}
	p.cmd.Stdin, p.in = pipes[0][0], pipes[0][1]
	p.outFile, p.cmd.Stdout = pipes[1][0], pipes[1][1]
	stderr := pipes[2][0]
	p.cmd.Stderr = pipes[2][1]
	p.out = bufio.NewReaderSize(p.outFile, 32<<10)

	started := make(chan error)
	go p.live(started, stderr)
	if err := <-started; err != nil {
		p.discard(pipes)
		return nil, fmt.Errorf("starting %s: %w", cfg.Command[0], err)
	}
	for _, f := range []*os.File{pipes[0][0], pipes[1][1], pipes[2][1]} {
		f.Close()
	}
	return p, nil
}

// discard undoes a start that failed.
func (p *Process) discard(pipes [3][2]*os.File) {
	for _, pair := range pipes {
		pair[0].Close()
		pair[1].Close()
	}
	p.removeTemp()
}

func (p *Process) removeTemp() {
	if p.temp != "" {
		os.RemoveAll(p.temp) // what is left is in the way of nobody
	}
}

func environ(configured map[string]string) []string {
	var env []string
	for _, name := range inherited {
		if _, ok := configured[name]; ok {
			continue
		}
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	for name, value := range configured {
		env = append(env, name+"="+value)
	}
	return env
}

// live starts the child and waits for its end. The kernel's parent-death signal is about the thread that forked, so
// that thread is kept for as long; the wait would block one anyway.
func (p *Process) live(started chan<- error, stderr *os.File) {
	unlock := lockThread()
	defer unlock()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	var reading sync.WaitGroup
	reading.Go(func() { p.tail.read(stderr) })
	started <- nil

	err := p.cmd.Wait()
	killGroup(p.cmd.Process.Pid, syscall.SIGKILL) // what it left behind
	// Grandchildren may hold the pipes open: what the child itself wrote is in them already.
	p.outFile.SetReadDeadline(time.Now().Add(drainPatience))
	stderr.SetReadDeadline(time.Now().Add(drainPatience))
	reading.Wait()
	stderr.Close()
	p.removeTemp()
	if err == nil {
		err = errors.New("it exited with status 0")
	}
	if last := p.Said(); last != "" {
		err = fmt.Errorf("%w; it last wrote: %s", err, last)
	}
	p.err = err
	close(p.done)
	p.in.Close()
}

// Read returns the next line that is not blank, without its end, valid until the next Read. io.EOF: the child closed
// its output or exited.
func (p *Process) Read() ([]byte, error) {
	for {
		p.line = p.line[:0]
		for {
			part, err := p.out.ReadSlice('\n')
			if p.skipping {
				p.skipping = err == bufio.ErrBufferFull
				if err == nil || p.skipping {
					continue
				}
			}
			if len(p.line)+len(part) > p.maxLine {
				p.skipping, p.line = err == bufio.ErrBufferFull, nil
				return nil, ErrLineTooLong
			}
			if err == bufio.ErrBufferFull {
				p.line = append(p.line, part...)
				continue
			}
			if err != nil { // a line that its end did not complete is no line
				p.outFile.Close()
				return nil, io.EOF
			}
			if len(p.line) > 0 {
				p.line = append(p.line, part...)
				part = p.line
			}
			if part = bytes.TrimRight(part, "\r\n"); len(bytes.TrimSpace(part)) > 0 {
				return part, nil
			}
			break
		}
	}
}

// Write sends one JSON text as a line. It waits while the child does not read, until ctx ends. What was begun is
// written to its end even then, in the background: half a line would leave the child unusable. One that does not read
// the rest for finishPatience is killed.
func (p *Process) Write(ctx context.Context, msg []byte) error {
	line := make([]byte, len(msg)+1)
	for i, c := range msg {
		if c == '\n' || c == '\r' { // between tokens only: JSON strings hold none unescaped
			c = ' '
		}
		line[i] = c
	}
	line[len(msg)] = '\n'
	select {
	case p.writing <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.done:
		return p.Err()
	}
	p.in.SetWriteDeadline(time.Time{})
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		p.in.SetWriteDeadline(time.Now())
		close(expired)
	})
	n, err := p.in.Write(line)
	if !stop() {
		<-expired // else this message's end would be that of the next one's
	}
	if n > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		go p.finish(line[n:])
		return context.Cause(ctx)
	}
	<-p.writing
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-p.done:
		return p.Err()
	case <-time.After(drainPatience):
		return fmt.Errorf("writing to the server: %w", err)
	}
}

// finish writes the rest of a line whose writer is gone, and lets the next one write.
func (p *Process) finish(rest []byte) {
	p.in.SetWriteDeadline(time.Now().Add(finishPatience))
	if _, err := p.in.Write(rest); err != nil {
		killGroup(p.cmd.Process.Pid, syscall.SIGKILL)
	}
	<-p.writing
}

// Said are the child's last lines on stderr, in one.
func (p *Process) Said() string { return p.tail.String() }

// Done is closed when the child has exited.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the child ended, with its last lines on stderr; nil while it runs.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Stop ends the child and waits for it: by closing its stdin, after 2 s by SIGTERM, after 2 s more by killing its group.
func (p *Process) Stop() {
	p.stopOnce.Do(func() {
		p.in.Close()
		if p.exits(stopPatience) {
			return
		}
		killGroup(p.cmd.Process.Pid, syscall.SIGTERM)
		if p.exits(stopPatience) {
			return
		}
		killGroup(p.cmd.Process.Pid, syscall.SIGKILL)
	})
	<-p.done
}

func (p *Process) exits(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// tail keeps the last lines of stderr.
type tail struct {
	log   *zap.Logger
	level zapcore.Level

	mu    sync.Mutex
	lines []string
}

func (t *tail) read(f *os.File) {
	r := bufio.NewReaderSize(f, stderrBytes)
	for {
		part, err := r.ReadSlice('\n') // a longer line comes in parts
		if s := strings.TrimRight(string(part), "\r\n"); s != "" {
			t.log.Log(t.level, "stderr", zap.String("line", s))
			t.mu.Lock()
			t.lines = append(t.lines, s)
			if len(t.lines) > stderrLines {
				t.lines = t.lines[1:]
			}
			t.mu.Unlock()
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := strings.Join(t.lines, " | ")
	if len(s) > stderrBytes {
		s = strings.ToValidUTF8(s[len(s)-stderrBytes:], "")
	}
	return s
}
