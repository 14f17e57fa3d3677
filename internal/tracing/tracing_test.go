package tracing_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"authnzerver/internal/tracing"
)

// A collector takes spans, which it reads with the protocol's own types.
type collector struct {
	t      *testing.T
	status int
	mu     sync.Mutex
	data   []*tracepb.ResourceSpans
}

// ids matches what OTLP has in hexadecimal, where the JSON form of Protocol Buffers would
// have base64.
var ids = regexp.MustCompile(`"(traceId|spanId|parentSpanId)":"([0-9a-f]*)"`)

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/base/v1/traces" || r.Header.Get("Content-Type") != "application/json" {
		c.t.Errorf("the request is %s %s with %v", r.Method, r.URL, r.Header)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Error(err)
	}
	text := ids.ReplaceAllStringFunc(string(body), func(member string) string {
		parts := ids.FindStringSubmatch(member)
		raw, err := hex.DecodeString(parts[2])
		if err != nil {
			c.t.Error(err)
		}
		return `"` + parts[1] + `":"` + base64.StdEncoding.EncodeToString(raw) + `"`
	})
	var data tracepb.TracesData
	err = protojson.Unmarshal([]byte(text), &data)
	if err != nil {
		c.t.Errorf("the body is not of the protocol: %v\n%s", err, body)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.data = append(c.data, data.ResourceSpans...)
	w.WriteHeader(c.status)
}

// spans returns the spans that were taken by their names.
func (c *collector) spans() map[string]*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]*tracepb.Span{}
	for _, of := range c.data {
		for _, scope := range of.ScopeSpans {
			for _, span := range scope.Spans {
				all[span.Name] = span
			}
		}
	}
	return all
}

func start(t *testing.T, share float64, status int) (*tracing.Tracer, *collector, *[]error) {
	c := &collector{t: t, status: status}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	var errs []error
	tracer := tracing.New(tracing.Options{
		URL: server.URL + "/base", Share: share, Version: "v1", Instance: "i", OnError: func(err error) { errs = append(errs, err) },
	})
	return tracer, c, &errs
}

func TestSpans(t *testing.T) {
	t.Parallel()
	tracer, c, errs := start(t, 0, http.StatusOK)
	header := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	ctx, span := tracer.Request(t.Context(), header)
	span.Rename("user-login")
	span.Set("authnzerver.request", "user-login")
	span.SetInt("http.response.status_code", 200)
	_, inner := tracing.Start(ctx, "database change")
	inner.Event("tried again")
	inner.End(errors.New("canary: personal"))
	span.End(nil)
	tracer.Close(t.Context())
	if len(*errs) > 0 {
		t.Fatal(*errs)
	}
	spans := c.spans()
	outer, in := spans["user-login"], spans["database change"]
	if outer == nil || in == nil {
		t.Fatalf("the spans are %v", spans)
	}
	if hex.EncodeToString(outer.TraceId) != "0af7651916cd43dd8448eb211c80319c" || hex.EncodeToString(outer.ParentSpanId) != "b7ad6b7169203331" {
		t.Errorf("the span of the request is not within the frontend's: %v", outer)
	}
	if string(in.ParentSpanId) != string(outer.SpanId) || string(in.TraceId) != string(outer.TraceId) {
		t.Error("the inner span is not within the outer one")
	}
	if outer.Kind != tracepb.Span_SPAN_KIND_SERVER || in.Kind != tracepb.Span_SPAN_KIND_INTERNAL {
		t.Errorf("the kinds are %v and %v", outer.Kind, in.Kind)
	}
	if outer.Status.Code != tracepb.Status_STATUS_CODE_UNSET || in.Status.Code != tracepb.Status_STATUS_CODE_ERROR || in.Status.Message != "" {
		t.Errorf("the states are %v and %v", outer.Status, in.Status)
	}
	if len(outer.Attributes) != 2 || outer.Attributes[0].Value.GetStringValue() != "user-login" || outer.Attributes[1].Value.GetIntValue() != 200 {
		t.Errorf("the attributes are %v", outer.Attributes)
	}
	if len(in.Events) != 1 || in.Events[0].Name != "tried again" {
		t.Errorf("the events are %v", in.Events)
	}
	if in.StartTimeUnixNano < outer.StartTimeUnixNano || in.EndTimeUnixNano > outer.EndTimeUnixNano || in.StartTimeUnixNano > in.EndTimeUnixNano {
		t.Errorf("the times are %v and %v", outer, in)
	}
	resource := c.data[0].Resource.String()
	for _, want := range []string{"service.name", "authnzerver", "service.version", `"v1"`} {
		if !strings.Contains(resource, want) {
			t.Errorf("the resource %s lacks %s", resource, want)
		}
	}
}

func TestSampling(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		share  float64
		parent string // its flags
		want   int
	}{{0, "", 0}, {1, "", 1}, {1, "00", 0}, {0, "01", 1}} {
		tracer, c, _ := start(t, test.share, http.StatusOK)
		header := http.Header{}
		if test.parent != "" {
			header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"+test.parent)
		}
		ctx, span := tracer.Request(t.Context(), header)
		_, inner := tracing.Start(ctx, "inner")
		inner.End(nil)
		span.End(nil)
		tracer.Close(t.Context())
		if got := len(c.spans()); got != 2*test.want {
			t.Errorf("share %v, flags %q: %d spans", test.share, test.parent, got)
		}
	}
}

func TestNoTracer(t *testing.T) {
	t.Parallel()
	var tracer *tracing.Tracer
	ctx, span := tracer.Request(t.Context(), http.Header{})
	if ctx != t.Context() {
		t.Error("the context is another one")
	}
	span.Set("a", "b")
	span.SetInt("a", 1)
	span.Rename("c")
	span.Event("d")
	span.End(errors.New("e"))
	tracer.Close(t.Context())
	_, inner := tracing.Start(t.Context(), "f")
	inner.End(nil)
}

func TestCollectorsThatFail(t *testing.T) {
	t.Parallel()
	tracer, _, errs := start(t, 1, http.StatusServiceUnavailable)
	_, span := tracer.Request(t.Context(), http.Header{})
	span.End(nil)
	tracer.Close(t.Context())
	if len(*errs) != 1 || (*errs)[0].Error() != "send 1 spans: the collector answered with status 503" {
		t.Errorf("the errors are %v", *errs)
	}
	server := httptest.NewServer(http.NotFoundHandler())
	url := server.URL
	server.Close()
	var lost error
	tracer = tracing.New(tracing.Options{URL: url + "/canary", Share: 1, OnError: func(err error) { lost = err }})
	_, span = tracer.Request(context.Background(), http.Header{})
	span.End(nil)
	tracer.Close(t.Context())
	if lost == nil || strings.Contains(lost.Error(), "canary") {
		t.Errorf("the error is %v", lost)
	}
}
