package action

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"authnzerver/api"
	"authnzerver/internal/event"
	"authnzerver/internal/identity"
	"authnzerver/internal/limit"
	"authnzerver/internal/mail"
	"authnzerver/internal/passwd"
	"authnzerver/internal/store"
)

// A Lockout says how wrong passwords are answered. The zero Lockout neither
// locks nor waits.
//
// Failures are counted for an account and the network that they come from; for
// a network over all accounts; and for an account in total. Devices from which
// a user has logged in before, that is a network and a user agent, have a count
// of their own and are not concerned by the others: strangers cannot lock a
// user out.
type Lockout struct {
	// Tries is how many wrong passwords in a row are answered from one
	// network, or from one known device, before the account is locked there.
	// Strangers have 3 times as many for all accounts together from one
	// network, and 10 times as many for one account from all networks, within
	// Duration.
	Tries int
	// Duration is how long a lock lasts. Nothing but time lifts it.
	Duration time.Duration
	// MaxWait bounds the wait before the answer to a wrong password, which is
	// a second for the first one and half as long again for each further one.
	MaxWait time.Duration
}

const (
	// networkFactor and accountFactor are how many times as many failures as
	// of one account from one network are answered from the network, and for
	// the account. With the default of 10 tries strangers get 100 guesses an
	// account, which NIST SP 800-63B §5.2.2 has as the most.
	networkFactor = 3
	accountFactor = 10
	// forgetAfter is how long failures in a row are remembered at least.
	forgetAfter = 24 * time.Hour
)

// A guess is a password that somebody sent for an account, counted before it is
// compared. A nil guess counts nowhere.
type guess struct {
	user *store.User // nil when there is none
	// by is who made it, and proves to be the user when it is right.
	by actor
	// free is set when nothing is counted.
	free bool
	// account names the user, or the address when nobody has it, so that both
	// are treated alike.
	account string
	network string
	// device is the keyed hash of the network and the user agent.
	device string
	// address and agent are for messages.
	address, agent string

	// known, counted, failures and locked are set when the guess is counted:
	// whether the device is known, what it was counted for, how many guesses
	// in a row there were, this one included, and until when the account is
	// locked if this one is wrong.
	known    bool
	counted  []budget
	failures int
	locked   time.Time
	// alarm is set when strangers have used a budget up, and lockedOut is until when
	// none of the budgets that were used up lets a guess through.
	alarm     bool
	lockedOut time.Time
}

// guess returns the guess for a user, or for an address that nobody has, under a
// session if there is one.
func (s *Server) guess(ctx context.Context, user *store.User, email api.Email, session *store.Session) *guess {
	client := clientOf(ctx)
	g := &guess{user: user, by: actorOf(ctx, 0, session), free: s.Lockout.Tries == 0, network: client.Network, address: client.Network}
	if g.free {
		return g
	}
	if session != nil {
		g.agent, g.address = session.UserAgent, session.IPAddress
		if network := limit.Network(session.IPAddress); !client.Given && network != "" {
			g.network = network
		}
	}
	if user != nil {
		g.account = "user " + strconv.FormatInt(user.ID, 10)
	} else {
		g.account = "email " + identity.NormalizeEmail(string(email))
	}
	g.device = s.subject("device", g.network, withoutVersions(g.agent))
	return g
}

// place is from where a guess was made, for messages.
func (g *guess) place() actor { return actor{address: g.address, agent: g.agent} }

// proven returns who made a guess that was right.
func (g *guess) proven() actor {
	by := g.by
	by.id = g.user.ID
	return by
}

// subject is the keyed hash under which something is counted.
func (s *Server) subject(parts ...string) string {
	key := s.Keys.Key(parts...)
	return hex.EncodeToString(key[:])
}

// withoutVersions drops the digits of a user agent: an update makes no new
// device.
func withoutVersions(agent string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, agent)
}

// A budget is how many failures a subject has.
type budget struct {
	store.LoginFailures

	// most is how many guesses are answered; the last one locks.
	most int
	// row marks the failures in a row. Those of other budgets are counted over
	// the duration of a lock.
	row bool
}

// budgets returns what a guess is counted for, its row first, and notes whether
// its device is known.
func (s *Server) budgets(ctx context.Context, tx *store.Tx, g *guess) ([]budget, error) {
	var err error
	g.known = false
	if g.user != nil {
		g.known, err = tx.KnownDevice(ctx, g.user.ID, g.device)
		if err != nil {
			return nil, err
		}
	}
	tries := s.Lockout.Tries
	of := func(most int, row bool, parts ...string) budget {
		return budget{LoginFailures: store.LoginFailures{Subject: s.subject(parts...)}, most: most, row: row}
	}
	budgets := []budget{of(tries+1, true, "failures", g.account, "device", g.device)}
	if !g.known {
		budgets = []budget{
			of(tries+1, true, "failures", g.account, "network", g.network),
			of(networkFactor*tries, false, "failures", "network", g.network),
			of(accountFactor*tries, false, "failures", g.account),
		}
	}
	return budgets, s.read(ctx, tx, budgets)
}

// read reads the failures of budgets that still count.
func (s *Server) read(ctx context.Context, tx *store.Tx, budgets []budget) error {
	for i := range budgets {
		b := &budgets[i]
		var err error
		b.LoginFailures, err = tx.LoginFailures(ctx, b.Subject)
		if err != nil {
			return err
		}
		if s.over(b, tx.Now()) {
			b.LoginFailures = store.LoginFailures{Subject: b.Subject}
		}
	}
	return nil
}

// over reports whether what was counted no longer counts.
func (s *Server) over(b *budget, now time.Time) bool {
	switch {
	case b.Count == 0:
		return true
	case !b.LockedUntil.IsZero():
		return !b.LockedUntil.After(now)
	case b.row:
		return now.Sub(b.Last) >= max(forgetAfter, s.Lockout.Duration)
	default:
		return now.Sub(b.First) >= s.Lockout.Duration
	}
}

// lockedUntil returns until when none of the budgets lets a guess through, or
// the zero time.
func lockedUntil(budgets []budget) time.Time {
	var until time.Time
	for i := range budgets {
		if budgets[i].LockedUntil.After(until) {
			until = budgets[i].LockedUntil
		}
	}
	return until
}

// admit fails when a guess is locked out. It counts nothing, and so keeps
// guesses that would not be made from waiting for their turn.
func (s *Server) admit(ctx context.Context, g *guess) error {
	return s.Store.View(ctx, func(ctx context.Context, tx *store.Tx) error {
		budgets, err := s.budgets(ctx, tx, g)
		if err != nil {
			return err
		}
		return lockedFailure(lockedUntil(budgets), tx.Now())
	})
}

// count takes a guess from its budgets before it is made, so that any number of
// guesses at the same time get no more than there are.
func (s *Server) count(ctx context.Context, g *guess) error {
	return s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		budgets, err := s.budgets(ctx, tx, g)
		if err != nil {
			return err
		}
		err = lockedFailure(lockedUntil(budgets), tx.Now())
		if err != nil {
			return err
		}
		g.alarm, g.lockedOut = false, time.Time{}
		for i := range budgets {
			b := &budgets[i]
			if b.Count == 0 {
				b.First = tx.Now()
			}
			b.Count++
			b.Last = tx.Now()
			if b.Count >= b.most {
				b.LockedUntil = tx.Now().Add(s.Lockout.Duration)
				g.alarm, g.lockedOut = g.alarm || !g.known, b.LockedUntil
			}
			err := tx.PutLoginFailures(ctx, &b.LoginFailures)
			if err != nil {
				return err
			}
		}
		g.counted, g.failures, g.locked = budgets, budgets[0].Count, budgets[0].LockedUntil
		return nil
	})
}

// lockedFailure is the failure of a guess that is locked out until a moment, nil
// when that is over.
func lockedFailure(until, now time.Time) error {
	wait := until.Sub(now)
	if wait <= 0 {
		return nil
	}
	minutes := int(math.Ceil(wait.Minutes()))
	unit := "minutes"
	if minutes == 1 {
		unit = "minute"
	}
	f := api.Fail(api.CodeTooManyFailures, fmt.Sprintf("There were too many wrong passwords. Please try again in %d %s.", minutes, unit))
	f.RetryAfter = wait
	return f
}

// verify compares a password with a user's. A nil user costs the same and never
// matches.
func (s *Server) verify(ctx context.Context, user *store.User, password api.Password, g *guess) (passwd.Result, error) {
	hash := s.Passwords.Dummy()
	if user != nil {
		hash = user.PasswordHash
	}
	var admit func(context.Context) error
	if g != nil && !g.free {
		err := s.admit(ctx, g)
		if err != nil {
			return passwd.Result{}, err
		}
		admit = func(ctx context.Context) error { return s.count(ctx, g) }
	}
	result, err := s.Passwords.Verify(ctx, hash, string(password), admit)
	if errors.Is(err, passwd.ErrMalformed) {
		event.From(ctx).Fault(err)
		return passwd.Result{}, nil
	}
	if user == nil {
		result = passwd.Result{}
	}
	return result, err
}

// right gives back what a guess that was right had been counted as, and notes
// the device, and with an event of the kind given, unless it is empty, that the user has
// proved to be one.
func (s *Server) right(ctx context.Context, g *guess, kind api.EventKind) error {
	if g == nil {
		return nil
	}
	// Who hangs up now was right all the same.
	return s.Store.Update(context.WithoutCancel(ctx), func(ctx context.Context, tx *store.Tx) error { return s.settle(ctx, tx, g, kind) })
}

func (s *Server) settle(ctx context.Context, tx *store.Tx, g *guess, kind api.EventKind) error {
	if g == nil {
		return nil
	}
	if kind != "" {
		err := s.logRight(ctx, tx, g, kind)
		if err != nil {
			return err
		}
	}
	if g.free {
		return nil
	}
	err := s.read(ctx, tx, g.counted)
	if err != nil {
		return err
	}
	for i := range g.counted {
		b := &g.counted[i]
		if b.Count == 0 {
			continue
		}
		b.Count--
		if b.row {
			b.Count = 0
		}
		if b.Count < b.most {
			b.LockedUntil = time.Time{}
		}
		err = tx.PutLoginFailures(ctx, &b.LoginFailures)
		if err != nil {
			return err
		}
	}
	if !g.known {
		hasOthers, err := tx.HasDevices(ctx, g.user.ID)
		if err != nil {
			return err
		}
		if hasOthers {
			err = s.notify(ctx, tx, g.user, mail.NewDevice, g.place(), noticePause)
			if err != nil {
				return err
			}
		}
	}
	return tx.PutDevice(ctx, g.user.ID, g.device)
}

// A backoff is a failure whose answer has to wait.
type backoff struct {
	error

	wait time.Duration
}

func (b *backoff) Unwrap() error { return b.error }

// Delay returns how long to wait before the answer to a request that ended in an
// error.
func Delay(err error) time.Duration {
	var b *backoff
	if errors.As(err, &b) {
		return b.wait
	}
	return 0
}

// wrong returns what a wrong guess ends in: the failure after a wait, or that
// the account is locked there.
func (s *Server) wrong(ctx context.Context, g *guess, failure *api.Failure) error {
	if g == nil {
		return failure
	}
	err := s.Store.Update(context.WithoutCancel(ctx), func(ctx context.Context, tx *store.Tx) error {
		return s.logWrong(ctx, tx, g, failure.Code)
	})
	if err != nil {
		return err
	}
	return s.penalty(g, failure)
}

// logRight writes the event of a guess that was right, which is a failure of a user who
// may not log in.
func (s *Server) logRight(ctx context.Context, tx *store.Tx, g *guess, kind api.EventKind) error {
	if !g.user.IsActive || g.user.Role == roleLocked {
		return s.log(ctx, tx, g.by, api.EventLoginFailed, g.user.ID, details{"code": api.CodeUserLocked})
	}
	return s.log(ctx, tx, g.proven(), kind, g.user.ID, nil)
}

// logWrong writes the events of a guess that was wrong, and has the user told when
// strangers have made too many.
func (s *Server) logWrong(ctx context.Context, tx *store.Tx, g *guess, code api.Code) error {
	if g == nil {
		return nil
	}
	userID := int64(0)
	if g.user != nil {
		userID = g.user.ID
	}
	err := s.log(ctx, tx, g.by, api.EventLoginFailed, userID, details{"code": code})
	if err == nil && !g.lockedOut.IsZero() {
		err = s.log(ctx, tx, g.by, api.EventLockedOut, userID, details{"until": api.Time(g.lockedOut)})
	}
	if err == nil && g.alarm && g.user != nil {
		err = s.notify(ctx, tx, g.user, mail.ManyFailures, g.place(), noticePause)
	}
	return err
}

// penalty returns what a wrong guess ends in after it was noted.
func (s *Server) penalty(g *guess, failure *api.Failure) error {
	if g == nil || g.free {
		return failure
	}
	if err := lockedFailure(g.locked, s.Now()); err != nil {
		return err
	}
	seconds := math.Pow(1.5, float64(g.failures-1))
	return &backoff{failure, time.Duration(min(seconds, s.Lockout.MaxWait.Seconds()) * float64(time.Second))}
}

// purgeOld deletes up to n counts that no longer count, up to n messages that were sent
// long ago, and up to n events that are older than they are kept. It returns the largest
// of these numbers.
func (s *Server) purgeOld(ctx context.Context, tx *store.Tx, n int) (int64, error) {
	failures, err := tx.DeleteOldFailures(ctx, tx.Now().Add(-max(forgetAfter, s.Lockout.Duration)), n)
	if err != nil {
		return 0, err
	}
	notices, err := tx.DeleteOldNotices(ctx, tx.Now().Add(-noticeKept), n)
	if err != nil || s.EventRetention == 0 {
		return max(failures, notices), err
	}
	events, err := tx.DeleteOldEvents(ctx, tx.Now().Add(-s.EventRetention), n)
	return max(failures, notices, events), err
}
