package bench

import (
	"time"

	"authnzerver/internal/passwd"
)

// leastParams are the smallest that are recommended, however short the time: 19 MiB and
// two passes, a minimum of the OWASP password storage cheat sheet.
var leastParams = passwd.Params{MemoryKiB: 19 << 10, Passes: 2, Lanes: 1}

// mostPasses is how many passes are recommended at most; whoever has more time for a hash
// takes more memory instead, which costs those who guess more.
const mostPasses = 4

// mostMemory is the most memory that is recommended for one hash, in KiB. As many hashes
// at once as the server has workers take a multiple of it.
const mostMemory = 1 << 20

// recommend returns the costliest parameters whose hash takes no longer than the time
// given, and how long it takes. First as much memory as there is time for at three passes
// is taken, from 64 MiB, which RFC 9106 §4 recommends; what is left of the time goes into
// further passes. With little time, the memory shrinks down to leastParams, which may take
// longer than that.
func recommend(within time.Duration, took func(passwd.Params) time.Duration) (passwd.Params, time.Duration) {
	least := took(leastParams)
	if least > within {
		return leastParams, least
	}
	p := passwd.DefaultParams
	best := took(p)
	for best <= within && p.MemoryKiB < mostMemory {
		more := p
		more.MemoryKiB *= 2
		time := took(more)
		if time > within {
			break
		}
		p, best = more, time
	}
	for best <= within && p.Passes < mostPasses {
		more := p
		more.Passes++
		time := took(more)
		if time > within {
			break
		}
		p, best = more, time
	}
	for best > within {
		less := p
		switch {
		case p.Passes > leastParams.Passes:
			less.Passes--
		case p.MemoryKiB/2 >= leastParams.MemoryKiB:
			less.MemoryKiB /= 2
		default:
			return leastParams, least
		}
		p, best = less, took(less)
	}
	return p, best
}
