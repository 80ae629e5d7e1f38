"""Kernels that refuse user namespaces: the helper does not start, and says which switch it is."""

import contextlib
import pathlib
import subprocess

import pytest

from harness import settings, watch
from harness.helper import Helper

SWITCHES = [("user/max_user_namespaces", "0"), ("kernel/unprivileged_userns_clone", "0")]


@contextlib.contextmanager
def switched(name, value):
    path = pathlib.Path("/proc/sys") / name
    before = path.read_text()
    path.write_text(value)
    try:
        yield
    finally:
        path.write_text(before)


@pytest.mark.parametrize("name, value", SWITCHES)
def test_without_user_namespaces_it_refuses_and_names_the_switch(name, value):
    h = Helper()
    command = [h.program, "-c", h.write_config()]
    sysctl = name.replace("/", ".")
    try:
        with switched(name, value):
            done = subprocess.run(command, capture_output=True, text=True, timeout=30 * settings.SLOW)
            assert done.returncode == 1
            assert "runs cannot be confined on this host" in done.stderr and sysctl in done.stderr
            done = subprocess.run([*command, "--check"], capture_output=True, text=True,
                                  timeout=30 * settings.SLOW)
            assert done.returncode == 2
            assert f"/proc/sys/{name} = {value}" in done.stdout
        done = subprocess.run([*command, "--check"], capture_output=True, text=True,
                              timeout=30 * settings.SLOW)
        assert done.returncode < 2, "the control: with the switch as it was it works"
    finally:
        watch.remove_tree(h.state)
