"""No room, and a store that can only be read: a clear error, reads that go on, and nothing to be done
but to make room."""

import contextlib
import os
import subprocess
import time

import pytest

from harness import check, settings, watch
from harness.packages import skill

ECHO = skill("echo", "import sys; print(sys.stdin.read())")
LARGE = skill("large", "import os\nopen('/sandbox/out/files/a', 'wb').write(os.urandom(3000000))\nprint('done')")
FULL = "The gateway's disk or store is full: nothing was stored. Try again later."

needs_mount = pytest.mark.skipif(not settings.ROOT, reason="mounts a small disk")


@contextlib.contextmanager
def small_disk(gw, folder, size, user, mode="700"):
    """A file system of its own below a folder of the state, with what was in the folder."""
    path = gw.state / folder
    uid, gid = settings.ids(user)
    aside = path.with_name(path.name + ".aside")
    path.rename(aside)
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode={mode},uid={uid},gid={gid}", "tmpfs", path],
                   check=True)
    try:
        subprocess.run(["cp", "-a", *aside.iterdir(), path], check=True)
        watch.remove_tree(aside)
        yield path
    finally:
        gw.nginx.terminate()
        gw.nginx.wait(20)
        gw.stop_helper()
        subprocess.run(["umount", path], check=True)


def stop_nginx(gw):
    gw.nginx.terminate()
    gw.nginx.wait(20)


def fill(path, leave=0):
    """Takes all room below a folder but so many bytes; the file to be removed."""
    junk = path / "junk"
    with open(junk, "wb", buffering=0) as f:
        with contextlib.suppress(OSError):
            while True:
                f.write(bytes(4096))
        if leave:
            f.truncate(max(os.path.getsize(junk) - leave, 0))
    return junk


def is_full(answer):
    assert check.error(answer, 503, "overloaded")["message"] == FULL
    assert int(answer.headers["Retry-After"]) >= 1


@needs_mount
def test_a_full_disk_below_the_store(make_gateway):
    """Metadata and package files: writes are told, reads go on, what is not acknowledged is not there."""
    gw = make_gateway()
    gw.push(ECHO)
    done = gw.run("echo", stdin="a")["execution_id"]
    kept = gw.post("/v1/files?name=x", data=b"content", headers={"Content-Type": "text/plain"}).json()["id"]
    stop_nginx(gw)
    with small_disk(gw, "store", "8m", settings.NGINX_USER) as store:
        gw.start_nginx()
        assert gw.run("echo", stdin="b")["logs"].strip() == "b"
        junk = fill(store)
        is_full(gw.upload(skill("other", "1", files={"data": os.urandom(100000)})))
        is_full(gw.post("/v1/files?name=y", data=b"z" * 20000, headers={"Content-Type": "text/plain"}))
        answer = gw.execute("echo", stdin="y" * 60000)
        while answer.status_code == 200:  # pages that were freed are used again
            answer = gw.execute("echo", stdin="y" * 60000)
        is_full(answer)
        waits = gw.execute("echo", stdin="z", **{"async": True})  # the helper has it, on another disk
        assert waits.status_code in (202, 503)
        for _ in range(3):
            assert gw.execution(done)["status"] == "success"
            assert gw.get("/v1/skills/echo/latest").status_code == 200
            assert gw.get(f"/v1/files/{kept}/download").content == b"content"
            assert gw.get("/ready").status_code == 200
        check.error(gw.get("/v1/skills/other/latest"), 404, "not_found")
        assert [f["name"] for f in gw.get("/v1/files").json()] == ["x"], "what was refused is absent"
        junk.unlink()
        gw.push(skill("other", "1", files={"data": os.urandom(100000)}))
        if waits.status_code == 202:
            assert gw.until(waits.json()["execution_id"])["logs"].strip() == "z"
        assert gw.run("echo", stdin="c")["status"] == "success"
        watch.wait_for(lambda: not [e for e in gw.get("/v1/executions?limit=200").json() if e["status"] in ("queued", "running")],
                       30 * settings.SLOW, "what was refused is neither absent nor marked")
        watch.wait_for(lambda: not list((gw.state / "helper" / "spool").iterdir()), 20 * settings.SLOW,
                       "the spool keeps what found no room")
        stop_nginx(gw)
        probe = subprocess.run([settings.BUILD / "tests" / "faults" / "store-probe", "dump", store],
                               capture_output=True, text=True)
        assert probe.returncode == 0, probe.stderr
        assert not list((store / "tmp").iterdir())
        gw.start_nginx()


@needs_mount
def test_a_full_disk_below_the_artifacts(make_gateway):
    """The run's result is kept, and says why its files are not."""
    gw = make_gateway()
    gw.push(LARGE)
    gw.stop_helper()
    stop_nginx(gw)
    with small_disk(gw, "artifacts", "4m", settings.HELPER_USER, "2750") as artifacts:
        os.chown(artifacts, settings.ids(settings.HELPER_USER)[0], settings.ids(settings.NGINX_USER)[1])
        gw.start_helper()
        gw.start_nginx()
        junk = fill(artifacts, 1000000)
        for body in (gw.run("large"), gw.until(gw.submit("large"))):
            assert body["status"] == "failed" and body["logs"] == "done\n"
            assert "artifacts could not be stored" in body["error"] and "No space left" in body["error"]
            assert "files_list" not in body and "files_url" not in body
        junk.unlink()
        body = gw.run("large")
        assert body["status"] == "success" and body["files_list"] == ["a"]
        assert len(gw.download(body["files_url"]).content) > 3000000
        files = [p for p in artifacts.rglob("*") if p.is_file()]
        assert [p.name for p in files] == [body["execution_id"] + ".tar.gz"], "what was begun is gone"


@needs_mount
def test_a_full_disk_below_the_helpers_packages(make_gateway):
    gw = make_gateway()
    gw.push(ECHO)
    gw.stop_helper()
    with small_disk(gw, "helper", "3m", settings.HELPER_USER) as folder:
        gw.start_helper()
        junk = fill(folder, 400000)
        answer = gw.upload(skill("big", "1", files={"data": os.urandom(1000000)}))
        body = check.error(answer, 503, "overloaded")
        assert "room" in body["message"] or "full" in body["message"], body
        assert gw.run("echo", stdin="a")["status"] == "success"
        junk.unlink()
        gw.push(skill("big", "1", files={"data": os.urandom(1000000)}))
        assert gw.run("big")["status"] == "success"


def fill_the_map(gw):
    """To the brim, by ever smaller records of the skill `say`; their ids."""
    ids = []
    for size in (400000, 60000, 8000, 10, 10):
        while (answer := gw.execute("say", stdin="x" * size)).status_code == 200:
            ids.append(answer.json()["execution_id"])
        is_full(answer)
    return ids


@pytest.mark.any_user
def test_a_full_map(make_gateway):
    """LMDB's map: deleting makes room again, also when it is full to the brim; retention does it alone."""
    gw = make_gateway(map="3m")
    conf = gw.state / "nginx.conf"
    gw.push(skill("say", "import sys; print(sys.stdin.read())"))
    ids = fill_the_map(gw)
    is_full(gw.upload(skill("other", "1")))
    is_full(gw.execute("say", stdin="waited", **{"async": True}))  # it runs, and waits for its record
    for execution in ids:
        assert gw.get(f"/v1/executions/{execution}/logs").status_code == 200
    assert gw.get("/ready").status_code == 200
    for execution in ids:
        assert gw.delete(f"/v1/executions/{execution}").status_code == 204
    def states():  # a run that had begun to be recorded says that its result is lost
        return [e["status"] for e in gw.get("/v1/executions").json()]
    watch.wait_for(lambda: states().count("success") == 1 and not {"queued", "running"} & set(states()),
                   30 * settings.SLOW, "what waited in the helper is not recorded")
    gw.push(skill("other", "1"))
    assert gw.run("say", stdin="x" * 400000)["status"] == "success"
    while gw.execute("say", stdin="x" * 300000).status_code == 200:
        pass
    conf.write_text(conf.read_text().replace("skillbox_json_errors on;",
                                             "skillbox_json_errors on; skillbox_retention count=2;", 1))
    gw.reload()
    watch.wait_for(lambda: gw.execute("say", stdin="x" * 300000).status_code == 200, 20 * settings.SLOW,
                   "retention makes no room")


@needs_mount
def test_a_store_that_can_only_be_read(make_gateway):
    gw = make_gateway()
    gw.push(ECHO)
    done = gw.run("echo", stdin="a")["execution_id"]
    kept = gw.post("/v1/files?name=x", data=b"content", headers={"Content-Type": "text/plain"}).json()["id"]
    operator = gw.new_key("ops", "admin", "--service")
    stop_nginx(gw)
    store = gw.state / "store"
    subprocess.run(["mount", "--bind", store, store], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", store], check=True)
    try:
        gw.start_nginx()
        assert gw.execution(done)["logs"].strip() == "a"
        assert gw.get("/v1/skills/echo/latest").status_code == 200
        assert gw.get(f"/v1/files/{kept}/download").content == b"content"
        assert gw.get("/ready").status_code == 200
        text = {"Content-Type": "text/plain"}
        changes = [gw.upload(skill("other", "1")), gw.execute("echo"), gw.delete(f"/v1/executions/{done}"),
                   gw.delete("/v1/skills/echo"), gw.delete("/v1/skills/echo/1.0.0"),
                   gw.put("/v1/skills/echo/active", json={"version": "1.0.0"}),
                   gw.execute("echo", headers={"Idempotency-Key": "k"}),
                   gw.post("/v1/files?name=y", data=b"y", headers=text), gw.put(f"/v1/files/{kept}", data=b"y", headers=text),
                   gw.delete(f"/v1/files/{kept}"),
                   gw.post("/v1/admin/keys", key=operator, json={"name": "k", "role": "reader"}),
                   gw.post("/v1/admin/tenants", key=operator, json={"id": "t"}),
                   gw.put("/v1/admin/tenants/ops", key=operator, json={"limits": {}})]
        for answer in changes:
            body = check.error(answer, 503, "overloaded")
            assert "read-only" in body["message"], body
        # The helper has this one, and gets rid of its result when the store takes writes again.
        waits = gw.execute("echo", stdin="waited", **{"async": True})
        assert waits.status_code in (202, 503), waits.text
        stop_nginx(gw)
    finally:
        if gw.nginx.poll() is None:
            stop_nginx(gw)
        subprocess.run(["umount", store], check=True)
    gw.start_nginx()
    gw.push(skill("other", "1"))
    assert gw.run("echo", stdin="b")["status"] == "success"
    assert gw.get(f"/v1/files/{kept}/download").content == b"content"
    if waits.status_code == 202:
        assert gw.until(waits.json()["execution_id"])["logs"].strip() == "waited"
    watch.wait_for(lambda: not list((gw.state / "helper" / "spool").iterdir()), 20 * settings.SLOW, "the spool keeps it")


@pytest.mark.any_user
def test_a_run_that_could_not_be_recorded_does_not_run_for_ever(make_gateway):
    """Its record was begun; its end found the map full."""
    gw = make_gateway(map="3m")
    gw.push(skill("slow", "import sys, time\ntime.sleep(1)\nprint('x' * int(sys.stdin.read()))"))
    gw.push(skill("say", "print('x' * 400000)"))
    ids = []
    while (answer := gw.execute("say")).status_code == 200:
        ids.append(answer.json()["execution_id"])
    gw.delete(f"/v1/executions/{ids.pop()}")
    def refused_at_its_end():  # not at its beginning, as long as the store has not found room for that
        return gw.execute("slow", stdin="900000").status_code == 503 and gw.get("/v1/executions?skill=slow").json()
    watch.wait_for(refused_at_its_end, 20 * settings.SLOW, "the result had room, or the record was not begun")
    for execution in ids:
        assert gw.delete(f"/v1/executions/{execution}").status_code == 204
    watch.wait_for(lambda: {(e["status"], e["error"]) for e in gw.get("/v1/executions?skill=slow").json()}
                   == {("failed", "the result could not be recorded")}, 30 * settings.SLOW, "it still runs")


@pytest.mark.any_user
def test_runs_that_a_full_store_refused_leave_nothing(make_gateway):
    """Neither archives, nor records that come later, nor memory of each: the store refused to begin them, too."""
    gw = make_gateway(map="3m")
    gw.push(skill("leaves", "import time\nopen('/sandbox/out/files/a', 'w').write('a')\ntime.sleep(0.3)"))
    gw.push(skill("say", "import sys; print(sys.stdin.read())"))
    ids = fill_the_map(gw)
    for _ in range(3):
        is_full(gw.execute("leaves"))
    for execution in ids[:3]:
        assert gw.delete(f"/v1/executions/{execution}").status_code == 204
    watch.wait_for(lambda: not list((gw.state / "artifacts").rglob("*.tar.gz")), 10 * settings.SLOW, "an archive is left")
    assert gw.run("leaves")["status"] == "success"
    time.sleep(1)  # in which an end that was kept would have been recorded
    assert [e["status"] for e in gw.get("/v1/executions?skill=leaves").json()] == ["success"]
