"""The layers are independent: a few stages that lack one, and attacks on files, processes and
privileges against each.  `make layers` does it for all (tests/layers/, docs/security.md)."""

import pathlib
import re
import subprocess

import pytest

from harness import settings
from layers.attacks import ATTACKS, LAYERS, STAGE_SECRET, STRICT
from layers.layers import FEW_PAIRS, FEW_SINGLE, bits, can_run, names
from layers.stand import VARIANTS, Stand

CHEAP = [attack for attack in ATTACKS if attack.kind in STRICT and can_run(attack)]


@pytest.fixture
def stand(request):
    found = Stand(request.param)
    yield found
    found.close()


def ids(missing):
    return "without " + names(missing)


@pytest.mark.parametrize("stand", map(bits, ((), *((n,) for n in FEW_SINGLE))), indirect=True, ids=ids)
def test_the_other_layers_hold(stand):
    found = {attack.name: stand.run(attack) for attack in CHEAP}
    assert {name: v for name, v in found.items() if v.state != "contained"} == {}


@pytest.mark.control
@pytest.mark.parametrize("stand, layers", [(bits(pair), pair) for pair in FEW_PAIRS], indirect=["stand"],
                         ids=["without " + names(bits(pair)) for pair in FEW_PAIRS])
def test_control_without_both_the_attack_succeeds(stand, layers):
    attacks = [attack for attack in CHEAP if set(attack.layers) == set(layers)]
    assert attacks
    for attack in attacks:
        assert stand.run(attack).state == "ESCAPED", attack.name


def test_the_shipped_program_has_no_such_switch():
    def marks(program):
        symbols = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
        return "__wrap_" in symbols, STAGE_SECRET.encode() in pathlib.Path(program).read_bytes()
    assert marks(VARIANTS / "0" / "sandbox-stage")[0], "control: this one has"
    for program in sorted(settings.BIN.iterdir()):
        assert marks(program) == (False, False), program


def test_only_programs_without_it_are_installed():
    makefile = (settings.TOP / "Makefile").read_text()
    recipe = re.search(r"^install: all.*\n((?:\t.*\n)+)", makefile, re.MULTILINE).group(1)
    built = re.findall(r"\$\(BUILD\)/\S+", recipe)
    assert len(built) >= 4 and all(path.startswith("$(BUILD)/bin/") for path in built), built
    assert not re.search(r"\btests/|layers|\*", recipe)


def test_the_security_document_has_every_row():
    text = (settings.TOP / "docs" / "security.md").read_text()
    for attack in ATTACKS:
        assert f"| {attack.kind} | {attack.name} |" in text, attack.name
    for name, *_ in LAYERS:
        assert f"| {name} |" in text, name
