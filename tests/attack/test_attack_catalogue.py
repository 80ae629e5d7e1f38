"""The catalogue in docs/attacks.md and the tests' `item` markers say the same.  Read from the
files, so that a test that is not run here counts, too."""

import ast
import re

from harness import settings
from table import ITEMS

TESTS = settings.TOP / "tests"


def marked():
    """{number: files with a test for that item}"""
    found = {}
    for path in TESTS.glob("*/test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.item":
                for argument in node.args:
                    found.setdefault(argument.value, set()).add(str(path.relative_to(TESTS)))
    return found


def rows():
    """[(number, attack, outcome, files)] of the document."""
    text = (settings.TOP / "docs" / "attacks.md").read_text()
    found = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return [(int(n), attack, outcome, set(re.findall(r"`([^`]+)`", files))) for n, attack, outcome, files in found]


def test_every_item_has_a_test():
    assert set(marked()) == set(ITEMS)


def test_the_document_has_every_item_once_and_in_order():
    assert [number for number, *_ in rows()] == list(ITEMS)


def test_the_document_leads_from_each_item_to_tests():
    tests = marked()
    wrong = {number: sorted(files - tests.get(number, set())) or "none" for number, _, _, files in rows()
             if not files or files - tests.get(number, set())}
    assert not wrong, "files that docs/attacks.md names for an item without a test for it"
