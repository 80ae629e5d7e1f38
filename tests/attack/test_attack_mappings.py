"""Memory that no rlimit counts, with control groups as the host has them and without: item 40
of the catalogue, as far as it is the system call policy's."""

import json

import pytest

CONTROLS = {"control: private", "control: a file in /dev/shm"}
# charged to a memory control group, and to nothing where there is none
SHARED = {"shared", "shared, of a descriptor", "/dev/zero",
          "/dev/zero, to be read", "memfd"}
SHM = 2048  # KiB: the size of /dev/shm in these tests


@pytest.fixture(scope="module", params=["auto", "off"])
def helper_options(request):
    return {"cgroup": request.param}


@pytest.mark.item(40)
def test_no_memory_escapes_being_counted(attack, gateway, observed):
    outcome = attack("mappings", hold=True)
    ready, = (line for line in gateway.helper_log.splitlines() if '"msg":"ready"' in line)
    counted = "without cgroup" not in json.loads(ready)["tier"]
    made = {what for what, (rc, _) in outcome.tries.items() if rc >= 0}
    shared = int(outcome.host["status"]["RssShmem"].split()[0])
    assert made == CONTROLS | (SHARED if counted else set())
    if counted:
        assert shared >= 3 * 16 * 1024, "control: the host sees what was mapped"
    else:
        assert 1024 <= shared <= SHM, "the host sees shared memory beyond /dev/shm"
    observed(f"{'with' if counted else 'without'} a memory control group: {len(made)} kinds of mapping, "
             f"{shared} KiB of shared memory seen by the host")
