"""Item 60 of the catalogue: what is collected is exchanged for links while it is collected.

In the product nothing of a run lives by then.  Here a false sandbox-stage calls its child dead that
goes on exchanging names in the folders (tests/fault/fake_program.c, "flips"): the collect child has
to be right by itself.  It is judged by what gets into answers and archives."""

import os
import shutil
import stat

import pytest

from harness import check, settings
from harness.helper import Helper, fcgi_call

TRIES = 5000 if settings.FULL else 400
NAIVE_MAX = 500000


class Flip:
    """A run's folder; each name has a twin that it is exchanged with."""

    def __init__(self, folder, canaries):
        self.folder, self.pairs = folder, []
        for name in ("files", "files/d", "twin"):
            (folder / name).mkdir(parents=True)
        for i, twin in enumerate([canaries.secret, "/etc/passwd", "/proc/self/environ", "nowhere", "../..",
                                  f"/proc/{os.getpid()}/root{canaries.secret}"]):
            (folder / f"files/link{i}").write_text("mine")
            self.exchange(f"files/link{i}", f"twin/link{i}").symlink_to(twin)
        (folder / "files/fifo").write_text("mine")
        os.mkfifo(self.exchange("files/fifo", "twin/fifo"))
        (folder / "files/dir").write_text("mine")
        self.exchange("files/dir", "twin/dir").mkdir()
        # A folder on the way to a file, and the folder of all.
        (folder / "files/d/secret").write_text("mine")
        self.exchange("files/d", "twin/d").symlink_to(canaries.folder)
        (folder / "output.json").write_text('"mine"')
        self.exchange("output.json", "twin/output").symlink_to(canaries.secret)
        self.exchange("files", "twin/files").symlink_to(canaries.folder)
        if settings.ROOT:
            for root, dirs, files in os.walk(folder):
                for path in [root, *(os.path.join(root, n) for n in dirs + files)]:
                    os.chown(path, *settings.ids(settings.HELPER_USER), follow_symlinks=False)

    def exchange(self, name, twin):
        self.pairs.append(f"{name} {twin}")
        return self.folder / twin

    @property
    def input(self):
        return "\n".join([str(self.folder), *self.pairs]).encode()


def naive_read(flip, canaries):
    """After how many tries the usual way, a look and then an open, has read the secret."""
    path, secret = flip.folder / "output.json", canaries.token("file").encode()
    for i in range(NAIVE_MAX):
        try:
            if stat.S_ISREG(os.lstat(path).st_mode) and secret in path.read_bytes():
                return i + 1
        except OSError:
            continue
    raise AssertionError("control: a look and then an open never read the secret")


@pytest.fixture
def racing(beside_fake, canaries):
    h = Helper(concurrency=2).start_beside(beside_fake["sandbox-stage"])
    folder = h.state / "flip"
    folder.mkdir()
    flip = Flip(folder, canaries)
    yield h, flip
    shutil.rmtree(folder, ignore_errors=True)
    h.stop()


@pytest.mark.item(60)
def test_what_is_exchanged_while_it_is_collected_is_never_the_hosts(racing, canaries, observed):
    h, flip = racing
    collected, refused, outputs = set(), 0, 0
    for i in range(TRIES):
        execution = f"01890000-0000-7000-8000-{i:012x}"
        params = fcgi_call.run_params(h.digest, lang="bash", target="flips", job_length=2, execution=execution)
        answer = fcgi_call.call(h.socket, params, b"{}" + flip.input, 60)
        assert answer.status == 200, answer
        canaries.check_not_in(answer.body, "the answer")
        result, files = answer.json, {}
        path = h.state / "artifacts" / execution[-2:] / f"{execution}.tar.gz"
        if path.exists():
            files = check.untar(path.read_bytes())
            path.unlink()
        for name, data in files.items():
            assert data == b"mine", f"{name}: {data[:80]}"
            assert not name.startswith("../") and "sbcanary" not in name
        collected |= set(files)
        refused += bool(result.get("warnings"))
        outputs += result.get("output") == "mine"
    naive = naive_read(flip, canaries)
    assert len(collected) > 5 and 0 < outputs < TRIES, "control: the names were exchanged"
    canaries.check_untouched()
    observed(f"{TRIES} collections, none with a byte of the host (a look and then an open had the secret after "
             f"{naive} tries); {refused} with a warning")
