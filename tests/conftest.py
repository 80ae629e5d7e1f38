"""Fixtures of all suites.  `gateway` is one for the file's tests; a test that breaks
or configures its gateway asks make_gateway for its own."""

import pytest

from harness import settings, watch
from harness.gateway import Gateway
from harness.helper import Helper


def pytest_configure(config):
    watch.become_subreaper()


@pytest.fixture(scope="module")
def gateway():
    gw = Gateway().start()
    yield gw
    gw.stop()


@pytest.fixture
def make_gateway():
    """make_gateway(**options) starts a gateway of the test's own (see harness.gateway)."""
    started = []

    def make(**options):
        started.append(Gateway(**options).start())
        return started[-1]
    yield make
    problems = []
    for gw in started:
        try:
            gw.stop()
        except AssertionError as error:
            problems.append(str(error))
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="session")
def slow():
    """Factor for times: sanitized programs are slower."""
    return settings.SLOW


@pytest.fixture
def make_helper():
    """make_helper(**config) starts a helper of the test's own, without a gateway (see harness.helper)."""
    started = []

    def make(**config):
        started.append(Helper(**config).start())
        return started[-1]
    yield make
    for h in started:
        h.stop()
