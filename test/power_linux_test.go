package test

import (
	"bufio"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"authnzerver/api"
	"authnzerver/test/databases"
	"authnzerver/test/figures"
)

var (
	images     = flag.Int("images", 60, "how many disk images TestPowerLoss looks at")
	imagesSeed = flag.Uint64("imagesseed", 0, "the seed of TestPowerLoss; 0 for another one each time")
)

// sectorSize is what a disk writes whole or not at all, in bytes.
const sectorSize = 512

// A diskCall is a system call that changed a file, or made its changes durable.
type diskCall struct {
	at   float64 // Unix seconds
	file string  // its base name
	// write puts data at offset, truncate makes the file offset bytes long, and sync is the
	// end of one.
	kind   string
	data   []byte
	offset int64
}

// A disk is the files of a database as they are after a loss of power: what was synced is
// there, of what came later any part may be.
type disk map[string]*diskFile

type diskFile struct {
	synced []byte
	later  []diskCall
}

func (d disk) file(name string) *diskFile {
	if d[name] == nil {
		d[name] = &diskFile{}
	}
	return d[name]
}

// do does what a call did.
func (d disk) do(c diskCall) {
	f := d.file(c.file)
	if c.kind != "sync" {
		f.later = append(f.later, c)
		return
	}
	for _, c := range f.later {
		f.synced = c.apply(f.synced, nil)
	}
	f.later = nil
}

// apply changes content as a call did, or only those sectors that keep returns true for.
func (c diskCall) apply(content []byte, keep func() bool) []byte {
	if c.kind == "truncate" && keep != nil && !keep() {
		return content
	}
	size := c.offset + int64(len(c.data))
	switch {
	case int64(len(content)) < size:
		content = append(content, make([]byte, size-int64(len(content)))...)
	case c.kind == "truncate":
		content = content[:size]
	}
	for n := int64(0); n < int64(len(c.data)); {
		// The next border between sectors of the file.
		end := min((c.offset+n)/sectorSize*sectorSize+sectorSize-c.offset, int64(len(c.data)))
		if keep == nil || keep() {
			copy(content[c.offset+n:], c.data[n:end])
		}
		n = end
	}
	return content
}

// image writes the files into dir. Of what was not synced there are all sectors that keep
// returns true for.
func (d disk) image(dir string, keep func() bool) error {
	for name, f := range d {
		content := slices.Clone(f.synced)
		for _, c := range f.later {
			content = c.apply(content, keep)
		}
		err := os.WriteFile(filepath.Join(dir, name), content, 0o600)
		if err != nil {
			return err
		}
	}
	return nil
}

// diskCallLine is a call of strace without the data, which are cut out for speed.
var diskCallLine = regexp.MustCompile(`^(\d+) +([\d.]+) (\w+)\(\d+<([^>]*)>(?:, "")?(?:, (\d+))?(?:, (\d+))?\) += (-?\d+)`)

// readTrace reads what strace has written about the files of a database.
func readTrace(t *testing.T, path, database string) (calls []diskCall) {
	t.Helper()
	file, err := os.Open(path)
	try(t, "open the trace", err)
	defer file.Close()
	begun := map[string]string{} // by thread
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		line := lines.Text()
		thread, _, _ := strings.Cut(line, " ")
		if text, ok := strings.CutSuffix(line, " <unfinished ...>"); ok {
			begun[thread] = text
			continue
		}
		if _, rest, ok := strings.Cut(line, " resumed>"); ok {
			line = begun[thread] + rest
		}
		before, rest, _ := strings.Cut(line, `"`)
		hex, after, quoted := strings.Cut(rest, `"`)
		if quoted {
			line = before + `""` + after
		}
		m := diskCallLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		path, err := strconv.Unquote(`"` + m[4] + `"`)
		try(t, "read a path of the trace", err)
		name := filepath.Base(path)
		if name != database && name != database+"-wal" && name != database+"-journal" {
			continue
		}
		c := diskCall{file: name}
		c.at, err = strconv.ParseFloat(m[2], 64)
		try(t, "read a time of the trace", err)
		switch m[3] {
		case "fsync", "fdatasync":
			c.kind = "sync"
		case "ftruncate":
			c.kind = "truncate"
			c.offset, err = strconv.ParseInt(m[5], 10, 64)
		case "pwrite64":
			c.kind = "write"
			var data string
			data, err = strconv.Unquote(`"` + hex + `"`)
			c.data = []byte(data)
			if err == nil && strconv.Itoa(len(data)) != m[7] {
				err = fmt.Errorf("%s bytes were written of %d", m[7], len(data))
			}
			if err == nil {
				c.offset, err = strconv.ParseInt(m[6], 10, 64)
			}
		default:
			err = errors.New("it is of a kind that images are not made of")
		}
		try(t, "read a call of the trace", err)
		if strings.HasPrefix(m[7], "-") {
			t.Fatalf("a call failed: %.200s", line)
		}
		calls = append(calls, c)
	}
	try(t, "read the trace", lines.Err())
	return calls
}

// An acknowledgement is of a change of a user's name, the number-th one.
type acknowledgement struct {
	at     float64 // Unix seconds
	user   int
	number int
}

// lost returns what is wrong with a database, "" for nothing: names that were acknowledged
// before the power was lost must be there, and each change's entry of the event log with
// it.
func lost(t *testing.T, path string, acked []acknowledgement, at float64) string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	try(t, "open an image", err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	var sound string
	err = db.QueryRow("PRAGMA integrity_check").Scan(&sound)
	if err != nil || sound != "ok" {
		return fmt.Sprintf("the integrity check says %q, %v", sound, err)
	}
	least := map[int]int{}
	for _, a := range acked {
		least[a.user] = max(least[a.user], 0)
		if a.at < at {
			least[a.user] = max(least[a.user], a.number)
		}
	}
	for user, number := range least {
		var name string
		var entries int
		err := db.QueryRow("SELECT full_name, (SELECT count(*) FROM events WHERE events.user_id = users.user_id AND kind = ?) FROM users WHERE user_id = ?",
			string(api.EventEdited), user).Scan(&name, &entries)
		if err != nil {
			return err.Error()
		}
		last, err := strconv.Atoi(strings.TrimPrefix(name, "Name "))
		switch {
		case err != nil:
			return err.Error()
		case last < number:
			return fmt.Sprintf("change %d of user %d was acknowledged, and %d is the last", number, user, last)
		case last != entries:
			return fmt.Sprintf("user %d has had %d changes and %d entries in the event log", user, last, entries)
		}
	}
	return ""
}

// TestPowerLoss records what the server writes to its database and when that is synced, and
// makes images of the disk as it might be had the power been lost at any of these moments:
// of what was not synced some sectors are there and others are not. In each, the database
// is sound and has what was acknowledged before. A disk that does not sync is the control.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	if kind != databases.SQLite {
		return // the others' files are their own
	}
	seed := *imagesSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("the seed is %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir, key := t.TempDir(), newKey()
	const writers, each = 6, 60
	first := startIn(t, dir, "secret="+key)
	var users []int
	for range writers {
		u := first.newUser()
		first.call("internal-user-edit", params{"target_userid": u.id, "update_dict": params{"full_name": "Name 1"}}).ok()
		users = append(users, u.id)
	}
	first.stop()
	path := strings.TrimPrefix(databaseOf(t, dir), "sqlite://")
	database := filepath.Base(path)
	base, err := os.ReadFile(path)
	try(t, "read the database", err)
	_, err = os.Stat(path + "-wal")
	if err == nil {
		t.Fatal("a server that was stopped has left a log")
	}

	trace := filepath.Join(t.TempDir(), "trace")
	s := startTraced(t, dir, key, "-ttt", "-xx", "-y", "-s", "1000000", "-o", trace, "-e", "trace=pwrite64,ftruncate,fsync,fdatasync,pwritev,pwritev2,sync_file_range,msync")
	if s == nil {
		t.Fatal("the server did not start under strace")
	}
	var mu sync.Mutex
	var acked []acknowledgement
	var writing sync.WaitGroup
	for _, user := range users {
		writing.Go(func() {
			for number := 2; number <= each; number++ {
				s.call("internal-user-edit", params{"target_userid": user, "update_dict": params{"full_name": fmt.Sprint("Name ", number)}}).ok()
				now := float64(time.Now().UnixNano()) / 1e9
				mu.Lock()
				acked = append(acked, acknowledgement{now, user, number})
				mu.Unlock()
			}
		})
	}
	writing.Wait()
	s.killTraced()
	calls := readTrace(t, trace, database)
	syncs := len(slices.DeleteFunc(slices.Clone(calls), func(c diskCall) bool { return c.kind != "sync" }))
	if syncs < each {
		t.Fatalf("%d syncs for %d changes one after the other", syncs, each)
	}

	// look makes images at moments spread over all, and returns in how many something is
	// wrong, and what was in the first.
	look := func(n int, calls []diskCall, keep func() func() bool) (wrong int, what string) {
		moments := make([]int, n)
		for i := range moments {
			moments[i] = 1 + random.IntN(len(calls)-1)
		}
		slices.Sort(moments)
		d, done, at := disk{}, 0, filepath.Join(t.TempDir(), "image")
		d.file(database).synced = slices.Clone(base)
		for _, moment := range moments {
			for ; done < moment; done++ {
				d.do(calls[done])
			}
			try(t, "make room for an image", errors.Join(os.RemoveAll(at), os.Mkdir(at, 0o700)))
			try(t, "write an image", d.image(at, keep()))
			problem := lost(t, filepath.Join(at, database), acked, calls[moment].at)
			if problem != "" {
				wrong++
				what = fmt.Sprintf("before call %d, at %f: %s", moment, calls[moment].at, problem)
			}
		}
		return wrong, what
	}
	// Nothing, all, each sector or not, and each call with a chance of its own.
	chances := func() func() bool {
		switch chance := []float64{0, 1, 0.5, random.Float64()}[random.IntN(4)]; chance {
		case 0:
			return func() bool { return false }
		case 1:
			return func() bool { return true }
		default:
			return func() bool { return random.Float64() < chance }
		}
	}
	wrong, what := look(*images, calls, chances)
	if wrong > 0 {
		t.Errorf("%d of %d images lack something. The last one, %s", wrong, *images, what)
	}
	// The controls: a disk that syncs nothing, and one that does not sync the log.
	missed := 0
	for name, ignored := range map[string]string{"nothing is synced": "", "the log is not synced": "-wal"} {
		without := slices.DeleteFunc(slices.Clone(calls), func(c diskCall) bool { return c.kind == "sync" && strings.HasSuffix(c.file, ignored) })
		wrong, what := look(max(20, *images/20), without, chances)
		t.Logf("when %s: %d images lack something; %s", name, wrong, what)
		missed = max(missed, wrong)
		if wrong == 0 {
			t.Errorf("when %s, no image lacks anything", name)
		}
	}
	found(t, figures.Figure{
		Name: "power loss", Value: float64(wrong), Unit: "images of the disk that are unsound or lack something", Target: "0", Control: float64(missed), Seed: seed,
		Note: fmt.Sprintf("%d images, %d acknowledged changes, %d calls, %d syncs; the control is a disk that does not sync", *images, len(acked), len(calls), syncs),
	})
}
