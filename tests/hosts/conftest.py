"""Fixtures of the tests that run inside the virtual machine (tests/hosts/run)."""

import pathlib

import pytest

from harness import settings
from harness.helper import Helper
from service import Service

# No zygote: what waits is then the sandboxes alone, and easy to count.
LIMITS = {"limits": {"nproc": 32, "tmp": "128Mi"}, "zygote": {"enabled": "false"}, "prestart": {"max": 0}}


def pytest_configure(config):
    if pathlib.Path("/etc/hostname").read_text().strip() != "sandbox-host" or not settings.ROOT:
        pytest.exit("these tests change the host: tests/hosts/run starts them in a machine of their own", 2)


def hierarchy():
    """2: control groups of version 2 alone, as systemd has them by default; 1: of version 1."""
    return 2 if pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1


@pytest.fixture(scope="module")
def helper():
    """v2: the service that is shipped.  v1 cannot be delegated to a user: started as root."""
    h = Service(concurrency=2, **LIMITS) if hierarchy() == 2 else Helper(concurrency=2, allow=[], **LIMITS)
    h.start()
    yield h
    h.stop()
