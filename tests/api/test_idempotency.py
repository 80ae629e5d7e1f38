"""Idempotency-Key: the same key and body are the same execution."""

import threading
import time
import uuid

import pytest

from harness import check, settings, watch
from harness.packages import skill

pytestmark = pytest.mark.any_user

SLEEP = "import time; print('started', flush=True); time.sleep(300)"
COUNT = "import uuid; print(uuid.uuid4())"  # tells two runs apart


@pytest.fixture(scope="module")
def gw(gateway):
    gateway.push(skill("count", COUNT))
    gateway.push(skill("sleep", SLEEP))
    return gateway


def keyed(gw, name, key=None, **fields):
    key = key or str(uuid.uuid4())
    return gw.execute(name, headers={"Idempotency-Key": key, **fields.pop("headers", {})}, **fields), key


def test_a_synchronous_run_is_answered_again_and_not_run_again(gw):
    first, key = keyed(gw, "count", input={"a": 1})
    again, _ = keyed(gw, "count", key, input={"a": 1})
    assert first.status_code == again.status_code == 200
    assert "Idempotency-Replayed" not in first.headers and again.headers["Idempotency-Replayed"] == "true"
    one, two = first.json(), again.json()
    assert one["execution_id"] == two["execution_id"] and one["logs"] == two["logs"]
    assert {k: two[k] for k in one if k != "files_url"} == {k: one[k] for k in one if k != "files_url"}


def test_an_asynchronous_run_is_accepted_once(gw):
    first, key = keyed(gw, "count", **{"async": True})
    again, _ = keyed(gw, "count", key, **{"async": True})
    assert first.status_code == 202
    execution = first.json()["execution_id"]
    if again.status_code == 202:
        assert again.json()["execution_id"] == execution
        assert again.headers["Location"] == f"/v1/executions/{execution}"
    done = gw.until(execution)
    last, _ = keyed(gw, "count", key, **{"async": True})
    assert last.status_code == 200 and last.json()["logs"] == done["logs"]
    ids = [e["execution_id"] for e in gw.get("/v1/executions?skill=count&limit=200").json()]
    assert ids.count(execution) == 1


def test_another_body_is_a_conflict_and_another_tenant_or_key_is_not(gw):
    first, key = keyed(gw, "count", input=1)
    other, _ = keyed(gw, "count", key, input=2)
    check.error(other, 409, "conflict")
    assert keyed(gw, "count", key + "x", input=2)[0].json()["execution_id"] != first.json()["execution_id"]
    tenant = gw.new_key("elsewhere")
    gw.push(skill("count", COUNT), key=tenant)
    assert keyed(gw, "count", key, input=1)[0].json()["execution_id"] == \
        first.json()["execution_id"]
    answer = gw.execute("count", input=1, key=tenant, headers={"Idempotency-Key": key})
    assert answer.status_code == 200 and answer.json()["execution_id"] != first.json()["execution_id"]


def test_many_at_once_are_one(gw):
    key, answers = str(uuid.uuid4()), []

    def client():
        answers.append(gw.execute("count", headers={"Idempotency-Key": key}, **{"async": True}))
    gw.key
    threads = [threading.Thread(target=client) for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert {a.status_code for a in answers} <= {200, 202}
    assert len({a.json()["execution_id"] for a in answers}) == 1
    assert gw.until(answers[0].json()["execution_id"])["status"] == "success"


def test_who_comes_again_while_it_runs_is_told_where_it_is(gw):
    key, answers = str(uuid.uuid4()), []
    client = threading.Thread(target=lambda: answers.append(keyed(gw, "sleep", key)[0]))
    client.start()

    def begun():
        answer, _ = keyed(gw, "sleep", key, timeout=5)
        return answer if answer.headers.get("Idempotency-Replayed") else None
    watch.wait_for(lambda: gw.get("/v1/executions?status=running&skill=sleep").json(), 10 * settings.SLOW, "it runs")
    answer = begun()
    assert answer.status_code == 202 and answer.json()["status"] == "running"
    assert gw.delete(f"/v1/executions/{answer.json()['execution_id']}").status_code == 202
    client.join(20)
    assert answers[0].json()["execution_id"] == answer.json()["execution_id"]
    assert keyed(gw, "sleep", key)[0].json()["status"] == "cancelled"


def test_a_refused_request_gives_its_key_back(make_gateway):
    gw = make_gateway()
    gw.push(skill("count", COUNT))
    key = str(uuid.uuid4())
    gw.stop_helper()
    check.error(keyed(gw, "count", key)[0], 502, "bad_gateway")
    gw.start_helper()
    time.sleep(0.2)
    assert keyed(gw, "count", key)[0].json()["status"] == "success"
    check.error(keyed(gw, "nothing", key + "1")[0], 404, "not_found")


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\xe9"])
def test_keys_that_are_none_are_refused(gw, key):
    if not key:
        raw = gw.raw(f"POST /v1/executions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gw.key}\r\nConnection: close\r\n"
                     "Idempotency-Key:\r\nContent-Length: 17\r\n\r\n{\"skill\":\"count\"}".encode())
        assert raw.startswith(b"HTTP/1.1 400")
        return
    answer = gw.execute("count", headers={"Idempotency-Key": key.encode("latin-1")})
    assert "Idempotency-Key" in check.error(answer, 400, "bad_request")["message"]


def test_a_key_outlives_the_worker_that_took_it(make_gateway):
    gw = make_gateway(workers=1)
    gw.push(skill("count", COUNT))
    first, key = keyed(gw, "count", **{"async": True})
    gw.until(first.json()["execution_id"])
    gw.reload()
    again, _ = keyed(gw, "count", key, **{"async": True})
    assert again.json()["execution_id"] == first.json()["execution_id"]
