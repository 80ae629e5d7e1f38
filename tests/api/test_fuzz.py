"""Whatever clients send, and whatever a helper says, the gateway answers in the API's form and goes on
(fuzz/gateway_fuzz.py).  SKILLBOX_FUZZ_SECONDS and SKILLBOX_FUZZ_SEED: how long each part, and which series."""

import os

import pytest

from fuzz import gateway_fuzz, lies

pytestmark = pytest.mark.any_user

SECONDS = float(os.environ.get("SKILLBOX_FUZZ_SECONDS") or 3)
SEED = int(os.environ.get("SKILLBOX_FUZZ_SEED") or int.from_bytes(os.urandom(4), "big"))
PARTS = {"clients": gateway_fuzz.fuzz_http, "helpers_answers": lies.fuzz_helper, "completions": lies.fuzz_completions}


@pytest.mark.parametrize("part", PARTS)
def test_changed_input_never_breaks_the_gateway(part):
    count, note = PARTS[part](SECONDS, SEED)
    print(f"{part}: {SECONDS:g} s, seed {SEED}, {count} inputs, no finding; {note}")
    assert count > 10 * SECONDS, "control: it was busy"
