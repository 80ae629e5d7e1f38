"""Kinds of hosts: on each the helper works in a tier that it names, or refuses with the sentence
that tells the operator what to do, in its log and in --check alike.

The hosts are made out of this one: namespaces with other mounts and sysctls, and a system call filter
(tests/cage) that refuses what a kernel or a container engine would refuse.  The helper is an
ordinary user's in all of them.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from harness import settings, watch
from harness.gateway import to_yaml
from harness.helper import fcgi_call

HELPER = settings.BIN / "sandbox-helper"
CAGE = str(settings.BUILD / "tests" / "cage" / "cage")
RUNS, REFUSES = "runs", "refuses"
FULL = "full without cgroup"  # the configuration has switched those off

# `sh -c` of a namespace in which its user may mount; the caller's uid stays what it is outside.
MOUNTING = ["unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "sh", "-ec"]
# Capabilities over that namespace do not reach the helper.
GO = 'exec setpriv --ambient-caps=-all --inh-caps=-all "$@"'


@dataclasses.dataclass
class Host:
    name: str
    prefix: list                                # the command that makes the host
    end: str = RUNS
    tier: str = FULL                          # RUNS: how it begins
    words: list = dataclasses.field(default_factory=list)  # REFUSES: in the remedy
    allow: list = dataclasses.field(default_factory=list)
    severity: int = 1                           # of --check, at least
    config: dict = dataclasses.field(default_factory=dict)


def shell(script):
    return [*MOUNTING, script + "; " + GO, "sh"]


NO_LANDLOCK = [CAGE, "--refuse", "landlock_create_ruleset=EOPNOTSUPP", "--"]
MASKED = shell("mount -t tmpfs tmpfs /proc/fs")
HOSTS = [
    Host("this one", []),
    Host("500 mounts", shell('mkdir "$TMPDIR/m"; mount -t tmpfs tmpfs "$TMPDIR/m"; i=0;'
                             'while [ $i -lt 500 ]; do mkdir "$TMPDIR/m/$i"; '
                             'mount --bind /usr "$TMPDIR/m/$i"; i=$((i+1)); done')),
    Host("no clone3", [CAGE, "--refuse", "clone3=ENOSYS", "--"]),
    Host("a hardened unit",
         ["setpriv", "--no-new-privs", "--inh-caps=-all", CAGE, "--refuse", "keyctl=EPERM",
          "--refuse", "personality=EPERM", "--"]),
    Host("no cores (LimitCORE=0)", ["prlimit", "--core=0", "--"]),
    Host("openat2 hidden (RestrictSUIDSGID=)", [CAGE, "--refuse", "openat2=ENOSYS", "--"], REFUSES,
         words=["openat2", "RestrictSUIDSGID="]),
    Host("read-only but for its folders (ProtectSystem=strict)",
         shell('mount --bind "$TMPDIR" "$TMPDIR"; mount -o remount,bind,ro /usr 2>/dev/null || '
               '{ mount --rbind /usr /usr; mount -o remount,bind,ro /usr; }')),
    Host("user namespaces off (user.max_user_namespaces=0)",
         shell("echo 0 >/proc/sys/user/max_user_namespaces"), REFUSES,
         words=["user.max_user_namespaces"]),
    Host("network namespaces off", shell("echo 0 >/proc/sys/user/max_net_namespaces"), REFUSES,
         words=["max_*_namespaces"]),
    Host("pid namespaces off", shell("echo 0 >/proc/sys/user/max_pid_namespaces"), REFUSES,
         words=["max_*_namespaces"]),
    Host("a container's default profile", [CAGE, "--no-namespaces", "--"], REFUSES,
         words=["seccomp profile", "unshare, clone, mount and pivot_root"]),
    Host("a container with namespaces but without mounts",
         [CAGE, "--refuse", "mount=EPERM", "--refuse", "fsopen=EPERM", "--"], REFUSES,
         words=["AppArmor", "container"]),
    Host("AppArmor denies capabilities in user namespaces",
         [CAGE, "--refuse", "mount=EACCES", "--refuse", "fsopen=EACCES", "--"], REFUSES,
         words=["AppArmor profile", "docs/operations.md"]),
    Host("a masked /proc", MASKED, REFUSES, words=["/proc", "no_procfs"]),
    Host("a masked /proc, allowed", MASKED, tier="full without cgroup and procfs", allow=["no_procfs"]),
    Host("no Landlock", NO_LANDLOCK, REFUSES, words=["lsm=landlock", "no_landlock"]),
    Host("no Landlock, allowed", NO_LANDLOCK, tier="full without cgroup and landlock", allow=["no_landlock"]),
    Host("no new mount API (before Linux 5.12)", [CAGE, "--refuse", "mount_setattr=ENOSYS", "--"],
         REFUSES, words=["Linux 5.12"]),
    Host("no seccomp filters", [CAGE, "--refuse", "seccomp=EINVAL", "--"], REFUSES,
         words=["CONFIG_SECCOMP_FILTER"]),
]
hosts = pytest.mark.parametrize("host", HOSTS, ids=lambda h: h.name)


class Instance:
    """A helper of an ordinary user on such a host."""

    def __init__(self, host):
        self.host = host
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sbhost-", dir="/tmp"))
        self.folder.chmod(0o755)
        for name in ("helper", "artifacts", "run", "tmp"):
            (self.folder / name).mkdir()
            if settings.ROOT:
                os.chown(self.folder / name, *settings.ids(settings.HELPER_USER))
        self.socket, self.log = self.folder / "run" / "h.sock", self.folder / "log"
        config = {"listen": self.socket, "state_dir": self.folder / "helper",
                  "artifacts": self.folder / "artifacts", "allow": ["no_cgroup", *host.allow],
                  "allow_users": [os.getuid()], "cgroup": "off", **host.config}
        (self.folder / "helper.yaml").write_text(to_yaml(config) + "\n")

    def command(self, *arguments):
        uid, gid = settings.ids(settings.HELPER_USER)
        become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"] if settings.ROOT else []
        return [*become, *self.host.prefix, str(HELPER), "-c", str(self.folder / "helper.yaml"), *arguments]

    @property
    def env(self):
        return {**os.environ, "TMPDIR": str(self.folder / "tmp")}

    @contextlib.contextmanager
    def running(self):
        with open(self.log, "ab") as log:
            process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True, env=self.env)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10 * settings.SLOW)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait(10)

    def text(self):
        return self.log.read_text(errors="replace")

    def check(self):
        return subprocess.run(self.command("--check"), capture_output=True, text=True, env=self.env,
                              timeout=30 * settings.SLOW)


@pytest.fixture
def instance(host):
    if host.prefix[:1] == ["unshare"] and not can_mount():
        pytest.skip("this host's unshare has no --keep-caps, or user namespaces are off")
    made = Instance(host)
    yield made
    watch.remove_tree(made.folder)


def can_mount():
    command = [*MOUNTING, "mount -t tmpfs tmpfs /proc/fs"]
    return subprocess.run(command, capture_output=True, timeout=10).returncode == 0


@hosts
def test_it_runs_in_a_named_tier_or_says_what_to_do(host, instance):
    with instance.running() as process:
        if host.end == REFUSES:
            assert process.wait(20 * settings.SLOW) == 1, instance.text()
            line = [t for t in instance.text().splitlines() if "runs cannot be confined" in t]
            assert line, instance.text()
            for words in host.words:
                assert words in line[0]
            assert not instance.socket.exists()
            return
        watch.wait_for(lambda: '"msg":"ready"' in instance.text() or process.poll() is not None,
                       20 * settings.SLOW, "the helper is not ready")
        assert process.poll() is None, instance.text()
        status = fcgi_call.status(instance.socket).json
        assert status["tier"] == host.tier, status
        if host.tier != FULL:
            assert status["status"] == "degraded"
        digest = fcgi_call.intake(instance.socket, fcgi_call.skill("echo '{\"a\":1}' >/sandbox/out/output.json",
                                                                   lang="bash")).json["digest"]
        answer = fcgi_call.run(instance.socket, digest, None, b"{}", 60 * settings.SLOW, None, lang="bash",
                               target="main.sh")
        assert answer.json["status"] == "success" and answer.json["output"] == {"a": 1}, answer


@hosts
def test_check_says_the_same(host, instance):
    done = instance.check()
    last = done.stdout.splitlines()[-1]
    if host.end == RUNS:
        assert done.returncode in (0, 1) and "can run skills" in last, done.stdout
        assert f"can be made: {host.tier}" in done.stdout
        assert (done.returncode == 0) <= (host.tier == FULL)
        return
    assert done.returncode == 2 and "can't run skills" in last, done.stdout
    advice = [t for t in done.stdout.splitlines() if " -> " in t]
    for words in host.words:
        assert any(words in t for t in advice), done.stdout


# ---- the files that hosts get ----

UNIT = settings.TOP / "conf" / "systemd" / "sandbox-helper.service"
BREAKS_SANDBOXES = {"RestrictNamespaces", "ProtectKernelTunables", "ProtectKernelLogs", "ProcSubset",
                    "ProtectControlGroups", "ProtectHostname", "MemoryDenyWriteExecute", "SystemCallFilter",
                    "PrivateUsers", "PrivateNetwork", "RootDirectory"}


def unit_settings():
    lines = [t for t in UNIT.read_text().splitlines() if "=" in t and not t.startswith("#")]
    return dict(t.split("=", 1) for t in lines)


def test_the_unit_is_hardened_and_breaks_no_sandbox():
    unit = unit_settings()
    assert not BREAKS_SANDBOXES & set(unit)
    assert unit["NoNewPrivileges"] == "yes" and unit["CapabilityBoundingSet"] == ""
    assert set(unit["Delegate"].split()) == {"memory", "pids", "cpu"}
    assert unit["OOMPolicy"] == "continue"
    assert "AF_UNIX" in unit["RestrictAddressFamilies"] and "NETLINK" not in unit["RestrictAddressFamilies"]


def test_the_unit_is_one_to_systemd(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    # Its programs and its user are not on this machine: those two complaints are left out.
    text = UNIT.read_text().replace("/usr/local/libexec/skillbox/sandbox-helper", "/bin/true")
    (tmp_path / UNIT.name).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / UNIT.name],
                          capture_output=True, text=True, timeout=60)
    complaints = [t for t in done.stderr.splitlines() if UNIT.name in t and "user" not in t.lower()]
    assert not complaints, done.stderr


def test_the_apparmor_profile_is_one_to_apparmor():
    parser = shutil.which("apparmor_parser") or "/usr/sbin/apparmor_parser"
    if not os.access(parser, os.X_OK) or not os.path.exists("/etc/apparmor.d/abi/4.0"):
        pytest.skip("no apparmor_parser of AppArmor 4.0 or later here")
    done = subprocess.run([parser, "--skip-kernel-load", "--skip-cache",
                           settings.TOP / "conf" / "apparmor" / "skillbox"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
