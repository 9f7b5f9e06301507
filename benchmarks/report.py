"""Write the measured tables into docs/benchmarks.md, between its marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.core import params
from pipeline.core.files import METRICS
from pipeline.saliency.method import METHODS

SPEED = METRICS / "benchmark.csv"
PROCESSES = METRICS / "benchmark_processes.csv"
FAITHFULNESS = METRICS / "benchmark_faithfulness.csv"
KEY = ["model", "image_size", "device", "threads", "scale"]
FAITHFULNESS_KEY = KEY[:-1]
PAGE = Path("docs/benchmarks.md")

PAPER: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 25},
    "guided_ig": {"steps": 200},
    "blur_ig": {"steps": 100},
    "smooth_grad": {"samples": 50},
    "lime": {"samples": 1000, "quickshift": {"kernel_size": 4, "max_dist": 200, "ratio": 0.2}},
}
PAPER_METHODS = ("grad_cam", "grad_cam_plus_plus", *PAPER)
PAPER_LIME = "lime, the paper's settings"
PAPER_ROWS = {"blur_ig": 3060, "lime": 3060, "smooth_grad": 3060}
OTHER_ROWS = 30600


def as_in_the_paper(name: str, settings: Any) -> Any:
    """Return a method's settings with the paper's values."""
    return METHODS[name].settings.model_validate(settings.model_dump() | PAPER.get(name, {}))


def _number(value: Any, pattern: str = "{:.3g}") -> str:
    return "" if value is None or pd.isna(value) else pattern.format(value)


def _difference(library: pd.Series) -> str:
    greatest, mean = library["max_abs_diff"], library["mean_abs_diff"]
    return "" if pd.isna(greatest) else f"{_number(greatest, '{:.0e}')} ({_number(mean, '{:.0e}')})"


def _title(key: tuple[Any, ...]) -> str:
    model, side, device, threads, scale = key
    return f"\n**{model} at {side} pixels**, {device}, {threads} threads, scale {scale:g}"


def speed_tables(table: pd.DataFrame) -> str:
    """Return a table of methods, and one of comparisons, for each model."""
    lines = []
    for key, group in table.groupby(KEY, sort=False):
        ours = group[group["way"] == "ours"].set_index("method")
        first = ours.iloc[0]  # methods measured on another day may have found another machine; floor_ms is their own
        lines += [
            f"{_title(key)}: at best {first['forward_ms']:.3g} ms per forward pass, "
            f"{first['gradient_ms']:.3g} ms per gradient\n",
            "| method | image by image, ms | library at best, ms | ours, ms (fastest to slowest) "
            "| image by image ÷ ours | floor, ms | efficiency: kernel | stage "
            "| differs from the library at most (on average) | MB per 1,000 maps | storing moves SSIM, Spearman |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for method in ours.index[ours["floor_ms"].notna()]:
            own = ours.loc[method]
            others = group[group["method"] == method].set_index("way")
            library = others.reindex(["per_image", "library"]).loc["library"]
            lines.append(
                f"| {method} | {_number(others['ms_per_map'].get('per_image'))} | {_number(library['ms_per_map'])} | "
                f"{_number(own['ms_per_map'])} ({_number(own['fastest'])} to {_number(own['slowest'])}) | "
                f"{_number(own['ratio'], '{:.1f}')} | {_number(own['floor_ms'])} | "
                f"{_number(own['efficiency_kernel'], '{:.2f}')} | {_number(own['efficiency_stage'], '{:.2f}')} | "
                f"{_difference(library)} | "
                f"{_number(own['mb_per_1000_maps'], '{:.2f}')} | {_number(own['ssim_moved_by_storing'], '{:.0e}')}, "
                f"{_number(own['spearman_moved_by_storing'], '{:.0e}')} |"
            )
        compared = [
            f"{what} {_number(line['ms_per_map'])} ms{_number(line['ratio'], ' ({:.1f} times as fast as the library)')}"
            for what, line in ours.iterrows()
            if pd.isna(line["floor_ms"])
        ]
        lines += ["", "Comparisons: " + "; ".join(compared) + ".\n"] if compared else [""]
    return "\n".join(lines)


def paper_table(table: pd.DataFrame) -> str:
    """Return the minutes that a cell with the paper's rows and settings would take, from the measured efficiency."""
    ours = table[(table["way"] == "ours") & table["floor_ms"].notna()]
    lines = [
        "| minutes a cell | rows | "
        + " | ".join(f"{m} at {s}, {d}" for (m, s, d, *_), _ in ours.groupby(KEY, sort=False))
        + " |"
    ]
    lines.append("|---|--:|" + "--:|" * ours.groupby(KEY).ngroups)
    for name in [name for name in METHODS if name in PAPER_METHODS and name in set(ours["method"])]:
        settings = as_in_the_paper(name, params.read(f"saliency.{name}", METHODS[name].settings))
        cost, rows = METHODS[name].cost(settings), PAPER_ROWS.get(name, OTHER_ROWS)
        cells = []
        for _, group in ours.groupby(KEY, sort=False):
            minutes = ""
            wanted = [PAPER_LIME, "lime"] if name == "lime" else [name]  # the last one found counts
            for _, own in group[group["method"].isin(wanted)].iterrows():
                needed = cost.forward * own["forward_ms"] + cost.gradient * own["gradient_ms"]
                value = rows * needed / own["efficiency_stage"] / 60_000
                minutes = f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
            cells.append(minutes)
        lines.append(f"| {name} | {rows:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def processes_table(table: pd.DataFrame) -> str:
    """Return memory and neighbours."""
    lines = [
        "| model | two cells at once ÷ one after the other (fastest to slowest) | peak memory, MB "
        "| with ten times the rows |",
        "|---|--:|--:|--:|",
    ]
    for _, line in table.iterrows():
        lines.append(
            f"| {line['model']} at {line['image_size']} | {line['at_once_over_in_turn']:.2f} ({line['fastest']:.2f} to "
            f"{line['slowest']:.2f}) | {line['peak_mb']:.0f} | {line['peak_mb_tenfold_rows']:.0f} |"
        )
    return "\n".join(lines)


def faithfulness_tables(table: pd.DataFrame) -> str:
    """Return a table of families of faithfulness metrics for each model."""
    lines = []
    for (model, side, device, threads), group in table.groupby(FAITHFULNESS_KEY, sort=False):
        lines += [
            f"\n**{model} at {side} pixels**, {device}, {threads} threads: at best "
            f"{_number(group['forward_ms'].iloc[0])} ms per forward pass\n",
            "| family | forward passes per map | one by one, ms | ours, ms (fastest to slowest) | one by one ÷ ours "
            "| floor, ms | efficiency | values differ at most |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
        lines += [
            f"| {line.family} | {line.forward} | {_number(line.one_by_one_ms)} | {_number(line.ms_per_map)} "
            f"({_number(line.fastest)} to {_number(line.slowest)}) | {_number(line.ratio, '{:.1f}')} | "
            f"{_number(line.floor_ms)} | {line.efficiency:.2f} | {_number(line.max_abs_diff, '{:.0e}')} |"
            for line in group.itertuples()
        ]
    return "\n".join(lines)


def merged(file: Path, table: pd.DataFrame, key: list[str], what: str) -> pd.DataFrame:
    """Return new lines with those of a file that were not measured now.

    Args:
        file: may be missing.
        table: new lines.
        key: columns that say on what they were measured.
        what: the column that says what was.
    """
    if not file.exists():
        return table
    old = pd.read_csv(file)
    line = [*key, what]
    measured = old[line].apply(tuple, axis=1).isin(set(table[line].apply(tuple, axis=1)))
    return pd.concat([old[~measured], table], ignore_index=True).sort_values(key, kind="stable")


def write() -> None:
    """Put what was measured so far into the page."""
    text = PAGE.read_text()
    made: dict[str, str] = {}
    if SPEED.exists():
        table = pd.read_csv(SPEED)
        made |= {"speed": speed_tables(table), "paper": paper_table(table)}
    if PROCESSES.exists():
        made["processes"] = processes_table(pd.read_csv(PROCESSES))
    if FAITHFULNESS.exists():
        made["faithfulness"] = faithfulness_tables(pd.read_csv(FAITHFULNESS))
    for name, content in made.items():
        before, rest = text.split(f"<!-- {name} -->\n")
        text = f"{before}<!-- {name} -->\n{content}\n{rest[rest.index('<!-- end -->') :]}"
    PAGE.write_text(text)
