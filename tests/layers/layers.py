#!/usr/bin/python3
"""layers.py --sets | --few | --matrix | --check

Runs the attacks of attacks.py against stages that lack layers, and says for each attack

  - whether it stays contained whichever single layer is missing,
  - which of its layers stop it alone, when all others of them are missing,
  - what happens when all of them are missing: an attack that then succeeds was a real one.

--sets prints the stages that have to be built (numbers, see layers.mk), --few those that the
attack tests use (tests/attack/test_attack_layers.py), --matrix prints the
result as Markdown, --check also fails unless every attack on files, processes and privileges
stays contained with any single layer missing and has two layers that stop it alone.
As root the helper becomes an ordinary user; as an ordinary user it is that user, and attacks
whose bait only root can lay are not run.
"""

import argparse
import collections
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import settings, watch  # noqa: E402
from layers import attacks as a  # noqa: E402
from layers.attacks import ATTACKS, LAYERS, STRICT  # noqa: E402
from layers.stand import Stand  # noqa: E402

# For the attack tests: one after the other is missing, and pairs without which an attack succeeds.
FEW_SINGLE = (a.SECCOMP, a.LANDLOCK, a.CAPABILITIES, a.USER_NS, a.PID_NS, a.HOST_ROOT)
FEW_PAIRS = ((a.HOST_ROOT, a.LANDLOCK), (a.PID_NS, a.LANDLOCK), (a.SECCOMP, a.NAMESPACE_LIMITS))


def bits(layers):
    return sum(1 << layer for layer in layers)


def plan():
    """{set of missing layers: [attacks to run against it]}"""
    runs = collections.defaultdict(list)
    for missing in (0, *(1 << n for n in range(len(LAYERS)))):
        runs[missing] += ATTACKS
    for attack in ATTACKS:
        whole = bits(attack.layers)
        for missing in (whole, *(whole & ~(1 << layer) for layer in attack.layers)):
            if attack not in runs[missing]:
                runs[missing].append(attack)
    return dict(sorted(runs.items()))


def can_run(attack):
    return settings.ROOT or not attack.root


def run_all(runs, progress=lambda text: None):
    """{(missing, attack's name): Verdict}"""
    found = {}
    for number, (missing, attacks) in enumerate(runs.items()):
        progress(f"{number + 1}/{len(runs)} without {names(missing)}")
        verdicts = run_set(missing, attacks)
        failed = [attack for attack in attacks if attack.name in verdicts and verdicts[attack.name].state == "no run"]
        if failed:  # a set-up that fails does so twice; a busy host's hiccup does not
            progress(f"  again: {verdicts[failed[0].name].evidence}")
            verdicts |= run_set(missing, failed)
        found |= {(missing, name): verdict for name, verdict in verdicts.items()}
    return found


def run_set(missing, attacks):
    stand = Stand(missing)
    try:
        return {attack.name: stand.run(attack) for attack in filter(can_run, attacks)}
    finally:
        stand.close()


def names(missing):
    return ", ".join(name for n, (name, *_) in enumerate(LAYERS) if missing >> n & 1) or "nothing"


class Row:
    """What was found out about one attack."""

    def __init__(self, attack, found):
        def state(missing):
            return found[missing, attack.name].state
        whole = bits(attack.layers)
        self.attack = attack
        self.shipped = state(0)
        self.single = {n: state(1 << n) for n in range(len(LAYERS))}
        self.alone = [n for n in attack.layers if state(whole & ~(1 << n)) != "ESCAPED"]
        self.without_all = found[whole, attack.name]

    @property
    def holes(self):
        return [n for n, state in self.single.items() if state == "ESCAPED"]

    @property
    def depth(self):
        """Layers that stop it alone; when it fails without all of them, something else does, too."""
        return len(self.alone) if self.without_all.state == "ESCAPED" else len(self.alone) + 1

    def markdown(self):
        items = ", ".join(map(str, self.attack.items))
        alone = ", ".join(LAYERS[n][0] for n in self.alone) or "none"
        single = "yes" if not self.holes else "no: " + ", ".join(LAYERS[n][0] for n in self.holes)
        end = self.without_all
        real = end.evidence if end.state == "ESCAPED" else f"still contained: {self.attack.rest}"
        return f"| {items} | {self.attack.kind} | {self.attack.name} | {single} | {alone} | {real} |"


def problems(rows):
    for row in rows:
        name = row.attack.name
        if row.shipped != "contained":
            yield f"{name}: {row.shipped} with all layers"
        if row.without_all.state != "ESCAPED" and not row.attack.rest:
            yield f"{name}: no attack: {row.without_all.state} without all of its layers"
        if row.attack.kind not in STRICT:
            continue
        if row.holes:
            yield f"{name}: one layer alone holds it: {', '.join(LAYERS[n][0] for n in row.holes)}"
        if row.depth < 2:
            yield f"{name}: {row.depth} layers stop it"


def refused(found):
    """{layer without which there is no run, since its set-up notices: what it says}"""
    return {missing: verdict.evidence for (missing, _), verdict in sorted(found.items())
            if verdict.state == "no run" and missing.bit_count() == 1}


def matrix(rows):
    yield "| item | kind | attack | contained with any one layer missing | layers that stop it alone | without all of these |"
    yield "|---|---|---|---|---|---|"
    order = {kind: n for n, kind in enumerate(dict.fromkeys(a.kind for a in ATTACKS))}
    yield from (row.markdown() for row in sorted(rows, key=lambda r: order[r.attack.kind]))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    group = parser.add_mutually_exclusive_group(required=True)
    for option in ("--sets", "--few", "--matrix", "--check"):
        group.add_argument(option, action="store_true")
    options = parser.parse_args()
    runs = plan()
    if options.sets or options.few:
        print(*(runs if options.sets else map(bits, ((), *((n,) for n in FEW_SINGLE), *FEW_PAIRS))))
        return
    watch.become_subreaper()
    found = run_all(runs, lambda text: print(text, file=sys.stderr, flush=True))
    rows = [Row(attack, found) for attack in ATTACKS if can_run(attack)]
    print("\n".join(matrix(rows)))
    for missing, why in refused(found).items():
        print(f"\nWithout {names(missing)} there is no run: {why}")
    if options.check:
        wrong = list(problems(rows))
        print("\n" + ("\n".join(wrong) or "Every attack on files, processes and privileges has two layers."))
        sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
