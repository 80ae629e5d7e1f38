import base64
import collections
import csv
import datetime
import hashlib
import io
import itertools
import json
import math
import pathlib
import re
import statistics
import urllib.parse

print(json.dumps({"a": [1, 2.5, None]}), re.sub(r"\d+", "#", "a1b22"), list(csv.reader(io.StringIO("a,b\n1,2\n"))))
print(datetime.date(2024, 2, 29).isoformat(), collections.Counter("aab"), math.sqrt(2), statistics.stdev([1, 2, 4]))
print(pathlib.Path("/a/b").parent, base64.b64encode(b"x"), hashlib.sha256(b"").hexdigest())
print(urllib.parse.quote("a b"), list(itertools.permutations("ab")), statistics.NormalDist().cdf(1))
