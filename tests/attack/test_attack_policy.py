"""The system call policy, as the kernel applies it: items 20, 22, 24 and 33, 34 of the
catalogue, and the calls of 32.  What must come out is what `sandbox-helper --print-policy`
says, call by call; that this is what was meant is for the golden files of the unit test."""

import json
import platform

import pytest

import policy

X86 = platform.machine() == "x86_64"
ALL_ONES = 0xffffffffffffffff
BATCH = 240  # a run has at most 256 arguments
REFUSALS = {"EPERM", "ENOSYS", "EAFNOSUPPORT", "EOPNOTSUPP"}
# vfork's child would run on the stack of the one that reports
NOT_CALLED = {"vfork"}
# A call that the filter lets through may come back with any of these for reasons of its own:
# futex(2) does not know the operation, others end or stop the one that calls.
OWN_ENDS = {"futex": {"ENOSYS"}, "exit": {"no answer"}, "exit_group": {"no answer"},
            "pause": {"no answer"}, "rt_sigreturn": {"SIGSEGV"}}
# uretprobe(2) and uprobe(2): the trampoline in a probed program calls them, so newer kernels let
# them by every filter; called from anywhere else they fail, or kill.
PROBES = {335, 336} if X86 else set()


@pytest.fixture(scope="module")
def cgroup(gateway):
    ready, = (line for line in gateway.helper_log.splitlines() if '"msg":"ready"' in line)
    return "without cgroup" not in json.loads(ready)["tier"]


@pytest.fixture(scope="module")
def table(cgroup):
    return policy.table(cgroup)


def expected(table, number, args):
    return table[number].answer_to(args) if number in table else "EPERM"


def judge(table, answers, args_of):
    """{call: (expected, got)} of all that came out other than the table says."""
    wrong = {}
    for key, got in answers.items():
        number, args = args_of(key)
        want = expected(table, number, args)
        name = table[number].name if number in table else str(number)
        if number in PROBES:
            good = got in ("SIGILL", "SIGSEGV", "ENXIO", "EPERM")
        elif want == "allow":  # it is the kernel's to answer: anything but a refusal
            good = got not in REFUSALS | {"SIGSYS"} or got in OWN_ENDS.get(name, ())
        else:
            good = got == want
        if not good:
            wrong[f"{name}: {key}"] = (want, got)
    return wrong


def sweep(attack, table, value, skip, to=601):
    answers = attack("sweep", 0, to, value, *sorted(skip)).notes
    assert set(answers) == {str(n) for n in range(to)} - {str(n) for n in skip}
    return answers, judge(table, answers, lambda key: (int(key), [value] * 6))


def numbers(table, *names):
    return {row.number for row in table.values() if row.name in names}


@pytest.mark.item(33)
def test_every_number_is_answered_as_the_table_says(attack, table, observed):
    answers, wrong = sweep(attack, table, ALL_ONES, numbers(table, *NOT_CALLED))
    assert not wrong
    refused = {n for n in answers if expected(table, int(n), [ALL_ONES] * 6) != "allow"}
    done = sorted(n for n in refused if answers[n] == "done")
    assert not done
    observed(f"{len(refused)} numbers refused as the table says, {len(answers) - len(refused)} "
             "allowed ones not refused")


@pytest.mark.item(33)
def test_what_is_refused_is_refused_whatever_the_arguments(attack, table, observed):
    """With zeros many calls would succeed: unshare, setuid, splice, sync, semget..."""
    allowed = {n for n, row in table.items() if row.answer_to([0] * 6) == "allow"}
    for value in (0, 1):
        answers, wrong = sweep(attack, table, value,
                               {n for n in range(601) if expected(table, n, [value] * 6) == "allow"} | allowed)
        assert not wrong
        assert len(answers) > 300
    observed(f"{len(answers)} numbers, with zeros and with ones")


@pytest.mark.item(33)
def test_numbers_beyond_the_known_ones(attack, table, observed):
    beyond = [601, 1000, 1023, 1024, 4095, 0x8000, 0x3fffffff, -1]
    calls = [f"{n & 0xffffffff:#x}" if n < 0 else str(n) for n in beyond]
    answers = attack("calls", *calls, f"{1 << 32 | 400}").notes
    # the kernel takes the number's lower half: the last one is 400
    assert set(answers.values()) == {"EPERM"}, answers
    assert len(answers) == len(beyond) + 1
    observed(f"{len(answers)} x EPERM")


def sample_calls(table):
    """For each test of arguments: what passes it, once more with the upper halves set, and what
    fails it by one bit."""
    for row in table.values():
        for _, comparisons, _ in row.tests:
            args = [0] * 6
            for index, mask, operator, value in comparisons:
                args[index] = value + 1 if operator == ">" else value
            if row.name in ("ioctl", "fcntl"):
                args[0] = 0xffffffff  # no descriptor
            elif row.name == "memfd_create":
                args[0] = 1  # no name: EFAULT
            yield row.number, args
            for index, *_ in comparisons:
                yield row.number, args[:index] + [args[index] | 1 << 32] + args[index + 1:]
                for bit in (0, 4, 11, 17, 28, 31):  # not 8: clone's child would share its memory
                    yield row.number, args[:index] + [args[index] ^ 1 << bit] + args[index + 1:]


@pytest.mark.item(20, 22, 24, 32, 33)
def test_tests_of_arguments_hold_in_both_directions(attack, table, observed):
    calls = sorted({",".join(hex(v) for v in (number, *args)) for number, args in sample_calls(table)})
    wrong, refused = {}, 0
    for first in range(0, len(calls), BATCH):
        answers = attack("calls", *calls[first:first + BATCH]).notes
        assert set(answers) == set(calls[first:first + BATCH])

        def args_of(key):
            number, *args = (int(v, 0) for v in key.split(","))
            return number, args
        wrong |= judge(table, answers, args_of)
        refused += sum(got in REFUSALS for got in answers.values())
    assert not wrong
    assert 100 < refused < len(calls)
    observed(f"{len(calls)} argument sets, {refused} refused as the table says")


@pytest.mark.item(32)
def test_nothing_is_typed_into_a_terminal(attack, table, observed):
    ioctl = next(iter(numbers(table, "ioctl")))
    calls = [f"{ioctl:#x},{fd},{upper << 32 | command:#x},0"
             for command in (0x5412, 0x541c, 0x540e) for upper in (0, 1, 0x7fffffff, 0xffffffff)
             for fd in (0, 1, 2)]
    answers = attack("calls", *calls).notes
    assert set(answers.values()) == {"EPERM"}, answers
    observed(f"TIOCSTI, TIOCLINUX, TIOCSCTTY with all upper halves: {len(answers)} x EPERM")


@pytest.mark.item(20)
def test_filters_stay_what_they_are(attack, observed):
    outcome = attack("filter-stays", hold=True)
    outcome.refused("EPERM", "EINVAL")
    assert (outcome.notes["seccomp"], outcome.notes["no_new_privs"]) == (2, 1)
    assert outcome.notes["unshare after execve"] == 1, "control: 126 would be: there is no unshare"
    status = outcome.host["status"]
    assert (status["Seccomp"], status["Seccomp_filters"], status["NoNewPrivs"]) == ("2", "2", "1")
    observed("the host sees the two programs of the filter, as before")


@pytest.mark.item(22)
@pytest.mark.skipif(not X86, reason="the 32-bit and x32 numbers are x86_64's")
def test_other_gates_into_the_kernel_kill(attack, observed):
    outcome = attack("foreign")
    gates = {k: v for k, v in outcome.notes.items() if k.startswith("int80")}
    x32 = {k: v for k, v in outcome.notes.items() if k.startswith("x32")}
    # 159 is 128 + SIGSYS; a kernel without the 32-bit gate kills with SIGSEGV
    assert len(gates) == 4 and set(gates.values()) <= {159, 139}, gates
    assert len(x32) == 9 and set(x32.values()) == {"SIGSYS"}, x32
    outcome.refused("EPERM")
    observed(f"int 0x80: status {sorted(set(gates.values()))}, x32: SIGSYS, modify_ldt: EPERM")


@pytest.mark.item(22)
def test_the_personality_stays(attack, observed):
    outcome = attack("personality")
    outcome.refused("EPERM")
    assert outcome.notes["now"] == 0


@pytest.mark.item(24)
def test_only_unix_and_internet_sockets_exist(attack, observed):
    answers = attack("families").notes
    made = {key for key, got in answers.items() if got == "done"}
    internet = {key for key in made if key.split()[0] != "1"}
    assert internet <= {f"{family} {kind}" for family in (2, 10) for kind in (1, 2, 526337)}
    assert {"1 1", "2 1", "2 2"} <= made, "control: those can be made"
    others = {key: got for key, got in answers.items() if key.split()[0] not in ("1", "2", "10")}
    assert set(others.values()) == {"EAFNOSUPPORT"}, others
    raw = {got for key, got in answers.items() if key in ("2 3", "10 3", "2 10", "10 10")}
    assert raw == {"EPERM"}
    observed(f"{len(others)} x EAFNOSUPPORT for 51 other families; raw sockets: EPERM")


@pytest.mark.item(34)
def test_the_kernels_deep_end_is_closed(attack, observed):
    outcome = attack("surface")
    assert outcome.notes["a pidfd of its own child"] == 1, "control"
    outcome.refused("EPERM", "ENOSYS")
    assert len(outcome.tries) == 27


def test_every_row_of_the_printed_table_is_understood():
    for cgroup in (True, False):
        when = ("always", "memory-cgroup" if cgroup else "no-memory-cgroup")
        rows = [row for row in policy.parse(policy.printed()) if row.when in when]
        assert len(rows) > 300
        assert len({row.number for row in rows}) == len({row.name for row in rows}) == len(rows)
        assert all(row.reason for row in rows)
