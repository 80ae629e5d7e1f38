import dataclasses
import decimal
import pickle
import typing


@dataclasses.dataclass
class Point:
    x: int
    y: "typing.Optional[int]" = None


p = pickle.loads(pickle.dumps(Point(1, 2)))
print(p, type(p) is Point, typing.get_type_hints(Point), Point.__module__, decimal.getcontext())
