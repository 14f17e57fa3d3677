//go:build !linux

package load

import "time"

// CPUTime returns 0: only Linux tells it while the process runs.
func (p *Process) CPUTime() (time.Duration, error) { return 0, nil }

// Memory returns 0: only Linux tells it.
func (p *Process) Memory() (float64, error) { return 0, nil }

// PeakMemory returns 0: only Linux tells it.
func (p *Process) PeakMemory() (float64, error) { return 0, nil }
