"""Attacks on mounts, the page cache, namespaces, privileges and filters: items 3 and 15
to 20 of the catalogue, and the doors of the host."""

import os

import pytest

from harness import settings

NO_CAPABILITY = "0000000000000000"
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


# Started as root the helper has none.  A user can't give up his own: only somebody with
# CAP_SETGID in the host's namespace could, so a script keeps them, and no way to use or add one.
GROUPS = set() if settings.ROOT else {str(g) for g in os.getgroups()}


def check_cage(host):
    """What the kernel says of the process from outside, after the attack."""
    status = host["status"]
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert status[name] == NO_CAPABILITY, name
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert set(status["Groups"].split()) == GROUPS
    for name in NAMESPACES:
        assert host["namespaces"][name] != host["own namespaces"][name], name
        if settings.ROOT:
            assert host["namespaces"][name] == host["init's namespaces"][name], name


@pytest.mark.item(3)
def test_nothing_can_be_mounted(attack):
    attack("mounts").refused("EPERM", "ENOSYS")


@pytest.mark.item(15)
def test_the_page_cache_of_bound_files_is_out_of_reach(attack):
    outcome = attack("page-cache")
    assert outcome.notes["piped"] == 4096 * 33, "control: pipes work"
    outcome.refused("EPERM", "EBADF", "EAFNOSUPPORT", "EINVAL")


@pytest.mark.item(16)
def test_no_lease_or_notification_on_files_that_all_share(attack):
    outcome = attack("leases", hold=True)
    outcome.refused("EPERM", "ENOSYS")
    assert outcome.host["leases"] == [], "the host sees a lease while the run holds on"


@pytest.mark.item(17)
def test_no_namespace_can_be_made_or_joined(attack):
    outcome = attack("namespaces", hold=True)
    opened = {w for w, (rc, _) in outcome.tries.items() if rc >= 0}
    assert all(w.startswith("open /proc/1/ns/") for w in opened), opened
    assert set(outcome.files) == {"nonce"}, "a child in a namespace of its own was made"
    check_cage(outcome.host)


@pytest.mark.item(18)
def test_no_privilege_can_be_gained(attack):
    outcome = attack("privileges", hold=True)
    gained = {w: got for w, got in outcome.tries.items() if got[0] >= 0}
    assert not gained
    check_cage(outcome.host)


@pytest.mark.item(19)
def test_there_are_no_groups_beyond_the_helpers(attack, observed):
    outcome = attack("groups", hold=True)
    observed(f"{outcome.notes['groups']} supplementary groups, as the helper has")
    assert outcome.notes["groups"] == len(GROUPS)
    check_cage(outcome.host)


@pytest.mark.item(20)
def test_filters_can_not_be_loosened(attack):
    outcome = attack("filters", hold=True)
    outcome.refused("EPERM", "EINVAL", "EACCES")
    check_cage(outcome.host)


@pytest.mark.item(23, 25, 26)
def test_the_doors_of_the_host_are_closed(attack, canaries):
    outcome = attack("doors", canaries.port, canaries.abstract_name, canaries.path,
                     canaries.process.pid)
    outcome.refused()


@pytest.mark.control
def test_control_the_doors_are_there(canaries):
    """Connected to from outside, the same listeners answer."""
    import socket
    for address, family, listener in (
            (("127.0.0.1", canaries.port), socket.AF_INET, canaries.tcp),
            ("\0" + canaries.abstract_name, socket.AF_UNIX, canaries.abstract),
            (str(canaries.path), socket.AF_UNIX, canaries.unix)):
        with socket.socket(family) as client:
            client.connect(address)
            listener.setblocking(True)
            listener.accept()[0].close()
