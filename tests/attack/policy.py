"""The system call policy as `sandbox-helper --print-policy` tells it, to compare with what
the kernel answers inside a sandbox."""

import dataclasses
import re
import subprocess

from harness import settings

MASK64 = (1 << 64) - 1
ROW = re.compile(r" *(\d+)  (\w+) +(always|memory-cgroup|no-memory-cgroup) +(\w+) +(?:unless)?: (.+)")
TEST = re.compile(r" {7}(\w+) +(arg.*?): (.+)")
COMPARISON = re.compile(r"arg(\d)(?: & (\w+))? (==|>) (\w+)")


@dataclasses.dataclass
class Row:
    number: int
    name: str
    when: str
    answer: str
    reason: str
    tests: list  # (answer, [(argument, mask or None, operator, value)], words)

    def answer_to(self, args):
        for answer, comparisons, _ in self.tests:
            if all(holds(comparison, args) for comparison in comparisons):
                return answer
        return self.answer


def holds(comparison, args):
    index, mask, operator, value = comparison
    arg = args[index] & MASK64
    if operator == ">":
        return arg > value
    return arg & (0xffffffff if mask is None else mask) == value


def printed():
    return subprocess.run([settings.BIN / "sandbox-helper", "--print-policy"], check=True, timeout=30,
                          capture_output=True, text=True, env={}).stdout


def parse(text):
    """Rows in their order."""
    rows = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if row := ROW.fullmatch(line):
            number, name, when, answer, reason = row.groups()
            rows.append(Row(int(number), name, when, answer, reason, []))
        elif test := TEST.fullmatch(line):
            comparisons = [(int(i), int(mask, 0) if mask else None, operator, int(value, 0))
                           for i, mask, operator, value in COMPARISON.findall(test[2])]
            assert comparisons, line
            rows[-1].tests.append((test[1], comparisons, test[3]))
        else:
            raise AssertionError(f"not understood: {line}")
    return rows


def table(memory_cgroup):
    """{number: row} as it holds for runs with, or without, a memory control group."""
    when = ("always", "memory-cgroup" if memory_cgroup else "no-memory-cgroup")
    return {row.number: row for row in parse(printed()) if row.when in when}
