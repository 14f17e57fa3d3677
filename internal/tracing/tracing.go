// Package tracing tells a collector of traces what requests spend their time on.
//
// It uses the OpenTelemetry SDK, and sends spans by OTLP over HTTP with JSON
// (OpenTelemetry Protocol 1.x). Spans hold names of requests, codes and times, and nothing
// secret or personal.
package tracing

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// scope is the name under which this server makes spans.
const scope = "authnzerver"

// Options configure a Tracer.
type Options struct {
	// URL is the base URL of the collector, without a slash at its end.
	URL string
	// Share is how many requests are traced, from 0 to 1, of those for which the
	// frontend has not decided it.
	Share float64
	// Version is the server's, and Instance the name of this process.
	Version, Instance string
	// OnError is called when spans could not be sent, which are lost then.
	OnError func(error)
}

// A Tracer makes spans of requests. A nil Tracer makes none. It is safe for concurrent
// use.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// New returns a Tracer, whose spans are sent every few seconds.
func New(o Options) *Tracer {
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(newExporter(o.URL, o.OnError)),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(o.Share))),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", scope),
			attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Instance),
		)),
	)
	return &Tracer{provider, provider.Tracer(scope)}
}

// Close sends what was not sent yet, and takes no longer than five seconds.
func (t *Tracer) Close(ctx context.Context) {
	if t == nil {
		return
	}
	const longest = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // the exporter has told what went wrong
}

// Request begins the span of a request, within the one that the header traceparent (W3C
// Trace Context) names, if there is one.
func (t *Tracer) Request(ctx context.Context, header http.Header) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(header))
	ctx, span := t.tracer.Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer))
	return ctx, &Span{span}
}

// Start begins a span within the one that the context carries. Without one that is
// recorded, it does nothing.
func Start(ctx context.Context, name string) (context.Context, *Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, nil
	}
	ctx, span := parent.TracerProvider().Tracer(scope).Start(ctx, name)
	return ctx, &Span{span}
}

// A Span is a part of a request. A nil Span is one that is not recorded.
type Span struct{ span trace.Span }

// Event notes that something happened.
func (s *Span) Event(name string) {
	if s != nil {
		s.span.AddEvent(name)
	}
}

// Set notes a fact that is neither secret nor personal.
func (s *Span) Set(name, value string) {
	if s != nil {
		s.span.SetAttributes(attribute.String(name, value))
	}
}

// SetInt notes a number.
func (s *Span) SetInt(name string, value int) {
	if s != nil {
		s.span.SetAttributes(attribute.Int(name, value))
	}
}

// Rename gives the span another name.
func (s *Span) Rename(name string) {
	if s != nil {
		s.span.SetName(name)
	}
}

// End ends the span. An error marks it; its text, which may be personal, is not sent.
func (s *Span) End(err error) {
	if s == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, "")
	}
	s.span.End()
}
