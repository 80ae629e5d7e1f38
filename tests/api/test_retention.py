"""What is old or too much is removed, for each tenant, with its archives."""

import os
import time
import uuid

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
