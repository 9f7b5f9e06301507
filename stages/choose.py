"""Choose a saliency method, a layer or settings for a picture of your own. Not a stage of the graph: it reads no table.

Every candidate explains the picture, a metric puts the maps in order, and one PNG file shows them.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.core import params
from pipeline.core.errors import UserError, unknown_name
from pipeline.core.files import atomic_write, write_csv
from pipeline.data.datasets import photos
from pipeline.data.decode import decode_images
from pipeline.data.image_files import read_file
from pipeline.metrics.faithfulness.metric import METRICS, Metric
from pipeline.models.ready import ready_model
from pipeline.results.candidates import affordable, at_layers, controls, read_candidate
from pipeline.results.choice_sheet import choice_sheet
from pipeline.results.choose import Choice, choose, lines, over_pictures, verdict
from pipeline.results.estimate import cam_shape
from pipeline.results.palette_png import encoded
from pipeline.results.sheet import drawn
from stages.command import guarded

SUFFIXES = (".jpg", ".jpeg", ".png")
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def main(options: argparse.Namespace) -> None:
    """Write a PNG file and a table per picture, and print the order and whether the best beats the controls."""
    metric = _metric(options.metric)
    settings = params.check(f"faithfulness.{options.metric}", metric.settings, _metric_settings(options.metric))
    pictures = _pictures(options.image)
    ready = ready_model(options.model, options.size)
    dear: dict[str, int] = {}
    if options.methods:
        candidates = [read_candidate(one) for one in options.methods.split()]
    else:
        candidates, dear = affordable(cam_shape(ready.model, ready.network.image_size)[0])
    named = {one.name for one in candidates}
    candidates += [read_candidate(one) for one in controls() if one not in named]
    candidates = at_layers(candidates, options.layers.split() if options.layers else ())
    target = None if options.target is None else ready.find_class(options.target)
    part, filtering = ready.network.fitting
    folder = Path(options.out)
    stems = Counter(PurePosixPath(name).stem for name in pictures)
    files = {name: stem if stems[stem := PurePosixPath(name).stem] == 1 else name for name in pictures}
    choices: list[Choice] = []
    for name, encoding in pictures.items():
        picture = decode_images([encoding], ready.network.image_size, part, name, interpolation=filtering)[0]
        choice = choose(
            ready,
            name,
            picture,
            target,
            candidates=candidates,
            metric=metric,
            settings=settings,
            seed=params.read("seed", params.Seed),
        )
        choices.append(choice)
        said = verdict(choice, options.metric, better=metric.better or "higher")
        sheet = choice_sheet(choice, options.metric, ready.name, said, class_name=ready.class_name)
        file = folder / f"{UNSAFE.sub('_', files[name])}.png"
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as draft:
            draft.write_bytes(encoded(drawn(sheet)))
        print(f"{name}: {said} ({file})")
    table = lines(choices)
    write_csv(folder / "choices.csv", table)
    summary = over_pictures(table) if len(choices) > 1 else table.drop(columns=["image", "class", "undefined"])
    with pd.option_context("display.max_rows", None, "display.width", 120):
        print(summary.to_string(index=False))
    for method, passes in dear.items():
        print(f"not tried: {method}, which takes as long as {passes:,} forward passes (METHODS names what is tried)")


def _metric(name: str) -> Metric:
    if name not in METRICS:
        raise unknown_name("metric", "faithfulness metric", name, METRICS)
    metric = METRICS[name]
    if metric.better is None or "method" in metric.needs:
        allowed = [one for one in METRICS if METRICS[one].better is not None and "method" not in METRICS[one].needs]
        raise UserError("metric", f"found {name!r}, which puts no maps in order by itself", expected=", ".join(allowed))
    return metric


def _metric_settings(name: str) -> dict[str, object]:
    written: dict[str, object] = params.read("faithfulness", dict[str, object])
    found = written.get(name)
    return dict(found) if isinstance(found, dict) else {}


def _pictures(given: str) -> dict[str, bytes]:
    """Return the files of pictures by their names: a file, those of a folder, or one of the dataset ``photos``."""
    if not given:
        raise UserError(
            "image",
            "found nothing",
            expected="a picture, a folder of pictures, or a photograph's name, such as IMAGE=chelsea",
        )
    path = Path(given)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise UserError(path, "found no picture", expected=f"a folder with files {', '.join(SUFFIXES)}")
        return {file.name: read_file(file) for file in files}
    if path.is_file():
        return {path.name: read_file(path)}
    known = photos.load(photos.Settings(loader="photos", source="", image_size=32), 0)
    names = {PurePosixPath(name).stem: at for at, name in enumerate(known.names)}
    if given not in names:
        raise unknown_name("image", "file, folder or photograph", given, names)
    return {given: known.images[names[given]]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", required=True, help="a picture, a folder of pictures, or a photograph by its name")
    parser.add_argument("--model", help="a cell, or a model with classes of its own; that of the first cell otherwise")
    parser.add_argument(
        "--class", dest="target", help="number or name of the class to explain; the predicted one otherwise"
    )
    parser.add_argument(
        "--methods",
        help="such as 'grad_cam grad_cam@blocks.5 smooth_grad:samples=20'; those of "
        "params.yaml that do not take long otherwise",
    )
    parser.add_argument("--layers", help="CAM layers, such as 'blocks.4 blocks.5 bn2', for each method that reads one")
    parser.add_argument("--metric", default="road_combined", help="a faithfulness metric")
    parser.add_argument("--size", type=int, help="side of the picture as the model sees it, in pixels")
    parser.add_argument("--out", default="choices", help="folder for the pictures and choices.csv")
    guarded(partial(main, parser.parse_args()))
