package wire

// SealWithIV is AppendSeal with an IV that the test chooses.
var SealWithIV = (*KeyRing).appendSeal

// NewSealerWithIV is NewSealer with an IV that the test chooses.
var NewSealerWithIV = (*KeyRing).newSealer
