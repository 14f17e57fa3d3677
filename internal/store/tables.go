package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"
)

// A field is a column of a table as the database describes it.
type field struct {
	name string
	kind fieldKind
	// place is the column's place in the primary key, from 1; 0 when it has none.
	place int
}

// A fieldKind is what a column holds, whatever each database calls that.
type fieldKind byte

const (
	textField fieldKind = 't'
	intField  fieldKind = 'i'
	boolField fieldKind = 'b'
	timeField fieldKind = 'd'
)

// fieldKindOf returns the kind of a declared type.
func fieldKindOf(declared string) fieldKind {
	declared = strings.ToLower(declared)
	for _, one := range []struct {
		prefix string
		kind   fieldKind
	}{
		{"bool", boolField},
		{"tinyint(1)", boolField},
		{"int", intField},
		{"bigint", intField},
		{"timestamp", timeField},
		{"datetime", timeField},
	} {
		if strings.HasPrefix(declared, one.prefix) {
			return one.kind
		}
	}
	return textField
}

// A reference is a foreign key of one column.
type reference struct{ column, table, key string }

// A table is a table as the database describes it.
type table struct {
	name       string
	fields     []field
	references []reference
}

// names returns the names of the columns that hold something: a table with one row
// may have a column that only keeps it to that.
func (t *table) names() []string {
	var names []string
	for _, f := range t.fields {
		if f.name != "only_row" {
			names = append(names, f.name)
		}
	}
	return names
}

// key returns the names of the columns of the primary key, in its order.
func (t *table) key() []string {
	names := make([]string, len(t.fields))
	n := 0
	for _, f := range t.fields {
		if f.place > 0 {
			names[f.place-1] = f.name
			n++
		}
	}
	return names[:n]
}

// field returns the column with this name.
func (t *table) field(name string) (field, bool) {
	i := slices.IndexFunc(t.fields, func(f field) bool { return f.name == name })
	if i < 0 {
		return field{}, false
	}
	return t.fields[i], true
}

// quoted are names as every database takes them, whatever they mean to it.
func quoted(names ...string) string { return `"` + strings.Join(names, `", "`) + `"` }

// queryer is a database or a transaction.
type queryer interface {
	querier
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// rowsOfQuery returns the rows of a query whose columns are all text or numbers.
func rowsOfQuery[T any](ctx context.Context, d *dialect, q queryer, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	query, args = d.translate(query, args)
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, classify(err)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, classify(err)
		}
		all = append(all, one)
	}
	return all, classify(rows.Err())
}

// tables describes all tables of the database, each after those that it refers to.
func (d *dialect) tables(ctx context.Context, q queryer) ([]*table, error) {
	names, err := rowsOfQuery(ctx, d, q, func(rows *sql.Rows) (name string, err error) {
		err = rows.Scan(&name)
		return name, err
	}, d.listTables)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	slices.Sort(names) // databases do not agree on the order of texts
	found := map[string]*table{}
	for _, name := range names {
		found[name], err = d.describe(ctx, q, name)
		if err != nil {
			return nil, fmt.Errorf("describe the table %s: %w", name, err)
		}
	}
	var ordered []*table
	var add func(name string)
	add = func(name string) {
		t := found[name]
		if t == nil { // added before, or of another schema
			return
		}
		delete(found, name)
		for _, r := range t.references {
			add(r.table)
		}
		ordered = append(ordered, t)
	}
	for _, name := range names {
		add(name)
	}
	return ordered, nil
}

func (d *dialect) describe(ctx context.Context, q queryer, name string) (*table, error) {
	fields, err := rowsOfQuery(ctx, d, q, func(rows *sql.Rows) (f field, err error) {
		var declared string
		err = rows.Scan(&f.name, &declared, &f.place)
		f.kind = fieldKindOf(declared)
		return f, err
	}, d.listColumns, name)
	if err != nil {
		return nil, err
	}
	references, err := rowsOfQuery(ctx, d, q, func(rows *sql.Rows) (r reference, err error) {
		err = rows.Scan(&r.column, &r.table, &r.key)
		return r, err
	}, d.listReferences, name)
	if err != nil {
		return nil, err
	}
	return &table{name: name, fields: fields, references: references}, nil
}

// count returns how many rows a table has.
func (t *table) count(ctx context.Context, q querier) (n int64, err error) {
	err = classify(q.QueryRowContext(ctx, "SELECT count(*) FROM "+quoted(t.name)).Scan(&n))
	if err != nil {
		return 0, fmt.Errorf("count the rows of %s: %w", t.name, err)
	}
	return n, nil
}

// A moment scans a date and time, or NULL.
type moment struct {
	at   time.Time
	null bool
}

// Scan implements sql.Scanner.
func (m *moment) Scan(value any) error {
	m.null = value == nil
	return timeColumn{&m.at}.Scan(value)
}

// scan reads the next row: nil, int64, bool, string or time.Time for each column.
// The names are those of the columns of the row.
func (t *table) scan(rows *sql.Rows, names []string) ([]any, error) {
	into := make([]any, len(names))
	for i, name := range names {
		f, _ := t.field(name)
		switch f.kind {
		case intField:
			into[i] = new(sql.NullInt64)
		case boolField:
			into[i] = new(sql.NullBool)
		case timeField:
			into[i] = new(moment)
		default:
			into[i] = new(sql.NullString)
		}
	}
	err := rows.Scan(into...)
	if err != nil {
		return nil, classify(err)
	}
	values := make([]any, len(names))
	for i := range into {
		switch v := into[i].(type) {
		case *sql.NullInt64:
			if v.Valid {
				values[i] = v.Int64
			}
		case *sql.NullBool:
			if v.Valid {
				values[i] = v.Bool
			}
		case *sql.NullString:
			if v.Valid {
				values[i] = v.String
			}
		case *moment:
			if !v.null {
				values[i] = v.at
			}
		}
	}
	return values, nil
}

// each calls use with the columns names of every row, as scan returns it, in any order.
func (t *table) each(ctx context.Context, d *dialect, q queryer, names []string, use func([]any) error) error {
	return t.run(ctx, d, q, names, "", nil, use)
}

// eachAfter is each in the order of the primary key, for the rows whose key comes after
// the one given when there is one.
func (t *table) eachAfter(ctx context.Context, d *dialect, q queryer, names []string, after []any, use func([]any) error) error {
	key := t.key()
	condition := " ORDER BY " + quoted(key...)
	if after != nil {
		condition = " WHERE (" + quoted(key...) + ") > (?" + strings.Repeat(", ?", len(key)-1) + ")" + condition
	}
	return t.run(ctx, d, q, names, condition, after, use)
}

func (t *table) run(ctx context.Context, d *dialect, q queryer, names []string, condition string, args []any, use func([]any) error) error {
	query, args := d.translate("SELECT "+quoted(names...)+" FROM "+quoted(t.name)+condition, args)
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("read %s: %w", t.name, classify(err))
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		n++
		values, err := t.scan(rows, names)
		if err != nil {
			return fmt.Errorf("read row %d of %s: %w", n, t.name, err)
		}
		err = use(values)
		if err != nil {
			return err
		}
	}
	err = classify(rows.Err())
	if err != nil {
		return fmt.Errorf("read %s: %w", t.name, err)
	}
	return nil
}

// A sum is a digest of rows whatever their order, which databases do not agree on:
// the sum of the SHA-256 digests of the rows, modulo 2^256.
type sum struct {
	rows  int64
	parts [4]uint64 // the least significant first
}

// add adds a row.
func (s *sum) add(values []any) {
	var text []byte
	for _, value := range values {
		text = appendValue(text, value)
	}
	digest := sha256.Sum256(text)
	var carry uint64
	for i := range s.parts {
		s.parts[i], carry = bits.Add64(s.parts[i], binary.BigEndian.Uint64(digest[24-8*i:]), carry)
	}
	s.rows++
}

// appendValue appends a value so that no other value, and no other sequence of
// values, has the same form.
func appendValue(text []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(text, 'n')
	case bool:
		if v {
			return append(text, 'b', 1)
		}
		return append(text, 'b', 0)
	case int64:
		return binary.BigEndian.AppendUint64(append(text, 'i'), uint64(v))
	case time.Time:
		return binary.BigEndian.AppendUint64(append(text, 'd'), uint64(v.UnixMicro()))
	default:
		s := v.(string) // the last kind that scan returns
		text = binary.BigEndian.AppendUint64(append(text, 't'), uint64(len(s)))
		return append(text, s...)
	}
}

// String returns 64 hexadecimal digits.
func (s *sum) String() string {
	var text [32]byte
	for i, part := range s.parts {
		binary.BigEndian.PutUint64(text[24-8*i:], part)
	}
	return hex.EncodeToString(text[:])
}
