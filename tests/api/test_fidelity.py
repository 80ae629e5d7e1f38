"""A script behaves as if python3 had been started for it, whichever way it is: each of fidelity/ is run from a zygote
and plain, and must print the same on both streams and end the same way."""

import pathlib
import re

import pytest

from harness import settings, watch  # noqa: E402
from harness.helper import Helper, fcgi_call
from harness.packages import make_zip

pytestmark = pytest.mark.any_user

SCRIPTS = sorted((pathlib.Path(__file__).parent / "fidelity").glob("*.py"))


@pytest.fixture(scope="module")
def zygote():
    helper = Helper(zygote={"warm": 2}).start()
    watch.wait_for(lambda: helper.status()["zygotes"][0]["status"] == "ok", 30 * settings.SLOW, "no zygote")
    yield helper
    helper.stop()


@pytest.fixture(scope="module")
def plain():
    helper = Helper(zygote={"enabled": "false"}).start()
    yield helper
    helper.stop()


def package(files, entry="main.py"):
    front = f'---\nname: fidelity\ndescription: a test\nlang: python\nentry_point: "{entry}"\n---\nTest.\n'
    return make_zip({"SKILL.md": front, **files})


def text(log):
    """The two streams are two pipes: only the order within each is the script's."""
    words = re.sub(rb"0x[0-9a-f]+|Thread-\d+|\b1[34]\d{13,}\b", b"#", log)
    return sorted(words.decode(errors="replace").splitlines())


def outcome(helper, digest, job=None, **how):
    before = len(helper.log_lines("run"))
    answer = fcgi_call.run(helper.socket, digest, job, **how)
    assert answer.status == 200, answer
    # answered first, then logged
    watch.wait_for(lambda: len(helper.log_lines("run")) > before, 15 * settings.SLOW, "the run is not in the log")
    result = answer.json
    keep = {k: result.get(k) for k in ("status", "error", "exit_code")}
    return keep, text(answer.log)


def started(helper):
    return helper.log_lines("run")[-1]["start"]


def both(zygote, plain, files, entry="main.py", job=None, ways=("ready", "zygote"), **how):
    blob = package(files, entry)
    expected = outcome(plain, plain.push(blob), job, **how)
    got = outcome(zygote, zygote.push(blob), job, **how)
    assert got == expected
    assert started(plain) == "plain"
    assert started(zygote) in ways
    return got


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_a_script_does_the_same_from_a_zygote_and_plain(zygote, plain, script):
    job = {"args": ["one", "two words", "\u20ac"], "env": {"GIVEN": "value"}, "stdin": "line one\nline two\n"}
    both(zygote, plain, {"main.py": script.read_bytes()}, job=job)


WHERE = """
import os, sys
import %s as module
print(getattr(module, "__file__", "?"), getattr(module, "mine", "not mine"))
import statistics
print(getattr(statistics.random, "mine", "not mine"))
print(__name__, __file__, sys.argv, sys.path, os.getcwd(), __spec__, __package__)
"""


@pytest.mark.parametrize("name", ["json", "random", "csv", "collections", "urllib", "unheard_of"])
@pytest.mark.parametrize("shape", ["module", "package"])
@pytest.mark.parametrize("mode", ["entrypoint", "script"])
def test_a_package_s_own_module_wins_over_one_that_is_imported_ahead(zygote, plain, name, shape, mode):
    own = {"module": f"src/{name}.py", "package": f"src/{name}/__init__.py"}[shape]
    code = "try:\n" + "".join(f"    {line}\n" for line in (WHERE % name).splitlines()) + """
except Exception as error:
    print(type(error), error)
"""
    both(zygote, plain, {"src/main.py": code.encode(), own: b"mine = 'mine'\n"}, "src/main.py", mode=mode,
         target="src/main.py", ways=("ready", "zygote") if name == "unheard_of" else ("executed",))


def test_a_module_is_run_as_with_m(zygote, plain):
    files = {"main.py": b"", "pkg/__init__.py": b"print('package', __name__)\n",
             "pkg/__main__.py": (WHERE % "pkg.other").encode(), "pkg/other.py": b"mine = 1\n"}
    both(zygote, plain, files, mode="module", target="pkg", job={"args": ["a"]})
    both(zygote, plain, files, mode="module", target="pkg.other", job={"args": ["a"]})
    both(zygote, plain, files, mode="module", target="no_such_module")
    both(zygote, plain, {**files, "json.py": b""}, mode="module", target="pkg", ways=("executed",))


@pytest.mark.parametrize("env", [{"TZ": "Europe/Berlin"}, {"LC_ALL": "C"}, {"LANG": "C"}, {"MALLOC_ARENA_MAX": "1"}])
def test_what_the_interpreter_reads_at_its_start_starts_another_one(zygote, plain, env):
    code = b"import time, locale, os\nprint(time.tzname, locale.getpreferredencoding(), sorted(os.environ.items()))\n"
    both(zygote, plain, {"main.py": code}, job={"env": env}, ways=("executed",))
    both(zygote, plain, {"main.py": code}, job={"env": {"OTHER": "value"}})


def test_two_runs_share_no_random_number(zygote):
    code = """
import os, random, secrets, tempfile, uuid
print(random.random(), uuid.uuid4(), secrets.token_hex(), tempfile.mktemp(), os.urandom(4).hex())
"""
    digest = zygote.push(package({"main.py": code.encode()}))
    runs = [outcome(zygote, digest)[1][0].split() for _ in range(6)]
    for values in zip(*runs):
        assert len(set(values)) == len(runs), values


def test_nothing_of_a_run_is_in_the_next(zygote):
    code = """
import builtins, json, os, random, sys, tempfile
print(hasattr(builtins, "left"), hasattr(json, "left"), "LEFT" in os.environ, "/left" in sys.path, os.listdir("/tmp"))
builtins.left = json.left = 1
os.environ["LEFT"] = "1"
sys.path.append("/left")
open("/tmp/left", "w").close()
os.umask(0)
"""
    digest = zygote.push(package({"main.py": code.encode()}))
    assert [outcome(zygote, digest)[1] for _ in range(6)] == [["False False False False []"]] * 6
