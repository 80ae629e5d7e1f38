"""Attacks on files: items 1, 2, 4 to 10 of the catalogue."""

import os

import pytest

from harness import check, settings
from canaries import PREFIX, fingerprint

# All there is below the root of a sandbox.
ROOT = {".ready", "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sandbox", "sbin", "skill",
        "tmp", "usr", ".packages"}


@pytest.mark.item(1)
def test_nothing_outside_the_writable_mounts_can_be_created_or_changed(attack):
    outcome = attack("create")
    outcome.refused()


@pytest.mark.control
def test_control_creating_works_where_it_may(attack):
    tries = attack("create-control").tries
    for place in ("/tmp", "/sandbox/work", "/sandbox/out", "/dev/shm"):
        assert tries[f"create {place}/sbattack-file"][0] >= 0
        assert tries[f"mkdir {place}/sbattack-dir"][0] == 0


@pytest.mark.item(2)
def test_no_secret_of_the_host_is_in_sight(attack, gateway, canaries):
    state = gateway.state
    paths = [canaries.secret, "/etc/shadow", "/etc/ssh", "/root", "/home", "/var", "/var/lib", "/run",
             "/proc/1/environ", "/sys/kernel", "/.skills", state, state / "nginx.conf",
             state / "helper.yaml", state / "sign.key", gateway.helper_socket, state / "store",
             state / "helper" / "packages" / gateway.others_digest,
             f"/.packages/{gateway.others_digest}",
             f"/.packages/{gateway.others_digest}/tree/secret.txt",
             f"/sandbox/scripts/../../.packages/{gateway.others_digest}"]
    outcome = attack("secrets", *paths)
    reached = {what: got for what, got in outcome.tries.items() if got[0] >= 0}
    # A procfs of the run's own has pid 1's file, but not its content.
    assert set(reached) <= {"reach /proc/1/environ"}
    assert set(outcome.notes["root"].split()) <= ROOT
    assert outcome.notes["found"] == 0
    assert outcome.notes["seen"] > 100, "the search has seen too little to mean something"


@pytest.mark.control
def test_control_the_search_finds_a_secret_that_is_there(gateway, canaries):
    control = PREFIX + "control"
    answer = gateway.run("probe", args=["n", "0", "secrets", "/skill/SKILL.md"],
                         env={"CONTROL": control})
    assert answer["output"]["notes"]["found"] >= 2, "in the environment and in /proc"
    found = check.untar(gateway.download(answer["files_url"]).content)["found-0"]
    assert control.encode() in found
    assert answer["output"]["tries"][0]["rc"] >= 0
    # and the secrets are where the attack must not find them
    environ = f"/proc/{gateway.helper.pid}/environ"
    if settings.ROOT:
        with open(environ, "rb") as f:
            assert canaries.token("environment").encode() in f.read()
    assert canaries.secret.read_text().strip() == canaries.token("file")


@pytest.mark.item(4)
def test_no_device_can_be_made(attack):
    outcome = attack("nodes")
    fifo = outcome.tries.pop("mkfifo in artifacts")
    assert fifo[0] == 0, "a fifo in the run's own folder is fine"
    nodes = {k: v for k, v in outcome.tries.items() if not k.startswith("mkfifo")}
    assert all(rc < 0 for rc, _ in nodes.values()), nodes
    assert all(err == "EPERM" for what, (_, err) in nodes.items() if what.startswith("mknod")), nodes
    assert set(outcome.files) == {"nonce"}, "the fifo is no artifact"
    assert any("fifo" in w for w in outcome.answer["warnings"])


@pytest.mark.item(5)
def test_set_user_id_gives_nothing(attack, observed):
    outcome = attack("suid", hold=True)
    notes = outcome.notes
    observed(f"uids in the run {notes['ruid']}, {notes['euid']}, {notes['suid']}; seen from the host"
             f" {outcome.host['status']['Uid'].split()}, NoNewPrivs {outcome.host['status']['NoNewPrivs']}")
    assert notes["packaged mode"] == 0o555, "the package's bit is not kept"
    assert set(outcome.files) == {"nonce", "executed-suid-package"}, "neither su nor the copy ran"
    assert notes["ruid"] == notes["euid"] == notes["suid"] == 1000
    uids = set(outcome.host["status"]["Uid"].split())
    assert uids == {str(settings.ids(settings.HELPER_USER)[0] if settings.ROOT else os.geteuid())}
    assert outcome.host["status"]["NoNewPrivs"] == "1"


@pytest.mark.item(6)
def test_only_standard_descriptors_are_open(attack, observed):
    outcome = attack("fds", hold=True)
    observed(f"the host sees descriptors {outcome.host['fds']}")
    assert outcome.notes["open"] == "0 1 2 "
    assert outcome.host["fds"] == [0, 1, 2]
    outcome.refused()


@pytest.mark.item(7)
def test_proc_leads_nowhere(attack, gateway, canaries):
    python = fingerprint("/usr/bin/python3")
    attack("proc", canaries.secret).refused()
    answer = gateway.run("py", input={"code": """
import json
got = {}
for path in ('/proc/self/exe', '/usr/bin/python3', '/proc/1/exe', '/proc/1/mem'):
    try:
        open(path, 'r+b').close()
        got[path] = 'opened'
    except OSError as e:
        got[path] = e.errno
json.dump(got, open('/sandbox/out/output.json', 'w'))
"""})
    assert len(answer["output"]) == 4 and "opened" not in answer["output"].values()
    assert fingerprint("/usr/bin/python3") == python


@pytest.mark.item(8)
def test_file_handles_are_refused(attack):
    attack("handles").refused("EPERM")


@pytest.mark.item(9)
def test_no_climbing_out(attack, canaries):
    outcome = attack("climb", canaries.secret)
    outcome.refused()
    assert outcome.notes["same root"] == 1


@pytest.mark.item(10)
def test_no_links_or_renames_across_mounts(attack):
    outcome = attack("links")
    outcome.refused()
    assert set(outcome.files) == {"nonce"}
