package api

import (
	"bytes"
	"errors"
)

// A Prepared is the reply to a request that succeeded, encoded before it is known which
// request it is for. It is safe for concurrent use, and good for as long as what it was
// made from is.
type Prepared struct{ before, after []byte }

// Prepare encodes the reply to a request with a result. Where the result has a secret,
// which should not be kept, a random text stands for it; it is empty where there is none.
func (r Request[P, R]) Prepare(result *R, secret string) (*Prepared, error) {
	text, err := r.AppendSuccess(nil, nil, result)
	if err != nil {
		return nil, err
	}
	text = text[:len(text)-len("}")] // what comes before it is the reqid's place
	if secret == "" {
		return &Prepared{before: text}, nil
	}
	before, after, found := bytes.Cut(text, appendText(nil, secret))
	if !found {
		return nil, errors.New("prepare the reply to " + r.spec.Name + ": the secret is not in it")
	}
	return &Prepared{bytes.Clone(before), bytes.Clone(after)}, nil
}

// Encoded is a part of results that can be sent as they were prepared. Where it is set,
// the rest of the result is not looked at.
type Encoded struct {
	reply  *Prepared
	secret string
}

// With returns the reply with a secret in its place.
func (p *Prepared) With(secret string) Encoded { return Encoded{p, secret} }

// append appends the reply to the request with a reqid to dst.
func (e Encoded) append(dst, reqid []byte) []byte {
	dst = append(dst, e.reply.before...)
	if e.reply.after != nil {
		dst = appendText(dst, e.secret)
		dst = append(dst, e.reply.after...)
	}
	dst = append(dst, reqid...)
	return append(dst, '}')
}

func (e *Encoded) encoded() *Encoded { return e }
