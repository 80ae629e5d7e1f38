"""The catalogue's table: one line for each attack's test, with what was observed.

A test says which items it is for and what it saw:

    @pytest.mark.item(23, 26)
    def test_the_doors_of_the_host_are_closed(attack, observed):
        ...
        observed("14 connects refused, no listener was reached")

`observed` may be called more than once.  A test that can't run here calls
pytest.skip(reason): the table then says "not run" and the reason.  Other markers:
skilllite("name") for the probes of SkillLite's own test that are contained in ours;
control for tests that prove that an attack would be seen.
"""

import re

import pytest

ITEMS = range(1, 65)
STATES = {"passed": "contained", "failed": "NOT CONTAINED", "skipped": "not run"}


class Table:
    def __init__(self):
        self.rows = {}  # node id: [items, state, name, evidence]

    def observe(self, item, text):
        self.row(item)[3].append(" ".join(str(text).split()))

    def row(self, item):
        if item.nodeid not in self.rows:
            self.rows[item.nodeid] = [numbers(item), None, item.name, []]
        return self.rows[item.nodeid]

    def lines(self):
        """By number of the catalogue; a test for several items has a line for each."""
        rows = [(number, *row[1:]) for row in self.rows.values() for number in row[0]]
        for number, state, name, evidence in sorted(rows, key=lambda r: (r[0], r[2])):
            yield f"{number:>4}  {state or 'not run':<14} {plain(name)}: {'; '.join(evidence)}"


def plain(name):
    return re.sub(r"^test_", "", name).replace("_", " ")


def numbers(item):
    return sorted({n for mark in item.iter_markers("item") for n in mark.args})


@pytest.fixture
def observed(request):
    """observed(text): evidence for the table."""
    table = request.config.stash[KEY]
    return lambda text: table.observe(request.node, text)


KEY = pytest.StashKey()


def pytest_configure(config):
    config.stash[KEY] = Table()
    config.addinivalue_line("markers", "item(number, ...): items of the attack catalogue")
    config.addinivalue_line("markers", "skilllite(name): a probe of SkillLite's own test")
    config.addinivalue_line("markers", "control: proves that an attack would be seen")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if not numbers(item):
        return
    row = item.config.stash[KEY].row(item)
    if report.failed or row[1] is None and (report.when == "call" or report.skipped):
        row[1] = STATES[report.outcome]
    if report.skipped:
        row[3].append(str(report.longrepr[2]).removeprefix("Skipped: "))


def pytest_terminal_summary(terminalreporter, config):
    lines = list(config.stash[KEY].lines())
    if not lines:
        return
    terminalreporter.section("attack catalogue")
    for line in lines:
        terminalreporter.write_line(line)
