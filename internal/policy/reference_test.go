package policy_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"regexp"
	"slices"
	"strings"
)

// This file says once more, as plainly as possible and without any code of
// the package, what a policy means: over the decoded JSON, step by step.

var errReference = errors.New("no policy for the role")

// referenceAllows decides about access.
func referenceAllows(file map[string]any, userID int64, role, action, item string, owner int64, visibility string, sharedWith []int64) (bool, error) {
	rolePolicy, ok := file["role_policy"].(map[string]any)[role].(map[string]any)
	if !ok {
		return false, errReference
	}

	// Step A: is the item open to the user?
	reachable := false
	if role == "superuser" || role == "staff" {
		reachable = true
	} else if visibility == "private" {
		reachable = userID == owner
	} else if visibility == "shared" && len(sharedWith) > 0 {
		reachable = slices.Contains(sharedWith, userID) || userID == owner || slices.Contains(sharedWith, 2)
	} else if visibility == "shared" {
		reachable = userID == owner
	} else if visibility == "unlisted" || visibility == "public" {
		reachable = true
	}

	// Step B: may the role own such an item?
	mayOwn := has(rolePolicy["can_own_items"], item)

	// Step C: which actions are permitted?
	permitted := []string{}
	if userID == owner && mayOwn {
		permitted = itemActions(file, rolePolicy, role, item, visibility, true)
	}
	if userID != owner {
		permitted = itemActions(file, rolePolicy, role, item, visibility, false)
	}

	// Step D.
	return slices.Contains(permitted, action) && reachable, nil
}

func itemActions(file, rolePolicy map[string]any, role, item, visibility string, owned bool) []string {
	itemPolicy, ok := file["item_policy"].(map[string]any)[item].(map[string]any)
	if !ok || has(itemPolicy["invalid_roles"], role) || !has(itemPolicy["valid_visibilities"], visibility) {
		return nil
	}
	ofRole := rolePolicy["allowed_actions_for_owned"]
	if !owned {
		ofRole = rolePolicy["allowed_actions_for_other"].(map[string]any)[visibility]
	}
	var both []string
	for _, action := range itemPolicy["valid_role_actions"].([]any) {
		if has(ofRole, action.(string)) {
			both = append(both, action.(string))
		}
	}
	return both
}

func has(list any, name string) bool {
	elements, _ := list.([]any)
	for _, e := range elements {
		if e == name {
			return true
		}
	}
	return false
}

// referenceLimit decides about a limit. The file and the value were decoded
// with json.Number.
func referenceLimit(file map[string]any, role, limitName string, value any) (bool, error) {
	rolePolicy, ok := file["role_policy"].(map[string]any)[role].(map[string]any)
	if !ok {
		return false, errReference
	}
	entry, _ := rolePolicy["limits"].(map[string]any)[limitName].(map[string]any)
	if len(entry) == 0 {
		return true, nil
	}
	limitType := file["limits"].(map[string]any)[entry["type"].(string)].(map[string]any)
	convert := pythonInt
	if limitType["type"] == "float" {
		convert = pythonFloat
	}
	a, b := convert(value), convert(entry["limit"])
	if a == nil || b == nil {
		return false, nil
	}
	if limitType["operator"] == "lt" {
		return a.Cmp(b) < 0, nil
	}
	return a.Cmp(b) > 0, nil
}

const (
	pythonBlank = `[\t\n\v\f\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}]*`
	digitGroup  = `\p{Nd}(?:_?\p{Nd})*`
)

var (
	intText   = regexp.MustCompile(`^` + pythonBlank + `([+-]?` + digitGroup + `)` + pythonBlank + `$`)
	floatText = regexp.MustCompile(`^` + pythonBlank +
		`([+-]?(?:` + digitGroup + `(?:\.(?:` + digitGroup + `)?)?|\.` + digitGroup + `)(?:[eE][+-]?` + digitGroup + `)?)` +
		pythonBlank + `$`)
)

// pythonInt returns int(value), or nil where that fails.
func pythonInt(value any) *big.Rat {
	switch v := value.(type) {
	case bool:
		return pythonFloat(v)
	case json.Number:
		if strings.ContainsAny(string(v), ".eE") {
			r := pythonFloat(v)
			if r == nil {
				return nil
			}
			return new(big.Rat).SetInt(new(big.Int).Quo(r.Num(), r.Denom())) // towards zero
		}
		return pythonInt(string(v))
	case string:
		match := intText.FindStringSubmatch(v)
		if match == nil {
			return nil
		}
		digits := plainDigits(match[1])
		if len(strings.TrimLeft(digits, "+-")) > 4300 {
			return nil
		}
		n, ok := new(big.Int).SetString(digits, 10)
		if !ok {
			return nil
		}
		return new(big.Rat).SetInt(n)
	}
	return nil
}

// pythonFloat returns float(value), or nil where that fails or is not finite.
func pythonFloat(value any) *big.Rat {
	switch v := value.(type) {
	case bool:
		if v {
			return big.NewRat(1, 1)
		}
		return new(big.Rat)
	case json.Number:
		return pythonFloat(string(v))
	case string:
		match := floatText.FindStringSubmatch(v)
		if match == nil {
			return nil
		}
		f, _, err := big.ParseFloat(plainDigits(match[1]), 10, 2000, big.ToNearestEven)
		if err != nil {
			return nil
		}
		f64, _ := f.Float64()
		return new(big.Rat).SetFloat64(f64) // nil when it is infinite
	}
	return nil
}

// plainDigits removes underscores and replaces the digits of the scripts that
// the tests use.
func plainDigits(text string) string {
	return strings.Map(func(r rune) rune {
		for _, zero := range []rune{'٠', '०', '０', '𝟎', '𝟘'} {
			if r >= zero && r <= zero+9 {
				return '0' + r - zero
			}
		}
		if r == '_' {
			return -1
		}
		return r
	}, text)
}
