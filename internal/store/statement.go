package store

import (
	"database/sql"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pressly/goose/v3"

	"authnzerver/internal/dburl"
)

// Placeholders are the kinds of placeholders that databases take.
type placeholders int

const (
	// questions are ? for the next argument and ?2 for the second, as SQLite
	// has them, and as all statements of this package are written.
	questions placeholders = iota
	// dollars are $2 for the second argument.
	dollars
	// inOrder are ? for the next argument only.
	inOrder
)

// A dialect is how a database wants statements and arguments.
type dialect struct {
	name         dburl.Dialect
	placeholders placeholders
	// textTimes is set when moments are stored as text.
	textTimes bool

	// isolation is that of transactions that write: what one of them reads is
	// still so when it is committed, else it is tried again.
	isolation sql.IsolationLevel
	// snapshot is that of transactions that only read: all their statements see
	// the same moment.
	snapshot sql.IsolationLevel
	// goose is what package goose calls the database, and migrations the folder
	// of its own migrations.
	goose      goose.Dialect
	migrations string
	// table and column are queries for a table, and for a table and one of its
	// columns.
	table, column string
	// listTables is a query for the names of all tables; listColumns, for a table,
	// one for the names of its columns, their types and their places in the primary
	// key; listReferences one for its foreign keys: the column, the other table and
	// the column there.
	listTables, listColumns, listReferences string
	// moment is the type of a date and time.
	moment string
	// withoutHistory is a user's extra_info without the former roles.
	withoutHistory string
	// asGiven goes before the arguments of a statement that is to be planned for them,
	// where a prepared one would be planned for any.
	asGiven []any
	// lastID is the id of the row that the statement before has added.
	lastID string
	// deferReferences has references checked when a transaction ends.
	deferReferences string

	translated sync.Map // by the statement as written
}

// A statement is one that is translated. order has the place among the
// arguments as given of each argument to send, nil when they stay as they are.
type statement struct {
	text  string
	order []int
}

// translate returns the statement and the arguments as the database wants them.
func (d *dialect) translate(query string, args []any) (string, []any) {
	s := d.statement(query, args)
	sent := args
	if s.order != nil {
		sent = make([]any, len(s.order))
		for i, place := range s.order {
			sent[i] = args[place]
		}
	}
	for i, arg := range sent {
		at, ok := arg.(time.Time)
		if !ok {
			continue
		}
		if d.textTimes {
			sent[i] = formatTime(at)
		} else {
			sent[i] = at.UTC()
		}
	}
	return s.text, sent
}

// statement translates a statement once: its arguments have the same types each
// time.
func (d *dialect) statement(query string, args []any) statement {
	if d.placeholders == questions {
		return statement{text: query}
	}
	if s, ok := d.translated.Load(query); ok {
		return s.(statement)
	}
	s := translate(query, d.placeholders, args)
	d.translated.Store(query, s)
	return s
}

// translate puts other placeholders into a statement. A question mark between
// quotes is none.
//
// PostgreSQL would take an integer for one of 32 bits, as the columns of the
// Python server have it, and not look for larger ones at all.
func translate(query string, to placeholders, args []any) statement {
	var s statement
	var text strings.Builder
	var quote byte
	for i := 0; i < len(query); i++ {
		c := query[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '?':
			end := i + 1
			for end < len(query) && '0' <= query[end] && query[end] <= '9' {
				end++
			}
			place := len(s.order) // the next
			if end > i+1 {
				n, _ := strconv.Atoi(query[i+1 : end]) // digits
				place = n - 1
			}
			s.order = append(s.order, place)
			if to == dollars {
				text.WriteString("$" + strconv.Itoa(place+1))
				switch args[place].(type) {
				case int, int64:
					text.WriteString("::bigint")
				}
			} else {
				text.WriteByte('?')
			}
			i = end - 1
			continue
		}
		text.WriteByte(c)
	}
	s.text = text.String()
	if to == dollars {
		s.order = nil
	}
	return s
}
