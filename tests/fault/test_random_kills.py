"""kill -9 of whatever chance picks, at whatever moment, while everything is in use: what was acknowledged is
there and whole, what was not is absent or marked, nothing stays, the service is back within seconds."""

import collections
import os
import random
import re
import signal
import threading
import time

import pytest
import requests

from harness import check, settings, watch
from harness.packages import as_zip, skill

pytestmark = pytest.mark.any_user

KILLS = 200 if settings.FULL else 6
SEED = int(os.environ.get("SKILLBOX_FUZZ_SEED") or int.from_bytes(os.urandom(4), "big"))
FINAL = {"success", "failed", "timeout", "cancelled"}
# What may be said of a run that something of ours died under.
EXCUSES = re.compile(r"interrupted|killed by signal SIGKILL|The run's result could not be collected\."
                     r"|The sandbox (failed|ended|could not be (made|started))\b.*")
WORK = "import time; open('/sandbox/out/files/x', 'w').write('x' * 1000); time.sleep(.05); print('ok')"
VICTIMS = ("worker", "helper", "program", "sandbox", "sandbox", "script")


class Client(threading.Thread):
    """Uses one part of the API until it is told to stop; `known` is what was acknowledged."""

    def __init__(self, gw, use):
        super().__init__(daemon=True)
        self.gw, self.use, self.over, self.known, self.refused = gw, use, threading.Event(), {}, collections.Counter()
        self.wrong = None
        self.start()

    def run(self):
        count = 0
        while not self.over.is_set():
            count += 1
            try:
                status = getattr(self, self.use)(count)
                if status not in (200, 201, 202):
                    self.refused[status] += 1
                    self.over.wait(0.1)
            except requests.RequestException:
                self.refused["broken"] += 1
                self.over.wait(0.1)
            except Exception as error:  # an answer that is none: end() says so
                self.wrong = error
                return
            self.over.wait(0.01)

    def call(self, method, path, **kwargs):
        headers = {"Authorization": f"Bearer {self.gw.key}", **kwargs.pop("headers", {})}
        answer = requests.request(method, self.gw.url + path, headers=headers, timeout=60, **kwargs)
        if answer.status_code >= 400:
            check.error(answer, answer.status_code)
            assert answer.status_code in (500, 502, 503, 504), answer.text
        return answer

    def synchronous(self, count):
        answer = self.call("POST", "/v1/executions", json={"skill": ("work", "plain")[count % 2]})
        if answer.status_code == 200:
            self.known[answer.json()["execution_id"]] = answer.json()
        return answer.status_code

    def asynchronous(self, count):
        answer = self.call("POST", "/v1/executions", json={"skill": ("work", "plain")[count % 2], "async": True})
        if answer.status_code == 202:
            self.known[answer.json()["execution_id"]] = None
        return answer.status_code

    def upload(self, count):
        name = f"up-{count}"
        answer = self.call("POST", "/v1/skills", data=as_zip(skill(name, f"echo {name}", "bash")),
                           headers={"Content-Type": "application/zip"})
        if answer.status_code == 201:
            self.known[name] = answer.json()["digest"]
        return answer.status_code

    def file(self, count):
        data = f"content {count}\n".encode() * 500
        answer = self.call("POST", f"/v1/files?name=f{count}", data=data, headers={"Content-Type": "text/plain"})
        if answer.status_code == 201:
            self.known[answer.json()["id"]] = data
        return answer.status_code

    def end(self):
        self.over.set()
        self.join(90)
        assert not self.is_alive(), f"{self.use}: never answered"
        if self.wrong is not None:
            raise AssertionError(f"{self.use}: {self.wrong}") from self.wrong


def candidates(gw, kind):
    table = watch.processes()
    if kind == "worker":
        return gw.workers()
    if kind == "helper":
        return [gw.helper.pid]
    below = watch.descendants(gw.helper.pid, table)
    if kind == "program":  # stage, packer, zygotes, syncer
        return [p for p in below if table[p][2] == gw.helper.pid]
    deeper = [p for p in below if table[p][2] != gw.helper.pid]
    parents = {table[p][2] for p in deeper}
    return [p for p in deeper if (p in parents) == (kind == "sandbox")] or deeper


def kill_one(gw, rng, tally):
    kind = rng.choice(VICTIMS)
    pids = candidates(gw, kind)
    if not pids:
        return
    pid = rng.choice(pids)
    tally[f"{kind} {(watch.stat_fields(pid) or ('gone',))[0]}"] += 1
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    if kind == "helper":
        gw.helper.wait(20)
        gw.start_helper()


def serves(gw):
    def attempt():
        try:
            answer = requests.post(gw.url + "/v1/executions", json={"skill": "plain"}, timeout=30,
                                   headers={"Authorization": f"Bearer {gw.key}"})
        except requests.RequestException:
            return False
        return answer.status_code == 200 and answer.json()["status"] == "success"
    watch.wait_for(attempt, 20 * settings.SLOW, "the service does not come back", 0.1)


def check_record(gw, execution, told):
    """Whole, and what the client was told; or marked."""
    body = gw.execution(execution)
    assert body["status"] in FINAL, body
    if told is not None:
        assert {k: v for k, v in body.items() if k in told and k != "files_url"} == \
            {k: v for k, v in told.items() if k != "files_url"}
    if body["status"] == "success":
        assert body["logs"] == "ok\n" and body["files_list"] == ["x"]
        assert check.untar(gw.download(body["files_url"]).content)["x"].strip(b"x") in (b"", b"\n")
    else:
        assert body["error"], body
        return body["error"]
    return None


def settled(gw):
    spool = gw.state / "helper" / "spool"
    live = "/v1/executions?status=queued", "/v1/executions?status=running"
    watch.wait_for(lambda: not list(spool.iterdir()), 60 * settings.SLOW, "the spool is not empty", 0.1)
    watch.wait_for(lambda: not any(gw.get(path).json() for path in live), 60 * settings.SLOW, "some never end", 0.2)
    for folder in ("artifacts/tmp", "helper/tmp", "store/tmp"):
        watch.wait_for(lambda: not list((gw.state / folder).iterdir()), 30 * settings.SLOW, f"in {folder}: something stays")


def archives(gw):
    return {p.name.removesuffix(".tar.gz") for p in (gw.state / "artifacts").rglob("*.tar.gz")}


def check_archives(gw):
    """None without a record, but for those that retention removes after an hour; and they are few."""
    orphans = [a for a in archives(gw) if gw.get(f"/v1/executions/{a}").status_code != 200]
    assert len(orphans) <= KILLS, orphans


def sweep_bodies(gw, tally):
    """Requests that a worker was reading when it was killed stay in nginx's own folder, which
    conf/systemd/tmpfiles-skillbox.conf has swept; a client has one at a time, of two files at most."""
    left = list((gw.state / "tmp" / "body").iterdir())
    assert len(left) <= 2 * 4 * sum(n for what, n in tally.items() if what.startswith("worker")), left
    for path in left:
        path.unlink()


def test_kills_at_random_moments_lose_nothing(make_gateway):
    rng, tally = random.Random(SEED), collections.Counter()
    gw = make_gateway(helper={"concurrency": 2})
    gw.allow_log(r"exited on signal 9")
    gw.push(skill("work", WORK))
    gw.push(skill("plain", "echo x > $SANDBOX_FILES_DIR/x; echo ok", "bash"))
    serves(gw)
    clients = [Client(gw, use) for use in ("synchronous", "asynchronous", "upload", "file")]
    for i in range(KILLS):
        time.sleep(rng.uniform(0.02, 0.5))
        kill_one(gw, rng, tally)
        if i % 10 == 0:
            serves(gw)
    for client in clients:
        client.end()
    serves(gw)
    gw.session.close()
    settled(gw)
    runs, later, uploads, files = (client.known for client in clients)
    excuses = collections.Counter(check_record(gw, execution, told) for execution, told in {**runs, **later}.items())
    del excuses[None]
    for name, digest in uploads.items():
        assert gw.get(f"/v1/skills/{name}/latest").json()["digest"] == digest
    for name in list(uploads)[-5:]:
        assert gw.run(name)["logs"] == f"{name}\n"
    for file, data in files.items():
        assert gw.get(f"/v1/files/{file}/download").content == data
    check_archives(gw)
    sweep_bodies(gw, tally)
    print(f"seed {SEED}; killed {dict(sorted(tally.items()))}; acknowledged {[len(c.known) for c in clients]}; "
          f"refused {[dict(c.refused) for c in clients]}; failed {dict(excuses)}")
    assert all(map(EXCUSES.fullmatch, excuses)) and excuses.total() <= 4 * KILLS, "two run at a time, and two are collected"
    assert all(c.known for c in clients), "control: all were busy"
