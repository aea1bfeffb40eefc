"""load.py URL KEY SECONDS - eight clients that stream answers, a new connection for each; what a client library does
is done: 503 with Retry-After is asked again. Prints: requests=N retried=N failed=N refused=N"""
import http.client
import json
import sys
import threading
import time
import urllib.parse

url, key, seconds = urllib.parse.urlparse(sys.argv[1]), sys.argv[2], float(sys.argv[3])
count = {"requests": 0, "retried": 0, "failed": 0, "refused": 0}
lock = threading.Lock()
why = []


def note(what, text=None):
    with lock:
        count[what] += 1
        if text:
            why.append(text)


def once(connection, tokens):
    """Whether the answer was whole; None: it is to be asked again."""
    body = {"model": "m", "prompt": "Once upon a time", "max_tokens": tokens, "ignore_eos": True, "stream": True}
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    reply = connection.getresponse()
    text = reply.read().decode()
    if reply.status == 503 and reply.getheader("Retry-After"):
        return None
    return reply.status == 200 and text.endswith("data: [DONE]\n\n") and '"error"' not in text


def client(i):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        try:
            good = once(connection, 5 + 5 * i)
            if good is None:
                note("retried")
                time.sleep(0.2)
                continue
            note("requests")
            if not good:
                note("failed", "an answer was not whole")
        except ConnectionRefusedError as e:
            note("refused", repr(e))
        except (OSError, http.client.HTTPException) as e:
            note("failed", repr(e))
        finally:
            connection.close()


threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(" ".join(f"{k}={v}" for k, v in count.items()), "")
for line in why[:5]:
    print("  ", line)
