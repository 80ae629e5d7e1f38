"""The gateway's end of completions (libskillbox/protocol.h): takes what sandbox-helper posts."""

import os
import re
import socket
import threading

from . import watch


class Completion:
    def __init__(self, head, body):
        first, *lines = head.decode("latin-1").split("\r\n")
        self.id = re.fullmatch(r"POST /completions/([0-9a-f-]{36}) HTTP/1.1", first).group(1)
        self.headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
        size = int(self.headers.get("x-skillbox-log-length", 0))
        self.status = self.headers["x-skillbox-status"]
        self.result, self.log = body[:len(body) - size], body[len(body) - size:]


class Completions:
    """Listens at path and answers each POST with what answer(completion) says: a status, or None
    to close without an answer."""

    def __init__(self, path, answer=lambda completion: 204):
        self.path, self.answer = str(path), answer
        self.posts = []  # in the order they came, announcements too
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o666)
        self.listener.listen(64)
        self.acceptor = threading.Thread(target=self._accept, daemon=True)
        self.acceptor.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.acceptor.join()
        self.listener.close()
        os.unlink(self.path)

    def of(self, execution):
        """The ends that were posted of that execution."""
        return [p for p in self.posts if p.id == execution and p.status != "running"]

    def wait(self, execution, timeout=20):
        return watch.wait_for(lambda: self.of(execution), timeout, f"no completion of {execution}")[0]

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.settimeout(30)
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                piece = connection.recv(65536)
                if not piece:
                    return
                data += piece
            head, _, body = data.partition(b"\r\n\r\n")
            size = int(re.search(rb"Content-Length: (\d+)", head).group(1))
            while len(body) < size:
                piece = connection.recv(65536)
                if not piece:
                    return
                body += piece
            completion = Completion(head, body)
            self.posts.append(completion)
            status = self.answer(completion)
            if status:
                connection.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
