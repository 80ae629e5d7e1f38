"""Clients at their worst: slow, deaf, gone in the middle of anything, idle by the thousand.  Nobody else is
harmed, nothing half is stored, nothing stays."""

import json
import os
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest
import requests

from harness import check, settings, watch
from harness.census import at_rest, back_to
from harness.packages import make_zip, skill

pytestmark = pytest.mark.any_user

CUTS = 40 if settings.FULL else 8
IDLE = 10000 if settings.FULL else 1500
TIMEOUTS = "client_header_timeout 1s; client_body_timeout 1s; send_timeout 1s;"
LARGE = "head -c 9000000 /dev/urandom > $SANDBOX_FILES_DIR/large; echo done"
SLOW_LOG = "for i in 1 2 3; do echo line $i; sleep .2; done"


@pytest.fixture
def gw(make_gateway):
    gw = make_gateway(server=TIMEOUTS, helper={"concurrency": 2})
    gw.push(skill("quick", "echo ok", "bash"))
    gw.push(skill("large", LARGE, "bash"))
    gw.push(skill("slow-log", SLOW_LOG, "bash"))
    return gw


def request(gw, method, path, body=b"", kind="application/json", extra=""):
    return (f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gw.key}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n{extra}\r\n").encode() + body


def connect(gw, receive=0):
    s = socket.socket()
    if receive:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    s.settimeout(20 * settings.SLOW)
    s.connect(("127.0.0.1", gw.port))
    return s


def closed(s, within):
    """Waits until the server has closed it; all that came."""
    s.settimeout(within * settings.SLOW)
    got = b""
    try:
        while piece := s.recv(65536):
            got += piece
    except ConnectionResetError:
        pass
    return got


def served(gw):
    assert gw.run("quick")["logs"] == "ok\n"


# ---- slow ----

@pytest.mark.parametrize("sent", [0, 30, -2])
def test_a_client_that_stops_sending_is_cut_off(gw, sent):
    data = request(gw, "POST", "/v1/executions", b'{"skill":"quick"}')
    with connect(gw) as s:
        s.sendall(data[:sent])
        served(gw)
        begun = watch.awake()
        got = closed(s, 8)
        assert watch.awake() - begun < 6 * settings.SLOW
        assert got == b"" or check.error_parts(*parts(got)), got


def parts(got):
    status, headers, text = check.parse_response(got)
    return status, headers, text


def test_clients_that_send_a_byte_at_a_time_are_served_and_harm_nobody(gw):
    data = request(gw, "POST", "/v1/executions", b'{"skill":"quick"}', extra="Connection: close\r\n")
    sockets = [connect(gw) for _ in range(20)]
    for i in range(len(data)):
        for s in sockets:
            s.send(data[i:i + 1])
        if i % 40 == 0:
            served(gw)
    for s in sockets:
        status, _, text = parts(closed(s, 20))
        assert status == 200 and json.loads(text)["logs"] == "ok\n"
        s.close()


def test_clients_that_never_read_are_let_go(gw):
    url = gw.run("large")["files_url"]
    before = at_rest(gw)[0]
    path = url.partition(f":{gw.port}")[2]
    sockets = [connect(gw, 4096) for _ in range(20)]
    for s in sockets:
        s.sendall(request(gw, "GET", path))
    served(gw)
    with gw.session.get(url, timeout=30) as whole:
        assert whole.status_code == 200 and len(whole.content) > 8000000
    back_to(gw, before)  # without their descriptors
    for s in sockets:
        s.close()
    back_to(gw, before)


# ---- gone ----

def cuts(data):
    """Where a client leaves: in the head, around its end, all through the body."""
    end = data.index(b"\r\n\r\n") + 4
    body = len(data) - end
    places = {3, end - 3, end, end + 1, *(end + body * i // CUTS for i in range(CUTS)), len(data) - 1}
    return sorted(p for p in places if 0 < p < len(data))


def leave(gw, data, waits=(0,)):
    for at in cuts(data):
        with connect(gw) as s:
            s.sendall(data[:at])
    for wait in waits:
        with connect(gw) as s:
            s.sendall(data)
            time.sleep(wait)


WAITS = [i * 0.01 for i in range(CUTS)]


def test_leaving_an_upload_stores_all_or_nothing(gw):
    before = at_rest(gw)[0]
    data = make_zip(skill("left", "echo left", "bash", files={"blob": bytes(300000)}), compression=0)
    leave(gw, request(gw, "POST", "/v1/skills", data, "application/zip"))
    back_to(gw, before)
    found = gw.get("/v1/skills/left/latest")
    if found.status_code == 200:  # the one that was sent whole
        assert gw.run("left")["logs"] == "left\n"
    else:
        check.error(found, 404, "not_found")
    leave(gw, request(gw, "POST", "/v1/files", b"x" * 200000, "text/plain"), WAITS)
    at_rest(gw)
    for item in gw.get("/v1/files").json():
        assert gw.get(f"/v1/files/{item['id']}/download").content == b"x" * 200000
    assert list((gw.state / "store" / "tmp").iterdir()) == []


def test_leaving_a_synchronous_run_cancels_it(gw):
    gw.push(skill("sleep", "echo on; sleep 60", "bash"))
    before = at_rest(gw)[0]
    leave(gw, request(gw, "POST", "/v1/executions", b'{"skill":"sleep"}'), WAITS)
    back_to(gw, before)
    assert {e["status"] for e in gw.get("/v1/executions").json()} <= {"cancelled", "failed"}
    served(gw)


def test_leaving_an_asynchronous_submission_runs_it_once_or_not_at_all(gw):
    leave(gw, request(gw, "POST", "/v1/executions", b'{"skill":"quick","async":true}'), WAITS)
    watch.wait_for(lambda: {e["status"] for e in gw.get("/v1/executions?limit=200").json()} <= {"success"},
                   20 * settings.SLOW, "they do not end")
    at_rest(gw)
    records = {e["execution_id"] for e in gw.get("/v1/executions?limit=200").json()}

    def logged():  # after it was reported
        return [line for line in gw.helper_log.splitlines() if '"msg":"run"' in line]
    watch.wait_for(lambda: len(logged()) >= len(records), 10 * settings.SLOW, "some are not logged")
    lines = logged()
    for record in records:
        assert sum(record in line for line in lines) == 1, record
    assert len(lines) == len(records), "each that ran has a record"


def test_leaving_downloads_and_streams_leaves_nothing(gw):
    url = gw.run("large")["files_url"]
    path = url.partition(f":{gw.port}")[2]
    before = at_rest(gw)[0]
    for size in [1, 100, 5000, *(i * 200000 for i in range(1, CUTS))]:
        with connect(gw) as s:
            s.sendall(request(gw, "GET", path))
            got = 0
            while got < size and (piece := s.recv(min(65536, size - got))):
                got += len(piece)
    followed = [gw.submit("slow-log") for _ in range(2)]
    for i in range(CUTS * 2):
        with connect(gw) as s:
            part = ("events", "logs?follow=1")[i % 2]
            s.sendall(request(gw, "GET", f"/v1/executions/{followed[i // 2 % 2]}/{part}"))
            time.sleep(0.02 * (i % 4))
    for execution in followed:
        assert gw.until(execution)["logs"] == "line 1\nline 2\nline 3\n"
    back_to(gw, before)


# ---- idle ----

def test_thousands_of_idle_connections_harm_nobody(make_gateway):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = IDLE if hard == resource.RLIM_INFINITY else min(IDLE, hard - 1000)
    if count < IDLE:
        print(f"\nNOTE: this host allows {hard} descriptors: {count} idle connections instead of {IDLE}")
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gw = make_gateway(connections=count + 200, main=f"worker_rlimit_nofile {hard};", workers=2,
                      http="keepalive_timeout 300s;")
    idle = []
    try:
        gw.push(skill("quick", "echo ok", "bash"))
        greeting = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        for i in range(count):
            s = socket.create_connection(("127.0.0.1", gw.port), 20)
            if i % 2:
                s.sendall(greeting)  # kept alive; the others never said a word
            idle.append(s)
        begun = watch.awake()
        for _ in range(10):
            served(gw)
        assert watch.awake() - begun < 10 * settings.SLOW
        assert all(b"200 OK" in s.recv(4096) for s in idle[1::2])
        for s in idle[1::2][:200]:
            s.sendall(greeting)
            assert b"200 OK" in s.recv(4096), "it is still there"
    finally:
        for s in idle:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    at_rest(gw)
    served(gw)


# ---- reloads ----

def fails_no_request(make_gateway, change, prepare=lambda gw: None):
    """Clients of three kinds while change(gw) goes on; a connection a request: one that is kept may be closed by the
    old worker just when it is used."""
    gw = make_gateway(helper={"concurrency": 2})
    prepare(gw)
    gw.push(skill("quick", "echo ok", "bash"))
    stop, wrong, counts, accepted = threading.Event(), [], [0, 0, 0], []

    def ask(method, path, status, **kwargs):
        answer = requests.request(method, gw.url + path, timeout=30, headers={
            "Authorization": f"Bearer {gw.key}", "Connection": "close"}, **kwargs)
        if answer.status_code != status:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer

    def client(kind):
        while not stop.is_set():
            try:
                if kind == 0:
                    assert ask("POST", "/v1/executions", 200, json={"skill": "quick"}).json()["logs"] == "ok\n"
                elif kind == 1:
                    accepted.append(ask("POST", "/v1/executions", 202, json={"skill": "quick", "async": True})
                                    .json()["execution_id"])
                    time.sleep(0.05 if len(accepted) < 100 else 0.5)  # no more than can be run
                else:
                    assert ask("GET", "/v1/skills/quick/latest", 200).json()["name"] == "quick"
                counts[kind] += 1
            except (AssertionError, requests.RequestException) as error:
                wrong.append(error)
    assert gw.key
    threads = [threading.Thread(target=client, args=(i % 3,)) for i in range(6)]
    for t in threads:
        t.start()
    try:
        change(gw)
    finally:
        stop.set()
        for t in threads:
            t.join(60)
    assert not wrong, f"{len(wrong)} of {sum(counts)}: {wrong[:5]}"
    assert all(count > 10 for count in counts), counts
    for execution in accepted:
        assert gw.until(execution, timeout=120)["status"] == "success"


def test_reloads_under_load_fail_no_request(make_gateway):
    def reload(gw):
        for _ in range(60 if settings.FULL else 4):
            gw.reload()
            time.sleep(1 if settings.FULL else 0.4)
    fails_no_request(make_gateway, reload)


class Successor:
    """An nginx that is nobody's child here, with as much of Popen as the harness needs."""

    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def poll(self):
        if self.returncode is None and not watch.alive(self.pid):
            self.returncode = 0  # nobody tells how it ended; the log would
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout):
        watch.wait_for(lambda: self.poll() is not None, timeout, "nginx does not end")
        return self.returncode

    def kill(self):
        self.send_signal(signal.SIGKILL)


def start_as_a_daemon(gw):
    """nginx ignores the signal as long as it is the child of whoever started it."""
    gw.nginx.send_signal(signal.SIGQUIT)
    assert gw.nginx.wait(20 * settings.SLOW) == 0
    subprocess.run(["sh", "-c", '"$@" & sleep 1', "sh", *gw.nginx_command()], stdin=subprocess.DEVNULL, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file = gw.state / "run" / "nginx.pid"
    watch.wait_for(lambda: file.exists() and file.read_text().strip(), 10 * settings.SLOW, "nginx does not start")
    gw.nginx = Successor(int(file.read_text()))
    watch.wait_for(lambda: len(gw.workers()) == 2, 10 * settings.SLOW, "it has no workers")


def test_a_binary_upgrade_under_load_fails_no_request(make_gateway):
    def upgrade(gw):
        old = gw.nginx
        before = set(gw.workers())
        old.send_signal(signal.SIGUSR2)
        watch.wait_for(lambda: len(set(gw.workers()) - before) == 2, 20 * settings.SLOW, "no new workers")
        new = next(pid for pid in watch.descendants(old.pid)
                   if set(watch.descendants(pid)) & set(gw.workers()) - before)
        time.sleep(0.5)  # both serve
        gw.nginx = Successor(new)
        old.send_signal(signal.SIGQUIT)
        assert old.wait(30 * settings.SLOW) == 0
        time.sleep(0.5)  # the new one alone
        assert len(gw.workers()) == 2
    fails_no_request(make_gateway, upgrade, start_as_a_daemon)
