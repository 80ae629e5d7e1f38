"""After a power loss at any moment the store opens clean, and what was acknowledged is there, whole.

A gateway works under load while power_log.c notes what it does to its disk; power_loss.py makes of
that what a power loss at many moments would have left; the store is opened and compared with
what clients had been told by then."""

import contextlib
import ctypes
import hashlib
import io
import json
import os
import pathlib
import random
import shutil
import subprocess
import tarfile
import tempfile
import threading

import power_loss
import pytest

from harness import settings, watch
from harness.gateway import Gateway
from harness.packages import make_zip, skill

pytestmark = [pytest.mark.any_user,
              pytest.mark.skipif(settings.SANITIZED, reason="the sanitizers' library must be the first one")]

LIBRARY = settings.BUILD / "tests" / "faults" / "power-log.so"
PROBE = settings.BUILD / "tests" / "faults" / "store-probe"
LOG_BYTES = (2048 if settings.FULL else 512) << 20
SECONDS = 20 if settings.FULL else 2
MOMENTS = 600 if settings.FULL else 24
LOAD = 15  # acknowledgements, at least
SPOOL_MAGIC = b"BSP1"

WRITE = skill("write", "import os\nopen('/sandbox/out/files/a', 'wb').write(os.urandom(20000))\nprint('done')")
QUICK = skill("quick", "print('done')")

class Recorded(Gateway):
    """A gateway whose programs note what they do to the disk, from the first file on."""

    def __init__(self, log, **options):
        self.log = log
        super().__init__(**options)
        self.options["programs"] = self.programs = pathlib.Path(tempfile.mkdtemp(prefix="sbp-", dir="/tmp"))
        self.programs.chmod(0o755)
        for name in ("sandbox-helper", "sandbox-stage"):
            shutil.copy2(settings.BIN / name, self.programs)
        # main starts its companions with an empty environment
        shutil.copy2(settings.BIN / "sandbox-packer", self.programs / "packer")
        wrapper = self.programs / "sandbox-packer"
        wrapper.write_text(f"#!/bin/sh\nexec env LD_PRELOAD={LIBRARY} POWER_LOG={log} POWER_ROOT={self.state} "
                           f"{self.programs}/packer \"$@\"\n")
        wrapper.chmod(0o755)

    def _make_state(self):
        super()._make_state()
        self.disk = power_loss.Disk(self.state)

    @contextlib.contextmanager
    def recording(self):
        noted = {"LD_PRELOAD": str(LIBRARY), "POWER_LOG": str(self.log), "POWER_ROOT": str(self.state)}
        before = {name: os.environ.get(name) for name in noted}
        os.environ.update(noted)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    def start_helper(self, wait=True):
        with self.recording():
            super().start_helper(wait)

    def start_nginx(self):
        with self.recording():
            super().start_nginx()

    def new_key(self, *args):
        with self.recording():
            return super().new_key(*args)

class Reborn(Gateway):
    """A gateway on what a power loss left."""

    def __init__(self, left, key):
        self.left = left
        super().__init__()
        self._key = key

    def _make_state(self):
        super()._make_state()
        for top, user in (("store", settings.NGINX_USER), ("artifacts", settings.HELPER_USER),
                          ("helper", settings.HELPER_USER)):
            for path in sorted((self.left / top).rglob("*")):
                to = self.state / top / path.relative_to(self.left / top)
                if path.is_dir():
                    to.mkdir(exist_ok=True)
                else:
                    shutil.copyfile(path, to)
                to.chmod(0o750 if path.is_dir() else 0o640)
                if settings.ROOT:
                    uid, gid = settings.ids(user)
                    os.chown(to, uid, settings.ids(settings.NGINX_USER)[1] if top == "artifacts" else gid)


class Client(threading.Thread):
    """Does one thing after the other and notes what it was told."""

    def __init__(self, gw, ack, stop, n):
        super().__init__(daemon=True)
        self.gw, self.ack, self.stop_event, self.n = gw, ack, stop, n
        self.rng, self.mine, self.error = random.Random(n), [], None

    def run(self):
        try:
            step = 0
            while not self.stop_event.is_set():
                step += 1
                self.rng.choice([self.push, self.run_sync, self.run_sync, self.submit, self.submit, self.put_file,
                                 self.delete])(step)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def push(self, step):
        package = make_zip(skill(f"s{self.n}-{step}", "1", files={"data": os.urandom(self.rng.randrange(1, 30000))}))
        name = self.gw.push(package)["name"]
        self.ack(skill=name, sha256=hashlib.sha256(package).hexdigest())
        self.mine.append(("skills", name))

    def run_sync(self, step):
        body = self.gw.run("write" if step % 2 else "quick")
        self.ack(execution=body["execution_id"], status=body["status"], files=body.get("files_list", []))
        self.mine.append(("executions", body["execution_id"]))

    def submit(self, step):
        self.ack(submitted=self.gw.submit("write" if step % 2 else "quick"))

    def put_file(self, step):
        answer = self.gw.post("/v1/files?name=x", data=os.urandom(self.rng.randrange(1, 50000)),
                              headers={"Content-Type": "application/octet-stream"})
        assert answer.status_code == 201, answer.text
        self.ack(file=answer.json()["id"])
        self.mine.append(("files", answer.json()["id"]))

    def delete(self, step):
        if len(self.mine) > 3:
            kind, name = self.mine.pop(self.rng.randrange(len(self.mine)))
            self.ack(deleting=name)
            assert self.gw.delete(f"/v1/{kind}/{name}").status_code == 204
            self.ack(deleted=name)

@pytest.fixture(scope="module")
def record():
    """A recorded run: the disk before it, the notes."""
    shm = pathlib.Path(tempfile.mkdtemp(prefix="sbl-", dir="/dev/shm"))
    shm.chmod(0o755)
    log = shm / "log"
    power_loss.make_log(log, LOG_BYTES)
    gw = Recorded(log, workers=2)
    try:
        gw.start()
        with gw.recording():
            library = ctypes.CDLL(str(LIBRARY))

        acked = []

        def ack(**fact):
            library.power_log_ack(json.dumps(fact).encode())
            acked.append(fact)
        ack(keys=1 if gw.key else 0)
        for package in (WRITE, QUICK):
            body = make_zip(package)
            name = gw.push(body)["name"]
            ack(skill=name, sha256=hashlib.sha256(body).hexdigest())
        stop = threading.Event()
        clients = [Client(gw, ack, stop, n) for n in range(3)]
        for client in clients:
            client.start()
        stop.wait(SECONDS)
        watch.wait_for(lambda: len(acked) > 2 * LOAD or not any(c.is_alive() for c in clients), 60 * settings.SLOW,
                       "hardly anything is acknowledged")
        stop.set()
        for client in clients:
            client.join(60)
            assert client.error is None, client.error
        spool = gw.state / "helper" / "spool"
        watch.wait_for(lambda: not list(spool.iterdir()), 60 * settings.SLOW, "runs are left in the spool")
        gw.stop()
        yield gw.disk, power_loss.read_log(log), gw.key
    finally:
        shutil.rmtree(gw.programs)
        shutil.rmtree(shm)

def wanted(path):
    """Of the state, what a power loss must not harm.  The helper's packages are sent to it again."""
    top = path.split("/")
    return top[0] in ("", "store", "artifacts") and path != "store/lock.mdb" or path in ("helper", "helper/spool") \
        or top[:2] == ["helper", "spool"]

def whole_archive(path, names):
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes()), mode="r:gz") as tar:
        assert sorted(tar.getnames()) == sorted(names)
        for member in tar:
            assert len(tar.extractfile(member).read()) == member.size

def archive_of(state, execution):
    return state / "artifacts" / execution[-2:] / f"{execution}.tar.gz"

def is_spooled(state, execution):
    """A whole file of the spool: the trailer is there."""
    for suffix in (".job", ".run", ".done"):
        path = state / "helper" / "spool" / (execution + suffix)
        if path.exists():
            data = path.read_bytes()
            facts, body = int.from_bytes(data[-12:-8], "little"), int.from_bytes(data[-8:], "little")
            if data[-16:-12] == SPOOL_MAGIC[::-1] or data[-16:-12] == SPOOL_MAGIC:
                if facts + body + 16 == len(data):
                    return True
    return False

def dump(state):
    """What the store has, after it was opened as a gateway would."""
    if not (state / "store" / "data.mdb").exists() or (state / "store" / "data.mdb").stat().st_size == 0:
        return []
    out = subprocess.run([PROBE, "dump", state / "store"], capture_output=True, text=True, timeout=60, check=False)
    if "there is no store" in out.stderr:
        return []
    assert out.returncode == 0, out.stderr
    return [json.loads(line) for line in out.stdout.splitlines()]

def compare(state, acks):
    """The store, the archives and the spool hold what was acknowledged."""
    found = dump(state)
    skills = {f["skill"]: f for f in found if "skill" in f}
    files = {f["file"]: f for f in found if "file" in f}
    executions = {f["execution"]: f for f in found if "execution" in f}
    assert all(f["good"] for f in files.values()), files
    facts = [json.loads(a) for a in acks]
    gone = {f["deleted"] for f in facts if "deleted" in f}
    going = {f["deleting"] for f in facts if "deleting" in f}
    assert not gone & {*skills, *files, *executions}, "what was deleted is back"
    for fact in facts:
        if going & {fact.get("skill"), fact.get("file"), fact.get("execution")}:
            continue
        if "keys" in fact:
            assert [f["keys"] for f in found if "keys" in f] == [fact["keys"]]
        elif "skill" in fact:
            assert skills[fact["skill"]]["sha256"] == fact["sha256"], fact
        elif "file" in fact:
            assert fact["file"] in files, fact
        elif "execution" in fact:
            assert executions[fact["execution"]]["status"] == fact["status"], fact
            if fact["files"]:
                whole_archive(archive_of(state, fact["execution"]), fact["files"])
        elif "submitted" in fact:
            record = executions.get(fact["submitted"])
            assert record and record["status"] == "success" or is_spooled(state, fact["submitted"]), (fact, record)
            if record and record["files"]:
                whole_archive(archive_of(state, fact["submitted"]), ["a"])

def moments(notes, count, rng):
    """Indexes into the notes: some anywhere, more of them where something was just said or synced."""
    sharp = [i + d for i, n in enumerate(notes) if n.kind in (power_loss.ACK, power_loss.SYNC) or n.flag for d in (0, 1)]
    early = [i for i in range(len(notes)) if i < 400]
    picked = {len(notes)} | set(rng.sample(sharp, min(len(sharp), count // 2)))
    picked |= set(rng.sample(early, min(len(early), count // 6)))
    picked |= set(rng.sample(range(len(notes)), min(len(notes), count // 3)))
    return sorted(picked)

def test_what_was_acknowledged_survives_a_power_loss(record):
    disk, notes, _ = record
    disk = disk.before()
    kinds = {n.kind for n in notes}
    assert kinds == {power_loss.NEW, power_loss.ENTRY, power_loss.DATA, power_loss.SIZE, power_loss.SYNC, power_loss.ACK}
    seed = random.SystemRandom().randrange(1 << 32)
    rng, done = random.Random(seed), 0
    for number, moment in enumerate(moments(notes, MOMENTS, rng)):
        while done < moment:
            disk.follow(notes[done])
            done += 1
        mode = power_loss.MODES[number % len(power_loss.MODES)]
        state = pathlib.Path(tempfile.mkdtemp(prefix="sbs-", dir="/dev/shm"))
        try:
            disk.leave(state, mode, seed + number, wanted)
            compare(state, disk.acks)
        except Exception as error:
            raise AssertionError(f"after note {moment} of {len(notes)} with {mode} of the rest, seed {seed}, "
                                 f"{len(disk.acks)} acknowledged: {error}") from error
        finally:
            shutil.rmtree(state)
    assert len(disk.acks) > LOAD, "the load was too small to say anything"


@pytest.mark.parametrize("mode", [power_loss.NOTHING, power_loss.SECTORS])
def test_a_gateway_goes_on_after_a_power_loss(record, mode):
    """What was accepted runs or is marked; nobody has to mend anything."""
    _, notes, key = record
    disk = record[0].before()
    moment = random.randrange(len(notes) // 2, len(notes) * 9 // 10)
    for note in notes[:moment]:
        disk.follow(note)
    left = pathlib.Path(tempfile.mkdtemp(prefix="sbs-", dir="/dev/shm"))
    try:
        disk.leave(left, mode, moment, wanted)
        gw = Reborn(left, key).start()
        facts = [json.loads(a) for a in disk.acks]
        going = {f["deleting"] for f in facts if "deleting" in f}
        for fact in facts:
            if "submitted" in fact:
                assert gw.until(fact["submitted"], timeout=60)["status"] in ("success", "failed")
            elif "execution" in fact and fact["execution"] not in going:
                body = gw.execution(fact["execution"])
                assert body["status"] == fact["status"]
                assert not fact["files"] or gw.download(body["files_url"]).status_code == 200
        assert gw.run("write")["files_list"] == ["a"]
        gw.stop()
    finally:
        shutil.rmtree(left)
