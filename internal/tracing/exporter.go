package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// exportTime bounds sending one batch of spans: the default of the OpenTelemetry
// specification of exporters.
const exportTime = 10 * time.Second

// An exporter sends spans to a collector. The exporter of the OpenTelemetry project would
// do the same with four megabytes of code for Protocol Buffers.
type exporter struct {
	url     string
	http    *http.Client
	onError func(error)
}

func newExporter(base string, onError func(error)) *exporter {
	return &exporter{url: base + "/v1/traces", onError: onError, http: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// ExportSpans implements sdk.SpanExporter. It tells onError what went wrong and not its
// caller, who would write that to the standard error.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.export(ctx, spans)
	if err != nil {
		e.onError(fmt.Errorf("send %d spans: %w", len(spans), err))
	}
	return nil
}

// Shutdown implements sdk.SpanExporter.
func (e *exporter) Shutdown(context.Context) error { return nil }

func (e *exporter) export(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	body, err := json.Marshal(messageOf(spans))
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, exportTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL is not one") // unreachable: the configuration was checked
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := e.http.Do(request)
	if err != nil {
		var outer *url.Error
		if errors.As(err, &outer) { // its text shows the URL, which may hold a password
			err = outer.Err
		}
		return err
	}
	defer response.Body.Close()
	const maxAnswer = 64 << 10
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer) // the status tells all
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("the collector answered with status %d", response.StatusCode)
	}
	return nil
}

// The message of OTLP: ExportTraceServiceRequest in the JSON form that the specification
// gives it, with ids in hexadecimal and 64-bit numbers as texts.
type (
	exportMessage struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   attributed   `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	attributed struct {
		Attributes []keyValue `json:"attributes"`
	}
	scopeSpans struct {
		Scope scopeName  `json:"scope"`
		Spans []spanData `json:"spans"`
	}
	scopeName struct {
		Name string `json:"name"`
	}
	spanData struct {
		TraceID      string      `json:"traceId"`
		SpanID       string      `json:"spanId"`
		ParentSpanID string      `json:"parentSpanId,omitzero"`
		Flags        uint32      `json:"flags,omitzero"`
		Name         string      `json:"name"`
		Kind         int         `json:"kind"`
		Start        string      `json:"startTimeUnixNano"`
		End          string      `json:"endTimeUnixNano"`
		Attributes   []keyValue  `json:"attributes,omitzero"`
		Events       []spanEvent `json:"events,omitzero"`
		Status       spanStatus  `json:"status"`
	}
	spanEvent struct {
		Time string `json:"timeUnixNano"`
		Name string `json:"name"`
	}
	spanStatus struct {
		Code int `json:"code,omitzero"`
	}
	keyValue struct {
		Key   string   `json:"key"`
		Value anyValue `json:"value"`
	}
	anyValue struct {
		String *string `json:"stringValue,omitzero"`
		Int    *string `json:"intValue,omitzero"`
	}
)

// messageOf returns the message with spans of one Tracer, which have one resource and one
// scope.
func messageOf(spans []sdk.ReadOnlySpan) exportMessage {
	out := make([]spanData, len(spans))
	for i, span := range spans {
		data := spanData{
			TraceID: span.SpanContext().TraceID().String(), SpanID: span.SpanContext().SpanID().String(),
			Flags: uint32(span.SpanContext().TraceFlags()), Name: span.Name(), Kind: kindOf(span.SpanKind()),
			Start: nanos(span.StartTime()), End: nanos(span.EndTime()), Attributes: keyValues(span.Attributes()),
		}
		if span.Parent().HasSpanID() {
			data.ParentSpanID = span.Parent().SpanID().String()
		}
		if span.Status().Code == codes.Error {
			data.Status.Code = 2 // STATUS_CODE_ERROR
		}
		for _, event := range span.Events() {
			data.Events = append(data.Events, spanEvent{nanos(event.Time), event.Name})
		}
		out[i] = data
	}
	return exportMessage{[]resourceSpans{{
		attributed{keyValues(spans[0].Resource().Attributes())}, []scopeSpans{{scopeName{scope}, out}},
	}}}
}

func nanos(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

// kindOf returns the number of a kind in OTLP.
func kindOf(kind trace.SpanKind) int {
	if kind == trace.SpanKindServer {
		return 2 // SPAN_KIND_SERVER
	}
	return 1 // SPAN_KIND_INTERNAL
}

// keyValues returns attributes, which are all texts or numbers.
func keyValues(attributes []attribute.KeyValue) []keyValue {
	out := make([]keyValue, len(attributes))
	for i, a := range attributes {
		text := a.Value.String()
		out[i].Key = string(a.Key)
		if a.Value.Type() == attribute.INT64 {
			out[i].Value.Int = &text
		} else {
			out[i].Value.String = &text
		}
	}
	return out
}
