"""Requests to every endpoint: as a client would send them, with some parts changed by the fuzzer."""

import base64
import random
import uuid
from urllib.parse import quote

from harness.packages import make_zip, skill

from . import mutate
from .mutate import ODD_STRINGS, chance

BASH = ["echo hello", "cat", "echo '{\"a\": 1}' > $SANDBOX_OUTPUT", "echo x > $SANDBOX_FILES_DIR/x", "exit 3", "kill -9 $$",
        "printf '\\377\\0\\n'", "echo \"$@\"; env", "echo '{' > $SANDBOX_OUTPUT; echo y >&2"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "G\u00c9T", "get", "CONNECT"]
POOL_MAX = 60


class Pool:
    """What answers taught us: names, ids, cursors, signed addresses.  Old ones make room."""

    KINDS = ("skill", "execution", "file", "key", "tenant", "cursor", "url", "secret")

    def __init__(self):
        self.known = {kind: [] for kind in self.KINDS}

    def add(self, kind, value):
        values = self.known[kind]
        if value not in values:
            values.append(value)
            del values[:-POOL_MAX]

    def forget(self):
        """All but the newest few: what a tenant had that is looked at no more."""
        for values in self.known.values():
            del values[:-3]

    def pick(self, rng, kind, otherwise="x"):
        return rng.choice(self.known[kind] or [otherwise])


class Request:
    """path is percent-encoded already; query is a list of pairs, encoded when it is sent."""

    def __init__(self, method, path, query=(), body=b"", kind="application/json"):
        self.method, self.path, self.query, self.body = method, path, list(query), body
        self.headers = [("Content-Type", kind)] if body or method in ("POST", "PUT", "PATCH") else []
        self.admin = path.startswith("/v1/admin")


class Requests:
    """next() is one changed request; `rng` decides all of it."""

    def __init__(self, rng, pool):
        self.rng, self.pool = rng, pool
        self.makers = [self.execute, self.execute, self.execute, self.executions, self.execution, self.execution_part,
                       self.upload, self.upload, self.validate, self.from_fields, self.skills, self.skill, self.skill_files,
                       self.versions, self.activate, self.delete_skill, self.file_put, self.files, self.file, self.file,
                       self.keys, self.key_create, self.key, self.tenants, self.tenant, self.artifact, self.probes, self.nowhere]

    # ---- parts ----

    def id(self, kind):
        """An id in a path: one that is known, as a rule."""
        known = self.pool.pick(self.rng, kind, str(uuid.UUID(int=self.rng.getrandbits(128))))
        how = self.rng.randrange(14)
        if how == 0:
            other = self.pool.pick(self.rng, self.rng.choice(Pool.KINDS))
            return quote(other, safe="")
        if how == 1:
            return quote(self.rng.choice(ODD_STRINGS)[:2000].encode("utf-8", "replace"), safe="")
        if how == 2:
            return self.rng.choice([known.upper(), known[:-1], known + "0", known.replace("-", ""), "%00", known + "%00",
                                    "%2e%2e", "%2f", "%ff%fe", ".", "..", "-", known + ";a=b", "%", "%zz", "{" + known + "}"])
        return quote(known, safe="")

    def version(self):
        if not chance(self.rng, 3):
            return self.rng.choice(["latest", "1.0.0"])
        return self.rng.choice(["1.0.1", "0.0.1-a.b+c", "2", "", "v1.0.0", "1.0.0" + "0" * 70, "x"])

    def page(self, *names):
        query = []
        for name in names:
            if chance(self.rng, 3):
                value = {"limit": mutate.number_text, "offset": mutate.number_text}.get(
                    name, lambda rng: rng.choice(ODD_STRINGS))(self.rng)
                if name == "cursor" and chance(self.rng, 2):
                    value = self.pool.pick(self.rng, "cursor")
                    value = value if chance(self.rng, 2) else mutate.flip(self.rng, value.encode(), 1)
                query.append((name, value))
        if chance(self.rng, 12):
            query += [(mutate.word(self.rng), self.rng.choice(ODD_STRINGS))] * self.rng.choice([1, 2, 300])
        return query

    def json(self, value):
        return mutate.json_text(self.rng, value)

    def package(self):
        rng = self.rng
        name = rng.choice(["fuzz-a", "fuzz-b", mutate.word(rng), "validate", "versions", "active"])
        files = skill(name, rng.choice(BASH), "bash", version=rng.choice(["1.0.0", "1.0.1", "2.0.0-a"]))
        how = rng.randrange(8)
        if how == 0:
            files["SKILL.md"] = mutate.flip(rng, files["SKILL.md"].encode())
        elif how == 1:
            files[rng.choice(["../x", "/x", "a/../../b", "a\\b", "A", "a", "x" * 300, "é", "con\x01"])] = "x"
        elif how == 2:
            files["link"] = ("link", rng.choice(["main.sh", "../../etc/passwd", "/etc/passwd", "link", "x" * 5000]))
        data = make_zip(files, top=rng.choice(["", "", "top/", "a/b/"]))
        return mutate.flip(rng, data) if chance(rng, 5) else data

    # ---- endpoints ----

    def execute(self):
        rng = self.rng
        body = {"skill": self.pool.pick(rng, "skill") if chance(rng, 3) else rng.choice(["fuzz-a", "fuzz-b"]), "input": mutate.odd_value(rng) if chance(rng, 3) else {"a": 1}}
        for key, value in (("version", self.version()), ("args", ["a", "b"]), ("env", {"A": "b"}), ("stdin", "text"),
                           ("files", {"a/b": base64.b64encode(b"content").decode()}), ("script", "main.sh"),
                           ("module", "main"), ("timeout_ms", rng.choice([100, 1000, 5000])), ("async", chance(rng, 2)),
                           ("input_files", [self.pool.pick(rng, "file")]), ("session_id", "s")):
            if chance(rng, 2 if key == "async" else 9):
                body[key] = value
        request = Request("POST", "/v1/executions", body=self.json(body))
        if chance(rng, 8):
            request.headers.append(("Prefer", rng.choice(["respond-async", "respond-async, wait=5", "wait=0", "x", ""])))
        if chance(rng, 8):
            request.headers.append(("Idempotency-Key", rng.choice(["a", "b", "c", "", "x" * 255, "x" * 256, "\u00e9", "a b"])))
        return request

    def executions(self):
        return Request("GET", "/v1/executions", self.page("skill", "status", "limit", "cursor"))

    def execution(self):
        return Request(self.rng.choice(["GET", "GET", "HEAD", "DELETE"]), f"/v1/executions/{self.id('execution')}",
                       self.page("cancel"))

    def execution_part(self):
        part = self.rng.choice(["logs", "logs", "events", "files.tar.gz", "files/x", "files/", "other"])
        request = Request("GET", f"/v1/executions/{self.id('execution')}/{part}", self.page("offset"))
        if chance(self.rng, 3):
            request.query.append(("follow", self.rng.choice(["1", "0", "true", "", "2"])))
        if chance(self.rng, 4):
            request.headers.append(("Last-Event-ID", self.rng.choice(["0", "done", "5", "-1", "9" * 30, "x", "", "1" * 5000])))
        return request

    def upload(self):
        rng = self.rng
        query = [("on_conflict", rng.choice(["bump", "error", "x", ""]))] if chance(rng, 4) else []
        return Request("POST", "/v1/skills", query, *self.upload_body(self.package(), "s.zip"))

    def upload_body(self, data, filename):
        """(body, its type): raw or as a form."""
        rng = self.rng
        if chance(rng, 2):
            return data, rng.choice(["application/zip", "application/octet-stream", "text/plain", "", "application/json", "x" * 3000])
        parts = [("file", rng.choice([filename, None, "../x", 'a"b', "\\a", "", "é"]), data)]
        if chance(rng, 3):
            parts.insert(rng.randrange(2), (rng.choice(["name", "file", "x", ""]), None, rng.choice(ODD_STRINGS).encode("utf-8", "replace")))
        kind, body = mutate.multipart(rng, parts)
        return body, kind

    def validate(self):
        return Request("POST", "/v1/skills/validate", (), *self.upload_body(self.package(), "s.zip"))

    def from_fields(self):
        rng = self.rng
        return Request("POST", "/v1/skills/from-fields", body=self.json({
            "name": rng.choice(["fuzz-c", mutate.word(rng)]), "description": "d", "code": rng.choice(BASH), "lang": "bash",
            "instructions": "i", "version": rng.choice(["1.0.0", "3.0.0"])}))

    def skills(self):
        return Request("GET", "/v1/skills", self.page("q", "status", "limit", "cursor", "after"))

    def skill(self):
        return Request(self.rng.choice(["GET", "HEAD"]), f"/v1/skills/{self.id('skill')}/{quote(self.version())}")

    def skill_files(self):
        return Request("GET", f"/v1/skills/{self.id('skill')}/{quote(self.version())}/files", self.page("path"))

    def versions(self):
        return Request("GET", f"/v1/skills/{self.id('skill')}/versions", self.page("limit"))

    def activate(self):
        return Request("PUT", f"/v1/skills/{self.id('skill')}/active", body=self.json({"version": self.version()}))

    def delete_skill(self):
        end = f"/{quote(self.version())}" if chance(self.rng, 2) else ""
        return Request("DELETE", f"/v1/skills/{self.id('skill')}{end}")

    def file_put(self):
        rng = self.rng
        data = bytes(rng.randrange(256) for _ in range(rng.choice([0, 1, 50, 3000])))
        method, path = rng.choice([("POST", "/v1/files"), ("PUT", f"/v1/files/{self.id('file')}")])
        return Request(method, path, self.page("name", "session_id"), *self.upload_body(data, "f.txt"))

    def files(self):
        return Request("GET", "/v1/files", self.page("session_id", "execution_id", "limit", "offset"))

    def file(self):
        return Request(self.rng.choice(["GET", "GET", "HEAD", "DELETE"]),
                       f"/v1/files/{self.id('file')}{self.rng.choice(['', '/download', '/download', '/versions', '/x'])}")

    def keys(self):
        return Request("GET", "/v1/admin/keys", self.page("tenant_id", "limit"))

    def key_create(self):
        return Request("POST", "/v1/admin/keys", body=self.json({
            "tenant_id": self.pool.pick(self.rng, "tenant", "fuzzed"), "name": "n", "service": False,
            "role": self.rng.choice(["reader", "runner", "publisher", "admin"]), "expires_at": "2031-01-31T12:00:00Z"}))

    def key(self):
        if chance(self.rng, 2):
            return Request("POST", f"/v1/admin/keys/{self.id('key')}/rotate", body=self.json({"grace_seconds": 60}))
        return Request(self.rng.choice(["GET", "DELETE"]), f"/v1/admin/keys/{self.id('key')}")

    def tenants(self):
        if chance(self.rng, 2):
            return Request("GET", "/v1/admin/tenants", self.page("limit", "cursor"))
        return Request("POST", "/v1/admin/tenants", body=self.json({"id": mutate.word(self.rng), "limits": {"runs_per_minute": 5}}))

    def tenant(self):
        path = f"/v1/admin/tenants/{self.id('tenant')}"
        if chance(self.rng, 2):
            return Request(self.rng.choice(["PUT", "PATCH"]), path, body=self.json({"limits": {
                "concurrent_runs": 4, "queued_runs": 5, "package_bytes": 10**9, "disk_bytes": None, "artifact_bytes": 10**9}}))
        return Request(self.rng.choice(["GET", "DELETE"]), path)

    def artifact(self):
        path = self.pool.pick(self.rng, "url", "/v1/executions/x/files.tar.gz?expires=1&signature=x")
        path = path if chance(self.rng, 2) else mutate.flip(self.rng, path.encode(), 1).decode("latin-1")
        return Request(self.rng.choice(["GET", "HEAD"]), quote(path, safe="/?&=%.-_"))

    def probes(self):
        return Request(self.rng.choice(["GET", "HEAD", "POST"]), self.rng.choice(["/health", "/ready", "/metrics", "/"]))

    def nowhere(self):
        return Request("GET", self.rng.choice(["/v1", "/v1/", "//v1//skills", "/v1/skills/", "/v1/./skills", "/v1/a/../skills",
                                               "/v1/skills/a/b/c/d", "/v2/skills", "/%76%31/skills", "/v1/skills%00", "*",
                                               "/v1/executions/" + "a" * 3000, "/v1/skills?" + "&" * 3000, "/v1/skills?%", "/?"]))

    # ---- the whole ----

    def next(self):
        rng = self.rng
        request = rng.choice(self.makers)()
        if chance(rng, 25):
            request.method = rng.choice(METHODS)
        if chance(rng, 6):
            request.headers.append(("Range", mutate.byte_range(rng)))
        if chance(rng, 10):
            request.headers.append((rng.choice(["If-None-Match", "If-Range", "If-Match", "If-Modified-Since", "If-Unmodified-Since"]),
                                    rng.choice(['"x"', "*", "x", '"' + "a" * 64 + '"', "Sat, 01 Jan 2000 00:00:00 GMT",
                                                "", '"a", "b",' * 200, 'W/"x"'])))
        if chance(rng, 10):
            request.headers.append((rng.choice(["X-Tenant-ID", "X-Request-ID", "Accept", "Accept-Encoding", "Content-Encoding",
                                                "Origin", "Host", "Content-Type", "X-Forwarded-Proto", "Content-MD5", "TE", "Upgrade"]),
                                    rng.choice(ODD_STRINGS + ["default", "gzip", "a,b", "x" * 200])))
        return request


def series(seed, pool):
    return Requests(random.Random(seed), pool)
