"""Hosts where AppArmor lets only programs with a profile use user namespaces.

Ubuntu has a switch for that, kernel.apparmor_restrict_unprivileged_userns, which is a patch of its
own: other kernels, this one too, ask AppArmor for user namespaces (since Linux 6.7), but leave
unconfined programs alone.  So the helper is started under a profile that says what Ubuntu says of the
unconfined: no user namespaces (23.10), or user namespaces without any capability in them (24.04).
What is loaded is the profile that is shipped, and the programs lie where it expects them."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from harness import settings, watch
from harness.helper import Helper
from service import Service

ROOT = pathlib.Path("/opt/apparmor")  # AppArmor 4, put there by tests/hosts/image
SECURITY = pathlib.Path("/sys/kernel/security")
SHIPPED = (settings.TOP / "conf" / "apparmor" / "skillbox").read_text()
INSTALLED = pathlib.Path("/usr/local/libexec/skillbox")
# everything but user namespaces; programs that have a profile run in it
EVERYTHING = "/{,**} rwlkm, /** pix, network, mount, umount, remount, pivot_root, signal, ptrace, unix, mqueue, change_profile,"
RESTRICTED = {"as Ubuntu 23.10": f"{EVERYTHING} capability,", "as Ubuntu 24.04": f"{EVERYTHING} userns,"}


def parser(*arguments, text):
    done = subprocess.run(["chroot", ROOT, "/usr/sbin/apparmor_parser", "--skip-cache", *arguments], input=text,
                          capture_output=True, text=True, timeout=60 * settings.SLOW, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", autouse=True)
def apparmor():
    assert "userns_create" in (SECURITY / "apparmor/features/namespaces/mask").read_text(), "control"
    subprocess.run(["mount", "-t", "proc", "proc", ROOT / "proc"], check=True)
    subprocess.run(["mount", "--bind", SECURITY, ROOT / "sys/kernel/security"], check=True)
    INSTALLED.mkdir(parents=True)
    for name in ("sandbox-helper", "sandbox-stage", "sandbox-packer"):
        shutil.copy2(settings.BIN / name, INSTALLED)
    yield
    shutil.rmtree(INSTALLED)
    for name in ("proc", "sys/kernel/security"):
        subprocess.run(["umount", ROOT / name], check=True)


@contextlib.contextmanager
def loaded(text):
    parser("--replace", text=text)
    try:
        yield
    finally:
        parser("--remove", text=text)


def under(profile):
    """For preexec: an ordinary user, whose next program runs in that profile."""
    def enter():
        with open("/proc/self/attr/apparmor/exec", "w", encoding="ascii") as f:
            f.write(f"exec {profile}")
        uid, gid = settings.ids(settings.HELPER_USER)
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    return enter


def label(pid):
    return pathlib.Path(f"/proc/{pid}/attr/apparmor/current").read_text().strip()


def check_labels(h):
    labels = {name: {label(p) for p in h.children(name)} for name in ("sandbox-stage", "sandbox-packer")}
    assert labels == {name: {f"skillbox-{name} (unconfined)"} for name in labels}


@pytest.mark.parametrize("host", RESTRICTED)
def test_without_a_profile_it_refuses_and_with_it_runs(host):
    h = Helper(program=INSTALLED / "sandbox-helper", preexec=under("restricted"))
    how = {"capture_output": True, "text": True, "timeout": 30 * settings.SLOW, "preexec_fn": h.preexec,
           "check": False}
    with loaded(f"abi <abi/4.0>,\nprofile restricted {{ {RESTRICTED[host]} }}\n"):
        command = [h.program, "-c", h.write_config()]
        done = subprocess.run(command, **how)
        assert done.returncode == 1, done
        assert "runs cannot be confined on this host" in done.stderr
        assert re.search(r'"remedy":"[^"]*AppArmor profile of docs/operations.md', done.stderr), done.stderr
        done = subprocess.run([*command, "--check"], **how)
        assert done.returncode == 2 and "AppArmor profile of docs/operations.md" in done.stdout, done
        with loaded(SHIPPED):
            h.start()
            try:
                assert label(h.process.pid) == "restricted (enforce)", "control"
                check_labels(h)
                assert h.status()["tier"] == "full without cgroup"
                assert h.run("print('ran')").log == b"ran\n"
                assert h.run("open('/sandbox/out/files/x', 'w').write('x')").headers["x-skillbox-files"] == "1"
            finally:
                h.stop()


def test_the_shipped_unit_and_the_shipped_profile_go_together():
    with loaded(SHIPPED):
        h = Service(program=INSTALLED / "sandbox-helper").start()
        try:
            assert label(h.process.pid) == "unconfined"
            check_labels(h)
            assert h.status()["tier"] == "full"
            assert h.run("print(open('/proc/self/attr/apparmor/current').read())").json["status"] == "success"
        finally:
            h.stop()
    watch.wait_for(lambda: "skillbox" not in (SECURITY / "apparmor/profiles").read_text(), 5, "control: unloaded")
