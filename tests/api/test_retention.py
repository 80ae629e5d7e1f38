"""What is old or too much is removed, for each tenant, with its archives."""

import bisect
import concurrent.futures
import ctypes
import http.client
import os
import re
import socket
import time
import uuid

import pytest

from harness import check, settings, watch
from harness.packages import skill

FILES = "open('/sandbox/out/files/x', 'w').write('x')"


def ids(gw, **kwargs):
    return [e["execution_id"] for e in gw.get("/v1/executions?limit=200", **kwargs).json()]


def archives(gw):
    return {p.name.removesuffix(".tar.gz") for p in (gw.state / "artifacts").rglob("*.tar.gz")}


def test_the_newest_of_each_tenant_are_kept(make_gateway):
    gw = make_gateway(http="skillbox_retention count=3 keys=1s;")
    other = gw.new_key("other")
    for key in ("", other):
        gw.push(skill("files", FILES), key=key)
    mine = [gw.run("files")["execution_id"] for _ in range(6)]
    theirs = [gw.run("files", key=other)["execution_id"] for _ in range(4)]
    watch.wait_for(lambda: (ids(gw), ids(gw, key=other)) == (mine[:2:-1], theirs[:0:-1]), 15 * settings.SLOW,
                   "the oldest are not removed")
    watch.wait_for(lambda: archives(gw) == set(mine[3:] + theirs[1:]), 15 * settings.SLOW, "their archives are not")
    check.error(gw.get(f"/v1/executions/{mine[0]}"), 404, "not_found")
    assert gw.execution(mine[3])["status"] == "success"


def test_the_old_go_and_the_live_stay(make_gateway):
    gw = make_gateway(http="skillbox_retention age=2s count=off;")
    gw.push(skill("files", FILES))
    gw.push(skill("sleep", "import time; time.sleep(300)"))
    live = gw.submit("sleep")
    done = gw.run("files")["execution_id"]
    assert done in ids(gw)
    watch.wait_for(lambda: ids(gw) == [live], 15 * settings.SLOW, "the old one stays")
    gw.delete(f"/v1/executions/{live}")
    watch.wait_for(lambda: ids(gw) == [], 15 * settings.SLOW, "it stays although it has ended")


def test_archives_that_nobody_knows_are_removed(make_gateway):
    gw = make_gateway()
    gw.push(skill("files", FILES))
    known = gw.run("files")["execution_id"]
    folder = gw.state / "artifacts" / "00"
    orphan, fresh = (folder / f"{str(uuid.uuid4())[:-2]}00.tar.gz" for _ in range(2))
    for path in (orphan, fresh):
        path.write_text("x")
    old = time.time() - 7200
    os.utime(orphan, (old, old))
    for path in (gw.state / "artifacts").rglob(f"{known}*"):
        os.utime(path, (old, old))
    gw.reload()  # a worker begins with the first folder
    watch.wait_for(lambda: not orphan.exists(), 15 * settings.SLOW, "an orphan stays")
    assert fresh.exists() and known in archives(gw)


def test_idempotency_keys_are_forgotten(make_gateway):
    gw = make_gateway(http="skillbox_retention keys=1s;")
    gw.push(skill("files", FILES))

    def run():
        return gw.execute("files", headers={"Idempotency-Key": "k"}).json()["execution_id"]
    first = run()
    watch.wait_for(lambda: run() != first, 15 * settings.SLOW, "the key stays")


def test_mistakes_in_the_directive_are_told(gateway):
    gateway.allow_log("bad.conf")
    for bad, text in (("age=x", "age=x"), ("count=0", "count=0"), ("keys=off", "keys=off"), ("what=1", "what=1")):
        conf = gateway.state / "logs" / "bad.conf"
        conf.write_text((gateway.state / "nginx.conf").read_text().replace(
            "skillbox_json_errors on;", f"skillbox_json_errors on; skillbox_retention {bad};", 1))
        out = gateway.test_configuration(conf)
        assert out.returncode != 0 and text in out.stderr, out.stderr


# ---- while others read ----

STEP = 200  # records that one transaction removes at most (_retention.c)
OLD = 10 * STEP
METRICS = "location = /metrics { skillbox_metrics on; }"


class Completions(http.client.HTTPConnection):
    """Reports results, as a helper does."""

    def __init__(self, gw):
        super().__init__("x")
        self.path = str(gw.state / "sock" / "complete.sock")

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)

    def report(self, execution, created_ms):
        facts = {"Status": "success", "Tenant": "default", "Skill": "old", "Version": "1.0.0", "Created": created_ms,
                 "Finished": created_ms + 1, "Files": 1, "Log-Length": 0}
        self.request("POST", f"/completions/{execution}", '{"status":"success","files_list":["x"]}',
                     {f"X-Skillbox-{k}": str(v) for k, v in facts.items()})
        answer = self.getresponse()
        answer.read()
        assert answer.status == 204


def old_executions(gw, count):
    """The ids of so many, with their archives, an hour and more old; oldest first."""
    begin = int(time.time() * 1000) - 2 * 3600 * 1000
    made = [(str(uuid.UUID(int=(begin + i << 80) + (7 << 76) + (2 << 62) + i)), begin + i) for i in range(count)]

    def report(part):
        conn = Completions(gw)
        for execution, created_ms in part:
            conn.report(execution, created_ms)
        conn.close()
    for execution, _ in made:
        path = gw.state / "artifacts" / execution[-2:] / f"{execution}.tar.gz"
        if not path.parent.exists():
            path.parent.mkdir()
            if settings.ROOT:
                os.chown(path.parent, *settings.ids(settings.NGINX_USER))
        path.write_bytes(b"x")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(report, [made[i::16] for i in range(16)]))
    return [execution for execution, _ in made]


def batches(gw):
    return int(re.search(r"^skillbox_store_batch_operations_count (\d+)$", gw.get("/metrics", key=None).text, re.M).group(1))


@pytest.mark.any_user
def test_a_long_sweep_is_many_short_ones_and_reads_and_writes_go_on_between(make_gateway):
    gw = make_gateway(with_helper=False, workers=1, server=METRICS, http="skillbox_retention age=off count=off;",
                      completers=f"{settings.HELPER_USER} root" if settings.ROOT else "")
    old = old_executions(gw, OLD)
    assert len(archives(gw)) == OLD and gw.execution(old[0])["files_list"] == ["x"]
    gw.write_nginx_conf(http="skillbox_retention age=1h count=off;")
    gw.reload()
    before, seen, written = batches(gw), [], 0

    def gone():
        """How many are: the oldest go first."""
        return bisect.bisect_left(old, True, key=lambda e: gw.get(f"/v1/executions/{e}").status_code == 200)
    end = time.monotonic() + 60 * settings.SLOW
    while (not seen or seen[-1] < OLD) and time.monotonic() < end:
        seen.append(gone())
        if 0 < seen[-1] < OLD:
            kept = gw.post("/v1/files?name=f", data=b"x", headers={"Content-Type": "text/plain"})
            written += 1
            assert kept.status_code == 201 and len(gw.get("/v1/executions?limit=200").json()) <= 200
    between = {n for n in seen if 0 < n < OLD}
    assert seen == sorted(seen) and seen[-1] == OLD, seen
    assert len(between) >= 3, f"reads waited for its end: {seen}"
    assert batches(gw) - before - written >= OLD / STEP, "some step removed more than it may"
    watch.wait_for(lambda: not archives(gw), 15 * settings.SLOW, "archives stay")


class Writer:
    """Holds the lock of the store's writer, as another process that writes for long would."""

    def __init__(self, store):
        self.lmdb = ctypes.CDLL("liblmdb.so.0")
        self.env, self.txn = ctypes.c_void_p(), ctypes.c_void_p()
        self.check(self.lmdb.mdb_env_create(ctypes.byref(self.env)))
        self.check(self.lmdb.mdb_env_open(self.env, str(store).encode(), 0, 0o600))

    @staticmethod
    def check(code):
        assert code == 0, code

    def __enter__(self):
        self.check(self.lmdb.mdb_txn_begin(self.env, None, 0, ctypes.byref(self.txn)))

    def __exit__(self, *_):
        self.lmdb.mdb_txn_abort(self.txn)
        self.lmdb.mdb_env_close(self.env)


@pytest.mark.any_user
def test_reads_do_not_wait_for_whoever_writes(make_gateway):
    gw = make_gateway(workers=1)
    gw.push(skill("files", FILES))
    done = gw.run("files")
    kept = gw.post("/v1/files?name=f", data=b"kept", headers={"Content-Type": "text/plain"}).json()["id"]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        with Writer(gw.state / "store"):
            writes = [pool.submit(gw.run, "files"),
                      pool.submit(gw.post, "/v1/files?name=g", data=b"x", headers={"Content-Type": "text/plain"})]
            for _ in range(30):
                assert [e["name"] for e in gw.get("/v1/skills").json()] == ["files"]
                assert gw.execution(done["execution_id"])["status"] == "success"
                assert gw.get("/v1/executions").status_code == gw.get("/ready", key=None).status_code == 200
                assert gw.get(f"/v1/files/{kept}/download").content == b"kept"
                assert gw.download(done["files_url"]).status_code == 200
            assert not any(w.done() for w in writes), "control: these do wait"
        assert writes[0].result(30)["status"] == "success" and writes[1].result(30).status_code == 201
