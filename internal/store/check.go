package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"authnzerver/internal/dburl"
	"authnzerver/internal/token"
)

// A CheckResult is what a database holds, and what is wrong with it.
type CheckResult struct {
	Tables []TableDigest `json:"tables"`
	// Findings are sentences, which name no values of rows; none when all is well.
	Findings []string `json:"findings"`
}

// maxFindings is how many findings a file's own check reports, more than anybody needs.
const maxFindings = 100

// A checker checks one database.
type checker struct {
	*Store
	tx     *sql.Tx
	report func(Progress)
	result CheckResult
}

// Check reads all of a database, as it is at one moment, and changes nothing. report is
// called now and then when it is not nil. The error is for a database that could not be
// read at all; ErrSchema and ErrUnfinished when it is none of this version's.
func Check(ctx context.Context, url string, report func(Progress)) (_ *CheckResult, err error) {
	s, err := openRaw(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	err = s.hasCurrentSchema(ctx)
	if err != nil {
		return nil, fmt.Errorf("the database %s: %w", s.url, err)
	}
	tx, err := s.reader.BeginTx(ctx, s.snapshot())
	if err != nil {
		return nil, fmt.Errorf("begin: %w", classify(err))
	}
	defer tx.Rollback() // a transaction that reads has nothing to lose
	if report == nil {
		report = func(Progress) {}
	}
	c := &checker{Store: s, tx: tx, report: report, result: CheckResult{Findings: []string{}}}
	for _, step := range []func(context.Context) error{c.file, c.allRows} {
		err = step(ctx)
		if err != nil {
			return nil, err
		}
	}
	return &c.result, nil
}

func (c *checker) found(format string, args ...any) {
	c.result.Findings = append(c.result.Findings, fmt.Sprintf(format, args...))
}

// file checks the pages and indexes of a file. Servers look after theirs themselves.
func (c *checker) file(ctx context.Context) error {
	if c.url.Dialect != dburl.SQLite {
		return nil
	}
	results, err := rowsOfQuery(ctx, c.dialect, c.tx, func(rows *sql.Rows) (result string, err error) {
		err = rows.Scan(&result)
		return result, err
	}, fmt.Sprintf("PRAGMA integrity_check(%d)", maxFindings))
	if err != nil {
		return fmt.Errorf("check the file: %w", err)
	}
	for _, result := range results {
		if result != "ok" {
			c.found("the file: %s", result)
		}
	}
	return nil
}

func (c *checker) allRows(ctx context.Context) error {
	tables, err := c.dialect.tables(ctx, c.tx)
	if err != nil {
		return err
	}
	tables = slices.DeleteFunc(tables, func(t *table) bool { return isPassing(t.name) })
	progress := Progress{Phase: PhaseVerify}
	totals := make([]int64, len(tables))
	for i, t := range tables {
		totals[i], err = t.count(ctx, c.tx)
		if err != nil {
			return err
		}
		progress.AllTotal += totals[i]
	}
	for i, t := range tables {
		progress.Table, progress.Done, progress.Total = t.name, 0, totals[i]
		err := c.rows(ctx, t, &progress)
		if err != nil {
			return err
		}
		err = c.references(ctx, t)
		if err != nil {
			return err
		}
	}
	return nil
}

// rows reads the rows of a table. One that cannot be read is a finding.
func (c *checker) rows(ctx context.Context, t *table, progress *Progress) error {
	var all sum
	wrong := map[string]int{}
	names := t.names()
	err := t.each(ctx, c.dialect, c.tx, names, func(values []any) error {
		all.add(values)
		for i, name := range names {
			text, ok := values[i].(string)
			if ok && !isWellFormed(name, text) {
				wrong[name]++
			}
		}
		progress.Done++
		progress.AllDone++
		if progress.Done%reportEvery == 0 || progress.Done == progress.Total {
			c.report(*progress)
		}
		return nil
	})
	if ctx.Err() != nil || errors.Is(err, errLost) {
		return err
	}
	if err != nil {
		c.found("%v", err)
		return nil
	}
	for _, name := range names {
		if wrong[name] > 0 {
			c.found("%s has rows whose %s is not well-formed, %d of them%s", t.name, name, wrong[name], formHints[formOf(name)])
		}
	}
	if isSetting(t.name) && all.rows != 1 {
		c.found("%s must have one row, and has %d", t.name, all.rows)
	}
	c.result.Tables = append(c.result.Tables, TableDigest{t.name, all.rows, all.String()})
	return nil
}

// A form is what the text of a column must look like.
type form string

const (
	anyForm    form = ""
	digestForm form = "digest"
	jsonForm   form = "json"
)

// formHints say what to think of a text of another form.
var formHints = map[form]string{
	digestForm: ": they are no digests, and may be tokens in the clear, as another server writes them",
	jsonForm:   ": it is no JSON",
}

func formOf(column string) form {
	switch column {
	case "session_token", "apikey", "token_digest":
		return digestForm
	case "extra_info", "extra_info_json", "scopes":
		return jsonForm
	}
	return anyForm
}

func isWellFormed(column, text string) bool {
	switch formOf(column) {
	case digestForm:
		_, err := token.ParseDigest(text)
		return err == nil
	case jsonForm:
		return jsontext.Value(text).IsValid()
	}
	return true
}

// references looks for rows that refer to none.
func (c *checker) references(ctx context.Context, t *table) error {
	for _, r := range t.references {
		var n int64
		err := classify(c.tx.QueryRowContext(ctx, "SELECT count(*) FROM "+quoted(t.name)+" AS referring WHERE "+quoted(r.column)+
			" IS NOT NULL AND NOT EXISTS (SELECT 1 FROM "+quoted(r.table)+" AS referred WHERE referred."+quoted(r.key)+" = referring."+quoted(r.column)+")").Scan(&n))
		if err != nil {
			return fmt.Errorf("check the references of %s: %w", t.name, err)
		}
		if n > 0 {
			c.found("%s has rows whose %s is not in %s, %d of them", t.name, r.column, r.table, n)
		}
	}
	return nil
}
