"""Attacks on space, and on what may be executed: items 11 to 14 of the catalogue."""

import shutil

import pytest

from harness import settings, watch

MIB = 1 << 20
SIZES = {"/tmp": 4 * MIB, "/sandbox/work": 8 * MIB, "/sandbox/out": 8 * MIB, "/dev/shm": 2 * MIB}


def shared_memory():
    """Bytes of tmpfs and the like on the whole host."""
    with open("/proc/meminfo", encoding="ascii") as f:
        for line in f:
            if line.startswith("Shmem:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no Shmem")


@pytest.mark.item(11)
def test_a_full_tmpfs_is_full_for_its_run_only(attack, gateway, observed):
    before, host = shared_memory(), shutil.disk_usage("/tmp").used
    outcome = attack("fill")
    for place, size in SIZES.items():
        assert size // 2 < outcome.notes[place] <= size, outcome.notes
    assert {err for _, err in outcome.tries.values()} <= {"ENOSPC", "EFBIG"}
    watch.wait_for(lambda: shared_memory() < before + 8 * MIB, 5, "the memory did not come back")
    observed(", ".join(f"{p} took {outcome.notes[p] >> 10} KiB" for p in SIZES) + ", given back")
    assert shutil.disk_usage("/tmp").used < host + 64 * MIB
    assert gateway.run("py", input={"code": "open('/tmp/x', 'wb').write(bytes(3 << 20))"})["status"] == "success"


@pytest.mark.item(12)
def test_inodes_run_out_for_their_run_only(attack, observed):
    outcome = attack("inodes")
    observed(", ".join(f"{outcome.notes[p]} files in {p}" for p in SIZES))
    for place in SIZES:
        assert 100 < outcome.notes[place] <= 256, outcome.notes
    assert {err for _, err in outcome.tries.values()} == {"ENOSPC"}


@pytest.mark.item(13)
def test_written_files_are_not_executed(attack, observed):
    outcome = attack("execute")
    executed = {name for name in outcome.files if name.startswith("executed-")}
    observed(f"ran: {', '.join(sorted(executed))}")
    # Control: the same program runs where programs belong.  A memfd belongs to no mount: where a
    # memory cgroup counts it, it is allowed and documented.
    assert "executed-scripts" in executed
    assert executed <= {"executed-scripts", "executed-memfd"}, executed
    outcome.refused("EPERM", "EACCES")


@pytest.mark.item(14)
def test_sparse_files_are_bounded(attack):
    attack("sparse").refused("EFBIG", "ENOSPC", "EPERM")


@pytest.mark.item(14)
def test_holes_as_artifacts_cost_the_helper_nothing(attack, gateway, observed):
    main, packers = gateway.helper.pid, gateway.packers()
    before = {p: watch.rss(p) for p in [main, *packers]}
    outcome = attack("holes", 9)
    assert outcome.notes["size"] <= 8 * MIB
    assert set(outcome.files) <= {"nonce", *(f"holes-{i}" for i in range(9))}
    grown = {p: watch.rss(p) - rss for p, rss in before.items() if watch.alive(p)}
    observed(f"9 files of {outcome.notes['size']} bytes of holes; the helper grew by"
             f" {grown.get(main, 0) >> 10} KiB")
    for pid, rss in before.items():
        if watch.alive(pid):  # the spare collector has done its work and is gone
            assert watch.rss(pid) < rss + 8 * MIB * settings.SLOW
