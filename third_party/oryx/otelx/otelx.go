// Package otelx stands in for the package of the same name in github.com/ory/x: only what fosite v0.49.0 imports of it.
package otelx

import "go.opentelemetry.io/otel/trace"

// End ends a span, and says so there if the traced function fails.
func End(span trace.Span, err *error) {
	if *err != nil {
		span.RecordError(*err)
	}
	span.End()
}
