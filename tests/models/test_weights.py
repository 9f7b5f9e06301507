"""Files of weights: read without running their code, downloaded whole, and one line for those that do not fit."""

from __future__ import annotations

import argparse
import hashlib
import http.server
import os
import pickle
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline.core.errors import UserError
from pipeline.models.classifier import Classifier
from pipeline.models.recipe import ModelSettings
from pipeline.models.weight_files import read
from pipeline.models.weights import from_file, from_timm, load_own, load_pretrained
from tests.models.layouts import SIZE, State, disturbed, rules, small_model, small_settings


def a_model() -> tuple[ModelSettings, Classifier, State]:
    settings = small_settings("dino_resnet50")
    model = small_model(settings, 3, 0)
    weights = model.classifier_weights()
    return settings, model, {k: t.clone() for k, t in model.network.state_dict().items() if k not in weights}


def quantized(tensor: torch.Tensor) -> torch.Tensor:
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


BAD: list[tuple[Callable[[State], Any], dict[str, Any], str]] = [
    (lambda s: s | {"extra.weight": torch.ones(1)}, {}, r"the weight extra\.weight does not belong to the model"),
    (lambda s: s | {f"extra.{i}": torch.ones(1) for i in range(9)}, {}, r"9 weights \(extra\.0, .* and 4 more\) do"),
    (lambda s: {k: t for k, t in s.items() if k != "conv1.weight"}, {}, r"the weight conv1\.weight does not come"),
    (lambda s: s | {"conv1.weight": torch.ones(2, 2)}, {}, r"conv1\.weight has shape \(2, 2\); allowed: \(\d+, 3"),
    (lambda s: {"model": s}, {"inside": ["state_dict"]}, r"there is no 'state_dict' inside \(found: model\)"),
    (lambda s: {"model": s, "epoch": 3}, {}, r"found 'model', which is a \w+ and not a tensor; allowed: names and"),
    (lambda s: {f"module.{k}": t for k, t in s.items()}, {}, r"weights \(module\.conv1\.weight, .* do not belong"),
    (
        lambda s: s | {"module.conv1.weight": s["conv1.weight"]},
        {"prefixes": ["module."]},
        r"two weights become 'conv1\.weight'",
    ),
    (lambda s: s | {"args": pytest.approx(1)}, {}, r"found an object of type \S+, which is not read because"),
    (lambda s: s | {3: torch.ones(1)}, {}, r"found the name '3' of type int; allowed: printable text"),
    (lambda s: s | {("a", 1): torch.ones(1)}, {}, r"found the name \"\('a', 1\)\" of type tuple; allowed: printable"),
    (lambda s: list(s.values()), {}, r"found a list; allowed: names and tensors"),
    (lambda s: s | {"conv1.weight": s["conv1.weight"].to_sparse()}, {}, r"'conv1\.weight', which is a sparse tensor"),
    (lambda s: s | {"conv1.weight": s["conv1.weight"].to("meta")}, {}, r"'conv1\.weight', which is a tensor without"),
    (lambda s: s | {"conv1.weight": quantized(s["conv1.weight"])}, {}, r"'conv1\.weight', which is a quantized tensor"),
    (
        lambda s: s | {"conv1.weight": s["conv1.weight"].to(torch.complex64)},
        {},
        r"conv1\.weight has type complex64; allowed: floating-point numbers",
    ),
    (lambda s: s | {"conv1.weight": s["conv1.weight"] > 0}, {}, r"conv1\.weight has type bool; allowed: floating-poi"),
    (lambda s: s | {"conv1.weight": s["conv1.weight"].int()}, {}, r"conv1\.weight has type int32; allowed: floating-"),
    (lambda s: s | {"conv1.weight": s["conv1.weight"] * float("nan")}, {}, r"conv1\.weight has NaN or infinity"),
    (lambda s: s | {"bn1.running_var": s["bn1.running_var"] / 0}, {}, r"bn1\.running_var has NaN or infinity"),
    (lambda s: s, {"sha256": "0" * 64}, r"found SHA-256 [0-9a-f]{64} \(\d+ bytes\); allowed: 0{64} \(params"),
]


@pytest.mark.parametrize(("change", "settings", "message"), BAD)
def test_weights_that_do_not_fit_are_one_line(
    change: Callable[[State], Any], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    _, model, state = a_model()
    path = tmp_path / "checkpoint.pth"
    torch.save(change(state), path)
    before = {key: tensor.clone() for key, tensor in model.network.state_dict().items()}
    with pytest.raises(UserError, match=message) as caught:
        from_file(rules(file=str(path), **settings), state, "params.yaml: models.test.weights")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.network.state_dict().items())


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    _, _, state = a_model()
    path = tmp_path / "checkpoint.pth"
    torch.save(state, path)
    whole = path.read_bytes()
    for broken in (
        b"",
        b"nonsense",
        whole[: len(whole) // 2],
        b"tell me more",
        b"\x80\x04N.",
        b"{}",
        bytes(99),
    ):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"checkpoint\.pth: not a readable file of weights \(") as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"x\.safetensors: not a readable file of weights"):
        read(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    cases = [
        (tmp_path, "found a folder; allowed: a file"),
        (Path("/dev/zero"), "found a device; allowed: a file"),
        (tmp_path / "pipe", "found a pipe; allowed: a file"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path(), "found a folder; allowed: a file"),
        (tmp_path / "none", "(No such file|there is no file)"),
    ]
    for path, message in cases:
        with pytest.raises(UserError, match=message):
            read(path)
        with pytest.raises(UserError, match=message) as caught:
            from_file(rules(file=str(path)), {}, "params.yaml: models.x.weights")
        assert str(caught.value).startswith("params.yaml: models.x.weights.file: ")


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self.run = run

    def __reduce__(self) -> Any:
        return self.run, ("code of a checkpoint ran",)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (Trap(print), "(builtins|__builtin__).print"),
        (Trap(os.system), "posix.system"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (ModelSettings(architecture="a"), "pipeline.models.recipe.ModelSettings"),
    ],
    ids=["print", "system", "a module", "settings"],
)
@pytest.mark.parametrize("how", ["torch", "torch before 1.6", "pickle"])
def test_code_in_a_checkpoint_is_named_and_does_not_run(
    content: Any, named: str, how: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trap.pth"
    if how == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": content}))
    else:
        torch.save({"state_dict": content}, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(UserError, match=f"found an object of type {named}.*, which is not read because it") as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    for hint in ("weights_only", "likely succeed", "add_safe_globals", "trust"):
        assert hint not in message
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["x.pth", "x.bin", "x"])
def test_the_content_says_what_a_file_is_and_not_its_name(name: str, tmp_path: Path) -> None:
    weights = {"a": torch.arange(3.0)}
    save_file(weights, tmp_path / name)
    assert torch.equal(read(tmp_path / name)["a"], weights["a"])
    torch.save(weights, tmp_path / "y.safetensors")
    assert torch.equal(read(tmp_path / "y.safetensors")["a"], weights["a"])


def test_a_checkpoint_may_keep_the_arguments_of_its_training(tmp_path: Path) -> None:
    path = tmp_path / "full.pth"
    torch.save({"student": {}, "args": argparse.Namespace(lr=0.1)}, path)
    assert read(path)["args"].lr == 0.1


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    _, _, state = a_model()
    path = tmp_path / "x.safetensors"
    save_file({f"backbone.{key}": tensor for key, tensor in state.items()}, path)
    found, _ = from_file(rules(file=str(path), prefixes=["backbone."]), state, "here")
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_missing_weights_are_downloaded_whole_or_not_at_all(tmp_path: Path) -> None:
    _, _, state = a_model()
    torch.save(state, tmp_path / "published.pth")
    url, target = (tmp_path / "published.pth").as_uri(), tmp_path / "new" / "mine.pth"
    checksum = hashlib.sha256((tmp_path / "published.pth").read_bytes()).hexdigest()
    where = "params.yaml: models.x.weights"
    with pytest.raises(
        UserError, match=rf"{url}: found SHA-256 {checksum} .*allowed: f{{64}} \(params\.yaml: models\.x"
    ):
        from_file(rules(file=str(target), url=url, sha256="f" * 64), state, where)
    (tmp_path / "nonsense.pth").write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"nonsense\.pth: not a readable file of weights"):
        from_file(rules(file=str(target), url=(tmp_path / "nonsense.pth").as_uri()), state, where)
    assert not any(target.parent.iterdir())
    for known in (checksum[:8], None):
        _, origin = from_file(rules(file=str(target), url=url, sha256=known), state, where)
        assert origin == f"{target}, SHA-256 {checksum}"
        target.unlink()
    with pytest.raises(
        UserError, match=r"models\.x\.weights\.file: there is no file .*gone\.pth; place it there, or write"
    ):
        from_file(rules(file=str(tmp_path / "gone.pth")), state, where)
    with pytest.raises(UserError, match=r"gone\.pth: there is no such file, and it could not be downloaded .*by hand"):
        from_file(rules(file=str(tmp_path / "gone.pth"), url=f"{url}x"), state, where)


class CutShort(http.server.BaseHTTPRequestHandler):
    """Promises more than it gives."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"x" * 5000)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_download_that_is_cut_short_is_no_file(tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), CutShort) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/weights.pth"
        with pytest.raises(
            UserError, match=r"could not be downloaded \(.*IncompleteRead\(5000 bytes read, 95000 more expected.*\); pl"
        ):
            whole = rules(file=str(tmp_path / "weights.pth"), url=url, sha256="f" * 64)
            from_file(whole, {}, "params.yaml: models.x.weights")
    assert not any(tmp_path.iterdir())


def test_weights_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small_settings("dino_resnet50").model_copy(update={"weights": "timm"})
    tagged = settings.model_copy(update={"architecture": "resnet18.tv_in1k"})
    where = "params.yaml: models.x.weights"
    for architecture, message in (
        ("resnet18.tv_in2k", "no kind of weights of resnet18 is called 'resnet18.tv_in2k', did you mean"),
        ("resnet81.tv_in1k", "no timm model is called 'resnet81.tv_in1k'"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            small_model(settings.model_copy(update={"architecture": architecture, "mean": "auto"}), 3, 0)
    untrained = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))
    with pytest.raises(
        UserError, match=rf"found 'timm', which has no weights for {untrained}; allowed: null or a file"
    ):
        from_timm(settings.model_copy(update={"architecture": untrained}), SIZE, where)
    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    with pytest.raises(
        UserError, match=r"timm's weights resnet18\.tv_in1k could not be downloaded \(OSError: no network\); allowed"
    ):
        from_timm(tagged, SIZE, where)
    source = disturbed(small_model(settings, 3, 5)).network.state_dict()
    backbone = {key: tensor for key, tensor in source.items() if not key.startswith("fc.")}
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda model, **_: model.load_state_dict(backbone))
    model = small_model(tagged, 3, 0)
    assert load_pretrained(model, tagged, SIZE, "x") == "timm's resnet18.tv_in1k"
    assert all(torch.equal(model.network.state_dict()[key], tensor) for key, tensor in backbone.items())


def unreachable(*_: Any, **__: Any) -> None:
    raise OSError("no\nnetwork")


def test_a_users_own_checkpoint_brings_its_classifier(tmp_path: Path) -> None:
    settings = small_settings("dino_resnet50")
    trained, model = disturbed(small_model(settings, 3, 5)), small_model(settings, 3, 6)
    torch.save({"model": trained.network.state_dict()}, tmp_path / "mine.pth")
    load_own(model, rules(file=str(tmp_path / "mine.pth"), inside=["model"]), "here")
    images = torch.randn(2, 3, SIZE, SIZE)
    torch.testing.assert_close(model(images), trained(images), atol=0, rtol=0)
    other = small_model(settings, 4, 6)
    with pytest.raises(UserError, match=r"fc\.weight has shape \(3, 16\); allowed: \(4, 16\)"):
        load_own(other, rules(file=str(tmp_path / "mine.pth"), inside=["model"]), "here")
