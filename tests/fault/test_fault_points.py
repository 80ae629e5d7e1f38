"""One of our programs dies at each step of a run's or an upload's set-up and end: the client
hears of it within seconds, nothing is left, and the next run works."""

import concurrent.futures
import itertools
import os
import signal
import time

import pytest
import requests

from fault_points import NAMES, PROGRAMS, Board
from harness import check, settings, watch
from harness.packages import skill

ANSWER_SECONDS = 15
SPARE_SECONDS = 0.4  # so long the helper keeps a control group for the next run, and more
WORK = "open('/sandbox/out/files/x', 'w').write('x'); print('ok')"
serial = itertools.count()


# ---- the shipped programs have none ----

@pytest.mark.parametrize("name", NAMES)
def test_installed_programs_have_no_fault_points(name):
    marks = (b"sb_fault_point", b"/proc/self/exe\0faults", b"faults\0")
    shipped, test_build = (settings.BIN / name).read_bytes(), (PROGRAMS / name).read_bytes()
    assert marks[0] in test_build, "control: the test build has them"
    assert b"sb_fault" not in shipped and b"SB_FAULT" not in shipped


# ---- what passes the points ----

def unique():
    return f"point-{next(serial)}"


def upload(gw):
    return gw.upload(skill(unique(), WORK))


def upload_nonsense(gw):
    return gw.upload({"SKILL.md": "no front matter", "main.py": "1"})


def run(gw):
    return gw.execute("quick")


def run_too_long(gw):
    return gw.execute("endless", timeout_ms=300)


def submit(gw):
    return gw.execute("quick", **{"async": True})


def read_artifact(gw):
    """One that was not taken out of its archive before."""
    done = gw.execute("quick")
    if done.status_code != 200:
        return done
    answer = gw.get(f"/v1/executions/{done.json()['execution_id']}/files/x")
    return done if answer.status_code == 200 else answer


SCENARIOS = {f.__name__: f for f in (upload, upload_nonsense, run, run_too_long, submit, read_artifact)}


@pytest.fixture(scope="module")
def board():
    found = Board()
    yield found
    found.close()


@pytest.fixture
def gw(make_gateway, board):
    gw = make_gateway(programs=board.folder, helper={"concurrency": 1})
    gw.push(skill("quick", WORK))
    gw.push(skill("endless", "import time; time.sleep(600)"))
    assert gw.run("quick")["status"] == "success"
    return gw


def points(gw, board):
    """{scenario: its points}; a point that several pass belongs to the first."""
    found, known = {}, set()
    settle(gw)
    time.sleep(SPARE_SECONDS)
    for name, scenario in SCENARIOS.items():
        with board.record() as passed:
            scenario(gw)
            settle(gw)
            time.sleep(SPARE_SECONDS)  # so that what comes late is not the next scenario's
        found[name] = [p for p in passed if p not in known]
        known |= set(passed)
    return found


def settle(gw):
    """The next sandbox (two processes) and the next collect child wait, beside the two programs and
    the syncer; nothing else is under way."""
    def still():
        first = watch.descendants(gw.helper.pid)
        ready = gw.get("/ready").json()
        return (ready["status"] == "ready"
                and not any(ready["helper"][n] for n in ("running", "queued", "undelivered"))
                and first == watch.descendants(gw.helper.pid) and len(first) == 6)
    watch.wait_for(still, 15 * settings.SLOW, "it does not settle")


# ---- a death at each ----

class Client:
    """One call in the background, by a session of its own."""

    def __init__(self, gw, scenario):
        self.pool = concurrent.futures.ThreadPoolExecutor(1)
        self.answer = self.pool.submit(scenario, gw)

    def result(self):
        with self.pool:
            return self.answer.result(ANSWER_SECONDS * settings.SLOW)


def check_answer(answer, point):
    """An error in the API's form; or a result, when it was on its way already."""
    if answer.status_code in (200, 201, 202):
        return answer.json().get("status", "stored")
    check.error(answer, answer.status_code)
    assert answer.status_code in (400, 500, 502, 503), f"{point}: {answer.status_code}"
    return answer.status_code


def check_nothing_left(gw, old, family):
    def dead():
        return [p for p in family if watch.alive(p)]
    watch.wait_for(lambda: not dead(), 5 * settings.SLOW, f"alive: {dead()}")
    left = list((gw.state / "helper" / "tmp").iterdir())
    assert not left, f"in tmp/: {left}"
    begun = gw.state / "artifacts" / "tmp"
    watch.wait_for(lambda: not list(begun.iterdir()), 5 * settings.SLOW, "a begun archive stays")
    assert not watch.cgroups(f"/run-{old}-"), "control groups"
    for package in (gw.state / "helper" / "packages").iterdir():
        assert (package / "tree" / "SKILL.md").is_file() and (package / "instructions").is_file(), \
            f"half a package: {package.name}"


def check_works(gw):
    def live():
        return [e for s in ("queued", "running") for e in gw.get(f"/v1/executions?status={s}").json()]
    watch.wait_for(lambda: not live(), 10 * settings.SLOW, f"what was accepted does not end: {live()}")
    spool = gw.state / "helper" / "spool"
    watch.wait_for(lambda: not list(spool.iterdir()), 5 * settings.SLOW, "the spool is not empty")
    name = unique()
    assert gw.upload(skill(name, WORK)).status_code == 201
    body = gw.run(name)
    assert body["status"] == "success" and body["logs"] == "ok\n"
    assert check.untar(gw.download(body["files_url"]).content) == {"x": b"x"}


def kill_helper_at(gw, board, scenario, point):
    settle(gw)
    board.arm(point)
    client = Client(gw, SCENARIOS[scenario])
    board.reached()
    old, family = gw.helper.pid, watch.descendants(gw.helper.pid)
    gw.helper.kill()
    gw.helper.wait(10)
    board.release()
    check_answer(client.result(), point)
    gw.start_helper()
    check_nothing_left(gw, old, family)
    check_works(gw)


def kill_program_at(gw, board, scenario, point, program):
    gw.stop_helper()  # the pause before a program is started again grows with each death
    gw.start_helper()
    settle(gw)
    pid = next(p for p in watch.children_named(gw.helper.pid, program)
               if watch.stat_fields(p)[2] == gw.helper.pid)
    board.arm(point)
    client = Client(gw, SCENARIOS[scenario])
    board.reached()
    family = watch.descendants(pid)
    os.kill(pid, signal.SIGKILL)
    watch.wait_for(lambda: not watch.alive(pid), 5 * settings.SLOW, "SIGKILL")
    board.release()
    check_answer(client.result(), point)
    settle(gw)
    check_nothing_left(gw, 0, family)
    check_works(gw)


def walk(gw, board, kill, every):
    """All points, or only every third: each with what went wrong there.  How many there are."""
    count, wrong = 0, []
    for scenario, names in points(gw, board).items():
        for point in names:
            count += 1
            if count % (1 if settings.FULL else every) != 0:
                continue
            try:
                kill(gw, board, scenario, point)
            except (AssertionError, requests.RequestException, concurrent.futures.TimeoutError) as error:
                wrong.append(f"{scenario}, {point}: {type(error).__name__} {error}")
                board.release()
                restart(gw)
    assert not wrong, "\n".join(wrong)
    print(f"{count} points")
    return count


def restart(gw):
    """A step that went wrong shall not spoil the next one."""
    if gw.helper.poll() is None:
        gw.helper.kill()
        gw.helper.wait(10)
    gw.start_helper()


def test_the_helper_dies_at_each_point(gw, board):
    assert walk(gw, board, kill_helper_at, 1 if settings.ROOT else 4) > 60, "control: points were passed"


@pytest.mark.parametrize("program", NAMES[1:])
def test_a_program_dies_while_main_is_at_each_point(gw, board, program):
    def kill(*args):
        kill_program_at(*args, program)
    assert walk(gw, board, kill, 6 if settings.ROOT else 12) > 60, "control: points were passed"


@pytest.mark.parametrize("program", NAMES[1:])
def test_the_helper_dies_while_a_program_starts(gw, board, program):
    gw.stop_helper()
    with board.record() as passed:
        gw.start_helper()
        settle(gw)
    gw.stop_helper()
    starting = [p for p in passed if p.startswith(program)]
    assert len(starting) > 5, "control: points were passed"
    for point in starting[::1 if settings.FULL else 4]:
        board.arm(point)
        gw.start_helper(wait=False)
        board.reached()
        old, family = gw.helper.pid, watch.descendants(gw.helper.pid)
        gw.helper.kill()
        gw.helper.wait(10)
        board.release()
        gw.start_helper()
        check_nothing_left(gw, old, family)
        gw.stop_helper()
    gw.start_helper()
    check_works(gw)
