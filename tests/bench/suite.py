"""What every suite has, and the little that several need."""

import dataclasses


@dataclasses.dataclass
class Target:
    """value is None when it could not be measured."""
    what: str
    value: float | None
    limit: float
    at_least: bool = False
    spread: tuple = ()  # the quartiles

    @property
    def met(self):
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def target(what, spread, limit, at_least=False):
    """From a (median, low, high), or None."""
    if spread is None:
        return Target(what, None, limit, at_least)
    return Target(what, spread[0], limit, at_least, spread[1:])


@dataclasses.dataclass
class Table:
    title: str
    head: list
    rows: list


class Suite:
    """name: what --only says.  about: a line for --help.  rounds: at most so many, where one takes long.
    by_default: False for what has to be asked for."""

    name = about = ""
    rounds = 99
    by_default = True

    def __init__(self, stand, book, peers, scale):
        self.stand, self.book, self.peers, self.scale = stand, book, peers, scale

    def times(self, count):
        """So many repetitions, fewer with --quick."""
        return max(3, int(count * self.scale))

    def seconds(self, count):
        return max(1, round(count * self.scale))

    def prepare(self):
        """Once, before the rounds; Failed: the whole suite is left out."""

    def steps(self, number):
        """[(row, function() -> sample)] of round `number`."""
        return []

    def once(self):
        """After the rounds."""

    def tables(self):
        return []

    def targets(self):
        return []


def ms(us):
    if us is None:
        return "-"
    return f"{us / 1000:.2f}" if us < 20000 else f"{us / 1000:.1f}"


def number(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}"


def ratio(spread):
    """A (median, low, high) as text."""
    return "-" if spread is None else f"{spread[0]:.2f} ({spread[1]:.2f}-{spread[2]:.2f})"
