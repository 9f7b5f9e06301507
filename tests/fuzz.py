"""Damage everything that is read from disk, at random but repeatably: `python -m tests.fuzz`.

Every case takes something that is good (settings, a picture, an archive, weights, a table, maps, a document), damages
it in one of many ways, and reads it as the stages do. What comes out has to be what was written, or settings as good as
those that were given, or a `UserError` of one line; nothing else, and soon.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import random
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from pipeline.core import params, tables
from pipeline.core.documents import read_document
from pipeline.core.errors import UserError
from pipeline.core.yaml_file import read_yaml
from pipeline.data.datasets import image_folder
from pipeline.data.decode import decode_images
from pipeline.data.given_splits import HEADER, TABLE, read_split_table
from pipeline.data.prepared import SPLIT_NAMES
from pipeline.data.unpacking import unpack
from pipeline.data.voc import read_boxes
from pipeline.models import pins
from pipeline.models.network import Network
from pipeline.models.trained import StatesFile, read_state
from pipeline.models.training_metrics import TrainingMetrics
from pipeline.models.weights import from_file
from pipeline.saliency.explanations import About
from pipeline.saliency.map_file import Maps, MapsWriter
from stages import check_params
from tests.conftest import described
from tests.models.layouts import rules
from tests.tables import TABLES, example
from tests.world import ROOT

LIMIT = 30
"""Seconds that a case may take."""
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    3.5,
    -0.0,
    1e-9,
    1e300,
    -1e300,
    float("inf"),
    float("nan"),
    2**31,
    2**63,
    10**30,
    "",
    " ",
    "x",
    "none",
    "auto",
    "all",
    "../../x",
    "/dev/null",
    "a\nb",
    "\x00",
    "é",
    "x" * 5000,
    "1e3",
    "$(true)",
    "${item}",
    [],
    [1],
    ["a"],
    [None],
    [[]],
    [1] * 500,
    {},
    {"a": 1},
    {"": {}},
    {"a": {"b": {"c": []}}},
)
"""Values that a setting or a document may be given by mistake."""


def odd_bytes(rng: random.Random, content: bytes) -> bytes:
    """Return a file's content with some damage."""
    if not content:
        return b"\x00"
    at, length = rng.randrange(len(content)), rng.choice([1, 2, 8, 64, 1000])
    kind = rng.randrange(8)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + content[at + length :]
    if kind == 2:
        return content[:at] + bytes(rng.randrange(256) for _ in range(length)) + content[at + length :]
    if kind == 3:
        return content[:at] + content[at : at + length] * rng.randrange(2, 20) + content[at + length :]
    if kind == 4:
        return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    if kind == 5:
        return content[:at] + b"\xff" * length + content[at + length :]
    if kind == 6:
        return content + content[: rng.randrange(len(content)) + 1]
    return rng.choice(
        [
            b"",
            b"\x00" * 100,
            b"{}",
            b"[]",
            b"<x/>",
            b"PK\x03\x04",
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff",
            b"tell me more",
        ]
    )


def odd_value(rng: random.Random, document: Any) -> Any:
    """Return a document with one of its values, keys or entries replaced, removed or doubled."""
    document = json.loads(json.dumps(document))
    places: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else list(range(len(one)))
        places += [(one, key) for key in keys]
        waiting += [one[key] for key in keys if isinstance(one[key], dict | list)]
    holder, key = rng.choice(places)
    kind = rng.randrange(10)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[rng.choice(["x", str(key) + "s", str(key)[:-1] or "y", "", "a b", "../x", "x" * 300])] = holder.pop(key)
    elif kind == 2 and isinstance(holder, list):
        holder.append(holder[key])
    elif kind == 3 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = rng.choice(
            [-holder[key], holder[key] * 10**9, holder[key] / 1e9, str(holder[key]), [holder[key]]]
        )
    else:
        holder[key] = rng.choice(ODD)
    return document


# Each kind of case: damage something in a folder and read it; what is read is compared where it is data.


def in_settings(rng: random.Random, folder: Path) -> None:
    """Damage the value of a setting and check all of params.yaml."""
    document = small_settings()
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        document = odd_value(rng, document)
    (folder / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    _check_params(folder)


def in_settings_text(rng: random.Random, folder: Path) -> None:
    """Damage the text of params.yaml."""
    text = yaml.safe_dump(small_settings(), sort_keys=False).encode()
    (folder / "params.yaml").write_bytes(odd_bytes(rng, text))
    read_yaml(folder / "params.yaml")
    _check_params(folder)


def _check_params(folder: Path) -> None:
    params._document.cache_clear()
    with contextlib.chdir(folder), contextlib.redirect_stderr(io.StringIO()):
        check_params.main()
        # What passes can be written down and read again.
        for file in Path("data/grid").rglob("*.json"):
            json.loads(file.read_text())


def small_settings() -> dict[str, Any]:
    """Return params.yaml with one of each kind of thing."""
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    cells = {name: cell for name, cell in document["cells"].items() if cell["model"] == "resnet_mini"}
    document["cells"] = dict(list(cells.items())[:2])
    return document


def in_a_picture(rng: random.Random, folder: Path) -> None:
    """Damage a picture."""
    image = Image.fromarray(np.random.default_rng(rng.randrange(9)).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    kind = rng.choice(["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    pixels = decode_images([odd_bytes(rng, buffer.getvalue())], 32, 0.875, "picture")
    assert pixels.shape == (1, 32, 32, 3)
    assert pixels.dtype == np.uint8


def in_a_folder_of_pictures(rng: random.Random, folder: Path) -> None:
    """Damage a folder of pictures with boxes."""
    for name in ("ant", "bee"):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (30, 20), (number, 0, 0)).save(folder / "pictures" / name / f"{number}.png")
        (folder / "pictures" / name / "0.xml").write_text(
            "<annotation><size><width>30</width><height>20</height></size><object><bndbox><xmin>2</xmin><ymin>3</ymin>"
            "<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
        )
    root = folder / "pictures"
    path = rng.choice(sorted(root.rglob("*.*")))
    kind = rng.randrange(6)
    if kind == 0:
        path.write_bytes(odd_bytes(rng, path.read_bytes()))
    elif kind == 1:
        path.unlink()
        path.symlink_to(rng.choice(["nowhere", path.name, "/dev/zero", "..", "/etc/hostname"]))
    elif kind == 2:
        path.unlink()
        os.mkfifo(path)
    elif kind == 3:
        path.unlink()
        path.mkdir()
    elif kind == 4:
        path.rename(
            path.with_name(rng.choice(["x\ny.png", "\udcff.png", "é.png", "x" * 250 + ".png", ".png", "a.PNG"]))
        )
    else:
        shutil.rmtree(path.parent)
    settings = image_folder.Settings(
        loader="image_folder",
        source=str(root),
        image_size=32,
        split={"validation": 0.2, "test": 0.2},
        boxes=str(rng.choice([root, root, root / "bee", root / "..", root / "none"])),
    )
    with contextlib.redirect_stderr(io.StringIO()):
        collection = image_folder.load(settings, 0)
    collection.check_texts("here")
    assert len(collection.names) == len(collection.images) == len(collection.boxes or ())


def in_boxes(rng: random.Random, folder: Path) -> None:
    """Damage a file of boxes."""
    text = (
        '<?xml version="1.0" encoding="utf-8"?><annotation><size><width>30</width><height>20</height></size><object>'
        "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    if rng.random() < 0.5:
        number = rng.choice(["2", "3", "9", "30"])
        odd = rng.choice(["nan", "inf", "-5", "1e400", "", "x", "9" * 5000, "1e308", "²"])
        content = text.replace(f">{number}<", f">{odd}<", 1).encode()
    else:
        content = odd_bytes(rng, text.encode())
    (folder / "a.xml").write_bytes(content)
    for box in read_boxes(folder / "a.xml", (30, 20), first=1):
        assert 0 <= box.left < box.right <= 30
        assert 0 <= box.top < box.bottom <= 20


def in_a_split_table(rng: random.Random, folder: Path) -> None:
    """Damage the table that says which split each picture belongs to."""
    names = [f"ant/{number}.jpg" for number in range(4)]
    good = [rng.choice(SPLIT_NAMES) for _ in names]
    lines = [",".join(HEADER), *(f"{name},{split}" for name, split in zip(names, good, strict=True))]
    if rng.random() < 0.5:
        odd = rng.choice(
            ["", ",", "x,y,z", '"', "ant/0.jpg,train", "ant/9.jpg,test", "ant/1.jpg,exam", "\x00,test", "é,test"]
        )
        lines[rng.randrange(len(lines))] = odd
        content = "\n".join(lines).encode()
    else:
        content = odd_bytes(rng, "\n".join(lines).encode())
    (folder / TABLE).write_bytes(content)
    found = read_split_table(folder, names)
    assert len(found) == len(names)
    assert set(found) <= set(SPLIT_NAMES)


def in_pins(rng: random.Random, folder: Path) -> None:
    """Damage the file of pinned checksums."""
    good = {"https://example.org/a.pth": "0" * 64, "mine.pth": "1" * 64}
    content = odd_bytes(rng, "".join(f"{checksum}  {name}\n" for name, checksum in good.items()).encode())
    pins.PINS = folder / "weights.lock"
    pins.PINS.write_bytes(content)
    pins.pin("other.pth", "2" * 64)
    pins.check_pinned("other.pth", "2" * 64)
    pins.check_pinned("mine.pth", "1" * 64)


def in_an_archive(rng: random.Random, folder: Path) -> None:
    """Damage an archive, or give it a member that leads elsewhere."""
    target, packed = folder / "target", folder / rng.choice(["a.tar.gz", "a.tar", "a.zip"])
    names = ["x/a.txt", "x/b.txt", "x/y/c.txt"]
    odd = rng.choice(
        ["../evil", "/tmp/cose-evil", "x/../../evil", "C:\\evil", "a\x00b", "x" * 300, "x/a.txt", ".", "..", ""]
    )
    if rng.random() < 0.5:
        names.append(odd)
    if packed.suffix == ".zip":
        with zipfile.ZipFile(packed, "w") as archive, contextlib.suppress(UserWarning):
            for name in filter(None, names):
                archive.writestr(zipfile.ZipInfo(name), b"content" * 100)
    else:
        with tarfile.open(packed, "w:gz" if packed.suffix == ".gz" else "w") as archive:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = 700
                if name == odd and rng.random() < 0.6:
                    member.type = rng.choice([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
                    member.linkname, member.size = rng.choice(["/etc/passwd", "../..", "gone", "x/a.txt"]), 0
                archive.addfile(member, io.BytesIO(b"content" * 100))
    if rng.random() < 0.5:
        packed.write_bytes(odd_bytes(rng, packed.read_bytes()))
    try:
        unpack(packed, target, shown="archive")
    finally:
        outside = [path for path in folder.rglob("*") if target not in path.parents and path not in (target, packed)]
        assert not outside, outside
        assert not Path("/tmp/cose-evil").exists()


def in_weights(rng: random.Random, folder: Path) -> None:
    """Damage a file of weights, or what it holds."""
    own = {"conv.weight": torch.ones(4, 3, 3, 3), "norm.running_var": torch.ones(4), "norm.steps": torch.tensor(3)}
    path = folder / rng.choice(["w.pth", "w.safetensors", "w.bin"])
    content: Any = dict(own)
    odd = rng.choice(
        [
            None,
            3,
            "text",
            [1],
            {},
            torch.ones(4, 3, 3, 3, dtype=torch.float64),
            torch.ones(2),
            torch.ones(4, 3, 3, 3) * float("nan"),
            torch.ones(4, 3, 3, 3, dtype=torch.complex64),
            torch.ones(4, 3, 3, 3, dtype=torch.bool),
            torch.ones(0),
            torch.ones(4, 3, 3, 3).to_sparse(),
            torch.ones(4, 3, 3, 3, device="meta"),
            torch.ones(4, 3, 3, 3, dtype=torch.int64),
            torch.ones(4, 3, 3, 3, dtype=torch.float16),
            print,
            random.Random,
        ]
    )
    kind = rng.randrange(5)
    if kind == 0:
        content["conv.weight"] = odd
    elif kind == 1:
        content[rng.choice([3, None, ("a",), "x", "", "a\nb", "conv.weight\x00"])] = torch.ones(1)
    elif kind == 2:
        content = rng.choice([odd, {"state_dict": content}, list(content), tuple(content.values())])
    plain = isinstance(content, dict) and all(
        isinstance(key, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta
        for key, value in content.items()
    )
    if plain and rng.random() < 0.5:
        save_file({key: value.contiguous() for key, value in content.items()}, path)
    elif rng.random() < 0.2:
        path.write_bytes(pickle.dumps(content if isinstance(content, dict) else odd))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=rng.random() < 0.8)
    if kind > 2:
        path.write_bytes(odd_bytes(rng, path.read_bytes()))
    inside = rng.choice([[], [], ["state_dict"]])
    pins.PINS = folder / "weights.lock"
    state, _ = from_file(rules(file=str(path), inside=inside), own, "params.yaml: models.x.weights")
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()} == {
        name: (tensor.shape, tensor.dtype) for name, tensor in own.items()
    }
    assert all(tensor.isfinite().all() for tensor in state.values())


def in_a_state(rng: random.Random, folder: Path) -> None:
    """Damage a state of a model that we wrote: its checksum tells."""
    save_file({"a": torch.arange(100.0)}, folder / "trained.safetensors")
    good = (folder / "trained.safetensors").read_bytes()
    from pipeline.core.files import sha256

    known = {"trained": sha256(folder / "trained.safetensors")}
    (folder / "trained.safetensors").write_bytes(content := odd_bytes(rng, good))
    state = read_state(folder / "trained.safetensors", known)
    assert content == good
    assert torch.equal(state["a"], torch.arange(100.0))


def in_a_table(rng: random.Random, folder: Path) -> None:
    """Damage a table's file, or its rows."""
    table = TABLES[rng.choice(sorted(TABLES))]
    path = folder / "table.parquet"
    tables.write(table, path, example(table))
    before = tables.read(table, path)
    if rng.random() < 0.6:
        path.write_bytes(odd_bytes(rng, path.read_bytes()))
    else:
        arrow = pq.read_table(path)
        column = rng.randrange(arrow.num_columns)
        field = arrow.schema.field(column)
        kind = rng.randrange(7)
        if kind == 0:
            arrow = arrow.remove_column(column)
        elif kind == 1:
            arrow = arrow.append_column("more", pa.array(range(len(arrow))))
        elif kind == 2:
            arrow = arrow[: rng.randrange(len(arrow))]
        elif kind == 3:
            arrow = pa.concat_tables([arrow, arrow[:1]])
        elif kind == 4:
            arrow = arrow.take(rng.sample(range(len(arrow)), len(arrow)))
        elif kind == 5:
            arrow = arrow.set_column(
                column, field.name, pa.array([rng.choice([2**62, -5, 0])] * len(arrow), pa.int64())
            )
        else:
            arrow = arrow.set_column(column, field.name, pa.array([rng.choice(["x", None, "trained"])] * len(arrow)))
        known = pq.read_metadata(path).metadata
        with pq.ParquetWriter(path, arrow.schema) as writer:
            writer.write_table(arrow)
            if rng.random() < 0.5:
                writer.add_key_value_metadata({tables.COUNT: known[tables.COUNT]})
        # A program that keeps our number of rows may change values within what the table allows, or their order.
        after = tables.read(table, path)
        assert len(after) == len(before)
        return
    pd.testing.assert_frame_equal(tables.read(table, path), before)


def in_maps(rng: random.Random, folder: Path) -> None:
    """Damage a cell's maps."""
    path, generator = folder / "maps.npy", np.random.default_rng(rng.randrange(99))
    values, kind = rng.choice([("unit", "uint8"), ("unit", "float16"), ("signed", "float32"), ("ternary", "int8")])
    maps = generator.integers(0 if values == "unit" else -1, 2, (4, 6, 6)).astype(np.float32)
    with MapsWriter(path, kind, 4) as writer:
        writer.write(np.arange(4), maps)
    index = writer.described().assign(row=range(4))
    if rng.random() < 0.6:
        path.write_bytes(odd_bytes(rng, path.read_bytes()))
    else:
        stored = np.load(path)
        changes: list[Callable[[Any], Any]] = [
            lambda a: a[::-1],
            lambda a: a * 0,
            lambda a: a + 1,
            lambda a: a.astype(np.float64),
            lambda a: a[:3],
            lambda a: a[:, :5, :5],
            lambda a: a.transpose(0, 2, 1),
            lambda a: a.astype("S3"),
            lambda a: np.asfortranarray(a),
            lambda a: a.astype(object),
            lambda a: a.reshape(-1),
            lambda a: a.astype(a.dtype.newbyteorder(">")),
        ]
        np.save(path, rng.choice(changes)(stored), allow_pickle=True)
    opened = Maps(path, index, values, 6)  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.stack([opened[at] for at in range(4)]), maps)


def in_a_document(rng: random.Random, folder: Path) -> None:
    """Damage a JSON file that a stage leaves for the next."""
    computed = {"device": "cpu", "torch": "2.14.1", "precision": "float32", "batch": 8}
    documents: list[tuple[Any, dict[str, Any]]] = [
        (
            StatesFile,
            {
                "checkpoints": {"10": "epoch_001", "50": "epoch_005"},
                "layers": {},
                "computed_by": computed,
                "weights_from": {"trained": None},
                "sha256": dict.fromkeys(["trained", "random", "epoch_001", "epoch_005"], "0" * 64),
            },
        ),
        (TrainingMetrics, {"validation_accuracy": 0.5, "test_accuracy": 0.25, "test_images": 8}),
        (About, {"left_out": None, "values": "unit", "computed_by": {"train": computed, "explain": computed}}),
        (Network, json.loads(described("resnet18", 3, 32).model_dump_json())),
    ]
    kind, good = rng.choice(documents)
    path = folder / "document.json"
    if rng.random() < 0.5:
        content = json.dumps(odd_value(rng, good)).encode()
    else:
        content = odd_bytes(rng, json.dumps(good, indent=2).encode())
    path.write_bytes(content)
    read_document(path, kind)


KINDS: dict[str, tuple[Callable[[random.Random, Path], None], int]] = {
    "settings": (in_settings, 150),
    "text of the settings": (in_settings_text, 60),
    "pictures": (in_a_picture, 100),
    "folders of pictures": (in_a_folder_of_pictures, 80),
    "boxes": (in_boxes, 60),
    "split tables": (in_a_split_table, 40),
    "archives": (in_an_archive, 80),
    "weights": (in_weights, 100),
    "pins": (in_pins, 40),
    "states": (in_a_state, 20),
    "tables": (in_a_table, 120),
    "maps": (in_maps, 80),
    "documents": (in_a_document, 100),
}
"""What is damaged, and in how many cases."""


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise an error where a block takes longer."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"took more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(kind: str, seed: int, folder: Path) -> str | None:
    """Run one case.

    Args:
        kind: one of `KINDS`.
        seed: of the case.
        folder: an empty one.

    Returns:
        What is wrong with what came out; None where it is as it should be.
    """
    work, _ = KINDS[kind]
    before = pins.PINS
    try:
        with within(LIMIT):
            work(random.Random(f"{kind} {seed}"), folder)
    except UserError as error:
        said = str(error)
        if len(said.splitlines()) != 1 or len(said) > 1500:
            return f"not one line, or too long: {said[:300]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    finally:
        pins.PINS = before
    return None


def main() -> None:
    """Run all cases, or some."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, help="one kind alone")
    parser.add_argument("--seed", type=int, help="one case alone, with its traceback")
    parser.add_argument("--times", type=int, default=1, help="as many times as many cases")
    given = parser.parse_args()
    failed = total = 0
    for kind in [given.kind] if given.kind else KINDS:
        began, count = time.monotonic(), KINDS[kind][1] * given.times
        for seed in range(count) if given.seed is None else [given.seed]:
            with tempfile.TemporaryDirectory() as folder:
                if given.seed is not None:
                    KINDS[kind][0](random.Random(f"{kind} {seed}"), Path(folder))
                    continue
                problem = run(kind, seed, Path(folder))
            total += 1
            if problem:
                failed += 1
                print(f"{kind} {seed}: {problem}", flush=True)
        print(f"{kind}: {count} cases in {time.monotonic() - began:.0f} s", flush=True)
    print(f"{total} cases, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
