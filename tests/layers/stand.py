"""A helper whose stage lacks some layers, and the host's canaries around it."""

import ctypes
import dataclasses
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

from harness import settings, watch
from harness.helper import Helper, fcgi_call
from layers.attacks import NPROC, PRELUDE, STAGE_SECRET

IPC_CREAT, IPC_RMID = 0o1000, 0
OTHER_USER = "daemon"  # whose set-user-id program is the bait; neither root nor the helper's user
VARIANTS = settings.BUILD / "tests" / "layers"
libc = ctypes.CDLL(None, use_errno=True)


@dataclasses.dataclass
class Verdict:
    state: str  # contained, ESCAPED, no run
    evidence: str


def helper_ids():
    return settings.ids(settings.HELPER_USER) if settings.ROOT else (os.geteuid(), os.getegid())


class Stand:
    """With a set of layers (a number, see attacks.py) missing; close() leaves nothing."""

    def __init__(self, missing):
        # not below /tmp, which is a run's own
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sblayers-", dir="/var/tmp"))
        self.helper = None
        self.marker = None
        self.listeners = {}
        self.shm = -1
        try:
            self.folder.chmod(0o755)
            self._bait()
            self._start(missing)
        except BaseException:
            self.close()
            raise

    # ---- the host's side ----

    def _bait(self):
        names = ("file", "package", "process", "suid", "shared memory")
        self.tokens = {name: "SBCANARY-" + secrets.token_hex(16) for name in names}
        self.tokens["environment"] = STAGE_SECRET
        self.tokens["command line"] = pathlib.Path("/proc/cmdline").read_text().strip()
        self.secret = self.folder / "secret"
        self.secret.write_text(self.tokens["file"])
        self.shared = self.folder / "shared"
        self._fill_shared()
        self._listen()
        self._share_memory()
        self._mark()

    def _fill_shared(self):
        """Owned by the helper's user: its own mode and owner do not protect it."""
        shutil.rmtree(self.shared, ignore_errors=True)
        self.shared.mkdir()
        for name in ("file", "other"):
            (self.shared / name).write_text(name)
        if settings.ROOT:
            for path in (self.shared, *self.shared.iterdir()):
                os.chown(path, *helper_ids())
            self._lay_suid()
        self.shared_before = watch.tree(self.shared), (self.shared / "file").read_text()

    def _lay_suid(self):
        uid, gid = settings.ids(OTHER_USER)
        program, secret = self.shared / "suid-cat", self.shared / "suid-secret"
        shutil.copy("/usr/bin/cat", program)
        secret.write_text(self.tokens["suid"])
        for path in (program, secret):
            os.chown(path, uid, gid)
        secret.chmod(0o400)
        program.chmod(0o4755)
        said = subprocess.run([program, secret], user=helper_ids()[0], group=helper_ids()[1], extra_groups=[],
                              capture_output=True, text=True, check=True).stdout
        assert said == self.tokens["suid"], "control: outside, the program gives its owner's rights"

    def _listen(self):
        self.abstract = "sblayers-" + secrets.token_hex(8)
        self.path = self.folder / "socket"
        for name, family, address in (("TCP", socket.AF_INET, ("127.0.0.1", 0)),
                                      ("abstract", socket.AF_UNIX, "\0" + self.abstract),
                                      ("path", socket.AF_UNIX, str(self.path))):
            listener = self.listeners[name] = socket.socket(family)
            listener.bind(address)
            listener.listen(8)
            listener.setblocking(False)
        self.path.chmod(0o777)

    def _share_memory(self):
        self.shm_key = secrets.randbelow(1 << 30) + 1
        self.shm = libc.shmget(self.shm_key, 4096, IPC_CREAT | 0o666)
        libc.shmat.restype = ctypes.c_void_p
        at = libc.shmat(self.shm, None, 0)
        ctypes.memmove(at, self.tokens["shared memory"].encode(), len(self.tokens["shared memory"]))
        libc.shmdt(ctypes.c_void_p(at))

    def _mark(self):
        """A process of the helper's user: no difference of ids protects it."""
        become = {"user": helper_ids()[0], "group": helper_ids()[1], "extra_groups": []} if settings.ROOT else {}
        self.marker = subprocess.Popen(["/usr/bin/python3", "-c", "import time; print(1, flush=True); time.sleep(600)"],
                                       env={"SB": self.tokens["process"]}, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, cwd="/", **become)
        self.marker.stdout.readline()

    # ---- the helper with its stage ----

    def _start(self, missing):
        bin_folder = self.folder / "bin"
        bin_folder.mkdir()
        for name in ("sandbox-helper", "sandbox-packer"):
            shutil.copy2(settings.BIN / name, bin_folder)
        shutil.copy2(VARIANTS / str(missing) / "sandbox-stage", bin_folder)
        subprocess.run(["chmod", "-R", "a+rX", bin_folder], check=True)
        helper = Helper(program=bin_folder / "sandbox-helper", concurrency=1, cgroup="off",
                        readonly=[self.shared], limits={"nproc": NPROC, "timeout": {"default": "10s"}})
        self.helper = helper.start()
        self.other = self.helper.push(fcgi_call.zip_files({
            "SKILL.md": "---\nname: other\ndescription: a test\nlang: python\nentry_point: main.py\n---\nTest.\n",
            "main.py": "print(1)", "secret.txt": self.tokens["package"]}))

    def run(self, attack):
        """The attack's verdict.  What it broke is made good again."""
        nonce = secrets.token_hex(8)
        arguments = {"nonce": nonce, "shared": str(self.shared), "secret": str(self.secret), "other": self.other,
                     "pid": self.marker.pid, "port": self.listeners["TCP"].getsockname()[1],
                     "abstract": self.abstract, "socket": str(self.path), "shm": self.shm_key}
        code = PRELUDE + attack.code
        self.helper.package(code)
        self.content_before, self.modes_before = self.package_content(), self.package_modes()
        viewer = Viewer(self.helper.process.pid)
        if attack.hold:
            viewer.start()
        answer = self.helper.run(code, input=json.dumps(arguments).encode(), timeout_ms=10000 * settings.SLOW)
        viewer.done.set()
        log = answer.log.decode("latin-1")
        if f"ran {nonce}" not in log:
            return Verdict("no run", f"{answer.status} {answer.body[:300]!r}: {self._why()}")
        if attack.hold:
            viewer.join(20)
            assert viewer.view, f"{attack.name}: it never held still: {log[-500:]}"
        trace = attack.trace(self, log, viewer.view)
        self._mend()
        return Verdict("ESCAPED", trace) if trace else Verdict("contained", "")

    def _why(self):
        lines = self.helper.log_lines("a sandbox could not be made")
        return f"step {lines[-1]['step']}, {lines[-1].get('error', '')}" if lines else "no sandbox"

    def _mend(self):
        if self.shared_changed():
            self._fill_shared()
        if not self.marker_alive():
            self._unmark()
            self._mark()

    # ---- traces ----

    def accepted(self, name):
        try:
            self.listeners[name].accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def shared_changed(self):
        return (watch.tree(self.shared), (self.shared / "file").read_text()
                if (self.shared / "file").exists() else None) != self.shared_before

    def _package_paths(self):
        for root, dirs, files in os.walk(self.helper.state / "helper" / "packages"):
            yield from (os.path.join(root, name) for name in dirs + files)

    def package_content(self):
        return {path: pathlib.Path(path).read_bytes() if os.path.isfile(path) else None
                for path in self._package_paths()}

    def package_modes(self):
        found = {path: os.lstat(path) for path in self._package_paths()}
        return {path: (st.st_mode, st.st_mtime_ns) for path, st in found.items()}

    def marker_alive(self):
        return self.marker.poll() is None

    def kill_survivors(self):
        def survivors():
            return [p for p, (name, state, _) in watch.processes().items() if name == "sbsurvivor" and state != "Z"]
        found = survivors()
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        watch.wait_for(lambda: not survivors(), 10, "a survivor does not die")
        return found

    # ---- the end ----

    def _unmark(self):
        self.marker.kill()
        self.marker.wait(10)
        self.marker.stdout.close()

    def close(self):
        try:
            if self.helper and self.helper.process:
                self.helper.stop()
        finally:
            if self.marker:
                self._unmark()
            for listener in self.listeners.values():
                listener.close()
            if self.shm >= 0:
                libc.shmctl(self.shm, IPC_RMID, None)
            watch.remove_tree(self.folder)


class Viewer(threading.Thread):
    """The kernel's view of the attack's process while it calls itself "holding"."""

    def __init__(self, helper_pid):
        super().__init__(daemon=True)
        self.helper_pid, self.view, self.done = helper_pid, {}, threading.Event()

    def run(self):
        while not self.done.is_set() and not self.view:
            pids = watch.children_named(self.helper_pid, "holding")
            try:
                self.view = self._look(pids[0]) if pids else {}
                if self.view:
                    os.kill(pids[0], signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                continue
            self.done.wait(0.01)

    def _look(self, pid):
        proc = pathlib.Path(f"/proc/{pid}")
        init = watch.stat_fields(pid)[2]
        lines = (proc / "status").read_text().splitlines()
        beside = [pid, *watch.children_named(pid, "beside")]
        return {
            "status": dict(line.split(":\t", 1) for line in lines if ":\t" in line),
            "fds": sorted(int(p.name) for p in (proc / "fd").iterdir()),
            "mountinfo": (proc / "mountinfo").read_text(),
            "init": pathlib.Path(f"/proc/{init}/cmdline").read_bytes().decode("latin-1"),
            "user namespaces": {os.readlink(f"/proc/{p}/ns/user") for p in beside},
        }
