//go:build !linux

package hashproc

// LowerPriority does nothing here.
func LowerPriority() error { return nil }
