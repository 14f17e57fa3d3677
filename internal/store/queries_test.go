package store_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"authnzerver/internal/store"
	"authnzerver/test/databases"
)

// queries are the statements that the tests of this process have run. When they have
// ended, the plan of each is looked at on every kind of database.
var queries recorder

// A recorder collects statements: as the package writes them, and as PostgreSQL takes
// them.
type recorder struct {
	mu         sync.Mutex
	statements map[string]bool
	postgresql map[string]string
}

func (r *recorder) add(s *store.Store) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.statements == nil {
		r.statements, r.postgresql = map[string]bool{}, map[string]string{}
	}
	for query, text := range s.Statements() {
		r.statements[query] = true
		if text != query && !strings.Contains(text, "?") {
			r.postgresql[query] = text
		}
	}
}

// mayScan has the statements that may read a whole table, or a whole index, and why.
var mayScan = []struct{ pattern, because string }{
	{`^INSERT INTO \S+ \([^)]*\)\s+VALUES`, "adds rows"},
	{`^SELECT 1 FROM users LIMIT 1$`, "answers with any row"},
	{`information_schema|pg_attribute|pg_constraint|sqlite_schema|pragma_table_info`, "about the tables, not their rows"},
	{` WHERE 1 = 1$`, "converts every row of a table, once"},
	{`FROM users WHERE EXISTS\s*\(SELECT 1 FROM users AS earlier`, "converts every row of a table, once"},
	{`^UPDATE user_id_sequence SET|FROM user_id_sequence$|FROM token_checksum_key$`, "there is one row"},
	{`FROM roles$`, "answers with all roles, of which there are a few"},
	{`FROM users ORDER BY user_id LIMIT \?$`, "answers with the first rows of the primary key"},
	{`FROM event_deliveries ORDER BY event_id LIMIT 1$`, "answers with the first row of the primary key"},
}

func mayReadAll(query string) bool {
	for _, may := range mayScan {
		if regexp.MustCompile(may.pattern).MatchString(query) {
			return true
		}
	}
	return false
}

// checkQueries returns a text for each statement that a kind of database would search
// a whole table for.
func checkQueries() (unserved []string, err error) {
	if len(queries.statements) == 0 {
		return nil, nil
	}
	for _, kind := range databases.Kinds() {
		found, err := checkQueriesOn(kind)
		if err != nil {
			return nil, fmt.Errorf("plans of %s: %w", kind, err)
		}
		unserved = append(unserved, found...)
	}
	return unserved, nil
}

func checkQueriesOn(kind databases.Kind) (unserved []string, err error) {
	ctx := context.Background()
	folder, err := os.MkdirTemp("", "queries")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	url, drop, err := servers.Make(ctx, kind, folder)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, drop(ctx)) }()
	p, err := newPlanner(ctx, kind, url)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	for _, query := range slices.Sorted(maps.Keys(queries.statements)) {
		if mayReadAll(query) || kind == databases.SQLite && strings.Contains(query, "cache_changes") {
			continue // SQLite itself tells of changes
		}
		text := query
		if kind == databases.PostgreSQL {
			var known bool
			text, known = queries.postgresql[query]
			if !known {
				if strings.Contains(query, "?") {
					continue // only other kinds have it
				}
				text = query
			}
		}
		problem, err := p.problem(ctx, text)
		if err != nil {
			problem = err.Error()
		}
		if problem != "" {
			unserved = append(unserved, fmt.Sprintf("no index serves a statement on %s: %s\n\t%s", kind, problem, query))
		}
	}
	return unserved, nil
}

// A planner has databases tell how they would run statements.
type planner struct {
	kind  databases.Kind
	store *store.Store
	db    *sql.DB
}

// newPlanner makes all tables in an empty database, with so many rows that searching
// them is worth an index.
func newPlanner(ctx context.Context, kind databases.Kind, url string) (p *planner, err error) {
	p = &planner{kind: kind}
	p.store, err = store.Open(ctx, store.Options{URL: url, NormalizeEmail: strings.ToLower})
	if err != nil {
		return nil, err
	}
	err = p.store.Update(ctx, func(ctx context.Context, tx *store.Tx) error { return tx.Initialize(ctx, initial()) })
	if err == nil {
		p.db, err = databases.Open(url)
	}
	if err == nil {
		p.db.SetMaxOpenConns(1) // settings are those of the connection
		err = databases.Fill(ctx, p.db, databases.Filling{Users: 2000, SessionsEach: 2, KeysEach: 1})
	}
	if err == nil {
		err = databases.Analyze(ctx, p.db, kind)
	}
	if err == nil && kind == databases.PostgreSQL {
		_, err = p.db.ExecContext(ctx, "SET enable_seqscan = off")
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *planner) close() error {
	err := p.store.Close()
	if p.db != nil {
		err = errors.Join(err, p.db.Close())
	}
	return err
}

// problem says how the database would search a whole table for a statement; "" when it
// has an index for it.
func (p *planner) problem(ctx context.Context, text string) (string, error) {
	switch p.kind {
	case databases.SQLite:
		return p.onSQLite(ctx, text)
	case databases.PostgreSQL:
		return p.onPostgreSQL(ctx, text)
	default:
		return p.onMariaDB(ctx, text)
	}
}

func (p *planner) onSQLite(ctx context.Context, text string) (string, error) {
	rows, err := p.db.QueryContext(ctx, "EXPLAIN QUERY PLAN "+text, make([]any, numberOfArguments(text))...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		err = rows.Scan(&id, &parent, &unused, &detail)
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(detail, "SCAN ") && detail != "SCAN CONSTANT ROW" {
			return detail, nil
		}
	}
	return "", rows.Err()
}

// numberOfArguments returns how many arguments a statement takes: the largest number
// behind a question mark, where they have numbers.
func numberOfArguments(text string) int {
	n := 0
	for _, match := range regexp.MustCompile(`\?(\d*)`).FindAllStringSubmatch(text, -1) {
		var place int
		_, err := fmt.Sscan(match[1], &place)
		if err != nil {
			place = n + 1
		}
		n = max(n, place)
	}
	return n
}

// A postgresPlan is a node of a plan.
type postgresPlan struct {
	Kind      string          `json:"Node Type"`
	Table     string          `json:"Relation Name"`
	Condition string          `json:"Index Cond"`
	Index     string          `json:"Index Name"`
	Inner     []*postgresPlan `json:"Plans"`
}

// asGiven matches the statements that are planned for their arguments: where there are
// many such users, reading all in their order is faster than an index.
var asGiven = regexp.MustCompile(`FROM users WHERE .* ORDER BY user_id LIMIT`)

// rare returns a value of a type of PostgreSQL of which there are few.
func rare(kind string) string {
	switch {
	case kind == "boolean":
		return "false"
	case strings.HasPrefix(kind, "timestamp"):
		return "'2001-01-01'"
	default:
		return "'77'"
	}
}

func (p *planner) onPostgreSQL(ctx context.Context, text string) (string, error) {
	_, err := p.db.ExecContext(ctx, "PREPARE looked_at AS "+text)
	if err != nil {
		return "", err
	}
	var types string
	err = p.db.QueryRowContext(ctx, "SELECT array_to_string(parameter_types, ',') FROM pg_prepared_statements WHERE name = 'looked_at'").Scan(&types)
	if err != nil {
		return "", err
	}
	var values []string
	for _, kind := range strings.FieldsFunc(types, func(c rune) bool { return c == ',' }) {
		values = append(values, rare(kind))
	}
	arguments := ""
	if values != nil {
		arguments = "(" + strings.Join(values, ", ") + ")"
	}
	mode := "force_generic_plan"
	if asGiven.MatchString(text) {
		mode = "force_custom_plan"
	}
	_, err = p.db.ExecContext(ctx, "SET plan_cache_mode = "+mode)
	if err != nil {
		return "", err
	}
	var plan string
	err = p.db.QueryRowContext(ctx, "EXPLAIN (FORMAT JSON) EXECUTE looked_at"+arguments).Scan(&plan)
	if err != nil {
		return "", err
	}
	_, err = p.db.ExecContext(ctx, "DEALLOCATE looked_at")
	if err != nil {
		return "", err
	}
	var plans []struct{ Plan *postgresPlan }
	err = json.Unmarshal([]byte(plan), &plans)
	if err != nil {
		return "", err
	}
	return plans[0].Plan.problem(), nil
}

func (n *postgresPlan) problem() string {
	if n.Kind == "Seq Scan" || strings.Contains(n.Kind, "Index") && n.Condition == "" {
		return strings.TrimSpace(n.Kind + " of " + n.Table + " " + n.Index)
	}
	for _, inner := range n.Inner {
		if problem := inner.problem(); problem != "" {
			return problem
		}
	}
	return ""
}

func (p *planner) onMariaDB(ctx context.Context, text string) (string, error) {
	text = regexp.MustCompile(`(LIMIT|OFFSET) \?`).ReplaceAllString(text, "$1 1000")
	text = regexp.MustCompile(`\?\d*`).ReplaceAllString(text, "'2001-01-01 00:00:00'")
	rows, err := p.db.QueryContext(ctx, "EXPLAIN "+text)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	for rows.Next() {
		var id, kind, table, access, possible, key, length, ref, number, extra sql.NullString
		err = rows.Scan(&id, &kind, &table, &access, &possible, &key, &length, &ref, &number, &extra)
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(table.String, "<") {
			continue // of the rows that another part has found
		}
		if access.String == "ALL" || access.String == "index" {
			return fmt.Sprintf("%s of %s %s", access.String, table.String, key.String), nil
		}
	}
	return "", rows.Err()
}

// What looks at plans finds a search that no index serves.
func TestPlans(t *testing.T) {
	t.Parallel()
	for _, kind := range databases.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p, err := newPlanner(t.Context(), kind, servers.New(t, kind))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				err := p.close()
				if err != nil {
					t.Error(err)
				}
			})
			place := "?"
			if kind == databases.PostgreSQL {
				place = "$1"
			}
			for _, c := range []struct {
				text   string
				served bool
			}{
				{"SELECT email FROM users WHERE user_id = ", true},
				{"SELECT user_id FROM users WHERE email = ", true},
				{"SELECT user_id FROM users WHERE password = ", false},
				{"DELETE FROM sessions WHERE session_id = ", true},
				{"DELETE FROM sessions WHERE user_agent = ", false},
				{"UPDATE users SET full_name = 'x' WHERE user_role = 'staff' OR password = ", false},
				{"SELECT created FROM sessions WHERE ip_address IN (SELECT full_name FROM users WHERE user_role = 'authenticated') AND user_agent = ", false},
			} {
				problem, err := p.problem(t.Context(), c.text+place)
				if err != nil {
					t.Fatalf("%s: %v", c.text, err)
				}
				if (problem == "") != c.served {
					t.Errorf("%s: found %q", c.text, problem)
				}
			}
			references, err := p.store.References(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(references) < 10 {
				t.Errorf("only %d columns refer to other tables", len(references))
			}
			for _, reference := range references {
				problem, err := p.problem(t.Context(), "SELECT 1 FROM "+reference+place)
				if err != nil {
					t.Fatalf("%s: %v", reference, err)
				}
				if problem != "" {
					t.Errorf("no index serves the foreign key %s: %s", reference, problem)
				}
			}
		})
	}
}
