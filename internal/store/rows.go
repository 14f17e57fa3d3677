package store

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// A column is a column of a row with its value.
type column struct {
	name  string
	value any
}

// A row is a part of a row of a table.
type row []column

func (r row) list(separator string) string {
	names := make([]string, len(r))
	for i, c := range r {
		names[i] = c.name + " = ?"
	}
	return strings.Join(names, separator)
}

func (r row) values() []any {
	values := make([]any, len(r))
	for i, c := range r {
		values[i] = c.value
	}
	return values
}

// exists reports whether a query has a result.
func (t *Tx) exists(ctx context.Context, query string, args ...any) (bool, error) {
	var one int
	err := classify(t.row(ctx, query, args...).Scan(&one))
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// put writes a row in the place of the one with this key, if there is one.
func (t *Tx) put(ctx context.Context, table string, key, rest row) error {
	n, err := t.exec(ctx, "UPDATE "+table+" SET "+rest.list(", ")+" WHERE "+key.list(" AND "), append(rest.values(), key.values()...)...)
	if err != nil || n > 0 {
		return err
	}
	all := slices.Concat(key, rest)
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.name
	}
	_, err = t.exec(ctx, "INSERT INTO "+table+" ("+strings.Join(names, ", ")+") VALUES (?"+strings.Repeat(", ?", len(all)-1)+")", all.values()...)
	return err
}

// deleteSome deletes the rows that fulfil a condition, which may end with an order
// and a limit, and returns how many there were.
func (t *Tx) deleteSome(ctx context.Context, table string, key []string, condition string, args ...any) (int64, error) {
	keys, err := t.keysOf(ctx, table, key, condition, args...)
	if err != nil {
		return 0, err
	}
	return t.deleteKeys(ctx, table, key, keys)
}

// keysOf returns the keys of the rows that fulfil a condition.
func (t *Tx) keysOf(ctx context.Context, table string, key []string, condition string, args ...any) ([][]any, error) {
	rows, err := t.query(ctx, "SELECT "+strings.Join(key, ", ")+" FROM "+table+" WHERE "+condition, args...)
	if err != nil {
		return nil, classify(err)
	}
	defer rows.Close()
	var keys [][]any
	for rows.Next() {
		values := make([]any, len(key))
		into := make([]any, len(key))
		for i := range values {
			into[i] = &values[i]
		}
		err := rows.Scan(into...)
		if err != nil {
			return nil, classify(err)
		}
		for i, value := range values {
			if text, ok := value.([]byte); ok { // as MySQL's driver has it
				values[i] = string(text)
			}
		}
		keys = append(keys, values)
	}
	return keys, classify(rows.Err())
}

// atOnce is how many rows one statement deletes.
const atOnce = 100

// deleteKeys deletes the rows with the keys given and returns how many there
// were.
func (t *Tx) deleteKeys(ctx context.Context, table string, key []string, keys [][]any) (int64, error) {
	var deleted int64
	for part := range slices.Chunk(keys, atOnce) {
		condition := key[0] + " IN (?" + strings.Repeat(", ?", len(part)-1) + ")"
		if len(key) > 1 {
			one := strings.Join(key, " = ? AND ") + " = ?"
			condition = one + strings.Repeat(" OR "+one, len(part)-1)
		}
		n, err := t.exec(ctx, "DELETE FROM "+table+" WHERE "+condition, slices.Concat(part...)...)
		if err != nil {
			return deleted, err
		}
		deleted += n
	}
	return deleted, nil
}
