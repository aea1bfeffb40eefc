"""A collector for tests: takes OTLP/HTTP as protobuf, by opentelemetry-proto, and misbehaves when told to."""
import collections
import http.server
import threading
import time

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

PATIENCE = 60


def value_of(v):
    kind = v.WhichOneof("value")
    if kind == "array_value":
        return [value_of(e) for e in v.array_value.values]
    return getattr(v, kind)


def attributes_of(thing):
    got = {a.key: value_of(a.value) for a in thing.attributes}
    assert len(got) == len(thing.attributes), "an attribute stands there twice"
    return got


class Span:
    def __init__(self, span, resource, scope):
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.name, self.kind, self.flags = span.name, span.kind, span.flags
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.attributes, self.status = attributes_of(span), span.status
        self.events = [(e.name, e.time_unix_nano, attributes_of(e)) for e in span.events]
        self.resource, self.scope = resource, scope

    @property
    def ms(self):
        return (self.end - self.start) / 1e6

    def __repr__(self):
        return f"<{self.name} {self.id} of {self.parent or '-'}, {self.ms:.1f} ms>"


class Receiver:
    """how: "take", "hang", "refuse" (500), "busy" (429 with Retry-After), "partial" (the first span of each is rejected)."""

    def __init__(self, how="take", tls=None, port=0):
        self.how, self.posts, self.headers, self.bad = how, 0, [], []
        self.lock, self.spans, self.released = threading.Lock(), [], threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                receiver.handle(self)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle(self, h):
        body = h.rfile.read(int(h.headers["Content-Length"]))
        with self.lock:
            self.posts += 1
            self.headers.append(dict(h.headers.items()))
        reply, status, more = trace_service_pb2.ExportTraceServiceResponse(), 200, {}
        if self.how == "hang":
            self.released.wait(PATIENCE)
            return
        if self.how == "refuse":
            status = 500
        elif self.how == "busy":
            status, more = 429, {"Retry-After": "1"}
        elif not self.take(h, body):
            status = 400
        elif self.how == "partial":
            reply.partial_success.rejected_spans = 1
            reply.partial_success.error_message = "one of them is too old"
        answer = reply.SerializeToString()
        h.send_response(status)
        for name, value in {"Content-Type": "application/x-protobuf", "Content-Length": len(answer), **more}.items():
            h.send_header(name, str(value))
        h.end_headers()
        h.wfile.write(answer)

    def take(self, h, body):
        request = trace_service_pb2.ExportTraceServiceRequest()
        try:
            assert h.path == "/v1/traces" and h.headers["Content-Type"] == "application/x-protobuf", h.path
            request.ParseFromString(body)
            request.DiscardUnknownFields()
            assert request.ByteSize() == len(body), "fields that the protocol does not know"
        except Exception as e:
            self.bad.append(repr(e))
            return False
        with self.lock:
            for r in request.resource_spans:
                resource = attributes_of(r.resource)
                for s in r.scope_spans:
                    self.spans += [Span(span, resource, (s.scope.name, s.scope.version)) for span in s.spans]
        return True

    def traces(self):
        """Spans by trace."""
        by = collections.defaultdict(list)
        with self.lock:
            for s in self.spans:
                by[s.trace].append(s)
        return by

    def wait_trace(self, trace):
        until = time.monotonic() + PATIENCE
        while trace not in (have := self.traces()):
            assert time.monotonic() < until and not self.bad, (trace, list(have), self.bad, self.posts)
            time.sleep(0.02)
        return have[trace]

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
