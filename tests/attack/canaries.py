"""What must not be reached, and what must not change: secrets, listeners and a process
on the host, and a picture of the host to compare before and after an attack."""

import collections
import hashlib
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import tempfile

from harness import settings, watch

PREFIX = "SBCANARY-"  # as probe.h has it
MARK = "sbattack-"

# Files that sandboxes see through read-only binds, and ours.
BOUND = ["/usr/bin/true", "/usr/bin/bash", "/usr/bin/python3", "/usr/bin/su",
         "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/ld.so.cache",
         settings.BIN / "sandbox-helper", settings.BIN / "sandbox-stage",
         settings.BIN / "sandbox-packer", settings.NGINX]
# Where a file that escaped would be seen.
HOST_DIRS = ["/", "/usr", "/usr/bin", "/usr/local", "/etc", "/dev", "/dev/shm", "/proc", "/sys", "/bin",
             "/lib", "/var", "/var/tmp", "/run", "/home", "/root", "/tmp"]
STEADY = 5  # equal looks in a row
SYSCTLS = ["kernel/hostname", "kernel/core_pattern", "kernel/randomize_va_space",
           "user/max_user_namespaces", "user/max_mnt_namespaces", "vm/overcommit_memory"]


class Canaries:
    """Secrets begin with PREFIX; each is another, so that a leak tells where it comes from."""

    def __init__(self):
        self.tokens = {}
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sbcanary-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.secret = self.folder / "secret"
        self.secret.write_text(self.token("file") + "\n")
        self.secret.chmod(0o644)
        os.environ["SKILLBOX_CANARY"] = self.token("environment")
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.abstract_name = "sbcanary-" + secrets.token_hex(8)
        self.abstract = self._listen("\0" + self.abstract_name)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp_port = self.udp.getsockname()[1]
        self.path = self.folder / "socket"
        self.unix = self._listen(str(self.path))
        os.chmod(self.path, 0o777)
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(3600)", self.token("process")],
            stdin=subprocess.DEVNULL)

    @staticmethod
    def _listen(address):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        listener.listen(8)
        return listener

    def token(self, name):
        return self.tokens.setdefault(name, PREFIX + secrets.token_hex(16))

    def check_untouched(self):
        """Nobody knocked, nobody died."""
        for name, listener in (("TCP", self.tcp), ("abstract", self.abstract), ("path", self.unix)):
            listener.setblocking(False)
            try:
                listener.accept()
            except BlockingIOError:
                continue
            raise AssertionError(f"something connected to the {name} listener")
        self.udp.setblocking(False)
        try:
            raise AssertionError(f"something was sent to the UDP port: {self.udp.recv(1000)}")
        except BlockingIOError:
            pass
        assert self.process.poll() is None, "the marker process died"
        state = watch.stat_fields(self.process.pid)[1]
        assert state in "SRD", f"the marker process is in state {state}"

    def check_not_in(self, data, where):
        for name, token in self.tokens.items():
            assert token.encode() not in data, f"the {name} secret is in {where}"

    def close(self):
        del os.environ["SKILLBOX_CANARY"]
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        for listener in (self.tcp, self.abstract, self.unix, self.udp):
            listener.close()
        self.path.unlink()
        self.secret.unlink()
        self.folder.rmdir()


# ---- the host's picture ----

def fingerprint(path):
    """Content and everything that an owner could change; not the access time."""
    path = os.path.realpath(path)
    st = os.stat(path)
    with open(path, "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    return digest, st.st_mode, st.st_uid, st.st_gid, st.st_nlink, st.st_size, st.st_mtime_ns, st.st_ctime_ns


def readable(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except (PermissionError, FileNotFoundError, OSError) as error:
        return type(error).__name__


def marked_files(folders):
    found = []
    for folder in folders:
        try:
            found += [os.path.join(folder, n) for n in os.listdir(folder)
                      if n.startswith((MARK, "executed-"))]
        except OSError:
            continue
    return sorted(found)


def packages(gw):
    """The unpacked packages the helper keeps: names, modes, links, content."""
    found = {}
    for root, dirs, files in os.walk(gw.state / "helper" / "packages"):
        for name in dirs + files:
            path = os.path.join(root, name)
            found[path] = os.readlink(path) if os.path.islink(path) else (
                os.stat(path).st_mode if os.path.isdir(path) else fingerprint(path))
    return found


def leases():
    """Leases are file system wide: one on a bound file would stop the host's own opens."""
    return [line for line in readable("/proc/locks").splitlines() if "LEASE" in line]


def census(gw, alike=STEADY, want=None):
    """How many processes, namespaces and control groups there are below the helper: sandboxes
    that wait come and go, their number stays.  Waits until it does for so many looks, and fails
    when it does not come to what is wanted."""
    def count():
        table = watch.processes()
        below = watch.descendants(gw.helper.pid, table)
        inodes = set()
        for pid in below:
            try:
                inodes |= {(p.name, p.readlink()) for p in pathlib.Path(f"/proc/{pid}/ns").iterdir()}
            except OSError:  # gone; or not dumpable, and the looker is not root
                continue
        return {"processes": dict(sorted(collections.Counter(table[p][0] for p in below).items())),
                "namespaces": dict(sorted(collections.Counter(name for name, _ in inodes).items())),
                "control groups": len(watch.cgroups(f"run-{gw.helper.pid}-"))}
    looks = [count()]

    def steady():
        looks.append(count())
        return (len(looks) > alike and all(look == looks[-1] for look in looks[-alike:])
                and want in (None, looks[-1]))
    try:
        watch.wait_for(steady, 10 * settings.SLOW, "")
    except AssertionError:
        raise AssertionError(f"processes, namespaces, groups: {looks[-1]}, not {want or 'steady'}") from None
    return looks[-1]


def picture(gw, canaries):
    """What an attack must leave as it was."""
    helper = gw.helper.pid
    table = watch.processes()
    ours = [p for p, (_, _, parent) in table.items() if parent in (helper, gw.nginx.pid)]
    nurseries = [p for p in ours if table[p][0].startswith("sandbox-")]
    return {
        "bound files": {str(p): fingerprint(p) for p in BOUND if os.path.exists(p)},
        "canary": fingerprint(canaries.secret),
        "packages": packages(gw),
        "mounts": readable("/proc/self/mountinfo"),
        "template's mounts": {p: readable(f"/proc/{p}/mountinfo") for p in nurseries},
        "processes of the gateway": sorted(ours),
        "sysctls": {name: readable(f"/proc/sys/{name}") for name in SYSCTLS},
        "marked files": marked_files([*HOST_DIRS, gw.state, canaries.folder]),
        "leases": leases(),
    }


def differences(before, after):
    return [f"{key}: {before[key]!r:.2000} became {after[key]!r:.2000}"
            for key in before if before[key] != after[key]]
