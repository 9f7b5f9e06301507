"""The few numbers that people look at first."""

from __future__ import annotations

import pandas as pd

from pipeline.core.tables import lines_of


def headline(
    table: pd.DataFrame, similarity: str = "ssim", protocol: str = "paper"
) -> dict[str, dict[str, float | None]]:
    """Return COSE by method and cell, laid out for `dvc metrics diff`: ``{method: {cell: value}}``."""
    chosen = table[(table["similarity"] == similarity) & (table["protocol"] == protocol)]
    nested: dict[str, dict[str, float | None]] = {}
    for line in lines_of(chosen):
        value = None if pd.isna(line.cose) else round(float(line.cose), 6)
        nested.setdefault(line.method, {})[line.cell] = value
    return nested


def paper_table(table: pd.DataFrame, methods: list[str], similarity: str = "ssim") -> pd.DataFrame:
    """Return COSE in percent shaped like the paper's Table 1: cells down, methods across.

    The last line is the mean of the lines above it, of those that have a value. (The paper's last line pools models
    that its table does not print, and is not the mean of its lines.)
    """
    chosen = table[(table["similarity"] == similarity) & (table["protocol"] == "paper")]
    percent = chosen.set_index(["cell", "dataset", "model", "method"])["cose"].astype("Float64") * 100
    grid = percent.unstack("method")  # noqa: PD010
    cells = chosen[["cell", "dataset", "model"]].drop_duplicates()
    grid = grid.reindex(pd.MultiIndex.from_frame(cells))[methods]
    grid.loc[("average", "", ""), :] = grid.mean()
    return grid.round(2).rename_axis(columns=None).reset_index()
