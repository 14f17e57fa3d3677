package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"authnzerver/internal/dburl"
	"authnzerver/internal/token"
)

// Errors of moving.
var (
	// ErrSchema: a database does not have the tables of this version.
	ErrSchema = errors.New("another schema")
	// ErrNotEmpty: a database holds something already.
	ErrNotEmpty = errors.New("the database is not empty")
	// ErrUnfinished: a database holds a part of another one, from a move that was
	// interrupted.
	ErrUnfinished = errors.New("a move into this database was not finished")
	// ErrDiffers: what was copied is not what there is.
	ErrDiffers = errors.New("the copy differs")
)

// moveTable is where a database has how far a move into it has got. While it is there,
// no server opens the database.
const moveTable = "db_move"

const (
	// moveAtOnce is how many rows a transaction copies, insertAtOnce how many a
	// statement does.
	moveAtOnce   = 1000
	insertAtOnce = 50
	// reportEvery is how many rows are read between two reports.
	reportEvery = 1000
)

// isPassing reports whether a table is about the database itself, or is forgotten
// within a minute, and is not copied.
func isPassing(name string) bool {
	return name == versionTable || name == compatibilityTable || name == moveTable || name == "cache_changes"
}

// isSetting reports whether a table always has one row, which a copy replaces.
func isSetting(name string) bool { return name == "user_id_sequence" || name == "token_checksum_key" }

// A Phase is a part of a move or of a check.
type Phase string

// The phases.
const (
	PhaseCopy   Phase = "copy"
	PhaseReread Phase = "reread" // the source, after an interruption
	PhaseVerify Phase = "verify" // the copy, or the database that is checked
)

// Progress is how far a phase has got.
type Progress struct {
	Phase Phase
	Table string
	// Done of Total rows of the table are done, and AllDone of AllTotal rows of all
	// tables.
	Done, Total       int64
	AllDone, AllTotal int64
}

// A TableDigest is what a table holds.
type TableDigest struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
	// Digest is 64 hexadecimal digits, the same for the same rows on every kind of
	// database: the sum modulo 2^256 of the SHA-256 digests of the rows.
	Digest string `json:"digest"`
}

// MoveOptions say what to move. URLs are as those of [Options].
type MoveOptions struct {
	From, To string
	// Log takes notices; discarded when nil.
	Log *slog.Logger
	// Report is called now and then, from the goroutine that moves; it may be nil.
	Report func(Progress)
}

// A MoveResult is what was moved.
type MoveResult struct {
	Tables []TableDigest `json:"tables"`
	// Resumed is set when an earlier move was finished.
	Resumed bool `json:"resumed"`
	// Ignored are the tables of the source that are not authnzerver's.
	Ignored []string `json:"ignored"`
}

// A mover moves one database into another.
type mover struct {
	from, to *Store
	source   *sql.Tx
	report   func(Progress)
	progress Progress
	tables   []*moving
	result   MoveResult
}

// A moving is a table that is moved.
type moving struct {
	*table
	total int64
	// copied rows were copied, up to the key after where this process begins; finished
	// when all were.
	copied   int64
	after    []any
	finished bool
	// sum is that of all rows of the source.
	sum sum
}

// Move copies all of a database, as it is at one moment, into an empty one, and
// verifies the copy. Interrupted, it goes on where it was when it is called again;
// what the source has changed in between is then found, as ErrDiffers. It may take
// hours, in memory for some thousand rows.
func Move(ctx context.Context, o MoveOptions) (_ *MoveResult, err error) {
	from, err := openRaw(ctx, o.From, o.Log)
	if err != nil {
		return nil, fmt.Errorf("the source: %w", err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := parseRaw(o.To, o.Log)
	if err != nil {
		return nil, fmt.Errorf("the target: %w", err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	err = from.hasCurrentSchema(ctx)
	if err != nil {
		return nil, fmt.Errorf("the source %s: %w", from.url, err)
	}
	m := &mover{from: from, to: to, report: o.Report}
	if m.report == nil {
		m.report = func(Progress) {}
	}
	err = m.openTarget(ctx)
	if err != nil {
		return nil, fmt.Errorf("the target %s: %w", to.url, err)
	}
	err = m.move(ctx)
	if err != nil {
		return nil, err
	}
	return &m.result, nil
}

// parseRaw returns a store that is not connected.
func parseRaw(where string, log *slog.Logger) (*Store, error) {
	u, err := dburl.Parse(where)
	if err != nil {
		return nil, err
	}
	return newStore(u, Options{Log: log, NormalizeEmail: func(email string) string { return email }}), nil
}

// openRaw connects to a database that is there, without changing it.
func openRaw(ctx context.Context, where string, log *slog.Logger) (*Store, error) {
	s, err := parseRaw(where, log)
	if err != nil {
		return nil, err
	}
	if s.url.Dialect == dburl.SQLite {
		_, err = os.Stat(s.url.Path) // opening would make it
		if err == nil {
			s.reader, err = openPool(s.url.Path, false, 1)
		}
	} else {
		err = s.connect(ctx)
	}
	if err == nil {
		_, err = s.dialect.tableExists(ctx, s.reader, versionTable)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", s.url, err), s.Close())
	}
	return s, nil
}

// hasCurrentSchema fails unless the database has the tables of this version.
func (s *Store) hasCurrentSchema(ctx context.Context) error {
	pending, err := s.pending(ctx, s.reader)
	if err != nil {
		return err
	}
	switch {
	case len(pending) == 0:
		return s.isFinished(ctx, s.reader)
	case pending[0].Version > 1:
		return fmt.Errorf("%w: it was made by an earlier version; bring it up to date with authnzrv db migrate", ErrSchema)
	}
	python, err := s.dialect.tableExists(ctx, s.reader, "users")
	if err != nil {
		return err
	}
	if python {
		return fmt.Errorf("%w: it is one of the Python server; convert it with authnzrv db migrate", ErrSchema)
	}
	return fmt.Errorf("%w: there are no tables of authnzerver", ErrSchema)
}

// isFinished fails when a move into the database was interrupted.
func (s *Store) isFinished(ctx context.Context, q querier) error {
	unfinished, err := s.dialect.tableExists(ctx, q, moveTable)
	if err != nil {
		return err
	}
	if unfinished {
		return fmt.Errorf("%w: finish it with authnzrv db move, or empty the database", ErrUnfinished)
	}
	return nil
}

// openTarget makes the tables of the target, unless there are some already.
func (m *mover) openTarget(ctx context.Context) error {
	to := m.to
	err := to.connect(ctx)
	if err != nil {
		return err
	}
	to.reader = to.writer
	filled, err := to.dialect.tableExists(ctx, to.writer, "users")
	if err != nil {
		return err
	}
	if filled {
		err = to.hasCurrentSchema(ctx)
		if err != nil && !errors.Is(err, ErrUnfinished) {
			return fmt.Errorf("%w: %w", ErrNotEmpty, err)
		}
	}
	err = to.migrate(ctx)
	if err != nil {
		return err
	}
	return to.readTokenKey(ctx)
}

func (m *mover) move(ctx context.Context) error {
	source, err := m.from.reader.BeginTx(ctx, m.from.snapshot())
	if err != nil {
		return fmt.Errorf("read the source: %w", classify(err))
	}
	defer source.Rollback() // a transaction that reads has nothing to lose
	m.source = source
	for _, step := range []func(context.Context) error{m.match, m.resume, m.copy, m.reread} {
		err = step(ctx)
		if err != nil {
			return err
		}
	}
	// A source that many write to must keep all that they change for as long as it
	// is read.
	_ = source.Rollback()
	return m.finish(ctx)
}

// match finds the tables to copy, and sees to it that the target has their columns.
func (m *mover) match(ctx context.Context) error {
	ours, err := m.from.dialect.tables(ctx, m.source)
	if err != nil {
		return fmt.Errorf("the source: %w", err)
	}
	theirs, err := m.to.dialect.tables(ctx, m.to.writer)
	if err != nil {
		return fmt.Errorf("the target: %w", err)
	}
	for _, t := range ours {
		i := slices.IndexFunc(theirs, func(other *table) bool { return other.name == t.name })
		switch {
		case isPassing(t.name):
			continue
		case i < 0:
			m.result.Ignored = append(m.result.Ignored, t.name)
			continue
		}
		for _, name := range t.names() {
			ours, _ := t.field(name)
			other, found := theirs[i].field(name)
			if !found {
				return fmt.Errorf("%w: the column %s of %s in the source is not one of authnzerver's", ErrSchema, name, t.name)
			}
			if other.kind != ours.kind {
				return fmt.Errorf("%w: the column %s of %s has another type in the target", ErrSchema, name, t.name)
			}
		}
		if len(t.key()) == 0 && !isSetting(t.name) {
			return fmt.Errorf("%w: the table %s has no primary key in the source", ErrSchema, t.name)
		}
		moving := &moving{table: t}
		moving.total, err = t.count(ctx, m.source)
		if err != nil {
			return fmt.Errorf("the source: %w", err)
		}
		m.progress.AllTotal += moving.total
		m.tables = append(m.tables, moving)
	}
	return nil
}

// fingerprint tells databases apart.
func (m *mover) fingerprint(ctx context.Context) (string, error) {
	var key string
	err := classify(m.source.QueryRowContext(ctx, "SELECT key_hex FROM token_checksum_key").Scan(&key))
	if err != nil {
		return "", fmt.Errorf("the source: read the key of token checksums: %w", err)
	}
	return token.Sum("source of a move " + key).String(), nil
}

// resume finds how far an earlier move got, or begins a new one.
func (m *mover) resume(ctx context.Context) error {
	source, err := m.fingerprint(ctx)
	if err != nil {
		return err
	}
	began, err := m.to.dialect.tableExists(ctx, m.to.writer, moveTable)
	if err != nil {
		return fmt.Errorf("the target: %w", err)
	}
	var rows int
	if began {
		err = classify(m.to.writer.QueryRowContext(ctx, "SELECT count(*) FROM "+moveTable).Scan(&rows))
		if err != nil {
			return fmt.Errorf("the target: %w", err)
		}
	}
	if rows == 0 {
		return m.begin(ctx, source)
	}
	m.result.Resumed = true
	for _, t := range m.tables {
		query, args := m.to.dialect.translate("SELECT source, copied, last_key, finished FROM "+moveTable+" WHERE table_name = ?", []any{t.name})
		var from string
		var after sql.NullString
		err = classify(m.to.writer.QueryRowContext(ctx, query, args...).Scan(&from, &t.copied, &after, &t.finished))
		if err == nil && after.Valid {
			t.after, err = t.parseKey(after.String)
		}
		if err != nil {
			return fmt.Errorf("the target: read how far the move of %s has got: %w", t.name, err)
		}
		if from != source {
			return fmt.Errorf("the target: %w, and its source was another database; empty the target first", ErrUnfinished)
		}
	}
	return nil
}

// begin notes in an empty target that a move has begun.
func (m *mover) begin(ctx context.Context, source string) error {
	for _, t := range m.tables {
		if isSetting(t.name) {
			continue
		}
		n, err := t.count(ctx, m.to.writer)
		if err != nil {
			return fmt.Errorf("the target: %w", err)
		}
		if n > 0 {
			return fmt.Errorf("the target %s: %w: %s has rows, %d of them", m.to.url, ErrNotEmpty, t.name, n)
		}
	}
	_, err := m.to.writer.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS "+moveTable+` (
		table_name VARCHAR(100) NOT NULL, source VARCHAR(64) NOT NULL, copied BIGINT NOT NULL, last_key TEXT, finished INTEGER NOT NULL,
		PRIMARY KEY (table_name))`)
	if err != nil {
		return fmt.Errorf("the target: make %s: %w", moveTable, classify(err))
	}
	return m.change(ctx, func(tx *Tx) error {
		for _, t := range m.tables {
			_, err := tx.exec(ctx, "INSERT INTO "+moveTable+" (table_name, source, copied, last_key, finished) VALUES (?, ?, ?, ?, ?)",
				t.name, source, 0, nil, 0)
			if err != nil {
				return fmt.Errorf("the target: begin the move: %w", err)
			}
		}
		return nil
	})
}

// change runs fn in a transaction on the target.
func (m *mover) change(ctx context.Context, fn func(*Tx) error) error {
	tx, err := m.to.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("the target: begin: %w", classify(err))
	}
	err = fn(m.to.newTx(tx))
	if err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	err = classify(tx.Commit())
	if err != nil {
		return fmt.Errorf("the target: commit: %w", err)
	}
	return nil
}

// keyText is the form of a row's key in db_move.
func (t *moving) keyText(values []any) (string, error) {
	var texts []string
	names := t.names()
	for _, name := range t.key() {
		texts = append(texts, fmt.Sprint(values[slices.Index(names, name)]))
	}
	text, err := json.Marshal(texts)
	return string(text), err
}

// parseKey reads what keyText wrote.
func (t *moving) parseKey(text string) ([]any, error) {
	var texts []string
	err := json.Unmarshal([]byte(text), &texts)
	if err != nil {
		return nil, err
	}
	names := t.key()
	if len(texts) != len(names) {
		return nil, fmt.Errorf("a key of %d columns, not %d", len(texts), len(names))
	}
	key := make([]any, len(names))
	for i, name := range names {
		key[i] = texts[i]
		if f, _ := t.field(name); f.kind == intField {
			key[i], err = strconv.ParseInt(texts[i], 10, 64)
			if err != nil {
				return nil, err
			}
		}
	}
	return key, nil
}

// copy copies what was not copied yet.
func (m *mover) copy(ctx context.Context) error {
	for _, t := range m.tables {
		m.progress.Phase, m.progress.Table, m.progress.Done, m.progress.Total = PhaseCopy, t.name, t.copied, t.total
		m.progress.AllDone += t.copied
		if t.finished {
			continue
		}
		var batch [][]any
		collect := func(values []any) error {
			t.sum.add(values)
			batch = append(batch, values)
			if len(batch) < moveAtOnce {
				return nil
			}
			err := m.write(ctx, t, batch, false)
			batch = batch[:0]
			return err
		}
		var err error
		if isSetting(t.name) {
			err = t.each(ctx, m.from.dialect, m.source, t.names(), collect)
		} else {
			err = t.eachAfter(ctx, m.from.dialect, m.source, t.names(), t.after, collect)
		}
		if err == nil {
			err = m.write(ctx, t, batch, true)
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", t.name, err)
		}
	}
	return nil
}

// write writes rows, and how far the table has got, in a transaction.
func (m *mover) write(ctx context.Context, t *moving, batch [][]any, last bool) error {
	var after any
	if len(batch) > 0 && !isSetting(t.name) {
		text, err := t.keyText(batch[len(batch)-1])
		if err != nil {
			return err
		}
		after = text
	}
	finished := 0
	if last {
		finished = 1
	}
	err := m.change(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, "UPDATE "+moveTable+" SET copied = ?, last_key = coalesce(?, last_key), finished = ? WHERE table_name = ? AND copied = ? AND finished = 0",
			t.copied+int64(len(batch)), after, finished, t.name, t.copied)
		if err != nil {
			return fmt.Errorf("the target: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("the target: %w: another move writes into it", ErrConflict)
		}
		err = t.insert(ctx, tx, batch)
		if err != nil {
			return &rowsError{err}
		}
		return nil
	})
	var ofRows *rowsError
	if errors.As(err, &ofRows) && ctx.Err() == nil && !errors.Is(err, errLost) {
		return m.blame(ctx, t, batch, ofRows.cause)
	}
	if err != nil {
		return err
	}
	t.copied += int64(len(batch))
	m.progress.Done += int64(len(batch))
	m.progress.AllDone += int64(len(batch))
	m.report(m.progress)
	return nil
}

// A rowsError is why rows could not be inserted.
type rowsError struct{ cause error }

// Error implements error.
func (e *rowsError) Error() string { return "the target: insert rows: " + e.cause.Error() }

// Unwrap returns the cause.
func (e *rowsError) Unwrap() error { return e.cause }

// insert inserts rows, or replaces the only one.
func (t *moving) insert(ctx context.Context, tx *Tx, batch [][]any) error {
	names := t.names()
	if isSetting(t.name) {
		for _, values := range batch {
			var set row
			for i, name := range names {
				set = append(set, column{quoted(name), values[i]})
			}
			_, err := tx.exec(ctx, "UPDATE "+t.name+" SET "+set.list(", "), set.values()...)
			if err != nil {
				return err
			}
		}
		return nil
	}
	one := "(?" + strings.Repeat(", ?", len(names)-1) + ")"
	for len(batch) > 0 {
		n := insertAtOnce
		if len(batch) < n {
			n = 1 // so that there are two statements for a table and not many
		}
		_, err := tx.exec(ctx, "INSERT INTO "+quoted(t.name)+" ("+quoted(names...)+") VALUES "+one+strings.Repeat(", "+one, n-1),
			slices.Concat(batch[:n]...)...)
		if err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

// errUndo ends a transaction that was only tried.
var errUndo = errors.New("undo")

// blame finds the first row of a batch that the target does not take.
func (m *mover) blame(ctx context.Context, t *moving, batch [][]any, cause error) error {
	for _, values := range batch {
		err := m.change(ctx, func(tx *Tx) error {
			err := t.insert(ctx, tx, [][]any{values})
			if err != nil {
				return err
			}
			return errUndo
		})
		if errors.Is(err, errUndo) {
			continue
		}
		key, keyErr := t.keyText(values)
		return errors.Join(fmt.Errorf("the target does not take the row with the key %s: %w", key, err), keyErr)
	}
	return fmt.Errorf("the target: insert rows: %w", cause)
}

// reread reads the source once more when another process has read a part of it.
func (m *mover) reread(ctx context.Context) error {
	if !m.result.Resumed {
		return nil
	}
	m.begins(PhaseReread)
	for _, t := range m.tables {
		t.sum = sum{}
		err := m.add(ctx, t, m.from.dialect, m.source, &t.sum)
		if err != nil {
			return fmt.Errorf("the source: %w", err)
		}
	}
	return nil
}

// begins begins a phase.
func (m *mover) begins(phase Phase) { m.progress.Phase, m.progress.AllDone = phase, 0 }

// add adds up a table.
func (m *mover) add(ctx context.Context, t *moving, d *dialect, q queryer, to *sum) error {
	m.progress.Table, m.progress.Done, m.progress.Total = t.name, 0, t.total
	return t.each(ctx, d, q, t.names(), func(values []any) error {
		to.add(values)
		m.progress.Done++
		m.progress.AllDone++
		if m.progress.Done%reportEvery == 0 || m.progress.Done == t.total {
			m.report(m.progress)
		}
		return nil
	})
}

// finish compares the copy with the source and makes it usable.
func (m *mover) finish(ctx context.Context) error {
	m.begins(PhaseVerify)
	for _, t := range m.tables {
		var copied sum
		err := m.add(ctx, t, m.to.dialect, m.to.writer, &copied)
		if err != nil {
			return fmt.Errorf("the target: %w", err)
		}
		if copied != t.sum {
			return fmt.Errorf("%w: %s has %d rows in the source and %d in the target, or others; something has written meanwhile: stop all servers, empty the target and move again",
				ErrDiffers, t.name, t.sum.rows, copied.rows)
		}
		m.result.Tables = append(m.result.Tables, TableDigest{t.name, copied.rows, copied.String()})
		err = m.to.setSequence(ctx, t.table)
		if err != nil {
			return fmt.Errorf("the target: set the next number of %s: %w", t.name, err)
		}
	}
	_, err := m.to.writer.ExecContext(ctx, "DROP TABLE "+moveTable)
	if err != nil {
		return fmt.Errorf("the target: finish: %w", classify(err))
	}
	return nil
}

// setSequence has the numbers that the database gives go on after those that are
// taken. SQLite, MySQL and MariaDB do so themselves.
func (s *Store) setSequence(ctx context.Context, t *table) error {
	if s.url.Dialect != dburl.PostgreSQL {
		return nil
	}
	for _, name := range t.names() {
		if f, _ := t.field(name); f.kind != intField {
			continue
		}
		query, args := s.dialect.translate(`SELECT setval(sequence, max(`+quoted(name)+`)) FROM `+quoted(t.name)+
			`, pg_get_serial_sequence(quote_ident(?), ?) AS sequence WHERE sequence IS NOT NULL GROUP BY sequence`, []any{t.name, name})
		_, err := s.writer.ExecContext(ctx, query, args...)
		if err != nil {
			return classify(err)
		}
	}
	return nil
}
