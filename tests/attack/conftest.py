"""The attacks' frame: a gateway with small limits, canaries around it, and `attack`,
which runs one attack of the probe and compares the host before and after."""

import collections
import dataclasses
import json
import os
import pathlib
import secrets
import shutil
import signal
import threading

import pytest

from harness import check, settings, watch
from harness.gateway import Gateway, merged
from harness.packages import skill

# The hooks of the table are found here by pytest.
from table import (observed, pytest_configure, pytest_runtest_makereport,  # noqa: F401
                   pytest_terminal_summary)
from canaries import Canaries, census, differences, leases, picture, readable
from held import HOLD_MS
from neighbour import Neighbour

PROBE = settings.BUILD / "tests" / "attack" / "probe"
FAKE = settings.BUILD / "tests" / "faults" / "fake-program"
CONCURRENCY = 3  # the neighbour's run lasts
PRESTART = {"max": 1, "idle": "1h"}  # what waits is counted before and after each attack
LIMITS = {"tmp": "4Mi", "out": "8Mi", "work": "8Mi", "shm": "2Mi", "inodes": "256"}


@pytest.fixture(scope="session")
def canaries():
    found = Canaries()
    yield found
    found.close()


@pytest.fixture(scope="module")
def helper_options():
    """Keys for helper.yaml beside those of all; a module may have its own."""
    return {}


@pytest.fixture(scope="module")
def gateway(canaries, helper_options):
    """As everywhere, but with small writable mounts, a secret in the environment of all
    its processes, another tenant with a secret in its package, and that tenant's run."""
    gw = Gateway(helper=merged({"limits": LIMITS, "concurrency": CONCURRENCY, "prestart": PRESTART},
                               helper_options)).start()
    try:
        watch.wait_for(lambda: all(z["waiting"] for z in gw.get("/ready").json()["helper"]["zygotes"]),
                       30 * settings.SLOW, "no zygote's child waits")
        push_others_package(gw, canaries)
        push_probe(gw)
        gw.push(skill("js", "", "node"))
        assert gw.run("js")["status"] == "success"
        watch.wait_for(lambda: watch.children_named(gw.helper.pid, "node"), 20 * settings.SLOW, "no node waits")
        gw.neighbour = Neighbour(gw, gw.others_key, canaries.token("neighbour"), PROBE.read_bytes())
        gw.census = census(gw, 25)  # a sandbox that waits may be on its way for long on a busy machine
    except BaseException:
        gw.kill()
        raise
    yield gw
    gw.neighbour.stop()
    gw.stop()


def push_others_package(gw, canaries):
    other = gw.others_key = gw.new_key("other")
    package = skill("private", "print('mine')", files={"secret.txt": canaries.token("other tenant")})
    gw.others_digest = gw.push(package, key=other)["digest"]
    assert gw.run("private", key=other)["status"] == "success"


# Whose process the probe takes over: a Bash script's, which was executed, or a Python script's,
# which came from a zygote; Node.js, which had waited, has it as a child.  `make attack` does all.
START = {"bash": 'exec /sandbox/scripts/probe "$@"\n',
         "python": "import os, sys\nos.execv('/sandbox/scripts/probe', ['probe', *sys.argv[1:]])\n",
         "node": "const { spawnSync } = require('child_process');\n"
                 "const { signal, status } = spawnSync('/sandbox/scripts/probe', process.argv.slice(2), { stdio: 'inherit' });\n"
                 "if (signal) process.kill(process.pid, signal); else process.exit(status);\n"}
PROBE_FROM = os.environ.get("SKILLBOX_PROBE_FROM", "bash")


def push_probe(gw, start=PROBE_FROM):
    """The probe as a skill: a script execs it.  Its set-user-id bit is part of the attack."""
    assert PROBE.is_file(), "the probe is not built: make attack"
    gw.push(skill("probe", START[start], start, timeout="60s",
                  files={"probe": (PROBE.read_bytes(), 0o4755)}))
    gw.push(skill("py", "import json\n"
                  "exec(compile(json.load(open('/sandbox/input.json'))['code'], 'code', 'exec'))"))


@pytest.fixture(scope="session")
def beside_fake(tmp_path_factory):
    """{name of a program: a sandbox-helper that has a fake of it (tests/fault/fake_program.c)}"""
    assert FAKE.is_file(), "the fake is not built: make test-programs"
    made = {}
    for fake in ("sandbox-stage", "sandbox-packer"):
        made[fake] = tmp_path_factory.mktemp(fake)
        for name in ("sandbox-helper", "sandbox-stage", "sandbox-packer"):
            shutil.copy2(FAKE if name == fake else settings.BIN / name, made[fake] / name)
    for path in (tmp_path_factory.getbasetemp(), *made.values()):
        path.chmod(0o755)
    return {fake: path / "sandbox-helper" for fake, path in made.items()}


@dataclasses.dataclass
class Outcome:
    answer: dict
    files: dict  # artifacts by name
    host: dict   # what the host saw while the probe held still, {} when it did not
    beside: object = None  # what beside() returned meanwhile

    @property
    def tries(self):
        """{what: (return value, name of errno)}"""
        return {t["what"]: (t["rc"], t["errno"]) for t in self.answer["output"]["tries"]}

    @property
    def notes(self):
        return self.answer["output"]["notes"]

    @property
    def summary(self):
        """How many tries had which end, for the table."""
        ends = collections.Counter("done" if rc >= 0 else err for rc, err in self.tries.values())
        said = [f"{n} x {end}" for end, n in sorted(ends.items())]
        return ", ".join([*said, "host and neighbour as before"])

    def refused(self, *errors):
        """Every try failed, with one of these errors when some are given."""
        assert self.tries, "nothing was tried"
        wrong = {what: got for what, got in self.tries.items()
                 if got[0] >= 0 or (errors and got[1] not in errors)}
        assert not wrong, wrong


class HostView(threading.Thread):
    """Looks at the probe from outside while it calls itself "holding", does what else is to be done
    meanwhile, and only then lets it go on."""

    def __init__(self, gw, beside):
        super().__init__(daemon=True)
        self.gw, self.beside, self.ended = gw, beside, threading.Event()
        self.seen, self.result, self.error, self.namespace = {}, None, None, -1

    def run(self):
        try:
            while not self.ended.wait(0.02):
                pids = watch.children_named(self.gw.helper.pid, "holding")
                if pids:
                    return self._visit(pids[0])
            raise AssertionError("the probe never held still")
        except Exception as error:  # finish() raises it again
            self.error = error

    def _visit(self, pid):
        # An open namespace keeps its number: no new one can be taken for it.
        self.namespace = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY)
        self.seen = self._look(pid)
        self.result = self.beside() if self.beside else None
        os.kill(pid, signal.SIGUSR1)

    def finish(self):
        """After the run: fails when anything went wrong here."""
        self.join(60 * settings.SLOW)
        if self.error:
            raise self.error
        assert not self.is_alive(), "the look at the host does not end"

    def close(self):
        if self.namespace >= 0:
            os.close(self.namespace)

    def _look(self, pid):
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        view = {"status": dict(line.split(":\t", 1) for line in lines if ":\t" in line)}
        view["fds"] = sorted(int(p.name) for p in pathlib.Path(f"/proc/{pid}/fd").iterdir())
        view["namespaces"], view["own namespaces"] = namespaces(pid), namespaces("self")
        view["leases"] = leases()
        view["limits"] = pathlib.Path(f"/proc/{pid}/limits").read_text()
        view["cgroup"] = readable(f"/proc/{pid}/cgroup")
        table = watch.processes()
        init = init_of(pid, table)
        view["family"] = {p: table[p] for p in [init, *watch.descendants(init, table)]}
        view["started"] = {p: began for p in view["family"] if (began := watch.started(p))}
        if settings.ROOT:  # pid 1 is not dumpable: nobody else may look closer
            view["init's namespaces"] = namespaces(init)
        return view


def init_of(pid, table):
    """The first process of a run's pid namespace; 0 when there is none any more."""
    while pid in table:
        fields = dict(line.split(":", 1) for line in readable(f"/proc/{pid}/status").splitlines() if ":" in line)
        if fields.get("NSpid", "").split()[-1:] == ["1"]:
            return pid
        pid = table[pid][2]
    return 0


def namespaces(pid):
    return {p.name: str(p.readlink()) for p in pathlib.Path(f"/proc/{pid}/ns").iterdir()}


@pytest.fixture
def guarded(gateway, canaries):
    """guarded(call): the answer of call(), a run; host, canaries and neighbour must be as before."""

    def run(call):
        before = picture(gateway, canaries)
        answer = call()
        files = check.untar(gateway.download(answer["files_url"]).content) if answer.get("files_url") else {}
        canaries.check_untouched()
        gateway.neighbour.check()
        check_leaks(canaries, answer, files)
        assert not differences(before, settled(gateway, canaries, before))
        census(gateway, want=gateway.census)
        return answer, files
    return run


@pytest.fixture
def attack(gateway, guarded, observed):
    """attack(name, *arguments, hold=True): runs it, checks that it ran and that the host is
    as it was, returns the Outcome.  With hold the host looks at the probe before it ends, and
    beside() is called while it lies still."""
    views = []

    def run(name, *arguments, hold=False, beside=None):
        nonce = secrets.token_hex(16)
        view = HostView(gateway, beside)
        views.append(view)

        def call():
            try:
                return gateway.run("probe", args=[nonce, str(HOLD_MS if hold else 0), name, *map(str, arguments)])
            finally:
                view.ended.set()
        if hold:
            view.start()
        answer, files = guarded(call)
        if hold:
            view.finish()
        assert files["nonce"] == nonce.encode(), "control: the attack's code did not run"
        assert answer["status"] == "success", answer
        outcome = Outcome(answer, files, view.seen, view.result)
        observed(outcome.summary)
        return outcome
    yield run
    for view in views:
        view.close()


def check_leaks(canaries, answer, files):
    canaries.check_not_in(json.dumps(answer).encode(), "the answer")
    for name, data in files.items():
        canaries.check_not_in(data, f"artifact {name}")


def settled(gateway, canaries, before):
    """The picture once the run's processes are gone, or what is different after 5 s."""
    after = {}

    def same():
        after.update(picture(gateway, canaries))
        return not differences(before, after)
    try:
        watch.wait_for(same, 5 * settings.SLOW, "the host's picture", interval=0.1)
    except AssertionError:
        pass
    return after
