"""Runtimes with roots of their own: which one a package gets, and what it sees there."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

from harness import check, settings, watch
from harness.gateway import Gateway
from harness.helper import PROGRAM, Helper, fcgi_call
from harness.images import make_image
from harness.packages import skill


EXTRA = "/var/lib/dpkg"  # a folder that every Debian has, outside /usr


@pytest.fixture(scope="module")
def images():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sbimages-", dir="/tmp"))
    folder.chmod(0o755)
    make_image(folder / "mini", python=True)
    make_image(folder / "none", bash=False)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def helper(images):
    h = Helper(concurrency=2, runtimes=[
        {"name": ["mydebian", "debian:*"], "lang": "bash", "root": images / "mini",
         "env": {"COLOUR": "blue", "LD_FIXED": "1"},
         "timeout": {"default": "7s", "max": "9s"}, "memory": {"default": "64Mi", "max": "128Mi"},
         "cpu": {"max": "0.25"}},
        {"name": "mydebian", "lang": "python", "root": images / "mini"},
        {"name": "extra", "lang": "bash", "root": images / "mini", "readonly": [EXTRA]},
        {"name": "empty", "lang": "bash", "root": images / "none"},
        {"name": "gone", "lang": "bash", "root": images / "nowhere"},
        {"name": "elsewhere", "lang": "bash", "root": images / "mini", "interpreter": "/opt/bash"},
        {"name": "on-host", "lang": "python", "root": "host", "env": {"WHERE": "host"}},
        {"lang": "bash", "memory": {"default": "48Mi", "max": "96Mi"}},
    ], images={'"debian:12"': "bash", '"python:3*"': "python"}).start()
    yield h
    h.stop()


SEE = """
. /etc/os-release
echo "$ID $BASH $(cat /etc/image-only) $COLOUR $LD_FIXED $PATH"
cat /etc/passwd
echo /*
"""


def test_an_image_is_the_root_of_its_runs(helper):
    answer = helper.run(SEE, "bash", image="mydebian", job={"env": {"COLOUR": "red"}})
    assert answer.status == 200, answer
    lines = answer.log.decode().splitlines()
    assert lines[0] == "mini /usr/bin/bash mini blue 1 /usr/local/bin:/usr/bin:/bin"
    assert "sandbox:x:1000:1000:sandbox:/tmp:/bin/sh" in lines, "passwd is the sandbox's own"
    assert lines[-1].split() == [f"/{name}" for name in
                                 "bin dev etc lib lib64 opt proc sandbox skill tmp usr".split()]


def test_the_host_stays_the_root_of_the_others(helper):
    host = helper.run("cat /etc/os-release 2>&1; echo $COLOUR; test -e /opt/data || echo no data", "bash")
    assert b"ID=mini" not in host.log and b"blue" not in host.log and b"no data" in host.log
    # The short form comes behind the names of the list.
    assert helper.run("echo $COLOUR", "bash", image="debian:12").log == b"blue\n"


def test_the_interpreter_is_the_images(helper):
    code = "import sys, os; print(sys.executable, sys.prefix, os.environ.get('WHERE'))"
    assert helper.run(code, image="mydebian").log == b"/usr/local/bin/python3 /usr/local None\n"
    assert helper.run(code, image="on-host").log == b"/usr/bin/python3 /usr host\n"
    assert helper.run(code).log == b"/usr/bin/python3 /usr None\n"


def test_read_only_paths_are_their_runtimes_alone(helper):
    see = f"test -s {EXTRA}/status && echo seen; echo x > {EXTRA}/status-new || echo refused"
    assert helper.run(see, "bash", image="extra").log.startswith(b"seen\n")
    assert b"refused\n" in helper.run(see, "bash", image="extra").log
    assert b"seen" not in helper.run(see, "bash", image="mydebian").log
    assert b"seen" not in helper.run(see, "bash").log


@pytest.mark.parametrize("image, reason", [
    ("empty", "no bash in its root"), ("gone", "its root cannot be opened"),
    ("elsewhere", "no program /opt/bash in its root")])
def test_what_can_not_run_is_refused_and_named(helper, image, reason):
    answer = helper.run("true", "bash", image=image)
    assert answer.status == 409 and answer.json["error"] == "skill_not_available"
    assert image in answer.json["message"] and "/opt" not in answer.json["message"]
    shown = {(i["name"], i["lang"]): i["status"] for i in helper.status()["images"]}
    assert reason in shown[image, "bash"]
    assert shown["mydebian", "bash"] == shown["mydebian", "python"] == "ok"
    assert any(reason in line["reason"] for line in helper.log_lines("a runtime is not offered"))


def test_an_image_for_another_language_is_refused(helper):
    answer = helper.run("console.log(1)", "node", image="mydebian")
    assert answer.status == 400 and "is for bash, the script is node" in answer.json["message"]


# ---- limits ----

def manifest(helper, code, lang, **keys):
    answer = fcgi_call.intake(helper.socket, fcgi_call.skill(code, lang=lang, **keys))
    assert answer.status == 200, answer
    return answer.json


def test_an_upload_gets_its_runtimes_limits(helper):
    own = manifest(helper, "true", "bash")["manifest"]
    assert own["memory_bytes"] == 48 << 20
    image = manifest(helper, "true", "bash", image="debian:10")["manifest"]
    assert (image["timeout_ms"], image["memory_bytes"], image["cpu_milli"]) == (7000, 64 << 20, 250)
    python = manifest(helper, "pass", "python", image="mydebian")["manifest"]
    assert (python["timeout_ms"], python["memory_bytes"]) == (120000, 256 << 20)
    asked = manifest(helper, "true", "bash", image="mydebian", timeout="1m",
                     resources={"memory": "1Gi"})
    assert (asked["manifest"]["timeout_ms"], asked["manifest"]["memory_bytes"]) == (9000, 128 << 20)
    assert {"timeout-clamped", "memory-clamped"} <= {f["code"] for f in asked["findings"]}


def test_an_upload_for_an_unknown_image_is_kept_with_a_warning(helper):
    answer = manifest(helper, "true", "bash", image="nobody/knows")
    assert [f["code"] for f in answer["findings"]] == ["image-not-offered"]


def test_a_run_is_held_to_its_runtimes_maxima(helper):
    got = helper.run("ulimit -d", "bash", memory=1 << 30, image="mydebian")
    assert int(got.log) == 128 << 10
    assert int(helper.run("ulimit -d", "bash", memory=1 << 30).log) == 96 << 10
    python = "import resource; print(resource.getrlimit(resource.RLIMIT_DATA)[0] >> 20)"
    assert helper.run(python, memory=1 << 30, image="on-host").log == b"1024\n"


# ---- stages ----

def programs(helper):
    """The stages themselves, without the sandboxes that they made: {pid: its mounts}."""
    table = watch.processes()
    found = [p for p, (name, _, parent) in table.items()
             if name == "sandbox-stage" and parent == helper.process.pid]
    return {p: pathlib.Path(f"/proc/{p}/mountinfo").read_text() for p in found}


def test_each_root_has_a_stage_and_only_the_one_that_died_is_started_again(helper):
    stages = programs(helper)
    assert len(stages) == 3, "the host's, the image's, the image's with a read-only path"
    image = next(p for p, mounts in stages.items() if "/mini/" in mounts and EXTRA not in mounts)
    os.kill(image, signal.SIGKILL)
    assert helper.run("echo still", "bash").log == b"still\n"
    assert helper.run("echo again", "bash", image="mydebian").log == b"again\n"
    now = programs(helper)
    assert len(now) == 3 and len(set(now) & set(stages)) == 2


def test_an_image_with_something_mounted_in_it_is_not_offered(images):
    if not settings.ROOT:
        pytest.skip("mounts are made as root")
    root = make_image(images / "mounted")
    subprocess.run(["mount", "-t", "tmpfs", "none", root / "opt"], check=True)
    try:
        h = Helper(runtimes=[{"name": "mounted", "lang": "bash", "root": root}]).start()
        try:
            status = watch.wait_for(lambda: h.status()["images"][0]["status"], 5, "its status")
            assert "opt" in status
            assert h.run("true", "bash", image="mounted").status == 409
            assert h.run("echo x", "bash").log == b"x\n"
        finally:
            h.stop()
    finally:
        subprocess.run(["umount", root / "opt"], check=True)


def test_links_of_an_image_lead_nowhere_outside(images):
    root = make_image(images / "linked", bash=False)
    (root / "usr" / "bin" / "bash").symlink_to("/../../../../../../usr/bin/bash")
    (root / "host").symlink_to("/../../../../etc")
    (root / "etc" / "hosts-of").symlink_to("/../../../../etc/hostname")
    h = Helper(runtimes=[{"name": "linked", "lang": "bash", "root": root}]).start()
    try:
        assert h.run("true", "bash", image="linked").status == 409
    finally:
        h.stop()


def test_imported_images_are_offered_by_their_folders_name(images):
    h = Helper(runtimes_dir=images, runtimes=[
        {"name": "named", "lang": "bash", "root": "mini"}]).start()
    try:
        shown = {(i["name"], i["lang"]): i["status"] for i in h.status()["images"]}
        assert shown["named", "bash"] == shown["mini", "bash"] == shown["mini", "python"] == "ok"
        assert ("mini", "node") not in shown
        assert shown["none", "python"] == "no python3 in its root"
        assert h.run("cat /etc/image-only", "bash", image="mini").log == b"mini\n"
        assert h.run("cat /etc/image-only", "bash", image="named").log == b"mini\n"
    finally:
        h.stop()


# ---- through the gateway ----

def test_an_image_reaches_from_skill_md_to_the_sandbox(images):
    many = [{"name": f"{'x' * 100}{i}", "lang": "node", "root": images / "nowhere"} for i in range(20)]
    gw = Gateway(helper={"runtimes": [{"name": "mydebian", "lang": "bash", "root": images / "mini",
                                       "memory": {"default": "40Mi"}}, *many]}).start()
    try:
        gw.push(skill("imaged", "cat /etc/image-only; ulimit -d", "bash", image="mydebian"))
        assert gw.run("imaged")["logs"] == f"mini\n{40 << 10}\n"
        gw.push(skill("plain", "cat /etc/image-only 2>&1", "bash"))
        assert "No such file" in gw.run("plain")["logs"]
        gw.push(skill("nowhere", "1", "node", image="x" * 100 + "3"))
        body = check.error(gw.execute("nowhere"), 409, "skill_not_available")
        assert "x" * 100 + "3" in body["message"]
        shown = gw.ready()["helper"]["images"]
        assert len(shown) == 21 and shown[0] == {"name": "mydebian", "lang": "bash", "status": "ok"}
        assert shown[4]["status"] == "its root cannot be opened: No such file or directory"
        assert str(images) not in str(shown), "/ready is for everybody: no paths of the host"
    finally:
        gw.stop()


# ---- configuration ----

@pytest.mark.parametrize("text, line, word", [
    ("runtimes:\n- name: a\n  lang: perl\n", 3, "perl"),
    ("runtimes:\n- name: a\n", 2, "needs lang"),
    ("runtimes:\n- {lang: bash}\n- {lang: bash}\n", 3, "already"),
    ("runtimes:\n- {lang: bash, name: []}\n", 2, "empty"),
    ("runtimes:\n- {lang: bash, name: {a: b}}\n", 2, "name"),
    ("runtimes:\n- lang: bash\n  colour: red\n", 3, "colour"),
    ("runtimes:\n- lang: bash\n  root: mini\n", 2, "runtimes_dir"),
    ("runtimes:\n- lang: bash\n  root: ../x\n", 3, "absolute"),
    ("runtimes:\n- lang: bash\n  root: ..\n", 3, ".."),
    ("runtimes:\n- lang: bash\n  env: {PATH: /x}\n", 3, "PATH"),
    ("runtimes:\n- lang: bash\n  env: {SANDBOX_X: /x}\n", 3, "SANDBOX_X"),
    ("runtimes:\n- lang: bash\n  env: {a-b: c}\n", 3, "a-b"),
    ("runtimes:\n- lang: bash\n  env: {A: b, A: c}\n", 3, "twice"),
    ("runtimes:\n- lang: bash\n  memory: {default: 2Gi}\n", 2, "memory"),
    ("runtimes:\n- lang: bash\n  readonly: [a]\n", 3, "readonly"),
    ("runtimes:\n- lang: bash\n  warm: 99\n", 3, "warm"),
    ("runtimes: python\n", 1, "list or a map")])
def test_a_runtimes_error_has_its_line(tmp_path, text, line, word):
    path = tmp_path / "helper.yaml"
    where = "".join(f"{key}: {tmp_path}/{key}\n" for key in ("listen", "state_dir", "artifacts"))
    path.write_text(text + where)
    out = subprocess.run([PROGRAM, "-c", path], capture_output=True, text=True, timeout=20)
    assert out.returncode == 2, out
    assert f"helper.yaml:{line}:" in out.stderr and word in out.stderr


def test_check_names_each_runtime(helper):
    out = subprocess.run([PROGRAM, "-c", helper.state / "helper.yaml", "--check"],
                         capture_output=True, text=True, timeout=60)
    assert out.returncode == 1, out
    lines = {line[6:].split("  ")[0].strip(): line for line in out.stdout.splitlines()}
    assert lines["mydebian (bash)"].startswith("ok") and "/mini" in lines["mydebian (bash)"]
    assert lines["gone (bash)"].startswith("warn")
