package store

import "context"

// Statements returns the statements with arguments that the store has run so far: as
// they are written in this package, and as its database takes them. There are none on
// SQLite, which takes them as they are.
func (s *Store) Statements() map[string]string {
	all := map[string]string{}
	s.dialect.translated.Range(func(query, translated any) bool {
		all[query.(string)] = translated.(statement).text
		return true
	})
	return all
}

// References returns, for each column with a foreign key, a condition for the rows that
// refer to a value. Deleting that value looks for them.
func (s *Store) References(ctx context.Context) ([]string, error) {
	tables, err := s.dialect.tables(ctx, s.reader)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, t := range tables {
		for _, r := range t.references {
			all = append(all, quoted(t.name)+" WHERE "+quoted(r.column)+" = ")
		}
	}
	return all, nil
}
