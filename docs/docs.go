// Package docs holds the parts of the documentation that the binary prints.
package docs

import _ "embed"

// API is the reference of all requests in Markdown, generated from package
// api.
//
//go:embed api.md
var API []byte

// APIJSON is the same for programs.
//
//go:embed api.json
var APIJSON []byte
