"""A helper that misbehaves on purpose: a FastCGI responder whose answer the test writes.

    with FakeHelper(path, answer) as fake: ...

answer(request, connection) gets the request (params, stdin, number: how many there were before) and
the connected socket; what it returns is sent, then the connection is closed.
"""

import json
import os
import socket
import struct
import threading

BEGIN, END, PARAMS, STDIN, STDOUT, STDERR = 1, 3, 4, 5, 6, 7


def record(kind, content=b"", request_id=1, version=1):
    return struct.pack("!BBHHBB", version, kind, request_id, len(content), 0, 0) + content


def stream(kind, content):
    """Content of any length as records of at most 32 KiB."""
    return b"".join(record(kind, content[i:i + 32768]) for i in range(0, len(content), 32768))


def end(app_status=0, protocol_status=0):
    return record(END, struct.pack("!IB3x", app_status, protocol_status))


def reply(body, status=200, headers="", log=b""):
    """A whole, correct answer."""
    head = f"Status: {status}\r\nContent-Type: application/json\r\n{headers}\r\n".encode()
    return stream(STDERR, log) + stream(STDOUT, head + body) + record(STDOUT) + end()


def result(status="success", log=b"", **fields):
    """What a helper answers to `run`."""
    body = {"status": status, "duration_ms": 1, "error": None, "skill_name": "fake", "skill_version": "1.0.0",
            **fields}
    headers = (f"X-Skillbox-Status: {status}\r\nX-Skillbox-Exit-Code: 0\r\nX-Skillbox-Files: 0\r\n"
               "X-Skillbox-Queue-Usec: 10\r\nX-Skillbox-Run-Usec: 1000\r\n")
    return reply(json.dumps(body).encode(), headers=headers, log=log)


class Request:
    def __init__(self, number):
        self.number, self.params, self.stdin = number, {}, b""

    @property
    def op(self):
        return self.params.get("SKILLBOX_OP")


def exactly(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ConnectionError("the gateway closed the connection")
        data += piece
    return data


def pairs(data):
    found, at = {}, 0

    def length():
        nonlocal at
        value = data[at]
        at += 1
        if value & 0x80:
            value = (value & 0x7f) << 24 | int.from_bytes(data[at:at + 3], "big")
            at += 3
        return value
    while at < len(data):
        name_len, value_len = length(), length()
        found[data[at:at + name_len].decode()] = data[at + name_len:at + name_len + value_len].decode()
        at += name_len + value_len
    return found


class FakeHelper:
    def __init__(self, path, answer):
        self.path, self.answer = str(path), answer
        self.requests, self.errors = [], []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o666)
        self.listener.listen(64)
        self.acceptor = threading.Thread(target=self._accept, daemon=True)
        self.acceptor.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Wakes accept(); closed under it, its number could be the next fake's listener.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.acceptor.join()
        self.listener.close()
        os.unlink(self.path)

    def ops(self):
        return [r.op for r in self.requests]

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.settimeout(30)
        try:
            with connection:
                request = self._read(connection)
                data = self.answer(request, connection)
                if data:
                    connection.sendall(data)
        except (ConnectionError, TimeoutError, OSError) as error:
            self.errors.append(error)

    def _read(self, connection):
        request = Request(len(self.requests))
        params = b""
        while True:
            _, kind, _, size, padding, _ = struct.unpack("!BBHHBB", exactly(connection, 8))
            content = exactly(connection, size + padding)[:size]
            if kind == PARAMS:
                params += content
                if not content:
                    request.params = pairs(params)
            elif kind == STDIN:
                request.stdin += content
                if not content:
                    self.requests.append(request)
                    return request
