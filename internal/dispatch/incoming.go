package dispatch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"authnzerver/api"
	"authnzerver/internal/jsonobject"
)

// Errors of reading a request. Use errors.Is.
var (
	// ErrNotAuthentic: the text cannot have been meant as a request. The
	// Python server answers it like an envelope under an unknown key.
	ErrNotAuthentic = errors.New("not a request")
	// ErrMalformed: the text is JSON but not a request.
	ErrMalformed = errors.New("malformed request")
)

// errUnclean: a value that a reply repeats would spoil the reply.
var errUnclean = errors.New("duplicate names or text that is not UTF-8")

// An Incoming is a request as it was sent. It refers to the text that it was
// read from.
type Incoming struct {
	// Request is the request's name.
	Request string
	// ReqID is the JSON text of the frontend's own id for the request.
	ReqID jsontext.Value
	// Body holds the members of the request's body.
	Body []api.Member
	// ClientAddr is the end user's address as the frontend gave it: the
	// member client_ipaddr, else the body's client_ipaddr, else the body's
	// ip_address; empty when there is none.
	ClientAddr string
	// Peer is the address that the request came from, the frontend's; zero
	// when it is not known. Parse leaves it to its caller.
	Peer netip.Addr
	// Long takes a reply that is too long to be kept in memory; nil when all must be.
	// Parse leaves it to its caller.
	Long LongReply

	space [8]api.Member // for Body, enough for what most clients send
}

// A LongReply is where a reply goes that is too long to be kept in memory.
type LongReply interface {
	// Begin is called once at most. All of the reply is written to what it returns.
	Begin() (io.Writer, error)
}

// Parse reads the text of an opened envelope. Duplicate members, members that
// differ from a known one only in letter case, and trailing data are refused. What in
// held before is dropped, and when it fails, it holds nothing of use.
func Parse(text []byte, in *Incoming) error {
	*in = Incoming{}
	var space [8]api.Member // enough for what clients send
	members, err := split(space[:0], text)
	if err != nil {
		return err
	}
	var body jsontext.Value
	for i := range members {
		m := &members[i]
		switch string(m.Name) {
		case "request":
			in.Request, err = unquote(m.Value)
		case "reqid":
			in.ReqID = m.Value
			if !clean(m.Value) {
				err = errUnclean
			}
		case "body":
			body = m.Value
		case "client_ipaddr":
			in.ClientAddr = addrOf(m.Value)
		default:
			for _, known := range [...]string{"request", "reqid", "body", "client_ipaddr"} {
				if strings.EqualFold(string(m.Name), known) {
					return fmt.Errorf("%w: the member %s is spelled in another letter case", ErrMalformed, known)
				}
			}
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrMalformed, m.Name, err)
		}
	}
	switch {
	case in.Request == "":
		return fmt.Errorf("%w: request is missing", ErrMalformed)
	case in.Request == "echo":
		return fmt.Errorf("%w: echo is a path of its own", ErrMalformed)
	case in.ReqID == nil || in.ReqID.Kind() == 'n':
		return fmt.Errorf("%w: reqid is missing", ErrMalformed)
	case body == nil || body.Kind() != '{':
		return fmt.Errorf("%w: body is not an object", ErrMalformed)
	}
	in.Body, err = jsonobject.AppendMembers(in.space[:0], body)
	if err != nil {
		return fmt.Errorf("%w: body: %w", ErrMalformed, err)
	}
	for _, name := range [...]string{"client_ipaddr", "ip_address"} {
		for i := range in.Body {
			if in.ClientAddr == "" && string(in.Body[i].Name) == name {
				in.ClientAddr = addrOf(in.Body[i].Value)
			}
		}
	}
	return nil
}

// split reads the outer object.
func split(members []api.Member, text []byte) ([]api.Member, error) {
	value := jsontext.Value(bytes.TrimSpace(text))
	if len(value) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrNotAuthentic)
	}
	switch value.Kind() {
	case '{':
	case '[', '"', '0', 't', 'f', 'n':
		return nil, notObject(value)
	default:
		return nil, fmt.Errorf("%w: not JSON", ErrNotAuthentic)
	}
	members, err := jsonobject.AppendMembers(members, value)
	if err != nil {
		return nil, fmt.Errorf("%w: not JSON: %w", ErrNotAuthentic, err)
	}
	if len(members) == 0 {
		return nil, fmt.Errorf("%w: empty object", ErrNotAuthentic)
	}
	for i := range members {
		for j := range i {
			if bytes.Equal(members[i].Name, members[j].Name) {
				return nil, fmt.Errorf("%w: duplicate member", ErrMalformed)
			}
		}
		if i > maxOuter {
			return nil, fmt.Errorf("%w: too many members", ErrMalformed)
		}
	}
	return members, nil
}

// maxOuter is how many members a request may have beside those it needs.
const maxOuter = 64

// notObject tells false, null, zero and empty values, which the Python server
// takes for a failed decryption, from others.
func notObject(value jsontext.Value) error {
	if !value.IsValid(lenient...) {
		return fmt.Errorf("%w: not JSON", ErrNotAuthentic)
	}
	switch text := string(value); {
	case text == "null", text == "false", text == `""`,
		value.Kind() == '[' && len(bytes.TrimSpace(value[1:len(value)-1])) == 0,
		value.Kind() == '0' && isZero(text):
		return fmt.Errorf("%w: nothing in it", ErrNotAuthentic)
	}
	return fmt.Errorf("%w: not an object", ErrMalformed)
}

func isZero(number string) bool {
	f, err := strconv.ParseFloat(number, 64)
	return err == nil && f == 0
}

// lenient accepts what the parameters' own checks find and name.
var lenient = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

func unquote(value jsontext.Value) (string, error) {
	if value.Kind() != '"' {
		return "", errors.New("not a string")
	}
	if inner := value[1 : len(value)-1]; isPlain(inner) {
		return string(inner), nil
	}
	text, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return "", errors.New("not UTF-8")
	}
	return string(text), nil
}

// isPlain reports whether the inside of a string stands for itself.
func isPlain(inner []byte) bool {
	for _, c := range inner {
		if c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// clean reports whether a value of sound syntax has no duplicate names and nothing
// that is not UTF-8.
func clean(value jsontext.Value) bool {
	switch value.Kind() {
	case '{', '[':
		return value.IsValid()
	case '"':
		return isPlain(value[1:len(value)-1]) || value.IsValid()
	default:
		return true
	}
}

// addrOf returns a client's address in canonical form, or as it was sent when
// it is not an address: published clients may send any text.
func addrOf(value jsontext.Value) string {
	if value.Kind() == 'n' {
		return ""
	}
	text, err := unquote(value)
	if err != nil {
		text = string(value)
	}
	const longest = 64
	if len(text) > longest {
		text = text[:longest]
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return text
	}
	var canonical [longest]byte
	if string(addr.Unmap().AppendTo(canonical[:0])) == text {
		return text
	}
	return addr.Unmap().String()
}
