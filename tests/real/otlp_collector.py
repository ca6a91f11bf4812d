"""A collector that takes OTLP over HTTP and decodes it with OpenTelemetry's own messages.

otlp_collector.py server     listens on a free port of loopback, which it prints first

POST /v1/traces takes spans as a real collector does (400 for what cannot be decoded); GET /spans returns them as JSON.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

SPANS = []


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def attributes(pairs):
    found = {pair.key: value(pair.value) for pair in pairs}
    assert len(found) == len(pairs), f"a key is there twice: {pairs}"
    return found


def unknown(message):
    """Fields that the messages of OpenTelemetry do not have: a number that we got wrong would end up there."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    count = len(UnknownFieldSet(message))
    for field, inner in message.ListFields():
        if field.message_type is not None:
            many = inner if hasattr(inner, "__len__") and not hasattr(inner, "ListFields") else [inner]
            count += sum(unknown(one) for one in many)
    return count


def decode(body):
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    assert unknown(request) == 0, f"{unknown(request)} fields are unknown"
    for resource_spans in request.resource_spans:
        resource = attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                assert len(span.trace_id) == 16 and len(span.span_id) == 8, span
                assert span.start_time_unix_nano <= span.end_time_unix_nano, span
                yield {
                    "resource": resource,
                    "scope": scope_spans.scope.name,
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "state": span.trace_state,
                    "flags": span.flags,
                    "name": span.name,
                    "kind": Span.SpanKind.Name(span.kind),
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "status": Status.StatusCode.Name(span.status.code),
                    "attributes": attributes(span.attributes),
                }


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            assert self.path == "/v1/traces", self.path
            assert self.headers["content-type"] == "application/x-protobuf", self.headers
            SPANS.extend(decode(body))
        except (AssertionError, DecodeError) as problem:
            print(problem, file=sys.stderr)
            return self.answer(400, "text/plain", str(problem).encode())
        self.answer(200, "application/x-protobuf", ExportTraceServiceResponse().SerializeToString())

    def do_GET(self):
        self.answer(200, "application/json", json.dumps(SPANS).encode())

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    assert sys.argv[1:] == ["server"], __doc__
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    print(server.server_address[1], flush=True)
    server.serve_forever()
