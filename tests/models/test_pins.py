"""weights.lock: weights without a whole checksum stay the ones that came first."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline.core.errors import UserError
from pipeline.core.params import check
from pipeline.models import pins
from pipeline.models.pins import check_pinned, pin
from pipeline.models.recipe import FileWeights, ModelSettings
from pipeline.models.weights import from_file, from_timm
from tests.world import ROOT

WHERE = "params.yaml: models.mine.weights"


@pytest.fixture(autouse=True)
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pins, "PINS", tmp_path / "weights.lock")
    return tmp_path / "weights.lock"


def weights_in(file: Path, value: float) -> str:
    torch.save({"weight": torch.full((2,), float(value))}, file)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def load(file: Path, **settings: Any) -> None:
    from_file(FileWeights(file=str(file), **settings), {"weight": torch.zeros(2)}, WHERE)


@pytest.mark.parametrize("given", ["nothing", "eight digits"])
def test_another_file_under_a_name_that_was_used_is_an_error(given: str, lock: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    first = weights_in(file, 1)
    load(file, sha256=None if given == "nothing" else first[:8])
    assert lock.read_text() == f"{first}  {file}\n"
    load(file)
    second = weights_in(file, 2)
    with pytest.raises(UserError) as caught:
        load(file)
    assert str(caught.value) == (
        f"{file}: found SHA-256 {second}; allowed: {first} ({lock}), the file that was used before; replace the "
        f"file, or remove its line from {lock} if the new one is meant"
    )
    assert lock.read_text() == f"{first}  {file}\n"


def test_a_whole_checksum_needs_no_pin(lock: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    load(file, sha256=weights_in(file, 1))
    load(file, sha256=weights_in(file, 2))
    assert not lock.exists()


def test_weights_that_do_not_fit_are_not_pinned(lock: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    torch.save({"weight": torch.zeros(3)}, file)
    with pytest.raises(UserError, match="weight has shape"):
        load(file)
    assert not lock.exists()


def test_downloads_are_pinned_by_their_address(lock: Path, tmp_path: Path) -> None:
    url = (tmp_path / "published.pth").as_uri()
    first = weights_in(tmp_path / "published.pth", 1)
    load(tmp_path / "a.pth", url=url)
    assert lock.read_text() == f"{first}  {url}\n"
    weights_in(tmp_path / "published.pth", 2)
    with pytest.raises(UserError, match=rf"{url}: found SHA-256 .*allowed: {first}"):
        load(tmp_path / "b.pth", url=url)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x", "line 1: found 'x'; allowed: a SHA-256 checksum, two spaces and a source"),
        ("\n", "line 1: found ''; allowed: a SHA-256"),
        (f"{'0' * 64}  a\n{'0' * 63}  b\n", r"line 2: found '0+  b'; allowed: a SHA-256"),
        (f"{'0' * 64}  a\n{'1' * 64}  a\n", "line 2: found a a second time; allowed: each source once"),
        ("\udcff", r"not UTF-8 text \(invalid start byte at byte 0\); git restore"),
    ],
)
def test_a_damaged_lock_is_one_line(content: str, message: str, lock: Path) -> None:
    lock.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=rf"weights\.lock: {message}"):
        check_pinned("a", "0" * 64)


def test_a_line_may_be_removed_as_the_message_says(lock: Path) -> None:
    pin("a", "0" * 64)
    pin("b", "1" * 64)
    lock.write_text(lock.read_text().splitlines(keepends=True)[0])
    check_pinned("b", "2" * 64)
    with pytest.raises(UserError, match=f"a: found SHA-256 {'2' * 64}"):
        check_pinned("a", "2" * 64)


def test_stages_that_pin_at_once_lose_nothing(lock: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.models import pins; pins.PINS = Path(sys.argv[1]);"
        "[pins.pin(f'{sys.argv[2]} {number}', '0' * 64) for number in range(20)]"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(lock), name], cwd=ROOT) for name in ("a", "b")]
    assert [process.wait() for process in started] == [0, 0]
    assert len(lock.read_text().splitlines()) == 40
    assert sorted(file.name for file in lock.parent.iterdir()) == ["data", lock.name]


@pytest.mark.parametrize("url", ["http://example.org/x.pth", "ftp://example.org/x.pth", "example.org/x.pth"])
def test_an_address_that_is_not_https_needs_the_whole_checksum(url: str) -> None:
    with pytest.raises(UserError, match=r"allowed: an address with https://, or the whole sha256 \(64 digits\)"):
        check("models.mine.weights", FileWeights, {"file": "x.pth", "url": url, "sha256": "0" * 8})
    check("models.mine.weights", FileWeights, {"file": "x.pth", "url": url, "sha256": "0" * 64})


def test_timms_revision_is_recorded_and_its_file_pinned(lock: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """The hub's cache, as its client lays it out, stands in for the hub."""
    name, revision = "test_resnet.r160_in1k", "0123456789abcdef0123456789abcdef01234567"
    hub = f"models--timm--{name}"
    file = tmp_path / hub / "snapshots" / revision / "model.safetensors"
    file.parent.mkdir(parents=True)
    (tmp_path / hub / "refs").mkdir()
    (tmp_path / hub / "refs" / "main").write_text(revision)
    network = timm.create_model(name)
    save_file(network.state_dict(), file)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    settings = ModelSettings(architecture=name, weights="timm")

    found = hashlib.sha256(file.read_bytes()).hexdigest()
    state, origin = from_timm(settings, 64, WHERE)
    assert torch.equal(state["conv1.0.weight"], network.state_dict()["conv1.0.weight"])
    assert origin == f"timm's {name} (timm/{name}, revision {revision}, SHA-256 {found})"
    assert lock.read_text() == f"{found}  timm's {name}\n"

    save_file({key: tensor + 1 for key, tensor in network.state_dict().items()}, file)
    with pytest.raises(UserError, match=rf"timm's {name}: found SHA-256 .*; allowed: {found}"):
        from_timm(settings, 64, WHERE)


def test_what_another_stage_has_pinned_meanwhile_stays(lock: Path) -> None:
    pin("a", "0" * 64)
    pin("a", "0" * 64)
    with pytest.raises(UserError, match=f"a: found SHA-256 {'1' * 64}; allowed: {'0' * 64}"):
        pin("a", "1" * 64)
    assert lock.read_text() == f"{'0' * 64}  a\n"
