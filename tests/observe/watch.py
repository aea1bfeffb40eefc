"""watch.py PORT TABS SCRAPES_PER_S: open pages and scrapes, in one thread, until a line comes on standard input; then
prints what came of it. Nice, so that what it takes of the machine is not taken from who is watched."""
import json
import os
import selectors
import socket
import sys
import time


def main(port, tabs, per_s):
    os.nice(19)
    sel = selectors.DefaultSelector()
    sel.register(sys.stdin, selectors.EVENT_READ)
    for _ in range(tabs):
        s = socket.create_connection(("127.0.0.1", port))
        s.sendall(b"GET /admin/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        sel.register(s, selectors.EVENT_READ)
    scraper = socket.create_connection(("127.0.0.1", port))
    events, scrapes, due = 0, [], time.monotonic()
    while True:
        for key, _ in sel.select(max(0, due - time.monotonic())):
            if key.fileobj is sys.stdin:
                print(json.dumps({"events": events, "scrapes": sorted(scrapes)}))
                return
            events += key.fileobj.recv(1 << 20).count(b"event: snapshot")
        if time.monotonic() >= due:
            began, got = time.monotonic(), b""
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/openmetrics-text\r\n\r\n")
            while not got.endswith(b"# EOF\n"):
                got += scraper.recv(1 << 20)
            scrapes.append(time.monotonic() - began)
            due += 1 / per_s


main(*map(int, sys.argv[1:]))
