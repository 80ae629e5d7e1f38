"""Limits of tenants, over all workers; fair turns between tenants; failed authentications."""

import concurrent.futures
import os
import signal
import time

import pytest

from harness import check, watch
from harness.packages import skill

pytestmark = pytest.mark.any_user

SLEEP = skill("sleep", "import json, os, time\n"
              "time.sleep(json.load(open(os.environ['SANDBOX_INPUT_DIR'] + '/../input.json'))['s'])\n")
QUICK = skill("quick", "print(1)")


@pytest.fixture(scope="module")
def operator(gateway):
    return gateway.new_key("ops", "admin", "--service")


def tenant(gw, operator, name, **limits):
    """A tenant with limits, the skills and a key of it."""
    made = gw.post("/v1/admin/tenants", key=operator, json={"id": name, "limits": limits})
    assert made.status_code == 201, made.text
    key = gw.new_key(name, "admin")
    for package in (SLEEP, QUICK):
        if "package_bytes" not in limits:
            gw.push(package, key=key)
    return key


def limit(gw, operator, name, **limits):
    assert gw.put(f"/v1/admin/tenants/{name}", key=operator, json={"limits": limits}).status_code == 200


def lone(gw, key, skill_name, seconds=0.0):
    """A run over a connection of its own, so that any worker gets it; its status code."""
    body = f'{{"skill":"{skill_name}","input":{{"s":{seconds}}}}}'
    raw = gw.raw(f"POST /v1/executions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
                 f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode(), timeout=60)
    return check.parse_response(raw)


def in_parallel(count, call):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: call(), range(count)))


def test_runs_at_a_time_are_limited_over_all_workers(gateway, operator):
    key = tenant(gateway, operator, "few", concurrent_runs=2, queued_runs=1)
    answers = in_parallel(8, lambda: lone(gateway, key, "sleep", 1.5))
    codes = sorted(status for status, _, _ in answers)
    assert codes == [200] * 3 + [429] * 5
    refused = next(a for a in answers if a[0] == 429)
    body = check.error_parts(429, refused[1], refused[2], "rate_limited")
    assert "limit" in body["message"]
    # All places are free again.
    assert sorted(s for s, _, _ in in_parallel(3, lambda: lone(gateway, key, "quick"))) == [200] * 3


def test_runs_above_the_concurrent_ones_wait(gateway, operator):
    key = tenant(gateway, operator, "waits", concurrent_runs=1)
    started = time.monotonic()
    assert [s for s, _, _ in in_parallel(3, lambda: lone(gateway, key, "sleep", 0.4))] == [200] * 3
    assert time.monotonic() - started >= 1.2, "three runs of 0.4 s, one at a time"


def test_a_limit_of_another_tenant_is_its_own(gateway, operator):
    none, some = tenant(gateway, operator, "none"), tenant(gateway, operator, "some")
    limit(gateway, operator, "none", concurrent_runs=0)
    answer = gateway.execute("quick", key=none)
    check.error(answer, 429, "rate_limited")
    assert gateway.run("quick", key=some)["status"] == "success"
    limit(gateway, operator, "none", concurrent_runs=None)
    assert gateway.run("quick", key=none)["status"] == "success"


def test_runs_a_minute_are_limited_over_all_workers(gateway, operator):
    key = tenant(gateway, operator, "slow", runs_per_minute=3)
    answers = in_parallel(6, lambda: lone(gateway, key, "quick"))
    assert sorted(s for s, _, _ in answers) == [200] * 3 + [429] * 3
    answer = gateway.execute("quick", key=key)
    check.error(answer, 429, "rate_limited")
    assert 1 <= int(answer.headers["Retry-After"]) <= 21, "a run is due every 20 seconds"
    limit(gateway, operator, "slow", runs_per_minute=60000)
    assert gateway.run("quick", key=key)["status"] == "success"


def test_a_request_that_is_refused_otherwise_takes_nothing(gateway, operator):
    key = tenant(gateway, operator, "careful", runs_per_minute=1)
    for _ in range(5):
        check.error(gateway.execute("no-such-skill", key=key), 404)
    assert gateway.run("quick", key=key)["status"] == "success"


def test_a_package_above_the_tenants_limit_is_413(gateway, operator):
    key = tenant(gateway, operator, "small", package_bytes=600)
    big = skill("big", "print(1)", data=os.urandom(50).hex())
    big["blob.bin"] = os.urandom(2000)
    check.error(gateway.upload(big, key=key), 413, "too_large")
    limit(gateway, operator, "small", package_bytes=None)
    gateway.push(big, key=key)


def test_a_client_that_hangs_up_gives_its_place_back(gateway, operator):
    key = tenant(gateway, operator, "gone", concurrent_runs=1, queued_runs=0)
    body = '{"skill":"sleep","input":{"s":30}}'
    request = (f"POST /v1/executions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
               f"Content-Length: {len(body)}\r\n\r\n{body}").encode()
    assert gateway.raw(request, timeout=1) == b""
    watch.wait_for(lambda: gateway.execute("quick", key=key).status_code == 200, 10,
                   "the place is not free again")


def test_a_worker_that_dies_takes_no_place_along(make_gateway):
    gw = make_gateway()
    gw.allow_log(r"exited on signal 9")
    operator = gw.new_key("ops", "admin", "--service")
    key = tenant(gw, operator, "hit", concurrent_runs=2, queued_runs=0)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(lone, gw, key, "sleep", 30) for _ in range(2)]
        watch.wait_for(lambda: gw.ready()["helper"]["running"] == 2, 10, "they don't run")
        check.error(gw.execute("quick", key=key), 429, "rate_limited")
        before = gw.workers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        for run in runs:
            try:
                run.result(20)
            except (OSError, ValueError, IndexError):
                pass  # cut off
    watch.wait_for(lambda: len(set(gw.workers()) - set(before)) == 2, 10, "no new workers")
    watch.wait_for(lambda: gw.session.get(gw.url + "/health").status_code == 200, 10, "not up")
    watch.wait_for(lambda: gw.execute("quick", key=key).status_code == 200, 10, "a place was lost")


def test_a_reload_keeps_the_counts(make_gateway):
    gw = make_gateway()
    operator = gw.new_key("ops", "admin", "--service")
    key = tenant(gw, operator, "stays", concurrent_runs=1, queued_runs=0)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        run = pool.submit(lone, gw, key, "sleep", 4)
        watch.wait_for(lambda: gw.ready()["helper"]["running"] == 1, 10, "it doesn't run")
        gw.reload()
        check.error(gw.execute("quick", key=key), 429, "rate_limited")
        assert run.result(20)[0] == 200
    assert gw.run("quick", key=key)["status"] == "success"


def test_one_tenants_many_runs_do_not_starve_anothers_one(make_gateway):
    gw = make_gateway(helper={"concurrency": 1, "queue": 64})
    operator = gw.new_key("ops", "admin", "--service")
    many, one = tenant(gw, operator, "many"), tenant(gw, operator, "one")
    gw.run("quick", key=one)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        runs = [pool.submit(lone, gw, many, "sleep", 0.3) for _ in range(20)]
        watch.wait_for(lambda: gw.ready()["helper"]["queued"] >= 10, 10, "they don't queue")
        started = time.monotonic()
        assert gw.run("quick", key=one)["status"] == "success"
        waited = time.monotonic() - started
        waiting = sum(not run.done() for run in runs)
        assert [run.result(60)[0] for run in runs] == [200] * 20
    assert waiting >= 8, f"it had to wait for nearly all of them, {waited:.1f} s"


# ---- failed authentications ----

def test_failures_of_an_address_are_limited_and_a_good_key_is_not(make_gateway):
    gw = make_gateway(location="skillbox_auth_failures 5;")
    codes = [gw.get("/v1/skills", key="sk-" + "A" * 43).status_code for _ in range(8)]
    assert codes[:5] == [401] * 5 and codes[5:] == [429] * 3
    answer = gw.get("/v1/skills", key="sk-" + "B" * 43)
    check.error(answer, 429, "rate_limited")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert gw.get("/v1/skills").status_code == 200
    check.error(gw.get("/v1/skills", key=None), 401, "unauthorized")


@pytest.mark.parametrize("directive", [
    "skillbox_zone zone=a:100k;", "skillbox_zone zone=a;", "skillbox_zone zone=:4m;",
    "skillbox_zone name;", "skillbox_zone zone=a:4x;", "skillbox_zone zone=a:4m; skillbox_zone zone=b:4m;"])
def test_a_bad_zone_is_refused(gateway, directive, tmp_path):
    text = (gateway.state / "nginx.conf").read_text()
    conf = tmp_path / "nginx.conf"
    conf.write_text(text.replace("skillbox_json_errors on;", "skillbox_json_errors on; " + directive, 1))
    gateway.allow_log(r"\[emerg\].*zone")
    out = gateway.test_configuration(conf)
    assert out.returncode != 0 and "zone" in out.stderr


def test_asynchronous_runs_are_held_to_their_tenants_limits_too(make_gateway):
    gw = make_gateway(helper={"concurrency": 4})
    operator = gw.new_key("ops", "admin", "--service")
    key = tenant(gw, operator, "later", concurrent_runs=1, queued_runs=2)
    answers = [gw.execute("sleep", key=key, input={"s": seconds}, **{"async": True}) for seconds in (60, 0, 0, 0, 0)]
    assert [a.status_code for a in answers[:3]] == [202] * 3
    for refused in answers[3:]:
        check.error(refused, 429, "rate_limited")
    watch.wait_for(lambda: [gw.ready()["helper"][n] for n in ("running", "queued")] == [1, 2], 10,
                   "one at a time, whatever is free")
    first, *others = (answer.json()["execution_id"] for answer in answers[:3])
    assert gw.delete(f"/v1/executions/{first}", key=key).status_code == 202
    for execution in others:
        assert gw.until(execution, key=key)["status"] == "success"
