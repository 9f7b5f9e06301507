"""Weights that others trained: every layout of the paper's checkpoints, and one line for those that do not fit."""

from __future__ import annotations

import argparse
import hashlib
import http.server
import pickle
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
import yaml
from safetensors.torch import save_file
from timm.models import convnext, swin_transformer

from pipeline.core import params
from pipeline.core.errors import UserError
from pipeline.core.params import FileWeights, ModelSettings
from pipeline.models.classifier import Classifier, build
from pipeline.models.weights import from_file, from_timm, load_own, load_pretrained, read, rename

State = dict[str, torch.Tensor]
PROFILE = yaml.safe_load(Path("profiles/paper.yaml").read_text())
SIZE = 32
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet50": ("resnet18", {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16]}),
    "vit_base_patch16_224": ("vit_tiny_patch16_224", {"depth": 2, "embed_dim": 24, "num_heads": 2}),
    "vit_large_patch16_224": ("vit_tiny_patch16_224", {"depth": 3, "embed_dim": 24, "num_heads": 2}),
    "swin_tiny_patch4_window7_224": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2), "window_size": 4},
    ),
    "convnext_small": ("convnext_atto", {"depths": [1, 1, 2, 1], "dims": [8, 8, 8, 16]}),
}
"""Small networks whose weights have the same names as those of the paper's."""


def rules(**changes: Any) -> FileWeights:
    plain = {"file": "x.pth", "url": None, "sha256": None, "inside": [], "drop": [], "prefixes": [], "fresh": [],
             "names": "timm"}  # fmt: skip
    return FileWeights.model_validate(plain | changes)


def small_settings(name: str, path: Path | None = None) -> ModelSettings:
    """Return a model of the paper's profile, small, with its weights in another file."""
    entry = dict(PROFILE["models"][name])
    entry["architecture"], entry["arguments"] = SMALL[entry["architecture"]]
    if path is not None:
        entry["weights"] = entry["weights"] | {"file": str(path), "url": None, "sha256": None}
    return params.check(f"models.{name}", ModelSettings, entry)


def disturbed(model: Classifier) -> Classifier:
    """Give every weight a value of its own: fresh networks have many that are alike."""
    drawn = torch.Generator().manual_seed(4)
    for tensor in model.network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape, generator=drawn) * 0.1)
    return model


def moco(state: State, head: str) -> Any:
    wrapped = {f"module.base_encoder.{name}": tensor for name, tensor in state.items()}
    wrapped |= {f"module.momentum_encoder.{name}": tensor * 0 for name, tensor in state.items()}
    projector = {f"{head}.0.weight": torch.ones(3, 3), f"{head}.1.running_mean": torch.ones(3)}
    wrapped |= {f"module.base_encoder.{name}": tensor for name, tensor in projector.items()}
    wrapped |= {f"module.momentum_encoder.{name}": tensor for name, tensor in projector.items()}
    wrapped |= {"module.predictor.0.weight": torch.ones(2, 2)}
    return {"epoch": 300, "arch": "vit_base", "state_dict": wrapped, "optimizer": {"state": {}, "param_groups": []}}


def ibot(state: State) -> Any:
    return {"state_dict": {f"module.backbone.{name}": tensor for name, tensor in state.items()}}


def swin_as_published(state: State) -> State:
    published = {}
    for name, tensor in state.items():
        found = re.match(r"layers\.(\d)\.downsample\.(.*)", name)
        published[f"layers.{int(found[1]) - 1}.downsample.{found[2]}" if found else name] = tensor
    published["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4, dtype=torch.int64)
    published["layers.0.blocks.1.attn_mask"] = torch.zeros(1, 4, 4)
    return published


def convnext_as_published(state: State) -> State:
    published = {}
    for name, tensor in state.items():
        if name.startswith("head.norm."):
            continue  # SparK trains none
        new = re.sub(r"^stem\.", "downsample_layers.0.", name)
        new = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", new)
        new = re.sub(r"^stages\.(\d)\.blocks\.", r"stages.\1.", new)
        new = new.replace(".conv_dw.", ".dwconv.").replace(".mlp.fc1.", ".pwconv1.").replace(".mlp.fc2.", ".pwconv2.")
        published[new] = tensor
    return published


def vit_of_torchvision(state: State) -> State:
    names = {"cls_token": "class_token", "pos_embed": "encoder.pos_embedding"}
    pairs = [("patch_embed.proj.", "conv_proj."), (".norm1.", ".ln_1."), (".norm2.", ".ln_2."),
             (".attn.qkv.", ".self_attention.in_proj_"), (".attn.proj.", ".self_attention.out_proj."),
             (".mlp.fc1.", ".mlp.0."), (".mlp.fc2.", ".mlp.3.")]  # fmt: skip
    published = {"heads.head.weight": torch.ones(2, 2)}
    for name, tensor in state.items():
        new = re.sub(r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1.", names.get(name, name))
        new = re.sub(r"^norm\.", "encoder.ln.", new)
        for ours, theirs in pairs:
            new = new.replace(ours, theirs)
        published[new] = tensor
    return published


def swin_of_torchvision(state: State) -> State:
    published = {"head.weight": torch.ones(2, 2)}
    for name, tensor in state.items():
        new = name.replace("patch_embed.proj.", "features.0.0.").replace("patch_embed.norm.", "features.0.2.")
        new = re.sub(r"^layers\.(\d)\.blocks\.", lambda found: f"features.{2 * int(found[1]) + 1}.", new)
        new = re.sub(r"^layers\.(\d)\.downsample\.", lambda found: f"features.{2 * int(found[1])}.", new)
        published[new.replace(".mlp.fc1.", ".mlp.0.").replace(".mlp.fc2.", ".mlp.3.")] = tensor
    published["features.1.0.attn.relative_position_index"] = torch.zeros(16, dtype=torch.int64)
    return published


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "vit_b16": vit_of_torchvision,
    "vit_l16": vit_of_torchvision,
    "swin_tiny": swin_of_torchvision,
    "dino_vit_b16": lambda state: state,
    "moco_v3_vit_b16": lambda state: moco(state, "head"),
    "ibot_vit_b16": ibot,
    "dino_resnet50": lambda state: state,
    "moco_v3_resnet50": lambda state: moco(state, "fc"),
    "ibot_swin_tiny": lambda state: ibot(swin_as_published(state)),
    "spark_convnext_small": convnext_as_published,
}
"""What each checkpoint of the paper looks like, made from timm's weights of the same network without a classifier."""


def test_every_file_of_the_profile_has_a_layout() -> None:
    assert set(LAYOUTS) == {name for name, entry in PROFILE["models"].items() if entry["weights"] != "timm"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_checkpoints_of_the_paper(name: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    settings = small_settings(name, path)
    source, model = disturbed(build(settings, 5, SIZE, 1)), build(settings, 7, SIZE, 2)
    backbone = {key: tensor for key, tensor in source.network.state_dict().items()
                if key not in source.classifier_weights()}  # fmt: skip
    torch.save(LAYOUTS[name](backbone), path)
    fresh = {key: tensor.clone() for key, tensor in model.network.state_dict().items()}

    origin = load_pretrained(model, settings, SIZE, name)

    assert origin == f"{path}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    for key, tensor in model.network.state_dict().items():
        kept = key in model.classifier_weights() or (key.startswith("head.norm.") and name == "spark_convnext_small")
        torch.testing.assert_close(tensor, fresh[key] if kept else backbone[key], atol=0, rtol=0)
    if name != "spark_convnext_small":
        images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(model.features(images), source.features(images), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("names", "drop", "theirs", "ours"),
    [
        ("torchvision_vit", [], lambda: torchvision.models.VisionTransformer(32, 16, 2, 2, 24, 96, num_classes=6),
         lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24, num_heads=2,
                                   num_classes=6)),
        ("torchvision_swin", ["*.relative_position_index"],
         lambda: torchvision.models.SwinTransformer([4, 4], 8, [1, 2, 1], [1, 2, 2], [4, 4], num_classes=6),
         lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=64, embed_dim=8, depths=(1, 2, 1),
                                   num_heads=(1, 2, 2), window_size=4, num_classes=6)),
    ],
)  # fmt: skip
def test_torchvisions_networks_become_timms(
    names: str, drop: list[str], theirs: Callable[[], torch.nn.Module], ours: Callable[[], torch.nn.Module]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        published, network = theirs().eval(), ours().eval()
        for parameter in published.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.2)
        size = 32 if "vit" in names else 64
        images = torch.randn(2, 3, size, size)
    network.load_state_dict(rename(published.state_dict(), rules(names=names, drop=drop), "test"))
    with torch.inference_mode():
        expected = published(images)
        assert expected.std() > 0.05
        torch.testing.assert_close(network(images), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("names", "filtered", "published"),
    [("convnext", convnext.checkpoint_filter_fn, convnext_as_published),
     ("swin", swin_transformer.checkpoint_filter_fn, swin_as_published)],
)  # fmt: skip
def test_names_become_what_timms_own_filter_makes_of_them(
    names: str, filtered: Callable[..., State], published: Callable[[State], State]
) -> None:
    name = {"convnext": "spark_convnext_small", "swin": "ibot_swin_tiny"}[names]
    architecture, arguments = SMALL[PROFILE["models"][name]["architecture"]]
    network = timm.create_model(architecture, num_classes=4, img_size=64, **arguments) if names == "swin" else (
        timm.create_model(architecture, num_classes=4, **arguments))  # fmt: skip
    state = published(network.state_dict())
    state = {re.sub(r"^head\.(norm|fc)\.", r"head.", key): tensor for key, tensor in state.items()}
    ours = rename(state, rules(names=names, drop=["*.relative_position_index", "*.attn_mask"]), "test")
    theirs = filtered(dict(state), network)
    assert set(ours) == {key for key in theirs if "relative_position_index" not in key and "attn_mask" not in key}


@pytest.mark.parametrize("name", LAYOUTS)
def test_names_of_the_real_networks(name: str) -> None:
    """At the real depth and window, by names and shapes alone."""
    entry = params.check(f"models.{name}", ModelSettings, PROFILE["models"][name])
    with torch.device("meta"):
        network = timm.create_model(entry.architecture, num_classes=0, **entry.arguments)
    expected = network.state_dict()
    content = LAYOUTS[name](dict(expected))
    for key in entry.weights.inside:
        content = content[key]
    found = rename(content, entry.weights, name)
    missing = expected.keys() - found.keys()
    assert missing == ({"head.norm.weight", "head.norm.bias"} if name == "spark_convnext_small" else set())
    assert {key: tensor.shape for key, tensor in found.items()} == {key: expected[key].shape for key in found}


def a_model() -> tuple[ModelSettings, Classifier, State]:
    settings = small_settings("dino_resnet50")
    model = build(settings, 3, SIZE, 0)
    weights = model.classifier_weights()
    return settings, model, {k: t.clone() for k, t in model.network.state_dict().items() if k not in weights}


BAD: list[tuple[Callable[[State], Any], dict[str, Any], str]] = [
    (lambda s: s | {"extra.weight": torch.ones(1)}, {}, r"the weight extra\.weight does not belong to the model"),
    (lambda s: s | {f"extra.{i}": torch.ones(1) for i in range(9)}, {}, r"9 weights \(extra\.0, .* and 4 more\) do"),
    (lambda s: {k: t for k, t in s.items() if k != "conv1.weight"}, {}, r"the weight conv1\.weight does not come"),
    (lambda s: s | {"conv1.weight": torch.ones(2, 2)}, {}, r"conv1\.weight has shape \(2, 2\); allowed: \(\d+, 3"),
    (lambda s: {"model": s}, {"inside": ["state_dict"]}, r"there is no 'state_dict' inside \(found: model\)"),
    (lambda s: {"model": s, "epoch": 3}, {}, r"found 'model', which is no tensor; allowed: names and tensors"),
    (lambda s: {f"module.{k}": t for k, t in s.items()}, {}, r"weights \(module\.conv1\.weight, .* do not belong"),
    (lambda s: s | {"module.conv1.weight": s["conv1.weight"]}, {"prefixes": ["module."]},
     r"two weights become 'conv1\.weight'"),
    (lambda s: s | {"args": pytest.approx(1)}, {}, r"found an object of type \S+, which is not read because"),
    (lambda s: s, {"sha256": "0" * 64}, r"found SHA-256 [0-9a-f]{64} \(\d+ bytes\); allowed: 0{64} \(params"),
]  # fmt: skip


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
    for broken in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(broken)
        with pytest.raises(
            UserError, match=r"checkpoint\.pth: (not a readable file of weights|found .* not read)"
        ) as caught:
            read(path)
        assert "\n" not in str(caught.value)
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"x\.safetensors: not a readable file of weights"):
        read(path)


class Trap:
    def __reduce__(self) -> Any:
        return print, ("code of a checkpoint ran",)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trap.pth"
    torch.save({"state_dict": Trap()}, path)
    with pytest.raises(UserError, match="not read because it might run code"):
        read(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError):
        read(path)
    assert capsys.readouterr().out == ""


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
    with pytest.raises(UserError, match=r"nonsense\.pth: (not a readable|found .* not read)"):
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
            UserError, match=r"could not be downloaded \((5000 of 100000 bytes came|IncompleteRead.*)\); pl"
        ):
            from_file(rules(file=str(tmp_path / "weights.pth"), url=url), {}, "params.yaml: models.x.weights")
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
            build(settings.model_copy(update={"architecture": architecture, "mean": "auto"}), 3, SIZE, 0)
    untrained = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))
    with pytest.raises(
        UserError, match=rf"found 'timm', which has no weights for {untrained}; allowed: null or a file"
    ):
        from_timm(settings.model_copy(update={"architecture": untrained}), SIZE, where)
    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    with pytest.raises(
        UserError, match=r"timm's resnet18\.tv_in1k could not be brought \(OSError: no network\); allowed"
    ):
        from_timm(tagged, SIZE, where)
    source = disturbed(build(settings, 3, SIZE, 5)).network.state_dict()
    backbone = {key: tensor for key, tensor in source.items() if not key.startswith("fc.")}
    monkeypatch.setattr("timm.models._builder.load_pretrained",
                        lambda model, **_: model.load_state_dict(backbone))  # fmt: skip
    model = build(tagged, 3, SIZE, 0)
    assert load_pretrained(model, tagged, SIZE, "x") == "timm's resnet18.tv_in1k"
    assert all(torch.equal(model.network.state_dict()[key], tensor) for key, tensor in backbone.items())


def unreachable(*_: Any, **__: Any) -> None:
    raise OSError("no\nnetwork")


def test_a_users_own_checkpoint_brings_its_classifier(tmp_path: Path) -> None:
    settings = small_settings("dino_resnet50")
    trained, model = disturbed(build(settings, 3, SIZE, 5)), build(settings, 3, SIZE, 6)
    torch.save({"model": trained.network.state_dict()}, tmp_path / "mine.pth")
    load_own(model, rules(file=str(tmp_path / "mine.pth"), inside=["model"]), "here")
    images = torch.randn(2, 3, SIZE, SIZE)
    torch.testing.assert_close(model(images), trained(images), atol=0, rtol=0)
    other = build(settings, 4, SIZE, 6)
    with pytest.raises(UserError, match=r"fc\.weight has shape \(3, 16\); allowed: \(4, 16\)"):
        load_own(other, rules(file=str(tmp_path / "mine.pth"), inside=["model"]), "here")
