"""Asynchronous runs through the gateway: POST with async, records, lists, cancel, delete."""

import re
import time
import uuid

import pytest

from harness import check, settings, watch
from harness.packages import skill

pytestmark = pytest.mark.any_user

SLEEP = "echo started; sleep 300"


@pytest.fixture(scope="module")
def gw(gateway):
    gateway.push(skill("quick", "print('hello')\nopen('/sandbox/out/output.json', 'w').write('{\"a\": 1}')\n"
                       "open('/sandbox/out/files/x', 'w').write('x')"))
    gateway.push(skill("sleep", SLEEP, lang="bash"))
    gateway.push(skill("fail", "raise SystemExit(3)"))
    return gateway


def running(gw, execution):
    return gw.until(execution, "running")


def cancel(gw, execution):
    answer = gw.delete(f"/v1/executions/{execution}")
    assert answer.status_code == 202, answer.text
    return gw.until(execution)


# ---- begin ----

def test_an_asynchronous_run_is_accepted_and_ends(gw):
    answer = gw.execute("quick", **{"async": True})
    assert answer.status_code == 202
    body = answer.json()
    assert set(body) == {"execution_id", "status"} and body["status"] == "queued"
    assert check.UUID.fullmatch(body["execution_id"]) and check.compact(answer.text)
    assert answer.headers["Location"] == f"/v1/executions/{body['execution_id']}"
    done = gw.until(body["execution_id"])
    assert done["status"] == "success" and done["output"] == {"a": 1} and done["logs"] == "hello\n"
    assert done["error"] is None and done["exit_code"] == 0 and done["duration_ms"] >= 1
    assert done["usage"]["wall_ms"] >= 1 and done["usage"]["max_rss_bytes"] > 1 << 20
    assert (done["skill_name"], done["skill_version"]) == ("quick", "1.0.0")
    assert check.TIME.fullmatch(done["created_at"]) and done["finished_at"] >= done["created_at"]
    assert check.untar(gw.download(done["files_url"]).content) == {"x": b"x"}


@pytest.mark.parametrize("prefer", ["respond-async", "Respond-Async, wait=10", "wait=1;x=y,  respond-async;a=b"])
def test_the_prefer_header_asks_for_it_too(gw, prefer):
    answer = gw.execute("quick", headers={"Prefer": prefer})
    assert answer.status_code == 202
    gw.until(answer.json()["execution_id"])


@pytest.mark.parametrize("prefer", ["return=minimal", "respond-asyncx", "x=respond-async", ""])
def test_other_preferences_do_not(gw, prefer):
    assert gw.execute("quick", headers={"Prefer": prefer}).status_code == 200


def test_a_synchronous_run_stays_one(gw):
    for value in (False, None):
        assert gw.execute("quick", **{"async": value}).status_code == 200
    check.error(gw.execute("quick", **{"async": "yes"}), 400, "bad_request")


def test_what_can_not_run_is_refused_before_it_is_accepted(gw):
    check.error(gw.execute("nothing", **{"async": True}), 404, "not_found")
    check.error(gw.execute("quick", **{"async": True}, script="no.py"), 400, "bad_request")
    check.error(gw.execute("quick", **{"async": True}, env={"PATH": "x"}), 400, "bad_request")


def test_all_that_a_run_can_be_given_arrives(gw):
    code = "import sys; print(sys.argv[1:], sys.stdin.read(), open('data.txt').read())\nimport os; print(os.environ['A'])"
    gw.push(skill("tools", "print(1)", files={"scripts/tool.py": code}))
    execution = gw.submit("tools", script="scripts/tool.py", args=["a", "b c"], stdin="in", env={"A": "x"},
                          files={"data.txt": "ZGF0YQ=="}, timeout_ms=20000)
    assert gw.until(execution)["logs"] == "['a', 'b c'] in data\nx\n"


def test_a_failure_and_a_timeout_are_results(gw):
    done = gw.until(gw.submit("fail"))
    assert (done["status"], done["error"], done["exit_code"]) == ("failed", "exited with code 3", 3)
    done = gw.until(gw.submit("sleep", timeout_ms=400))
    assert done["status"] == "timeout" and done["logs"] == "started\n"


def test_a_run_is_seen_queued_then_running_then_ended(make_gateway):
    gw = make_gateway(helper={"concurrency": 1})
    gw.push(skill("sleep", SLEEP, lang="bash"))
    first, second = gw.submit("sleep"), gw.submit("sleep")
    body = running(gw, first)
    assert body["error"] is None and "finished_at" not in body and body["skill_name"] == "sleep"
    assert gw.execution(second)["status"] == "queued"
    assert cancel(gw, first)["status"] == "cancelled"
    running(gw, second)
    watch.wait_for(lambda: watch.children_named(gw.helper.pid, "sleep"), 15 * settings.SLOW, "it does not sleep")
    assert cancel(gw, second)["logs"] == "started\n"


def test_a_package_that_the_helper_lacks_is_sent_first(make_gateway):
    gw = make_gateway()
    gw.push(skill("quick", "print('hello')"))
    gw.stop_helper()
    watch.remove_tree(gw.state / "helper" / "packages")
    gw.start_helper()
    assert gw.until(gw.submit("quick"))["logs"] == "hello\n"


def test_another_tenants_execution_is_not_there(gw):
    execution = gw.submit("sleep")
    other = gw.new_key("other")
    for answer in (gw.get(f"/v1/executions/{execution}", key=other), gw.delete(f"/v1/executions/{execution}", key=other)):
        check.error(answer, 404, "not_found")
    assert execution not in gw.get("/v1/executions", key=other).text
    cancel(gw, execution)


# ---- cancel and delete ----

def test_delete_of_one_that_waits_or_runs_cancels_it(make_gateway):
    gw = make_gateway(helper={"concurrency": 1})
    gw.push(skill("sleep", SLEEP, lang="bash"))
    runs, waits = gw.submit("sleep"), gw.submit("sleep")
    running(gw, runs)
    for execution in (waits, runs):
        answer = gw.delete(f"/v1/executions/{execution}")
        assert answer.status_code == 202
        assert answer.json() == {"execution_id": execution, "status": "cancelled"}
        done = gw.until(execution)
        assert (done["status"], done["error"]) == ("cancelled", "cancelled")


def test_delete_of_an_ended_one_removes_record_log_and_archive(gw):
    execution = gw.submit("quick")
    url = gw.until(execution)["files_url"]
    assert gw.download(url).status_code == 200
    answer = gw.delete(f"/v1/executions/{execution}")
    assert (answer.status_code, answer.content) == (204, b"")
    for path in ("", "/logs"):
        check.error(gw.get(f"/v1/executions/{execution}{path}"), 404, "not_found")
    check.error(gw.delete(f"/v1/executions/{execution}"), 404, "not_found")
    assert gw.download(url).status_code == 404
    assert not list((gw.state / "artifacts").rglob(f"*{execution}*"))
    # synchronous ones alike
    body = gw.run("quick")
    assert gw.delete(f"/v1/executions/{body['execution_id']}").status_code == 204
    assert gw.download(body["files_url"]).status_code == 404


def test_delete_of_what_never_was_is_not_found(gw):
    check.error(gw.delete(f"/v1/executions/{uuid.uuid4()}"), 404, "not_found")
    check.error(gw.delete("/v1/executions/nonsense"), 404, "not_found")


def test_a_synchronous_run_can_be_cancelled_by_somebody_else(gw):
    import threading
    answers = []
    client = threading.Thread(target=lambda: answers.append(gw.execute("sleep", headers={"X-Request-ID": "sync-1"})))
    client.start()
    found = watch.wait_for(lambda: gw.get("/v1/executions?status=running&skill=sleep").json(), 10 * settings.SLOW,
                           "it does not run")
    assert gw.delete(f"/v1/executions/{found[0]['execution_id']}").status_code == 202
    client.join(20)
    assert answers[0].status_code == 200 and answers[0].json()["status"] == "cancelled"


# ---- list ----

@pytest.fixture(scope="module")
def listed(make_listed):
    return make_listed


@pytest.fixture(scope="module")
def make_listed(gw):
    """A tenant with 7 executions, oldest first."""
    key = gw.new_key("listed")
    for name in ("quick", "fail"):
        code = {"quick": "print('hello')", "fail": "raise SystemExit(3)"}[name]
        gw.push(skill(name, code), key=key)
    ids = []
    for i in range(7):
        ids.append(gw.run("fail" if i % 3 == 2 else "quick", key=key)["execution_id"])
    return key, ids


def page(gw, key, query=""):
    answer = gw.get("/v1/executions" + query, key=key)
    assert answer.status_code == 200 and check.compact(answer.text), answer.text
    link = answer.headers.get("Link")
    found = re.fullmatch(r'<(/v1/executions\?[^>]*)>; rel="next"', link).group(1) if link else None
    return [e["execution_id"] for e in answer.json()], found


def test_the_list_is_newest_first_and_short(gw, listed):
    key, ids = listed
    assert page(gw, key) == (ids[::-1], None)
    element = gw.get("/v1/executions", key=key).json()[0]
    whole = gw.execution(ids[-1], key=key)
    assert not {"logs", "output", "files_list", "files_url"} & set(element)
    assert {k: whole[k] for k in element} == element and element["status"] == "success"


def test_an_empty_list_is_an_empty_array(gw):
    assert gw.get("/v1/executions", key=gw.new_key("nobody")).text == "[]"


def test_the_list_goes_on_where_a_page_ended(gw, listed):
    key, ids = listed
    found, path = [], "/v1/executions?limit=3"
    for _ in range(3):
        got, path = page(gw, key, path.removeprefix("/v1/executions"))
        found += got
    assert found == ids[::-1] and path is None
    got, path = page(gw, key, "?limit=2&skill=quick&status=success")
    assert len(got) == 2 and "skill=quick" in path and "status=success" in path
    rest, path = page(gw, key, path.removeprefix("/v1/executions"))
    assert len(rest) == 2 and not set(got) & set(rest)


def test_a_page_has_50_or_as_many_as_were_asked_for_and_200_at_most(gw):
    key = gw.new_key("pages")
    gw.push(skill("nothing", ":", lang="bash"), key=key)
    ids = [gw.run("nothing", key=key)["execution_id"] for _ in range(203)][::-1]
    for query, count in (("", 50), ("?limit=120", 120), ("?limit=200", 200), ("?limit=201", 200), ("?limit=99999", 200)):
        got, after = page(gw, key, query)
        assert got == ids[:count] and after, query
    assert page(gw, key, after.removeprefix("/v1/executions")) == (ids[200:], None)


def test_the_list_is_filtered_by_skill_and_status(gw, listed):
    key, ids = listed
    failed = [ids[5], ids[2]]
    assert page(gw, key, "?skill=fail")[0] == failed
    assert page(gw, key, "?status=failed")[0] == failed
    assert page(gw, key, "?status=failed&skill=quick")[0] == []
    assert page(gw, key, "?status=queued")[0] == []
    assert page(gw, key, "?skill=qui%63k&limit=1000")[0] == [i for i in ids[::-1] if i not in failed]


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "status=done", "cursor=x", "skill=..%2f"])
def test_bad_queries_are_refused_by_name(gw, query):
    body = check.error(gw.get("/v1/executions?" + query), 400, "bad_request")
    assert query.split("=")[0] in body["message"]


# ---- the internal listener ----

def test_the_internal_listener_is_for_the_helper_alone(make_gateway, slow):
    gw = make_gateway(server="location /complete/ { skillbox_internal; }")
    path = f"/complete/completions/{uuid.uuid4()}"
    answer = gw.session.post(gw.url + path, data=b"{}", timeout=10)
    assert answer.status_code == 403
    if settings.ROOT:  # root is not the helper
        import http.client
        import socket
        conn = http.client.HTTPConnection("x")
        conn.sock = socket.socket(socket.AF_UNIX)
        conn.sock.connect(str(gw.state / "sock" / "complete.sock"))
        conn.request("POST", f"/completions/{uuid.uuid4()}", b"{}")
        assert conn.getresponse().status == 403


# ---- after things died ----

def test_a_run_that_no_helper_knows_is_not_live_for_ever(make_gateway):
    gw = make_gateway(helper={"concurrency": 1})
    gw.push(skill("sleep", SLEEP, lang="bash"))
    execution = gw.submit("sleep")
    running(gw, execution)
    gw.helper.kill()
    gw.helper.wait(10)
    for left in (gw.state / "helper" / "spool").iterdir():
        left.unlink()  # the disk was lost
    gw.start_helper()
    answer = gw.delete(f"/v1/executions/{execution}")
    assert answer.status_code in (200, 202)
    body = gw.until(execution)
    assert (body["status"], body["error"]) == ("failed", "interrupted")


def test_a_run_that_waits_keeps_all_it_was_given_over_a_restart(make_gateway):
    gw = make_gateway(helper={"concurrency": 1})
    gw.push(skill("sleep", SLEEP, lang="bash"))
    gw.push(skill("show", "import os, sys\nprint(sys.argv[1:], os.environ['A'], open('/sandbox/input.json').read(), "
                  "sys.stdin.read(), open('/sandbox/input/f').read())"))
    running(gw, gw.submit("sleep"))
    waits = gw.submit("show", args=["one", "two"], env={"A": "b"}, input={"x": [1]}, stdin="in", files={"f": "ZmlsZQ=="})
    gw.helper.kill()
    gw.helper.wait(10)
    gw.start_helper()
    assert gw.until(waits)["logs"] == "['one', 'two'] b {\"x\":[1]} in file\n"
