package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// AppendSuccess appends the reply to a request that succeeded to dst. reqid is
// the request's own, as its JSON text.
func (r Request[P, R]) AppendSuccess(dst, reqid []byte, result *R) ([]byte, error) {
	if e, ok := any(result).(interface{ encoded() *Encoded }); ok && e.encoded().reply != nil {
		return e.encoded().append(dst, reqid), nil
	}
	dst = append(dst, successHead...)
	if len(r.spec.result) > 0 {
		var err error
		dst, err = appendMembers(dst, result)
		if err != nil {
			return nil, fmt.Errorf("encode the result of %s: %w", r.spec.Name, err)
		}
	}
	return r.appendSuccessTail(dst, reqid, result), nil
}

// successHead is how the reply to a request that succeeded begins.
const successHead = `{"success":true,"response":{"success":true`

// appendSuccessTail appends what comes after the members of the result.
func (r Request[P, R]) appendSuccessTail(dst, reqid []byte, result *R) []byte {
	if own, ok := any(result).(interface{ OwnMessages() []string }); ok {
		dst = appendTellingTail(dst, own.OwnMessages())
	} else {
		dst = append(dst, r.spec.doneTail...)
	}
	return append(append(dst, reqid...), '}')
}

// doneTail is the tail of a reply to a request without messages of its own.
func doneTail(s *Spec) []byte {
	var messages []string
	if s.Done != "" {
		messages = []string{s.Done}
	}
	return appendTellingTail(nil, messages)
}

// appendTellingTail appends what comes between the members of a result and the reqid.
func appendTellingTail(dst []byte, messages []string) []byte {
	dst = append(dst, ',')
	dst = appendMessages(dst, "messages", messages)
	dst = append(dst, '}', ',')
	dst = appendTail(dst, nil, messages, nil)
	return dst[:len(dst)-len("}")]
}

// appendMembers appends the members of a result, each behind a comma.
func appendMembers(dst []byte, result any) ([]byte, error) {
	start := len(dst)
	buffer := bytes.NewBuffer(dst)
	err := json.MarshalWrite(buffer, result)
	if err != nil {
		return nil, err
	}
	dst = buffer.Bytes()
	if string(dst[start:]) == "{}" {
		return dst[:start], nil
	}
	dst[start] = ',' // in place of the opening brace
	return dst[:len(dst)-1], nil
}

// StreamSuccess writes the reply to a request that succeeded to w, as AppendSuccess has
// it, but with what each yields as the list of T in the result; T is an element of the
// only slice that is a key of it. One element at a time is in memory. An error of each is
// returned as it is, and then a part of the reply may have been written.
func StreamSuccess[P, R, T any](r Request[P, R], w io.Writer, reqid []byte, result *R, each func(yield func(*T) error) error) error {
	var failed error
	list := json.WithMarshalers(json.MarshalToFunc(func(enc *jsontext.Encoder, _ []T) error {
		err := enc.WriteToken(jsontext.BeginArray)
		if err != nil {
			return err
		}
		failed = each(func(one *T) error { return json.MarshalEncode(enc, one) })
		if failed != nil {
			return failed
		}
		return enc.WriteToken(jsontext.EndArray)
	}))
	_, err := io.WriteString(w, successHead)
	if err == nil {
		err = json.MarshalWrite(&membersWriter{w: w}, result, list)
	}
	if err == nil {
		_, err = w.Write(r.appendSuccessTail(nil, reqid, result))
	}
	if failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("encode the result of %s: %w", r.spec.Name, err)
	}
	return nil
}

// A membersWriter takes an object and passes its members on, each behind a comma. The
// object has at least one.
type membersWriter struct {
	w     io.Writer
	began bool
	// last is the last byte so far: the closing brace, in the end.
	last [1]byte
	held bool
}

// Write implements io.Writer.
func (m *membersWriter) Write(data []byte) (int, error) {
	n := len(data)
	if n == 0 {
		return 0, nil
	}
	first := ""
	if !m.began { // the opening brace
		m.began, data, first = true, data[1:], ","
	}
	if len(data) > 0 {
		if m.held {
			first += string(m.last[:])
		}
		m.last[0], m.held = data[len(data)-1], true
		data = data[:len(data)-1]
	}
	_, err := io.WriteString(m.w, first)
	if err == nil {
		_, err = m.w.Write(data)
	}
	return n, err
}

// AppendFailure appends the reply to a request that failed to dst. Keys of the
// result that are present on failures too show what result holds, null for
// what it does not.
func (r Request[P, R]) AppendFailure(dst, reqid []byte, result *R, f *Failure) ([]byte, error) {
	dst = append(dst, `{"success":false,"response":{"success":false,`...)
	if f.Code == CodeInvalidParams {
		return appendInvalid(dst, reqid, f)
	}
	v := reflect.ValueOf(result).Elem()
	for i := range r.spec.result {
		key := &r.spec.result[i]
		if !key.onFailure {
			continue
		}
		value := []byte("null")
		if field := v.Field(key.index); field.Kind() != reflect.Slice || !field.IsNil() {
			var err error
			value, err = json.Marshal(field.Interface())
			if err != nil {
				return nil, fmt.Errorf("encode the failure of %s: %w", r.spec.Name, err)
			}
		}
		dst = append(dst, '"')
		dst = append(append(dst, key.name...), `":`...)
		dst = append(append(dst, value...), ',')
	}
	dst = appendMessages(dst, "messages", f.Messages)
	dst = append(dst, ',')
	dst = appendReason(dst, f)
	dst = append(dst, '}', ',')
	return appendTail(dst, reqid, f.Messages, f), nil
}

// appendInvalid keeps the doubly nested response that published clients find
// the problems in.
func appendInvalid(dst, reqid []byte, f *Failure) ([]byte, error) {
	problems, err := json.Marshal(f.Problems)
	if err != nil {
		return nil, fmt.Errorf("encode problems: %w", err)
	}
	dst = append(dst, `"response":{`...)
	dst = appendReason(dst, f)
	dst = append(append(dst, `,"problems":`...), problems...)
	dst = append(dst, `},`...)
	dst = appendMessages(dst, "messages", f.Messages)
	dst = append(dst, ',')
	dst = appendReason(dst, f)
	dst = append(dst, '}', ',')
	return appendTail(dst, reqid, f.Messages, f), nil
}

// appendTail writes the members after "response": the messages under the
// names of both generations of clients, the failure and the reqid.
func appendTail(dst, reqid []byte, messages []string, f *Failure) []byte {
	dst = appendMessages(dst, "messages", messages)
	dst = append(dst, ',')
	dst = appendMessages(dst, "message", messages)
	if f != nil {
		dst = append(dst, ',')
		dst = appendReason(dst, f)
	}
	dst = append(append(dst, `,"reqid":`...), reqid...)
	return append(dst, '}')
}

func appendMessages(dst []byte, name string, messages []string) []byte {
	dst = append(append(append(dst, '"'), name...), `":[`...)
	for i, m := range messages {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, m)
	}
	return append(dst, ']')
}

func appendReason(dst []byte, f *Failure) []byte {
	dst = append(dst, `"failure_code":`...)
	dst = appendText(dst, string(f.Code))
	dst = append(dst, `,"failure_reason":`...)
	dst = appendText(dst, f.Reason)
	if f.RetryAfter > 0 {
		dst = append(dst, `,"retry_after":`...)
		dst = strconv.AppendInt(dst, int64((f.RetryAfter+time.Second-1)/time.Second), 10)
	}
	return dst
}

func appendText(dst []byte, text string) []byte {
	// The error only tells that invalid UTF-8 was replaced.
	quoted, _ := jsontext.AppendQuote(dst, text)
	return quoted
}

// Invalid returns the failure for a request whose parameters have problems.
func Invalid(request string, problems []Problem) *Failure {
	f := Fail(CodeInvalidParams, "The request "+request+" has invalid parameters.")
	f.Problems = problems
	return f
}

// A Reply is a server's answer to one request, as a client reads it.
type Reply struct {
	Success  bool
	Messages []string
	// ReqID is the JSON text of the request's own id.
	ReqID jsontext.Value
	// Response is the whole result object, which repeats success, messages
	// and the failure members.
	Response jsontext.Value
	// Failure is set when Success is false.
	Failure *Failure
}

// maxRetry is the longest wait that is taken from a reply: a year in seconds.
const maxRetry = 366 * 24 * 3600

// ParseReply reads the JSON text of an opened reply.
func ParseReply(text []byte) (*Reply, error) {
	var wire struct {
		Success  *bool          `json:"success"`
		Response jsontext.Value `json:"response"`
		Messages []string       `json:"messages"`
		ReqID    jsontext.Value `json:"reqid"`
		Code     Code           `json:"failure_code"`
		Reason   string         `json:"failure_reason"`
		Retry    int64          `json:"retry_after"`
	}
	if err := json.Unmarshal(text, &wire); err != nil {
		return nil, fmt.Errorf("read reply: %w", err)
	}
	if wire.Success == nil || wire.Response.Kind() != '{' {
		return nil, errors.New("read reply: success or response is missing")
	}
	reply := &Reply{Success: *wire.Success, Messages: wire.Messages, ReqID: wire.ReqID, Response: wire.Response}
	if reply.Success {
		return reply, nil
	}
	reply.Failure = &Failure{
		Code: wire.Code, Reason: wire.Reason, Messages: wire.Messages,
		RetryAfter: time.Duration(min(max(0, wire.Retry), maxRetry)) * time.Second,
	}
	if wire.Code == CodeInvalidParams {
		var nested struct {
			Response struct {
				Problems []Problem `json:"problems"`
			} `json:"response"`
		}
		if err := json.Unmarshal(wire.Response, &nested); err != nil {
			return nil, fmt.Errorf("read problems of reply: %w", err)
		}
		reply.Failure.Problems = nested.Response.Problems
	}
	return reply, nil
}

// Result reads the keys of a successful reply.
func (r Request[P, R]) Result(reply *Reply) (R, error) {
	var result R
	if err := json.Unmarshal(reply.Response, &result); err != nil {
		return result, fmt.Errorf("read result of %s: %w", r.spec.Name, err)
	}
	return result, nil
}
