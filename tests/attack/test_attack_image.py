"""Attacks on files once more, from a sandbox whose root is an unpacked image: the image must
stay as it is, and the host as far away as from a sandbox with the host's root."""

import pathlib
import shutil
import tempfile

import pytest

from harness.gateway import Gateway
from harness.images import make_image
from canaries import census, fingerprint
from conftest import CONCURRENCY, LIMITS, PROBE, push_others_package, push_probe
from neighbour import Neighbour

IMAGE_ROOT = {"bin", "dev", "etc", "lib", "lib64", "opt", "proc", "sandbox", "skill", "tmp", "usr",
              ".packages", ".etc", ".ready"}


@pytest.fixture(scope="module")
def image():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sbimage-", dir="/tmp"))
    folder.chmod(0o755)
    root = make_image(folder / "root")
    # As hostile as an image may be: doors, had they been left open.
    (root / "opt" / "open").mkdir(mode=0o777)
    (root / "opt" / "open").chmod(0o777)
    (root / "opt" / "writable").write_text("of the image\n")
    (root / "opt" / "writable").chmod(0o666)
    (root / "etc" / "way").symlink_to("../../../../../../../../" + str(folder))
    (root / "opt" / "proc").symlink_to("/proc/1/root")
    (root / "usr" / "bin" / "su").write_bytes((root / "usr" / "bin" / "cat").read_bytes())
    (root / "usr" / "bin" / "su").chmod(0o4755)
    yield root
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def gateway(canaries, image):
    """As conftest's, but Bash, which starts the probe, is the image's."""
    gw = Gateway(helper={"limits": LIMITS, "concurrency": CONCURRENCY,
                         "runtimes": [{"lang": "bash", "root": image, "warm": CONCURRENCY}]}).start()
    try:
        push_others_package(gw, canaries)
        push_probe(gw, "bash")
        gw.neighbour = Neighbour(gw, gw.others_key, canaries.token("neighbour"), PROBE.read_bytes())
        gw.census = census(gw)
    except BaseException:
        gw.kill()
        raise
    yield gw
    gw.neighbour.stop()
    gw.stop()


@pytest.fixture(autouse=True)
def image_stays(image):
    def look():
        return {str(p): fingerprint(p) for p in image.rglob("*") if not p.is_symlink() and p.is_file()}
    before, names = look(), sorted(image.rglob("*"))
    yield
    assert look() == before and sorted(image.rglob("*")) == names


@pytest.mark.control
def test_control_the_root_is_the_images(gateway):
    gateway.push_code("where", "cat /etc/image-only; echo /*; cat /opt/writable", "bash")
    logs = gateway.run("where")["logs"]
    assert logs.startswith("mini\n") and logs.endswith("of the image\n")


@pytest.mark.item(1)
def test_nothing_of_an_image_can_be_created_or_changed(attack):
    attack("create").refused()


@pytest.mark.item(1)
def test_what_an_image_leaves_writable_is_not(gateway, observed):
    gateway.push_code("doors", """
for path in /opt/writable /opt/open/new /usr/bin/cat /etc/image-only /.etc/image-only /.etc/new /usr/new /new; do
    if (echo evil > "$path") 2>/dev/null; then echo "wrote $path"; else echo "refused $path"; fi
done""", "bash")
    lines = gateway.run("doors")["logs"].splitlines()
    assert len(lines) == 8 and all(line.startswith("refused ") for line in lines), lines
    observed("8 writes to an image's open doors refused, its files as before")


@pytest.mark.item(2)
def test_no_secret_of_the_host_is_in_sight_of_an_image(attack, gateway, canaries, image):
    state = gateway.state
    paths = [canaries.secret, "/root", "/home", "/var", "/run", "/sys", "/etc/shadow", "/proc/1/environ",
             state, state / "sign.key", gateway.helper_socket, image, image.parent,
             f"/.packages/{gateway.others_digest}", "/usr/bin/python3", "/etc/way/root", "/opt/proc/etc",
             "/etc/ssh", "/.etc/ssh"]
    outcome = attack("secrets", *paths)
    reached = {what for what, (rc, _) in outcome.tries.items() if rc >= 0}
    assert reached <= {"reach /proc/1/environ"}
    assert set(outcome.notes["root"].split()) <= IMAGE_ROOT
    assert outcome.notes["found"] == 0 and outcome.notes["seen"] > 50


@pytest.mark.item(4)
def test_no_device_can_be_made_in_an_image(attack):
    outcome = attack("nodes")
    nodes = {k: v for k, v in outcome.tries.items() if not k.startswith("mkfifo")}
    assert nodes and all(rc < 0 for rc, _ in nodes.values()), nodes


@pytest.mark.item(5)
def test_set_user_id_files_of_an_image_give_nothing(attack):
    notes = attack("suid").notes
    assert notes["ruid"] == notes["euid"] == notes["suid"] == 1000


@pytest.mark.item(7)
def test_proc_leads_nowhere_from_an_image(attack, canaries):
    attack("proc", canaries.secret).refused()


@pytest.mark.item(9)
def test_no_climbing_out_of_an_image(attack, canaries):
    outcome = attack("climb", canaries.secret)
    outcome.refused()
    assert outcome.notes["same root"] == 1


@pytest.mark.item(10)
def test_no_links_or_renames_across_an_images_mounts(attack):
    attack("links").refused()
