"""skillbox_journal: a run is answered before it is in the store, and nobody can tell."""

import json
import re
import subprocess
import threading

import pytest
import requests

from harness import check, settings, watch
from harness.gateway import Gateway
from harness.packages import skill

pytestmark = pytest.mark.any_user

METRICS = "location = /metrics { skillbox_metrics on; allow 127.0.0.1; deny all; }"
ECHO = skill("echo", "import sys\nprint(sys.stdin.read())")
PROBE = settings.BUILD / "tests" / "faults" / "store-probe"


def journals(gw):
    return sorted(p.name for p in (gw.state / "store" / "journal").glob("[0-9]*"))


def ways(gw):
    """How many runs went which way."""
    text = gw.get("/metrics", key=None).text
    return {way: int(n) for way, n in re.findall(r'^skillbox_journal_runs_total\{way="(\w+)"\} (\d+)$', text, re.M)}


@pytest.fixture(scope="module")
def gw():
    gw = Gateway(workers=4, server=METRICS).start()
    gw.push(ECHO)
    watch.wait_for(lambda: len(journals(gw)) == 4, 10 * settings.SLOW, "workers have no journals")
    for _ in range(8):  # each has taken over its own
        gw.run("echo", stdin="warm")
    yield gw
    gw.stop()


def fresh(gw, path):
    """A connection of its own: any of the workers answers."""
    return requests.get(gw.url + path, headers={"Authorization": f"Bearer {gw.key}", "Connection": "close"}, timeout=20)


def test_who_was_answered_finds_the_run_at_every_worker(gw):
    before = ways(gw)
    for i in range(40):
        done = gw.run("echo", stdin=f"run {i}")["execution_id"]
        path = {0: f"/v1/executions/{done}", 1: "/v1/executions?limit=3", 2: f"/v1/executions/{done}/logs"}[i % 3]
        answer = fresh(gw, path)
        assert answer.status_code == 200, answer.text
        assert done in answer.text if i % 3 < 2 else f"run {i}" in answer.text
    after = ways(gw)
    assert after["journal"] - before["journal"] == 40 and after["store"] == before["store"]


def test_a_run_can_be_deleted_as_soon_as_it_is_answered(gw):
    for _ in range(10):
        done = gw.run("echo", stdin="x")["execution_id"]
        headers = {"Authorization": f"Bearer {gw.key}", "Connection": "close"}
        assert requests.delete(gw.url + f"/v1/executions/{done}", headers=headers, timeout=20).status_code == 204
        check.error(fresh(gw, f"/v1/executions/{done}"), 404, "not_found")


def test_what_must_be_in_the_store_is_there_before_the_answer(gw):
    gw.push(skill("file", "open('/sandbox/out/files/a', 'w').write('a')"))
    gw.push(skill("lasts", "import time; time.sleep(0.3)"))
    before = ways(gw)
    assert gw.run("file")["files_url"]
    assert gw.execute("echo", stdin="k", headers={"Idempotency-Key": "key"}).status_code == 200
    assert gw.run("lasts")["status"] == "success"
    assert ways(gw) == before
    assert gw.run("echo", stdin="y" * 200000)["logs"].strip() == "y" * 200000
    after = ways(gw)
    assert after["journal"] == before["journal"], "a record that is too large is in the journal"


def test_a_failed_run_is_recorded_as_what_it_was(gw):
    gw.push(skill("fails", "import sys; print('out'); sys.exit(3)"))
    before = ways(gw)["journal"]
    answer = gw.execute("fails").json()
    assert ways(gw)["journal"] == before + 1
    record = gw.execution(answer["execution_id"])
    assert record["status"] == answer["status"] == "failed" and record["error"] == answer["error"]
    assert record["logs"].strip() == "out" and record["created_at"] <= record["finished_at"]


def test_a_tenant_near_its_limit_is_counted_run_by_run(gw):
    operator = gw.new_key("ops", "admin", "--service")
    assert gw.post("/v1/admin/tenants", key=operator, json={"id": "small"}).status_code == 201
    key = gw.new_key("small", "admin")
    gw.push(ECHO, key=key)

    def limit(most):
        assert gw.put("/v1/admin/tenants/small", key=operator, json={"limits": {"disk_bytes": most}}).status_code == 200
    limit(100 << 20)
    before = ways(gw)["journal"]
    assert gw.run("echo", stdin="a", key=key)["status"] == "success"
    assert ways(gw)["journal"] == before + 1
    used = gw.get("/v1/admin/tenants/small", key=operator).json()["usage"]["disk_bytes"]
    limit(used + 3000)
    answers = [gw.execute("echo", stdin="b" * 500, key=key) for _ in range(12)]
    assert ways(gw)["journal"] == before + 1
    refused = [a.status_code for a in answers].index(507)
    assert 0 < refused < 8 and all(a.status_code == 507 for a in answers[refused:])


def test_a_backup_has_what_was_answered_before_it(gw):
    place = subprocess.check_output(["mktemp", "-d", "/tmp/sbb-XXXXXX"], text=True).strip()
    subprocess.run(["chmod", "755", place], check=True)
    try:
        for i in range(3):
            done = [gw.run("echo", stdin=str(i))["execution_id"] for _ in range(5)]
            subprocess.run([settings.BIN / "skillbox", "backup", "--store", gw.state / "store", f"{place}/{i}"], check=True,
                           capture_output=True, timeout=60)
            dump = subprocess.run([PROBE, "dump", f"{place}/{i}"], check=True, capture_output=True, text=True).stdout
            there = {json.loads(line).get("execution") for line in dump.splitlines()}
            assert set(done) <= there
    finally:
        subprocess.run(["rm", "-rf", place], check=True)


def test_many_clients_at_once_are_all_recorded(gw):
    done, failed = [], []

    def client(n):
        session = requests.Session()
        session.trust_env = False
        for i in range(15):
            answer = session.post(gw.url + "/v1/executions", json={"skill": "echo", "stdin": f"{n} {i}"},
                                  headers={"Authorization": f"Bearer {gw.key}"}, timeout=60)
            (done if answer.status_code == 200 else failed).append((answer.json().get("execution_id"), f"{n} {i}"))
    threads = [threading.Thread(target=client, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed and len(done) == 90
    for execution, text in done:
        assert gw.execution(execution)["logs"].strip() == text


def test_off_it_is_not_made(make_gateway):
    gw = make_gateway(http="skillbox_journal off;", server=METRICS)
    gw.push(ECHO)
    done = gw.run("echo", stdin="a")["execution_id"]
    assert fresh(gw, f"/v1/executions/{done}").status_code == 200
    assert not (gw.state / "store" / "journal").exists() and ways(gw) == {"journal": 0, "store": 0}


def test_without_a_journal_runs_wait_for_the_store_and_the_log_says_why(make_gateway):
    gw = make_gateway(server=METRICS, workers=1)
    gw.push(ECHO)
    gw.nginx.terminate()
    gw.nginx.wait(20)
    folder = gw.state / "store" / "journal"
    watch.remove_tree(folder)
    folder.mkdir(mode=0o555)  # root's, or its own: a worker can't write there
    gw.start_nginx()
    done = gw.run("echo", stdin="a")["execution_id"]
    assert fresh(gw, f"/v1/executions/{done}").status_code == 200
    assert ways(gw) == {"journal": 0, "store": 0}
    watch.wait_for(lambda: "the store's journal: " in gw.error_log, 5 * settings.SLOW, "nothing is said of the journal")
    assert "runs are answered when they are in the store" in gw.error_log


def test_reloads_use_the_same_files(make_gateway):
    gw = make_gateway()
    gw.push(ECHO)
    for i in range(4):
        done = gw.run("echo", stdin=str(i))["execution_id"]
        gw.reload()
        assert gw.execution(done)["logs"].strip() == str(i)
    assert len(journals(gw)) <= 6  # old workers and new ones, for a moment
