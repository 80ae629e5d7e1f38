"""Asynchronous runs when things die: what was accepted ends in a final status, once, and nothing is
left (the harness looks)."""

import os
import random
import signal
import subprocess
import threading
import time

import pytest
import requests

from harness import settings, watch
from harness.packages import skill

ROUNDS = 40 if settings.FULL else 6
FINAL = {"success", "failed", "timeout", "cancelled"}


@pytest.fixture
def gw(make_gateway):
    gw = make_gateway(helper={"concurrency": 2})
    gw.push(skill("quick", "open('/sandbox/out/files/x', 'w').write('x'); print('ok')"))
    gw.push(skill("nap", "import time; print('on', flush=True); time.sleep(.3); print('off')"))
    gw.allow_log(r"exited on signal 9")
    gw.key
    return gw


class Load(threading.Thread):
    """Submits until it is told to stop; accepted: what was answered 202."""

    def __init__(self, gw, name="quick"):
        super().__init__(daemon=True)
        self.gw, self.name_, self.accepted, self.stop = gw, name, [], threading.Event()
        self.start()

    def run(self):
        session = requests.Session()
        session.trust_env = False
        while not self.stop.is_set():
            try:
                answer = session.post(self.gw.url + "/v1/executions", timeout=20,
                                      headers={"Authorization": f"Bearer {self.gw.key}"},
                                      json={"skill": self.name_, "async": True})
                if answer.status_code == 202:
                    self.accepted.append(answer.json()["execution_id"])
            except requests.RequestException:
                time.sleep(0.02)
            self.stop.wait(0.01)

    def end(self):
        self.stop.set()
        self.join(30)
        return self.accepted


def statuses(gw, accepted, timeout=90):
    """Waits until all of them are final; {id: record}."""
    found = {}

    def check():
        for execution in accepted:
            if execution not in found:
                try:
                    body = gw.execution(execution)
                except requests.ConnectionError:
                    return False
                if body["status"] in FINAL:
                    found[execution] = body
        return len(found) == len(accepted)
    watch.wait_for(check, timeout * settings.SLOW, "some are not final", 0.1)
    return found


def settled(gw):
    """Nothing waits, nothing runs, all is delivered."""
    spool = gw.state / "helper" / "spool"
    watch.wait_for(lambda: not list(spool.iterdir()), 30 * settings.SLOW, "the spool is not empty", 0.1)
    assert gw.get("/v1/executions?status=queued").json() == []
    assert gw.get("/v1/executions?status=running").json() == []
    watch.wait_for(lambda: not list((gw.state / "artifacts" / "tmp").iterdir()), 20 * settings.SLOW, "half archives")


def test_kill_of_workers_at_random_moments_loses_nothing(gw):
    load = Load(gw)
    for _ in range(ROUNDS):
        time.sleep(random.uniform(0.02, 0.4))
        for pid in gw.workers():
            os.kill(pid, signal.SIGKILL)
    accepted = load.end()
    found = statuses(gw, accepted)
    assert accepted and {b["status"] for b in found.values()} == {"success"}
    assert all(b["logs"] == "ok\n" for b in found.values())
    settled(gw)


def test_kill_of_the_helper_at_random_moments_loses_nothing(gw):
    load = Load(gw)
    for _ in range(ROUNDS):
        time.sleep(random.uniform(0.05, 0.6))
        gw.helper.kill()
        gw.helper.wait(10)
        gw.start_helper()
    accepted = load.end()
    found = statuses(gw, accepted)
    assert accepted
    for body in found.values():
        assert body["status"] == "success" or (body["status"], body["error"]) == ("failed", "interrupted"), body
    assert any(b["status"] == "success" for b in found.values())
    settled(gw)


def test_reloads_under_load_lose_nothing(gw):
    load = Load(gw)
    for _ in range(ROUNDS):
        gw.reload()
    found = statuses(gw, load.end())
    assert {b["status"] for b in found.values()} == {"success"}
    settled(gw)


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_of_everything_with_a_long_queue(gw, kill):
    accepted = [gw.submit("nap" if i % 10 == 0 else "quick") for i in range(1000 if settings.FULL else 60)]
    workers = gw.workers()
    for process in (gw.nginx, gw.helper):
        process.send_signal(kill)
        process.wait(30)
    for pid in workers:
        if kill == signal.SIGKILL:
            os.kill(pid, signal.SIGKILL)
    gw.session.close()
    if kill == signal.SIGKILL:
        (gw.state / "sock" / "done.sock").unlink(missing_ok=True)
        (gw.state / "sock" / "complete.sock").unlink(missing_ok=True)
    gw.start_nginx()
    assert gw.get("/v1/executions?limit=200").status_code == 200
    assert {gw.execution(e)["status"] for e in accepted} <= FINAL | {"queued", "running"}, "they are there"
    gw.start_helper()
    found = statuses(gw, accepted, 180)
    for body in found.values():
        assert body["status"] in ("success", "cancelled") or body["error"] == "interrupted", body
    # Two ran, the results of others were just made; what waited, or was in the spool and not delivered, is whole.
    lost = [b for b in found.values() if b["status"] != "success"]
    assert len(lost) <= 4, lost
    assert all(b["logs"] == ("on\noff\n" if i % 10 == 0 else "ok\n") for i, b in
               enumerate(found[e] for e in accepted) if b["status"] == "success")
    settled(gw)


def test_results_wait_for_a_gateway_that_is_away(gw):
    accepted = [gw.submit("nap") for _ in range(10)]  # more than end before it is away
    gw.nginx.send_signal(signal.SIGQUIT)
    gw.nginx.wait(20)
    watch.wait_for(lambda: sum(p.suffix == ".done" for p in (gw.state / "helper" / "spool").iterdir()) > 3,
                   20 * settings.SLOW, "they do not end")
    gw.start_nginx()
    assert {b["status"] for b in statuses(gw, accepted).values()} == {"success"}
    settled(gw)


@pytest.mark.skipif(not settings.ROOT, reason="mounts a small disk")
def test_a_full_disk_below_the_spool_is_waited_out(make_gateway):
    gw = make_gateway(helper={"concurrency": 1})
    gw.push(skill("large", "import time, os\ntime.sleep(.5)\nprint(os.urandom(150000).hex())"))
    gw.stop_helper()
    spool = gw.state / "helper" / "spool"
    uid, gid = settings.ids(settings.HELPER_USER)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=512k,mode=700,uid={uid},gid={gid}", "tmpfs", spool], check=True)
    try:
        gw.start_helper()
        first = gw.submit("large")
        junk = spool / "junk"
        try:
            with open(junk, "wb") as f:
                while f.write(bytes(4096)):
                    f.flush()
        except OSError:
            pass
        answer = gw.execute("large", **{"async": True})
        assert answer.status_code == 503 and answer.json()["error"] == "overloaded", answer.text
        watch.wait_for(lambda: "can't be spooled yet" in gw.helper_log, 20 * settings.SLOW, "the disk is not full")
        assert gw.execution(first)["status"] in ("queued", "running")
        junk.unlink()
        assert gw.until(first)["status"] == "success"
        assert gw.until(gw.submit("large"))["status"] == "success"
        settled(gw)
        gw.stop_helper()
    finally:
        if gw.helper.poll() is None:
            gw.stop_helper()
        subprocess.run(["umount", spool], check=True)


def test_an_idempotency_key_runs_once_whatever_dies(gw):
    """The client repeats the request until it is answered; each key stands for one run."""
    stop, answered = threading.Event(), {}

    def client(n):
        session = requests.Session()
        session.trust_env = False
        for i in range(1000):
            key = f"{n}-{i}"
            while key not in answered:
                if stop.is_set():
                    return
                try:
                    answer = session.post(gw.url + "/v1/executions", timeout=20,
                                          headers={"Authorization": f"Bearer {gw.key}", "Idempotency-Key": key},
                                          json={"skill": "quick", "async": True})
                    if answer.status_code in (200, 202):
                        answered[key] = answer.json()["execution_id"]
                except requests.RequestException:
                    pass
                stop.wait(0.01)
    clients = [threading.Thread(target=client, args=(n,)) for n in range(3)]
    for c in clients:
        c.start()
    for i in range(ROUNDS):
        time.sleep(random.uniform(0.05, 0.3))
        if i % 2:
            for pid in gw.workers():
                os.kill(pid, signal.SIGKILL)
        else:
            gw.helper.kill()
            gw.helper.wait(10)
            gw.start_helper()
    time.sleep(0.5)
    stop.set()
    for c in clients:
        c.join(30)
    statuses(gw, list(answered.values()))
    settled(gw)
    # one execution a key, and the helper has logged at most one end of each
    assert len(set(answered.values())) == len(answered)
    ends = [line for line in gw.helper_log.splitlines() if '"msg":"run"' in line]
    for execution in answered.values():
        assert sum(execution in line for line in ends) <= 1, execution
