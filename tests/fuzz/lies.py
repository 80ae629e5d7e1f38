"""A helper that lies: it answers each operation with changed FastCGI, and posts changed completions.
What the gateway makes of it is an answer of the API, 502 as a rule; what it stores can be read again."""

import collections
import json
import random
import re
import socket
import struct
import time
import uuid

from harness import fake, settings
from harness.fake import STDERR, STDOUT, record

from . import mutate, wire
from .endpoints import Request
from .gateway_fuzz import LAST, Watch, fuzz_part, gateway
from .mutate import chance
from .wire import Finding

INTAKE = {"digest": "ab" * 32, "manifest": {
    "name": "fake", "description": "d", "version": "1.0.0", "version_declared": True, "lang": "python", "mode": "executable",
    "entrypoint": "main.py", "timeout_ms": 1000, "memory_bytes": 268435456, "cpu_milli": 500, "network": False,
    "instructions": ""}, "scripts": [{"path": "main.py", "lang": "python"}], "files": [{"path": "main.py", "size_bytes": 1}],
    "size_bytes": 1, "findings": [{"severity": "note", "code": "c", "message": "m", "file": "main.py", "line": 1}],
    "security": [{"severity": "note", "category": "secret", "code": "c", "message": "m", "file": "f", "line": 1, "remediation": "r"}]}
READY = {"status": "ok", "tier": "full", "runtimes": {"python": "ok"}, "running": 0, "queued": 0}
RESULT = {"status": "success", "output": {"a": [1, None]}, "files_list": ["a"], "duration_ms": 1, "error": None, "exit_code": 0,
          "usage": {"cpu_ms": 1, "max_rss_bytes": 1, "wall_ms": 1}, "skill_name": "fake", "skill_version": "1.0.0"}
FILES = [{"path": "main.py", "content": "1", "size_bytes": 1}, {"path": "b", "content": "/w==", "size_bytes": 1, "encoding": "base64"}]
FACTS = {"X-Skillbox-Status": "success", "X-Skillbox-Exit-Code": "0", "X-Skillbox-Files": "0", "X-Skillbox-Queue-Usec": "10",
         "X-Skillbox-Run-Usec": "1000", "X-Skillbox-Start-Usec": "5", "X-Skillbox-Collect-Usec": "5"}
ODD_FACTS = ["", "-1", "0", "1", "2", "4096", "4097", "9" * 19, "9" * 40, "x", "success", "failed", "running", "queued", "\x01", "é",
             "1 2", " ", "../x", "a" * 200]
REFUSAL = {"error": "overloaded", "message": "the queue is full", "details": [{"a": 1}]}


def changed_facts(rng, facts):
    facts = dict(facts)
    for _ in range(rng.choice([0, 1, 1, 2])):
        name = rng.choice(list(facts))
        if chance(rng, 3):
            del facts[name]
            if not facts:
                break
        else:
            facts[name] = rng.choice(ODD_FACTS)
    return facts


class Liar:
    """answer() for harness.fake: honest one time in three."""

    def __init__(self, seed):
        self.rng, self.said = random.Random(seed), collections.deque(maxlen=LAST)

    def honest(self, op):
        """(status, body, facts, log)"""
        return {"status": (200, READY, {}, b""), "intake": (200, INTAKE, {}, b""), "files": (200, FILES, {}, b""),
                "run": (200, RESULT, FACTS, b"a line\n\xff\n"), "submit": (202, {"status": "queued"}, {}, b""),
                "cancel": (202, {"status": "cancelled"}, {}, b""), "attach": (200, None, {}, b"a line\nmore"),
                }.get(op, (400, {"error": "bad_request", "message": "no such operation"}, {}, b""))

    def body(self, op, value, lie):
        rng = self.rng
        if op == "attach" and value is None:
            lines = [{"status": "queued"}, {"status": "running"}, {"status": "ended"}]
            if not lie:
                return b"".join(json.dumps(line).encode() + b"\n" for line in lines)
            return rng.choice([b"\n", b"", b"\n\n"]).join(mutate.json_text(rng, rng.choice(lines)) for _ in range(rng.randrange(5)))
        return mutate.json_text(rng, value) if lie else json.dumps(value).encode()

    def answer(self, request, connection):
        rng = self.rng
        lie = not chance(rng, 3)
        status, value, facts, log = self.honest(request.op)
        if lie and chance(rng, 5):
            status, value = rng.choice([200, 202, 204, 304, 400, 404, 409, 413, 422, 429, 503, 502, 100, 599]), rng.choice([REFUSAL, {
                "error": "unknown_package", "message": "no such package"}, {"error": "unknown_execution", "message": "none"}, value])
        body = self.body(request.op, value, lie and chance(rng, 2))
        facts = changed_facts(rng, facts) if lie and facts and chance(rng, 2) else facts
        if status in (429, 503) or chance(rng, 9):
            facts = {**facts, "Retry-After": rng.choice(["3", "0", "-1", "x", "9" * 30])}
        head = f"Status: {status}\r\nContent-Type: application/json\r\n" + "".join(f"{k}: {v}\r\n" for k, v in facts.items())
        head = head.encode() + b"\r\n"
        if lie and chance(rng, 6):
            head = mutate.flip(rng, head, 2)
        if lie and chance(rng, 8):
            log = rng.choice([b"", b"\0" * 100, bytes(rng.randrange(256) for _ in range(300)), b"x" * (3 << 20), b"\xf0\x9f" * 9])
        data = self.framed(log, head + body) if lie else \
            fake.stream(STDERR, log) + fake.stream(STDOUT, head + body) + record(STDOUT) + fake.end()
        self.said.append(data)
        self.send(connection, data)

    def framed(self, log, out):
        """The streams as records, cut at odd places and mixed; sometimes not FastCGI any more."""
        rng, data = self.rng, b""
        streams = [(STDERR, log), (STDOUT, out)]
        while any(content for _, content in streams):
            i = rng.randrange(2)
            kind, content = streams[i]
            size = rng.choice([1, 7, 200, 8192, 65535])
            if len(content) > 100000:
                size = 65535
            if content:
                data += record(kind, content[:size])
                streams[i] = kind, content[size:]
            if chance(rng, 40):
                data += rng.choice([record(STDERR), record(STDOUT), record(rng.randrange(256), b"x"), record(STDOUT, b"x", request_id=2),
                                    record(STDOUT, b"x", version=0), struct.pack("!BBHHBB", 1, STDERR, 1, 0, 255, 9) + b"p" * 255])
        data += record(STDOUT) if not chance(rng, 10) else b""
        data += fake.end(rng.choice([0, 1, 137, 2**32 - 1]), rng.choice([0, 0, 0, 0, 1, 2, 3, 255])) if not chance(rng, 10) else b""
        how = rng.randrange(12)
        if how == 0:
            return mutate.flip(rng, data)
        if how == 1:
            return data[:rng.randrange(len(data) + 1)]
        if how == 2:
            return data + data
        return data

    def send(self, connection, data):
        rng = self.rng
        if chance(rng, 10):
            for _ in range(rng.choice([1, 5, 30])):
                size = rng.choice([1, 3, 8, 9])
                connection.sendall(data[:size])
                data = data[size:]
                time.sleep(0.001)
        connection.sendall(data)
        if chance(rng, 100):
            time.sleep(1.3)  # the gateway's patience is 1 s


def new_id(rng):
    """Of now, as the gateway makes them (version 7)."""
    return str(uuid.UUID(int=int(time.time() * 1000) << 80 | 7 << 76 | rng.getrandbits(12) << 64 | 2 << 62 | rng.getrandbits(62)))


class Victim:
    """A client of the gateway whose helper lies."""

    def __init__(self, gw, seed, liar, completions):
        self.gw, self.rng, self.liar, self.completions = gw, random.Random(seed), liar, completions
        self.last, self.statuses, self.known = collections.deque(maxlen=LAST), collections.Counter(), []
        self.tenant = f"victim{seed:x}"
        self.key = gw.new_key(self.tenant, "admin")

    def request(self):
        rng = self.rng
        known = rng.choice(self.known or [str(uuid.uuid4())])
        run = json.dumps({"skill": "fake", "input": {"a": 1}}).encode()
        later = json.dumps({"skill": "fake", "async": True}).encode()
        return rng.choice([
            lambda: Request("GET", "/ready"), lambda: Request("POST", "/v1/skills", (), b"looked at by nobody", "application/zip"),
            lambda: Request("POST", "/v1/skills/validate", (), b"x", "application/zip"),
            lambda: Request("POST", "/v1/skills/from-fields", (), b'{"name":"fake","description":"d","code":"1"}'),
            lambda: Request("POST", "/v1/executions", (), run), lambda: Request("POST", "/v1/executions", (), run),
            lambda: Request("POST", "/v1/executions", (), later), lambda: Request("GET", f"/v1/executions/{known}"),
            lambda: Request("GET", f"/v1/executions/{known}/logs", [("follow", "1")]), lambda: Request("GET", f"/v1/executions/{known}/events"),
            lambda: Request("DELETE", f"/v1/executions/{known}"), lambda: Request("GET", "/v1/skills/fake/latest/files"),
            lambda: Request("GET", "/v1/skills/fake/latest"), lambda: Request("GET", "/v1/skills"),
            lambda: Request("GET", "/v1/executions")])()

    def ask(self, request):
        shot = wire.Shot()
        wire.add(self.rng, shot, request, f"Bearer {self.key}", True)
        shot.whole = not request.path.endswith(("/logs", "/events"))  # a run that a lie accepted never ends
        self.last.append(shot.data)
        # A package's files are passed on as they come (ngx_http_skillbox_package.c): up to 16 MiB.
        own = not request.path.endswith("/files")
        try:
            answers = wire.judge(shot, wire.fire(shot, self.gw.port), (bytes(self.gw.state),), lying=True, own=own)
        except Finding as error:
            said = "\n".join(f"  {data[:1500]!r}" for data in self.liar.said)
            raise Finding(f"{error}\nthe helper said last:\n{said}") from None
        for status, headers, body in answers:
            self.statuses[status] += 1
            if own and headers.get("Content-Type") == wire.check.JSON_TYPE and body and status < 300:
                value = wire.strict(body, True)
                if isinstance(value, dict) and "execution_id" in value:
                    self.known = [*self.known[-20:], value["execution_id"]]
        return answers

    def read_again(self):
        """What was stored of lies is JSON of the API all the same."""
        for path in [f"/v1/executions/{e}" for e in self.known[-1:]] + ["/v1/executions", "/v1/skills", "/v1/skills/fake/versions"]:
            for status, _, body in self.ask(Request("GET", path)):
                if status not in (200, 404):
                    raise Finding(f"GET {path} is {status}: {body!r}")

    def step(self):
        if self.completions and chance(self.rng, 2):
            self.post()
        else:
            self.ask(self.request())

    # ---- completions ----

    def post(self):
        rng = self.rng
        execution = rng.choice(self.known) if self.known and not chance(rng, 4) else new_id(rng)
        log = rng.choice([b"", b"a line\n", b"\xff\0\n", b"x" * 70000])
        body = (mutate.json_text(rng, RESULT) if chance(rng, 2) else json.dumps(RESULT).encode()) + log
        now = str(int(time.time() * 1000))
        facts = {**FACTS, "X-Skillbox-Tenant": self.tenant, "X-Skillbox-Skill": "fake", "X-Skillbox-Version": "1.0.0",
                 "X-Skillbox-Created": now, "X-Skillbox-Finished": now, "X-Skillbox-Log-Length": str(len(log))}
        facts["X-Skillbox-Status"] = rng.choice(["success", "failed", "timeout", "cancelled", "running"])
        if not chance(rng, 3):
            facts = changed_facts(rng, facts)
        if chance(rng, 12):
            facts["X-Skillbox-Log-Length"] = rng.choice([str(len(body)), str(len(body) + 1), "-1", "9" * 30])
        head = f"POST /completions/{execution} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        head = head.encode() + b"".join(f"{k}: {v}\r\n".encode() for k, v in facts.items()) + b"\r\n"
        if chance(rng, 12):
            head = mutate.flip(rng, head, 1)
        data = head + body
        if chance(rng, 20):
            data = data[:rng.randrange(len(data))]
        self.last.append(data)
        self.judge_post(execution, self.send(data))

    def send(self, data):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(0.2)
            s.connect(str(self.gw.state / "sock" / "complete.sock"))
            got = b""
            try:
                s.sendall(data)
                while piece := s.recv(65536):
                    got += piece
            except (TimeoutError, ConnectionError):
                pass  # half a request: nobody waits for its end
            return got

    def judge_post(self, execution, got):
        match = re.match(rb"HTTP/1\.1 (\d{3}) ", got)
        status = int(match[1]) if match else 0
        self.statuses[f"completion {status}"] += 1
        if status >= 500 and status not in (501, 503, 505):
            raise Finding(f"a completion is {status}: {got!r}")
        if status == 204:
            self.known = [*self.known[-20:], execution]
            self.read_again()

    def run(self, until):
        count = 0
        while time.monotonic() < until:
            self.step()
            count += 1
            if count % 20 == 0:
                self.read_again()
        return count


def fuzz(seconds, seed, completions, clients=2):
    with gateway(with_helper=False, own_files=("sock/helper.sock",), location="skillbox_read_timeout 1s; skillbox_send_timeout 1s;",
                 completers=f"{settings.HELPER_USER} root" if settings.ROOT else "") as gw:
        liar = Liar(seed)
        with fake.FakeHelper(gw.helper_socket, liar.answer):
            victims = [Victim(gw, seed * 1000 + i, liar, completions) for i in range(clients)]
            count = fuzz_part(victims, Watch(gw), seconds, seed, "completion" if completions else "helper")
        statuses = sum((v.statuses for v in victims), collections.Counter())
        return count, f"statuses {dict(sorted(statuses.items(), key=str))}"


def fuzz_helper(seconds, seed):
    return fuzz(seconds, seed, False)


def fuzz_completions(seconds, seed):
    return fuzz(seconds, seed, True)
