"""What is made ahead of runs - zygotes, their children, started Node.js processes - dies, is replaced, is
switched off or lies in an image: runs do not notice, but for those that something died under."""

import concurrent.futures
import os
import pathlib
import shutil
import signal
import struct
import tempfile
import time

import pytest

from harness import settings, watch
from harness.images import add_program, make_image

pytestmark = pytest.mark.any_user

PYTHON = "import json, sys; print('ok', json.loads(sys.stdin.read() or '{}'))"
NODE = "console.log('ok', require('fs').readFileSync(0, 'utf8').length)"
ROUNDS = 40 if settings.FULL else 2
RUNS = 600 if settings.FULL else 40


def zygote(h, runtime=0):
    return h.status()["zygotes"][runtime]


def starts(h):
    """How the runs that the log tells of were started."""
    return [line["start"] for line in h.log_lines("run")]


def under_load(h, lang, code, count, clients=4, meanwhile=lambda over: None):
    """The answers of so many runs; meanwhile() can ask whether they are over."""
    h.package(code, lang)
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        runs = [pool.submit(h.run, code, lang) for _ in range(count)]
        meanwhile(lambda: all(run.done() for run in runs))
        return [run.result() for run in runs]


def good(answer):
    return answer.status == 200 and answer.json["status"] == "success" and answer.log.startswith(b"ok ")


def killed(answer):
    """An answer of a run that something died under: an error, or a result that says so."""
    if answer.status == 200:
        return answer.json["status"] == "failed" and answer.json["error"]
    return answer.status in (500, 502, 503) and answer.json["error"] and answer.json["message"]


def test_recycled_zygotes_lose_no_run(make_helper):
    h = make_helper(concurrency=3, zygote={"recycle_runs": 5, "warm": 2}).warmed()
    answers = under_load(h, "python", PYTHON, RUNS)
    assert all(map(good, answers)), [a for a in answers if not good(a)][:3]
    watch.wait_for(lambda: zygote(h)["recycled"] >= 1, 20 * settings.SLOW, "the next one is not ready")
    assert zygote(h)["deaths"] == 0, zygote(h)
    assert {"ready", "zygote"} & set(starts(h))
    # The old ones have gone, with what they were for.
    watch.wait_for(lambda: len(h.children("python3")) <= 1 + 2 * 3, 20 * settings.SLOW, "old zygotes stay")
    assert good(h.run(PYTHON))


def direct(h, name):
    return [p for p in h.children(name) if (watch.stat_fields(p) or ("", "", 0))[2] == h.process.pid]


def test_zygotes_killed_under_load_take_only_their_runs_along(make_helper):
    h = make_helper(concurrency=3, zygote={"warm": 2}).warmed()
    deaths = 0

    def kill(over):
        """One that waits is killed, not one that has yet to get there: five such deaths, and it rests."""
        nonlocal deaths
        for _ in range(ROUNDS):
            # The pause before it is started again grows with each death.
            watch.wait_for(lambda: zygote(h)["status"] == "ok" or over(), 30 * settings.SLOW, "no zygote comes back")
            pids = direct(h, "python3")
            if over():
                break
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                deaths += 1
            # until main knows, it may give a run to a child that goes with its zygote
            watch.wait_for(lambda: zygote(h)["deaths"] >= deaths, 10 * settings.SLOW, "SIGKILL")
            assert good(h.run("print('ok bash')")), "one that begins now starts plain, or with the next"
    answers = under_load(h, "python", PYTHON, RUNS, meanwhile=kill)
    assert all(good(a) or killed(a) for a in answers), [a for a in answers if not (good(a) or killed(a))][:3]
    assert sum(map(good, answers)) > len(answers) / 2
    watch.wait_for(lambda: zygote(h)["status"] == "ok" and zygote(h)["waiting"], 60 * settings.SLOW, "no zygote any more")
    assert zygote(h)["deaths"] >= deaths > 0
    before = zygote(h)["ready_runs"] + zygote(h)["forked_runs"]
    assert good(h.run(PYTHON)) and zygote(h)["ready_runs"] + zygote(h)["forked_runs"] == before + 1


def tired(h):
    """Kills it before it is ready: the pauses between grow from a tenth of a second."""
    for pid in direct(h, "python3"):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return h.log_lines("a zygote dies again and again: its runs start plain")


def test_a_zygote_that_dies_again_and_again_rests_and_its_runs_start_plain(make_helper):
    h = make_helper(concurrency=2).warmed()
    watch.wait_for(lambda: tired(h), 60 * settings.SLOW, "it is started at once for ever", 0.001)
    assert zygote(h)["deaths"] >= 5 and zygote(h)["status"] not in ("ok", "starting")
    assert good(h.run(PYTHON)) and watch.wait_for(lambda: starts(h), 5 * settings.SLOW, "no line in the log")[-1] == "plain"


@pytest.mark.skipif(settings.SANITIZED, reason="a sanitizer wants to be the first library")
def test_a_zygote_that_rested_for_ten_minutes_is_tried_again(make_helper):
    """The minutes pass at once: its clock is shifted (clock_shim.c)."""
    with tempfile.NamedTemporaryFile(prefix="sbclock-", dir="/tmp") as clock:
        clock.write(struct.pack("=qq", 0, 0))
        clock.flush()
        os.fchmod(clock.fileno(), 0o644)
        h = make_helper(concurrency=2)
        h.kill()
        h.start(env={**os.environ, "SB_CLOCK": clock.name, "LD_PRELOAD": str(settings.BUILD / "tests/faults/clock-shim.so")})
        h.warmed()
        watch.wait_for(lambda: tired(h), 60 * settings.SLOW, "it is started at once for ever", 0.001)

        def later(seconds):
            os.pwrite(clock.fileno(), struct.pack("=q", seconds), 8)
        deaths = zygote(h)["deaths"]
        later(590)
        for _ in range(10):  # the helper looks once a second at least
            assert zygote(h)["status"] not in ("ok", "starting"), "it was to rest"
            time.sleep(0.2)
        later(601)
        watch.wait_for(lambda: zygote(h)["status"] == "ok", 30 * settings.SLOW, "it is not tried again")
        h.warmed()
        assert zygote(h)["deaths"] == deaths and good(h.run(PYTHON))
        watch.wait_for(lambda: starts(h)[-1:] in (["ready"], ["zygote"]), 5 * settings.SLOW, "its runs start plain")


def nodes(h):
    return [p for p in watch.descendants(h.process.pid) if (watch.stat_fields(p) or ("",))[0] in ("node", "MainThread")]


def test_waiting_nodes_killed_under_load_take_only_their_runs_along(make_helper):
    h = make_helper(concurrency=2, prestart={"max": 2})
    assert good(h.run(NODE, "node"))
    count = 0

    def kill(over):
        nonlocal count
        for _ in range(ROUNDS * 2):
            found = watch.wait_for(lambda: nodes(h), 30 * settings.SLOW, "no node any more")
            for pid in found[:1]:
                try:
                    os.kill(pid, signal.SIGKILL)
                    count += 1
                except ProcessLookupError:
                    pass
    answers = under_load(h, "node", NODE, max(RUNS // 4, ROUNDS * 4), 2, kill)
    assert count > 0 and all(good(a) or killed(a) for a in answers), [a for a in answers if not (good(a) or killed(a))][:3]
    assert good(h.run(NODE, "node"))
    watch.wait_for(lambda: h.status()["prestarted"][0]["waiting"], 60 * settings.SLOW, "none waits any more")


def test_a_waiting_node_that_died_is_made_again_though_no_run_comes(make_helper):
    h = make_helper(concurrency=2, prestart={"max": 1})
    assert good(h.run(NODE, "node"))
    for failures in (1, 2):
        watch.wait_for(lambda: h.status()["prestarted"][0]["waiting"] == 1, 20 * settings.SLOW, "none waits")
        assert h.status()["prestarted"][0]["failures"] == failures - 1
        os.kill(nodes(h)[0], signal.SIGKILL)
        watch.wait_for(lambda: h.status()["prestarted"][0]["failures"] == failures, 5 * settings.SLOW, "it lives")
    watch.wait_for(lambda: h.status()["prestarted"][0]["waiting"] == 1, 20 * settings.SLOW, "none waits again")
    assert h.status()["runs_total"] == 1, "control: no run came"


def test_not_for_keeps_tenants_and_skills_from_zygotes(make_helper):
    h = make_helper(zygote={"not_for": ["careful", "other/secret"], "warm": 1}).warmed()

    def start(tenant, skill):
        h.warmed()
        assert good(h.run(PYTHON, tenant=tenant, skill=skill))
        watch.wait_for(lambda: [e for e in h.log_lines("run") if (e["tenant"], e["skill"]) == (tenant, skill)],
                       5, "it is not logged")
        return [e["start"] for e in h.log_lines("run") if (e["tenant"], e["skill"]) == (tenant, skill)][-1]
    for tenant, skill in (("careful", "any"), ("careful", "secret"), ("other", "secret")):
        assert start(tenant, skill) in ("plain", "executed"), (tenant, skill)
    for tenant, skill in (("other", "any"), ("careful2", "any"), ("third", "secret"), ("other", "secret2")):
        assert start(tenant, skill) in ("ready", "zygote"), (tenant, skill)


# ---- interpreters of an image ----

@pytest.fixture(scope="module")
def image():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sbimages-", dir="/tmp"))
    folder.chmod(0o755)
    make_image(folder / "root", python=True)
    add_program(folder / "root", shutil.which("node"), "/usr/local/bin/node")
    yield folder / "root"
    shutil.rmtree(folder)


def test_interpreters_of_an_image_are_made_ahead_of_its_runs(make_helper, image):
    # Whichever Debian's node is: its own libraries came along.
    h = make_helper(concurrency=2, prestart={"max": 1}, runtimes=[
        {"name": "mini", "lang": "python", "root": image}, {"name": "mini", "lang": "node", "root": image}]).warmed()
    where = "import sys; print('ok', sys.executable, open('/etc/image-only').read().strip())"
    for _ in range(4):
        h.warmed()
        assert h.run(where, image="mini").log == b"ok /usr/local/bin/python3 mini\n"
    found = next(z for z in h.status()["zygotes"] if z["runtime"] == "mini")
    assert found["ready_runs"] + found["forked_runs"] == 4, found
    code = "console.log('ok', process.execPath, require('fs').readFileSync('/etc/image-only', 'utf8').trim())"

    def pool():
        return next(p for p in h.status()["prestarted"] if p["runtime"] == "mini")
    for i in range(3):
        assert h.run(code, "node", image="mini").log == b"ok /usr/local/bin/node mini\n"
        watch.wait_for(lambda: pool()["waiting"], 30 * settings.SLOW, f"none waits: {pool()}")
    assert pool()["ready_runs"] >= 2, pool()
    # Each dies once: runs in the image go on.
    zygotes = direct(h, "python3")
    for pid in [*zygotes, *nodes(h)]:
        os.kill(pid, signal.SIGKILL)
    watch.wait_for(lambda: not any(watch.alive(p) for p in zygotes), 10 * settings.SLOW, "SIGKILL")
    assert h.run(where, image="mini").log == b"ok /usr/local/bin/python3 mini\n"
    assert h.run(code, "node", image="mini").log == b"ok /usr/local/bin/node mini\n"
    h.warmed()
