"""Runs that were answered from a journal, and whose processes are killed before the store has them."""

import os
import signal
import threading

import pytest
import requests

from harness import settings, watch
from harness.packages import skill

pytestmark = pytest.mark.any_user

ECHO = skill("echo", "import sys\nprint(sys.stdin.read())")


class Clients:
    """Some that run one after the other until nobody answers; what they were answered is kept."""

    def __init__(self, gw, count=4):
        self.gw, self.key, self.answered, self.stop = gw, gw.key, {}, threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(n,), daemon=True) for n in range(count)]
        for t in self.threads:
            t.start()

    def work(self, n):
        session = requests.Session()
        session.trust_env = False
        i = 0
        while not self.stop.is_set():
            i += 1
            text = f"client {n} run {i}"
            try:
                answer = session.post(self.gw.url + "/v1/executions", json={"skill": "echo", "stdin": text}, timeout=30,
                                      headers={"Authorization": f"Bearer {self.key}"})
                if answer.status_code == 200:
                    self.answered[answer.json()["execution_id"]] = text
            except (requests.ConnectionError, requests.Timeout, ValueError):
                session.close()

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join(60)
        return self.answered


def ask(gw, path):
    return requests.get(gw.url + path, headers={"Authorization": f"Bearer {gw.key}", "Connection": "close"}, timeout=30)


def all_there(gw, answered):
    for execution, text in answered.items():
        record = ask(gw, f"/v1/executions/{execution}")
        assert record.status_code == 200, f"{execution} was answered and is not there"
        assert record.json()["status"] == "success"
        assert ask(gw, f"/v1/executions/{execution}/logs").text.strip() == text


def journals(gw):
    return list((gw.state / "store" / "journal").glob("[0-9]*"))


@pytest.fixture
def gw(make_gateway):
    gw = make_gateway()
    gw.push(ECHO)
    watch.wait_for(lambda: len(journals(gw)) == 2, 10 * settings.SLOW, "workers have no journals")
    return gw


def test_all_of_nginx_killed_under_load(gw):
    """Master and workers at once, so that nobody is left to write anything."""
    for _ in range(4):
        clients = Clients(gw)
        watch.wait_for(lambda: len(clients.answered) > 30, 30 * settings.SLOW, "the load does not start")
        victims = [gw.nginx.pid, *gw.workers()]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        gw.nginx.wait(20)
        watch.wait_for(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in victims), 10 * settings.SLOW,
                       "killed processes live on")
        answered = clients.end()
        (gw.state / "sock" / "complete.sock").unlink()  # nobody was left to do it
        gw.start_nginx()
        all_there(gw, answered)


def test_a_killed_workers_runs_are_seen_at_the_others(gw):
    """At once: who asks waits until the worker's successor has written what it left."""
    gw.allow_log("exited on signal 9")
    for _ in range(6):
        clients = Clients(gw, count=3)
        watch.wait_for(lambda: len(clients.answered) > 10, 30 * settings.SLOW, "the load does not start")
        before = dict(clients.answered)
        os.kill(gw.workers()[0], signal.SIGKILL)
        all_there(gw, {k: before[k] for k in list(before)[-5:]})
        all_there(gw, clients.end())


def test_a_stop_in_the_middle_of_it(gw):
    """SIGTERM: whatever waits for a thread then is let go, and nothing crashes (the harness reads the log)."""
    for _ in range(4):
        clients = Clients(gw, count=6)
        watch.wait_for(lambda: len(clients.answered) > 30, 30 * settings.SLOW, "the load does not start")
        gw.nginx.terminate()
        assert gw.nginx.wait(20 * settings.SLOW) == 0
        answered = clients.end()
        gw.start_nginx()
        all_there(gw, answered)


def test_a_worker_that_is_told_to_end_leaves_nothing_behind(gw):
    """A reload, and the end: their runs are in the store, not only in their journals."""
    clients = Clients(gw)
    watch.wait_for(lambda: len(clients.answered) > 20, 30 * settings.SLOW, "the load does not start")
    gw.reload()
    answered = clients.end()
    gw.nginx.send_signal(signal.SIGQUIT)
    gw.nginx.wait(30 * settings.SLOW)
    for journal in journals(gw):
        journal.unlink()
    gw.start_nginx()
    all_there(gw, answered)
