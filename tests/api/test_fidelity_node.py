"""Node.js scripts do the same whether node was started for them or had waited: output, errors and
exit code, byte for byte.  fidelity/node/ has the scripts."""

import os
import pathlib
import re
import signal

import pytest

from harness import packages, settings, watch
from harness.helper import Helper, fcgi_call

pytestmark = pytest.mark.any_user

FOLDER = pathlib.Path(__file__).with_name("fidelity") / "node"
SCRIPTS = sorted(str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*")
                 if p.is_file() and p.suffix not in (".json", ".sh") and p.name != "random.js" and p.parent.name != "lib")
# What only numbers and is another one in each run.
PIDS = re.compile(rb"\(node:\d+\)")


@pytest.fixture(scope="module")
def plain():
    h = Helper(prestart={"max": 0}).start()
    yield h
    h.stop()


@pytest.fixture(scope="module")
def ready():
    h = Helper(prestart={"max": 4}, concurrency=4).start()
    yield h
    h.stop()


def package():
    files = {str(p.relative_to(FOLDER)): (p.read_bytes(), p.stat().st_mode & 0o777)
             for p in FOLDER.rglob("*") if p.is_file()}
    return packages.make_zip({
        "SKILL.md": packages.skill_md("fidelity", lang="node", entry_point="identity.js"),
        "linked.js": ("link", "link_target.js"), **files})


def pool(h):
    return h.status()["prestarted"][0]


def run(h, target, job=None, input=b'{"a": "\xc3\xbc"}', mode="script", wait=True):
    """The Answer of a run; with a pool, of one that found a node waiting."""
    if "fidelity" not in h.packages:
        h.packages["fidelity"] = h.push(package())
    digest = h.packages["fidelity"]
    job = {"args": ["a b", "", "\u00fc"], "env": {"GIVEN": "x=\u00fc\n", "EMPTY": ""}} if job is None else job
    if pool(h)["max"] > 0 and wait:
        if pool(h)["wanted"] == 0:
            fcgi_call.run(h.socket, digest, lang="node", target="empty.js", mode="script")
        watch.wait_for(lambda: pool(h)["waiting"] > 0, 20 * settings.SLOW, "no node waits")
    before = pool(h)["ready_runs"]
    answer = fcgi_call.run(h.socket, digest, job, input, 60 * settings.SLOW, lang="node", target=target,
                           mode=mode)
    if pool(h)["max"] > 0 and wait:
        assert pool(h)["ready_runs"] == before + 1, "the run was not the pool's"
    return answer


def facts(answer):
    body = answer.json
    return {"http": answer.status, "code": body.get("exit_code"), "status": body.get("status"),
            "error": body.get("error"), "signal": answer.app_status,
            # Two streams: whose lines come first is the reader's chance.
            "log": sorted(PIDS.sub(b"(node:N)", answer.log).decode(errors="replace").split("\n"))}


@pytest.mark.parametrize("target", [*SCRIPTS, "linked.js", "nothing.js"])
def test_a_node_that_waited_does_the_same(plain, ready, target):
    expected = facts(run(plain, target))
    assert facts(run(ready, target)) == expected
    assert expected["http"] == (400 if target == "nothing.js" else 200)


@pytest.mark.parametrize("target", ["stdio.js", "stdin_sync.js", "stdin_lines.mjs", "identity.js"])
@pytest.mark.parametrize("job", [
    {"stdin": "one\ntwo\n\u00fc"}, {"stdin": ""}, {}, {"env": {"TZ": "Asia/Tokyo", "LANG": "de_DE.UTF-8"}},
    {"env": {"FORCE_COLOR": "1", "UV_THREADPOOL_SIZE": "2", "NO_COLOR": ""}}], ids=str)
def test_whatever_the_job_brings(plain, ready, target, job):
    assert facts(run(ready, target, job)) == facts(run(plain, target, job))


def test_an_entrypoint_runs_in_its_folder(plain, ready):
    assert facts(run(ready, "identity.js", {}, mode="entrypoint")) == \
        facts(run(plain, "identity.js", {}, mode="entrypoint"))


@pytest.mark.parametrize("job", [{"args": ["\0"]}, {"files": {"a": "%"}}, {"env": {"NODE_OPTIONS": "-v"}},
                                 {"args": 5}], ids=str)
def test_a_wrong_job_is_refused_with_the_same_reason(plain, ready, job):
    answer = run(ready, "output.js", job)
    assert answer.status == 400
    assert facts(answer) == facts(run(plain, "output.js", job))
    assert answer.json["message"] == run(plain, "output.js", job).json["message"]


def test_files_of_the_job_are_there(plain, ready):
    job = {"files": {"in/a.txt": "aGVsbG8=", "identity.js": "eA=="}, "args": ["in/a.txt"]}
    assert facts(run(ready, "files.js", job)) == facts(run(plain, "files.js", job))


def test_two_runs_share_no_randomness(ready):
    seen = [run(ready, "random.js").log for _ in range(2)]
    assert seen[0] != seen[1]


def test_none_waits_before_the_first_run_and_after_a_while_without_any():
    h = Helper(prestart={"max": 2, "idle": "300ms"}).start()
    try:
        assert (pool(h)["wanted"], pool(h)["waiting"], pool(h)["status"]) == (0, 0, "idle")
        assert h.run("console.log('first')", "node").log == b"first\n"
        assert pool(h)["plain_runs"] == 1
        watch.wait_for(lambda: pool(h)["waiting"] == 1, 20 * settings.SLOW, "none waits after a run")
        watch.wait_for(lambda: pool(h)["wanted"] == 0, 20 * settings.SLOW, "they stay")
        assert pool(h)["waiting"] == 0
    finally:
        h.stop()


def nodes_of(h):
    table = watch.processes()
    return [pid for pid in watch.descendants(h.process.pid, table) if table[pid][0].startswith("node")]


def test_one_that_was_killed_is_not_missed(ready):
    run(ready, "empty.js")
    watch.wait_for(lambda: pool(ready)["waiting"] > 0, 20 * settings.SLOW, "no node waits")
    killed = nodes_of(ready)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    watch.wait_for(lambda: not set(killed) & set(nodes_of(ready)), 10 * settings.SLOW, "they live on")
    assert facts(run(ready, "exits.js"))["code"] == 9


def test_a_node_that_cannot_wait_is_no_loss():
    """An option with which Node.js does not come to where it should wait: runs go the plain way."""
    h = Helper(runtimes=[{"lang": "node", "env": {"NODE_OPTIONS": "--experimental-default-type=module"}}]).start()
    try:
        for _ in range(2):
            assert h.run("console.log(process.argv[1])", "node").log == b"/sandbox/scripts/main.js\n"
        watch.wait_for(lambda: pool(h)["failures"] > 0, 20 * settings.SLOW, "nobody tried")
        assert "log" in pool(h)["status"] and pool(h)["waiting"] == 0
        assert h.log_lines("a sandbox could not be made ahead")[0]["step"] == "interpreter ahead"
        assert h.run("console.log(typeof require)", "node").log == b"undefined\n"
    finally:
        h.stop()


def test_the_operators_options_count():
    options = "--max-old-space-size=100 --no-warnings"
    seen = []
    for most in (0, 2):
        h = Helper(prestart={"max": most},
                   runtimes=[{"lang": "node", "env": {"NODE_OPTIONS": options}}]).start()
        try:
            seen.append(facts(run(h, "identity.js")))
        finally:
            h.stop()
    assert seen[0] == seen[1]
    assert any(options in line for line in seen[1]["log"])
