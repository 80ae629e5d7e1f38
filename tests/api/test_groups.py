"""A control group serves one sandbox after another; no run finds, or is told, anything of the one before."""

import os
import uuid

import pytest

from harness import settings, watch

MIB = 1 << 20
PYTHON_TOUCHES = "import mmap\nm = mmap.mmap(-1, {0} << 20)\nfor i in range(0, {0} << 20, 4096): m[i] = 1\nprint('ok')"


@pytest.fixture
def h(make_helper):
    helper = make_helper(concurrency=1, warm=1, zygote={"enabled": "false"})
    if not helper.status()["cgroup"]:
        pytest.skip("no control groups here")
    return helper


def groups(h):
    return {os.path.basename(c) for c in watch.cgroups(f"run-{h.process.pid}-")}


def made(h):
    """How many the helper has made so far, by the number in the newest one's name."""
    return 1 + max(int(name.rsplit("-", 1)[1]) for name in groups(h))


def run(h, code, lang="python", **over):
    """A run's answer, and the log's line about it, which is written after the answer."""
    execution = str(uuid.uuid4())
    answer = h.run(code, lang, execution=execution, **over).json
    return answer, watch.wait_for(lambda: [e for e in h.log_lines("run") if e["execution"] == execution],
                                  5 * settings.SLOW, "no line in the log")[0]


def light(h, **over):
    answer, line = run(h, ":", "bash", **over)
    assert answer["status"] == "success" and not answer.get("warnings"), answer
    return line


@pytest.mark.parametrize("cpu_milli, share", [(500, True), (1000, True), (100, False)])
def test_runs_in_a_row_share_groups_and_at_rest_none_is_spare(h, cpu_milli, share):
    if settings.SANITIZED and share:
        pytest.skip("a sanitized sandbox takes so long to make that its group is held up")
    light(h)
    before = made(h)
    for _ in range(30):
        light(h, cpu_milli=cpu_milli)
    assert (made(h) - before < 15) == share, "most had a group that was there, but for one that holds up"
    watch.wait_for(lambda: len(groups(h)) <= 1, 5 * settings.SLOW, "spare groups stay")


def test_limits_are_each_runs_own(h):
    for _ in range(3):
        assert h.run(PYTHON_TOUCHES.format(150), memory=256 * MIB).json["status"] == "success"
        light(h)
        answer = h.run(PYTHON_TOUCHES.format(150), memory=64 * MIB)
        assert "memory limit of 64 MiB exceeded" in answer.json["error"], answer.json
        assert h.run(PYTHON_TOUCHES.format(40), memory=64 * MIB).json["status"] == "success"


def test_what_happened_in_a_run_is_not_told_of_the_next(h):
    before = [light(h) for _ in range(5)]
    most = max(line.get("memory_peak", 0) for line in before)
    answer, line = run(h, PYTHON_TOUCHES.format(100), memory=200 * MIB)
    assert answer["status"] == "success"
    assert line["memory_peak"] > 100 * MIB or most == 0, "control: it is measured"
    for _ in range(3):
        assert light(h).get("memory_peak", 0) < most + 8 * MIB
    answer, line = run(h, "import os\nfor _ in range(1000):\n    if os.fork() == 0:\n        import time; time.sleep(20)")
    assert answer["status"] == "failed" and line["pids_hit"] > 0, "control: that is told"
    assert run(h, PYTHON_TOUCHES.format(150), memory=64 * MIB)[1]["oom"] == "limit", "control: that is told"
    for _ in range(5):
        line = light(h)
        assert "pids_hit" not in line and "oom" not in line, line
