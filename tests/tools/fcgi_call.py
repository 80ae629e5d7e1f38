#!/usr/bin/python3
"""Calls sandbox-helper by hand, as the gateway would: FastCGI over its UNIX socket.

    fcgi_call.py SOCKET status
    fcgi_call.py SOCKET intake PACKAGE.zip [--type application/zip]
    fcgi_call.py SOCKET run --digest HEX --lang python --target main.py [--mode entrypoint]
                            [--input JSON] [--job JSON] [--timeout-ms N] [--memory N] ...
    fcgi_call.py SOCKET try FOLDER [--target main.py] [--lang python] [...]   intake, then run

The log (STDERR records) goes to stderr as it comes, headers and body to stdout.  Exit status: 0
for a 2xx answer, 1 for another, 2 for usage, 3 when the answer breaks off.

Tests import it: call(socket, params, stdin) returns an Answer; Connection is the same by steps.
"""

import argparse
import dataclasses
import io
import json
import pathlib
import socket
import struct
import sys
import time
import uuid
import zipfile

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES, GET_VALUES_RESULT = range(1, 11)
RESPONDER = 1


class Broken(Exception):
    """The helper closed the connection before END_REQUEST."""


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict
    body: bytes
    log: bytes
    app_status: int
    protocol_status: int
    heartbeats: int = 0

    @property
    def json(self):
        return json.loads(self.body)


def record(kind, content=b"", request_id=1):
    if len(content) > 65535:
        raise ValueError("a record holds at most 65535 bytes")
    return struct.pack(">BBHHBx", 1, kind, request_id, len(content), 0) + content


def stream(kind, content, request_id=1):
    """The content as records, then the empty one that ends the stream."""
    pieces = [content[i:i + 65535] for i in range(0, len(content), 65535)]
    return b"".join(record(kind, p, request_id) for p in pieces) + record(kind, b"", request_id)


def begin(request_id=1, role=RESPONDER, flags=0):
    return record(BEGIN, struct.pack(">HB5x", role, flags), request_id)


def pairs(params):
    def length(n):
        return bytes([n]) if n < 128 else struct.pack(">I", n | 0x80000000)
    out = b""
    for name, value in params.items():
        name, value = str(name).encode(), str(value).encode()
        out += length(len(name)) + length(len(value)) + name + value
    return out


class Connection:
    def __init__(self, path, timeout=60):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(str(path))
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def request(self, params, stdin=b""):
        """A whole request.  The helper may answer and close before it took all: not an error."""
        try:
            self.send(begin() + stream(PARAMS, pairs(params)))
            for i in range(0, len(stdin), 65535):
                self.send(record(STDIN, stdin[i:i + 65535]))
            self.send(record(STDIN))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _exactly(self, n):
        while len(self.buffer) < n:
            try:
                piece = self.sock.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise Broken(f"closed after {len(self.buffer)} of {n} bytes")
            self.buffer += piece
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def read_record(self):
        """(type, request id, content)"""
        version, kind, request_id, length, padding = struct.unpack(">BBHHBx", self._exactly(8))
        if version != 1:
            raise Broken(f"version {version}")
        content = self._exactly(length)
        self._exactly(padding)
        return kind, request_id, content

    def answer(self, on_log=None):
        out, log, heartbeats = b"", b"", 0
        while True:
            kind, _, content = self.read_record()
            if kind == STDOUT:
                out += content
            elif kind == STDERR and not content:
                heartbeats += 1
            elif kind == STDERR:
                log += content
                if on_log:
                    on_log(content)
            elif kind == END:
                app_status, protocol_status = struct.unpack(">IB3x", content)
                break
        status, headers, body = parse_cgi(out)
        return Answer(status, headers, body, log, app_status, protocol_status, heartbeats)


def parse_cgi(out):
    if not out:
        return 0, {}, b""
    head, _, body = out.partition(b"\r\n\r\n")
    headers = {}
    for line in head.decode().split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(headers.pop("status", "200").split()[0]), headers, body


def call(path, params, stdin=b"", timeout=60, on_log=None):
    with Connection(path, timeout) as c:
        c.request(params, stdin)
        return c.answer(on_log)


def run_params(digest, **over):
    """A run's PARAMS with sensible values; keys as protocol.h without SKILLBOX_, lower case."""
    params = {"op": "run", "request_id": "by-hand", "tenant": "default",
              "execution": str(uuid.uuid4()), "skill": "by-hand", "version": "1.0.0",
              "digest": digest, "lang": "python", "image": "", "mode": "entrypoint",
              "target": "main.py", "timeout_ms": 30000, "memory": 256 << 20, "cpu_milli": 1000,
              "job_length": 0}
    params.update(over)
    return {"SKILLBOX_" + k.upper(): v for k, v in params.items() if v is not None}


def run(path, digest, job=None, input=b"{}", timeout=60, on_log=None, **over):
    job = json.dumps(job or {}).encode()
    params = run_params(digest, job_length=len(job), **over)
    return call(path, params, job + input, timeout, on_log)


def intake(path, package, content_type="application/zip", timeout=60):
    return call(path, {"SKILLBOX_OP": "intake", "SKILLBOX_REQUEST_ID": "by-hand",
                       "CONTENT_TYPE": content_type}, package, timeout)


def status(path, timeout=10):
    return call(path, {"SKILLBOX_OP": "status"}, b"", timeout)


def zip_files(files):
    """files: {name: text or bytes}; names in scripts/ or ending in .sh get the exec bit."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            runs = name.startswith("scripts/") or name.endswith(".sh")
            info.external_attr = (0o100755 if runs else 0o100644) << 16
            z.writestr(info, data)
    return out.getvalue()


def zip_folder(folder):
    folder = pathlib.Path(folder)
    return zip_files({str(p.relative_to(folder)): p.read_bytes()
                      for p in sorted(folder.rglob("*")) if p.is_file()})


def skill(code, name="by-hand", lang="python", entrypoint=None, **keys):
    """A package with one script, as a zip."""
    entrypoint = entrypoint or {"python": "main.py", "node": "main.js", "bash": "main.sh"}[lang]
    front = {"name": name, "description": "a test", "lang": lang, "entry_point": entrypoint, **keys}
    text = "---\n" + "".join(f"{k}: {json.dumps(v)}\n" for k, v in front.items()) + "---\nTest.\n"
    return zip_files({"SKILL.md": text, entrypoint: code})


def show(answer, started):
    print(f"Status: {answer.status}")
    for name, value in answer.headers.items():
        print(f"{name}: {value}")
    print(f"\n{answer.body.decode(errors='replace')}")
    print(f"(app status {answer.app_status}, {len(answer.log)} bytes of log, "
          f"{(time.monotonic() - started) * 1000:.1f} ms)", file=sys.stderr)
    return 0 if 200 <= answer.status < 300 else 1


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("socket")
    sub = p.add_subparsers(dest="op", required=True)
    sub.add_parser("status")
    i = sub.add_parser("intake")
    i.add_argument("package")
    i.add_argument("--type", default="application/zip")
    for name in ("run", "try"):
        r = sub.add_parser(name)
        if name == "try":
            r.add_argument("folder")
        else:
            r.add_argument("--digest", required=True)
        r.add_argument("--input", default="{}")
        r.add_argument("--job", default="{}")
        for option in ("execution", "skill", "version", "lang", "image", "mode", "target",
                       "timeout-ms", "memory", "cpu-milli"):
            r.add_argument("--" + option)
    return p.parse_args()


def run_from(args, digest):
    over = {k: getattr(args, k) for k in ("execution", "skill", "version", "lang", "image", "mode",
                                          "target", "timeout_ms", "memory", "cpu_milli")
            if getattr(args, k) is not None}

    def on_log(data):
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()
    return run(args.socket, digest, json.loads(args.job), args.input.encode(), 3600, on_log, **over)


def main():
    args = arguments()
    started = time.monotonic()
    try:
        if args.op == "status":
            return show(status(args.socket), started)
        if args.op == "intake":
            with open(args.package, "rb") as f:
                return show(intake(args.socket, f.read(), args.type), started)
        if args.op == "run":
            return show(run_from(args, args.digest), started)
        answer = intake(args.socket, zip_folder(args.folder))
        code = show(answer, started)
        if code != 0:
            return code
        manifest = answer.json["manifest"]
        args.lang = args.lang or manifest.get("lang")
        args.target = args.target or manifest.get("entrypoint")
        started = time.monotonic()
        return show(run_from(args, answer.json["digest"]), started)
    except Broken as e:
        print(f"the answer broke off: {e}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
