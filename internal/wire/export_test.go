package wire

import "time"

// SealWithIV is AppendSeal with an IV that the test chooses.
var SealWithIV = (*KeyRing).appendSeal

// NewSealerWithIV is NewSealer with an IV that the test chooses.
var NewSealerWithIV = (*KeyRing).newSealer

// SetElapsed sets what tells how long the window has been there.
func (w *Replay) SetElapsed(elapsed func() time.Duration) { w.elapsed = elapsed }
