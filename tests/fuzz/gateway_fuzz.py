"""Fuzzes a gateway from its three sides: clients that send changed requests to every endpoint; a
helper that answers with changed FastCGI (lies.py); a helper that posts changed completions.  Never
right, whatever comes: a crash, a report of a sanitizer, a worker or a program of the helper's that
ends, a line at alert or above, 500, an answer that is no HTTP, an error that is not in the API's form,
JSON that is none.  A finding tells the last requests and the seed, which makes the same series again.

tests/api/test_fuzz.py runs it: for seconds in every `make test`, on a sanitized build in `make fuzz`.
"""

import collections
import contextlib
import random
import re
import threading
import time
from urllib.parse import urlsplit

from harness import watch
from harness.gateway import Gateway

from . import endpoints, wire
from .wire import Finding

CHECK_EVERY = 150
LAST = 8
BAD_LINE = re.compile(r"\[(alert|crit|emerg)\]|Sanitizer|runtime error:|exited on signal|open socket .* left|a helper program is down")


class Watch:
    """What must not change while a gateway is fuzzed."""

    def __init__(self, gw):
        self.gw, self.at = gw, {"error.log": 0, "helper.log": 0, "nginx.out": 0}
        self.before = self.programs()

    def programs(self):
        """Children of nginx and of the helper, those that come and go left out."""
        table = watch.processes()
        parents = {self.gw.nginx.pid, self.gw.helper.pid if self.gw.helper else 0}
        return {pid: name for pid, (name, _, parent) in table.items()
                if parent in parents and name in ("nginx", "sandbox-stage", "sandbox-packer")}

    def check(self):
        gw = self.gw
        for name, start in self.at.items():
            path = gw.state / "logs" / name
            if not path.exists():
                continue
            with open(path, "rb") as log:
                log.seek(start)
                text = log.read()
                self.at[name] = start + len(text)
            for line in text.decode("utf-8", "replace").splitlines():
                if BAD_LINE.search(line) and not any(p.search(line) for p in gw.allowed_log):
                    raise Finding(f"{name}: {line[:1000]}")
        if gw.nginx.poll() is not None or gw.helper and gw.helper.poll() is not None:
            raise Finding("nginx or the helper ended")
        now = self.programs()
        if now != self.before:
            raise Finding(f"programs ended: {self.before}, now {now}")


class Http:
    """Clients.  One a thread; `seed` and what the gateway answers decide what is sent."""

    def __init__(self, gw, seed):
        self.gw, self.rng, self.pool = gw, random.Random(seed), endpoints.Pool()
        self.requests = endpoints.Requests(self.rng, self.pool)
        self.last = collections.deque(maxlen=LAST)
        self.statuses = collections.Counter()
        self.keys = {}
        self.renew()

    def renew(self):
        """Keys and skills that are certainly there: what was sent before may have removed all.  The
        other client, who may administer, can delete the new tenant while it is made."""
        for _ in range(3):
            answer = self.make_tenant()
            if answer.status_code in (200, 201):
                return
        raise Finding(f"a tenant's first skills are refused: {answer.status_code} {answer.text}")

    def make_tenant(self):
        gw = self.gw
        self.pool.forget()
        tenant = f"fuzz{self.rng.getrandbits(32):x}"
        self.keys = {role: gw.new_key(tenant, role) for role in ("admin", "runner", "reader")}
        self.keys["service"] = gw.new_key(tenant, "admin", "--service")
        self.pool.add("tenant", tenant)
        for name, code in (("fuzz-a", "cat"), ("fuzz-b", "echo x > $SANDBOX_FILES_DIR/x; echo y")):
            answer = gw.post("/v1/skills/from-fields", key=self.keys["admin"], json={
                "name": name, "description": "d", "code": code, "lang": "bash"})
            if answer.status_code not in (200, 201):
                break
            self.pool.add("skill", name)
        return answer

    def authorize(self, request):
        how = self.rng.randrange(40)
        if how == 0:
            return None
        if how == 1:
            return self.rng.choice(["Bearer", "Bearer ", "Basic YTpi", "bearer sk-" + "x" * 43, "Bearer " + "y" * 5000, "sk-x",
                                    "Bearer " + self.pool.pick(self.rng, "secret", "x"), "Bearer \u00e9"])
        if how < 5:
            return "Bearer " + self.keys[self.rng.choice(["runner", "reader"])]
        return "Bearer " + self.keys["service" if request.admin else "admin"]

    def learn(self, status, headers, body):
        self.statuses[status] += 1
        if status >= 300 or not body:
            return
        link = re.search(r"cursor=([^&>]*)", headers.get("Link") or "")
        if link:
            self.pool.add("cursor", link[1])
        if headers.get("Content-Type") != wire.check.JSON_TYPE:
            return
        value = wire.strict(body)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                self.learn_from(item)

    def learn_from(self, item):
        for field, kind in (("execution_id", "execution"), ("name", "skill")):
            if isinstance(item.get(field), str):
                self.pool.add(kind, item[field])
        if isinstance(item.get("id"), str):
            kind = "key" if "role" in item else "tenant" if "limits" in item else "file"
            self.pool.add(kind, item["id"])
        if isinstance(item.get("files_url"), str):
            parts = urlsplit(item["files_url"])
            self.pool.add("url", f"{parts.path}?{parts.query}")
        if isinstance(item.get("key"), str):
            self.pool.add("secret", item["key"])

    def step(self):
        shot = wire.shot_of(self.rng, self.requests, self.authorize)
        self.last.append(shot.data)
        for answer in wire.judge(shot, wire.fire(shot, self.gw.port), (bytes(self.gw.state),)):
            self.learn(*answer)

    def service(self):
        """Whatever was sent: a tenant of its own is served."""
        for _ in range(3):
            self.renew()
            answer = self.gw.execute("fuzz-b", key=self.keys["admin"])
            if answer.status_code == 200 and answer.json()["files_list"] == ["x"]:
                return
        raise Finding(f"an ordinary run: {answer.status_code} {answer.text}")

    def run(self, until):
        count = 0
        while time.monotonic() < until:
            self.step()
            count += 1
            if count % CHECK_EVERY == 0:
                self.service()
        self.service()
        return count


def tell(seed, part, error, last):
    lines = [f"{part}: {error}", f"seed {seed}; the last {len(last)} of its series, the newest last:"]
    lines += [f"  {data[:2000]!r}{' ...' if len(data) > 2000 else ''}" for data in last]
    return "\n".join(lines)


def fuzz_part(fuzzers, watcher, seconds, seed, part):
    """Each fuzzer in a thread of its own; Finding with all there is to know."""
    until, problems, counts = time.monotonic() + seconds, [], []

    def one(fuzzer):
        try:
            counts.append(fuzzer.run(until))
        except Exception as error:
            problems.append(tell(seed, part, f"{type(error).__name__}: {error}", list(fuzzer.last)))
    threads = [threading.Thread(target=one, args=(f,)) for f in fuzzers]
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads) and not problems:
        time.sleep(0.3)
        try:
            watcher.check()
        except Finding as error:
            problems += [tell(seed, part, error, list(f.last)) for f in fuzzers]
    for t in threads:
        t.join(until - time.monotonic() + wire.ANSWER_SECONDS)
    if not problems:
        try:
            watcher.check()
        except Finding as error:
            problems += [tell(seed, part, error, list(f.last)) for f in fuzzers]
    if problems:
        raise Finding("\n".join(problems))
    return sum(counts)


@contextlib.contextmanager
def gateway(**options):
    """Stopped at the end, which must leave nothing; a finding comes before what is left of it."""
    gw = Gateway(helper={"concurrency": 2}, main="worker_shutdown_timeout 5s;",
                 server="client_body_timeout 1s; client_header_timeout 1s;", **options).start()
    try:
        yield gw
    except BaseException:
        with contextlib.suppress(AssertionError):
            gw.stop()
        raise
    gw.stop()


def fuzz_http(seconds, seed, clients=2):
    with gateway() as gw:
        fuzzers = [Http(gw, seed * 1000 + i) for i in range(clients)]
        count = fuzz_part(fuzzers, Watch(gw), seconds, seed, "http")
        statuses = sum((f.statuses for f in fuzzers), collections.Counter())
        finished = {e for f in fuzzers for e in f.pool.known["execution"]}
        return count, f"statuses {dict(sorted(statuses.items()))}, {len(finished)} executions known"
