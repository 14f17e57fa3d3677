package store

import (
	"slices"
	"testing"
)

func TestTranslate(t *testing.T) {
	for _, test := range []struct {
		query   string
		dollars string
		inOrder string
		order   []int
	}{
		{"SELECT 1", "SELECT 1", "SELECT 1", nil},
		{"a = ? AND b = ?", "a = $1 AND b = $2", "a = ? AND b = ?", []int{0, 1}},
		{"a = ?2 AND b = ?1 AND c = ?2", "a = $2 AND b = $1 AND c = $2", "a = ? AND b = ? AND c = ?", []int{1, 0, 1}},
		{"a = ?12)", "a = $12)", "a = ?)", []int{11}},
		{`a = '?' AND "b?" = ? AND c = 'it''s ?1'`, `a = '?' AND "b?" = $1 AND c = 'it''s ?1'`, `a = '?' AND "b?" = ? AND c = 'it''s ?1'`, []int{0}},
	} {
		args := make([]any, 12)
		if got := translate(test.query, dollars, args); got.text != test.dollars || got.order != nil {
			t.Errorf("%s: %+v, want %s", test.query, got, test.dollars)
		}
		if got := translate(test.query, inOrder, args); got.text != test.inOrder || !slices.Equal(got.order, test.order) {
			t.Errorf("%s: %+v, want %s with %v", test.query, got, test.inOrder, test.order)
		}
	}
	got := translate("a = ? AND b = ? AND c = ?", dollars, []any{int64(1), "2", 3})
	if want := "a = $1::bigint AND b = $2 AND c = $3::bigint"; got.text != want {
		t.Errorf("integers: %s, want %s", got.text, want)
	}
}
