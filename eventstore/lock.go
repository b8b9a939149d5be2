package eventstore

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// LockDir takes a data directory for this process, or returns ErrLocked at once
// with who has it. The lock goes with the process, however it ends.
func LockDir(dir string) (*flock.Flock, error) {
	path := filepath.Join(dir, "lock")
	lock := flock.New(path)
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock of the data directory: %w", err)
	}
	if !ok {
		holder := "another process" // which has not said yet who it is
		if pid, _ := os.ReadFile(path); len(pid) > 0 {
			holder = "process " + strings.TrimSpace(string(pid))
		}
		return nil, fmt.Errorf("%w: %s has %s: stop it, or use another --data", ErrLocked, holder, dir)
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		_ = lock.Unlock()
		return nil, fmt.Errorf("lock of the data directory: %w", err)
	}
	return lock, nil
}
