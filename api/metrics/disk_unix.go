//go:build linux || darwin || freebsd

package metrics

import "syscall"

// disk is the room for who runs this, and all there is, in bytes.
func disk(dir string) (free, size uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	// The fields' types differ between systems; none is negative here.
	unit := uint64(s.Bsize)
	return uint64(s.Bavail) * unit, uint64(s.Blocks) * unit, nil
}
