#!/usr/bin/env python3
"""edge_reloads.py [N] - N reloads (default 1,000) while 200 streams run, half of them over TLS. Each changes the
keys (one comes and goes, others are renamed, all in another order), the limits and the certificate.

Every stream of the key that stays must be whole, with the text of an undisturbed run. After each reload the key that
comes and goes is known or not, and new connections see the certificate of now. Neither descriptors nor memory may
grow with the number of reloads, and no key may stand in the log. Last line: "N passed, M failed"."""
import asyncio
import hashlib
import json
import pathlib
import re
import shutil
import ssl
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/api"))
from authority import Authority  # noqa: E402
from conftest import GGUF, free_port  # noqa: E402
from test_reload import Reloaded, key_section  # noqa: E402

STREAMS = 200
SIM = 'devices = { "sim" }\n sim_step_us = 30000\n sim_row_ns = 0\n max_num_seqs = 512\n max_model_len = 512\n'
STAYS, COMES_AND_GOES, NEVER = "sk-stays-0123456789", "sk-comes-and-goes-0123456789", "sk-never-0123456789"
SETTLED, MEMORY_MORE_KIB = 500, 4096  # so many reloads, and what the second half of them may take
UNCHECKED = ssl.create_default_context()
UNCHECKED.check_hostname = False
UNCHECKED.verify_mode = ssl.CERT_NONE


def first_of(chain):
    end = "-----END CERTIFICATE-----\n"
    return chain.read_text().split(end)[0] + end


def body(number):
    return {"model": "m", "stream": True, "ignore_eos": True, "prompt": f"a story number {number % 8}",
            "max_tokens": 30 + number % 8, "seed": number % 8}


async def ask(port, tls, key, fields):
    """The status, the text, whether the stream is whole, and the certificate's digest over TLS. Status 0: no answer,
    the text says why."""
    try:
        return await asyncio.wait_for(exchange(port, tls, key, fields), 60)
    except (OSError, asyncio.TimeoutError, ValueError) as e:
        return 0, repr(e), False, ""


async def exchange(port, tls, key, fields):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=UNCHECKED if tls else None)
    try:
        payload = json.dumps(fields)
        writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                     f"Authorization: Bearer {key}\r\nConnection: close\r\n"
                     f"Content-Length: {len(payload)}\r\n\r\n{payload}".encode())
        certificate = writer.get_extra_info("ssl_object").getpeercert(True) if tls else b""
        answer = await reader.read(-1)
    finally:
        writer.transport.abort()
    status = int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
    events = re.findall(rb"^data: (\{.*)$", answer, re.M)
    text = "".join(c["text"] for e in events for c in json.loads(e).get("choices", []))
    return status, text, b"data: [DONE]" in answer, hashlib.sha256(certificate).hexdigest()


class Drill:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.passed = self.failed = 0
        self.stop, self.done = False, 0
        authority = Authority(self.folder / "authority")
        self.files = [authority.issue(name) for name in ("even", "odd")]
        self.digests = [hashlib.sha256(ssl.PEM_cert_to_DER_cert(first_of(pem))).hexdigest() for pem, _ in self.files]
        plain = free_port()
        self.server = Reloaded(folder, model=SIM, authority=authority, top=self.top(0),
                               more_listen=(f"http://127.0.0.1:{plain}",)).wait_ready()
        self.server.head = (f'listen = {{ "127.0.0.1:{self.server.port}", "http://127.0.0.1:{plain}" }}\n'
                            'control_socket = "llmd.sock"\ntls { certificate = "now.crt"\n key = "now.key" }\n')
        self.ports = {False: plain, True: self.server.port}

    def use_certificate(self, number):
        for file, name in zip(self.files[number % 2], ("now.crt", "now.key")):
            shutil.copy(file, self.folder / name)

    def top(self, number):
        """The configuration in front of the model: of each number another one."""
        keys = [key_section("stays", STAYS, f"priority = {number % 5}"), key_section(f"other-{number}", f"sk-{number}")]
        if number % 2:
            keys.append(key_section("comes-and-goes", COMES_AND_GOES))
        if number % 3 == 0:
            keys.reverse()
        return ('header_timeout_s = 60\n'  # 200 clients in one process on a busy machine are slow
                f'log_level = "debug"\nmax_body_kb = {100 + number % 7}\nkeepalive_timeout_s = {60 + number % 2}\n' + "".join(keys))

    def check(self, holds, *what):
        self.passed += bool(holds)
        self.failed += not holds
        if not holds and self.failed <= 20:
            print("FAILED ", *what, flush=True)

    async def stream(self, number, expected):
        tls = number % 2 == 1
        while not self.stop:
            status, text, whole, _ = await ask(self.ports[tls], tls, STAYS, body(number))
            self.done += 1
            self.check(status == 200 and whole and text == expected[number % 8], "a stream", "over TLS" if tls else "plain",
                       status, whole, text[:200])
            number += 8 if tls else 2

    def held(self):
        """Descriptors and memory."""
        proc = pathlib.Path(f"/proc/{self.server.process.pid}")
        return (len(list((proc / "fd").iterdir())),
                int(re.search(r"RssAnon:\s+(\d+)", (proc / "status").read_text())[1]))

    def rewrite_and_reload(self, number):
        self.use_certificate(number)
        self.server.write({"m": (GGUF, SIM)}, self.top(number))
        return self.server.reload(60)

    async def reload(self, number):
        loop = asyncio.get_running_loop()
        state = await loop.run_in_executor(None, self.rewrite_and_reload, number)
        self.check(state["state"] == "done" and state["changes"], "reload", number, state)
        one = {"model": "m", "prompt": "x", "max_tokens": 1, "stream": True}
        results = await asyncio.gather(ask(self.ports[True], True, COMES_AND_GOES, one),
                                       ask(self.ports[False], False, NEVER, one))
        self.check(results[0][0] == (200 if number % 2 else 401), "the key that comes and goes", number, results[0])
        self.check(results[0][3] == self.digests[number % 2], "the certificate", number)
        self.check(results[1][0] == 401, "a key that never was", number, results[1])

    async def run(self, n):
        expected = [(await ask(self.ports[False], False, STAYS, body(i)))[1] for i in range(8)]
        streams = [asyncio.create_task(self.stream(i, expected)) for i in range(STREAMS)]
        middle = None
        try:
            for number in range(1, n + 1):
                await self.reload(number)
                if number == -(-n // 2):
                    middle = self.held()
            end = self.held()
        finally:
            self.stop = True
            await asyncio.gather(*streams)
        print(f"{n} reloads, {self.done} streams; descriptors and KiB after half of them {middle}, at the end {end}")
        self.check(abs(end[0] - middle[0]) <= 4 * STREAMS, "descriptors", middle, end)
        self.check(n < SETTLED or end[1] <= middle[1] + MEMORY_MORE_KIB, "memory", middle, end)


def main():
    n = int((sys.argv[1:] + ["1000"])[0])
    with tempfile.TemporaryDirectory() as folder:
        drill = Drill(folder)
        asyncio.run(drill.run(n))
        try:
            drill.server.stop()
        except AssertionError as e:
            drill.check(False, "the server's end:", str(e)[-2000:])
        log = drill.server.log_path.read_text(errors="replace")
        drill.check(log and "sk-" not in log, "a key stands in the log")
    print(f"{drill.passed} passed, {drill.failed} failed")
    return 1 if drill.failed else 0


if __name__ == "__main__":
    sys.exit(main())
