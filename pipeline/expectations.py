"""Great Expectations suites for every table, and running them.

The suites follow from the declarations in `pipeline.tables`, plus what holds between columns. This is the only file
that imports Great Expectations, which takes seconds: one gate stage validates many tables in one process.
"""

from __future__ import annotations

import os

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # must be set before the import

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations import expectations as gxe
from great_expectations.data_context.types.base import ProgressBarsConfig
from tqdm import tqdm

from pipeline.errors import UserError
from pipeline.tables import TABLES, Column, Table, read

SAMPLES = 5


def _of_column(column: Column) -> Iterator[Any]:
    if not column.nullable:
        yield gxe.ExpectColumnValuesToNotBeNull(column=column.name)
    if column.allowed is not None:
        yield gxe.ExpectColumnValuesToBeInSet(column=column.name, value_set=list(column.allowed))
    if column.minimum is not None or column.maximum is not None:
        yield gxe.ExpectColumnValuesToBeBetween(column=column.name, min_value=column.minimum, max_value=column.maximum)


def _null_unless(column: str, condition: str, negated: str) -> list[Any]:
    """Expect values exactly in the rows that fulfil a condition."""
    return [
        gxe.ExpectColumnValuesToNotBeNull(column=column, row_condition=condition, condition_parser="pandas"),
        gxe.ExpectColumnValuesToBeNull(column=column, row_condition=negated, condition_parser="pandas"),
    ]


def _of_plan() -> list[Any]:
    return [
        *_null_unless("progress", 'kind=="checkpoint"', 'kind!="checkpoint"'),
        gxe.ExpectColumnValuesToBeNull(
            column="magnitude", row_condition='kind!="transform"', condition_parser="pandas"
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="transform", value_set=["identity"], row_condition='kind!="transform"', condition_parser="pandas"
        ),
        gxe.ExpectColumnValuesToNotBeInSet(
            column="transform", value_set=["identity"], row_condition='kind=="transform"', condition_parser="pandas"
        ),
        gxe.ExpectColumnValuesToBeUnique(column="image", row_condition='kind=="reference"', condition_parser="pandas"),
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="row", column_B="reference", row_condition='kind=="reference"', condition_parser="pandas"
        ),
    ]


def _of_boxes() -> list[Any]:
    return [
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A=high, column_B=low)
        for high, low in (("right", "left"), ("bottom", "top"))
    ]


def _of_states() -> list[Any]:
    return [gxe.ExpectColumnValuesToMatchRegex(column="state", regex=r"^(trained|random|epoch_\d{3,})$")]


def _of_index() -> list[Any]:
    return [*_of_states(), gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A="maximum", column_B="minimum", or_equal=True)]  # fmt: skip


def _of_cose() -> list[Any]:
    return [
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A=a, column_B=b, or_equal=True, ignore_row_if="either_value_is_missing"
        )
        for a, b in (("cose_high", "cose_low"), ("consistency_high", "consistency_low"))
    ]


BETWEEN_COLUMNS: dict[str, Callable[[], list[Any]]] = {
    "boxes": _of_boxes,
    "plan": _of_plan,
    "predictions": _of_states,
    "index": _of_index,
    "scores": _of_states,
    "cose": _of_cose,
}
"""What holds between the columns of a table, beyond its declaration."""


def suite(table: Table) -> gx.ExpectationSuite:
    """Return the suite of a table."""
    expectations: list[Any] = [
        gxe.ExpectTableRowCountToBeBetween(min_value=0 if table.may_be_empty else 1),
        gxe.ExpectTableColumnsToMatchOrderedList(column_list=[column.name for column in table.columns]),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=list(table.key))
        if len(table.key) > 1
        else gxe.ExpectColumnValuesToBeUnique(column=table.key[0]),
    ]
    for column in table.columns:
        expectations += _of_column(column)
    expectations += BETWEEN_COLUMNS.get(table.name, list)()
    return gx.ExpectationSuite(name=table.name, expectations=expectations, meta={"notes": table.meaning})


def quiet_context() -> Any:
    """Return an ephemeral context without progress bars and without telemetry."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


class Validator:
    """Validates many tables in one process."""

    def __init__(self) -> None:
        """Make the context and its suites."""
        self.context = quiet_context()
        self._source = self.context.data_sources.add_pandas("tables")
        self._suites: dict[str, Any] = {}
        self._batches: dict[str, Any] = {}

    def _validate(self, name: str, frame: pd.DataFrame) -> Any:
        if name not in self._suites:
            self._suites[name] = suite(TABLES[name])
            asset = self._source.add_dataframe_asset(name)
            self._batches[name] = asset.add_batch_definition_whole_dataframe("all")
        return self._batches[name].get_batch({"dataframe": frame}).validate(self._suites[name])

    def check(self, name: str, frame: pd.DataFrame, source: str) -> dict[str, int]:
        """Run the suite of a table.

        Args:
            name: key of `TABLES`.
            frame: the table.
            source: what to call it in the message, usually its file.

        Returns:
            The number of rows and of expectations that they met.

        Raises:
            UserError: it breaks one; the message names the table, the expectation and values that break it.
        """
        result = self._validate(name, frame)
        for one in result.results:
            if not one.success:
                raise UserError(f"{source}: table {name}: {describe(one)}")
        return {"rows": len(frame), "expectations": len(result.results)}

    def check_file(self, name: str, path: Path) -> dict[str, Any]:
        """Read a table and run its suite; return what a gate writes down about it."""
        return {"table": name, "file": path.as_posix(), **self.check(name, read(name, path), str(path))}


def describe(result: Any) -> str:
    """Return one line for a broken expectation: which, on what, and sample values."""
    configuration = result.expectation_config
    hidden = ("batch_id", "condition_parser")
    arguments = {key: value for key, value in configuration.kwargs.items() if key not in hidden}
    if "row_condition" in arguments:
        arguments["row_condition"] = configuration.kwargs["row_condition"].get("pass_through_filter")
    shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    problem = result.exception_info.get("exception_message") if "exception_message" in result.exception_info else None
    found = problem or result.result.get("partial_unexpected_list") or result.result.get("observed_value")
    samples = (
        [getattr(value, "item", lambda value=value: value)() for value in found[:SAMPLES]]
        if isinstance(found, list)
        else found
    )
    return f"{configuration.type}({shown}) fails; found {samples!r}"


def build_docs(files: list[tuple[str, Path]], folder: Path) -> Path:
    """Validate tables and write Great Expectations' Data Docs, a site of static pages.

    Args:
        files: tables and where they lie.
        folder: where to write; pages of the same tables are replaced.

    Returns:
        The first page.
    """
    validator = Validator()
    context = validator.context
    context.add_data_docs_site(
        "cose",
        {
            "class_name": "SiteBuilder",
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        },
    )
    for name, path in tqdm(files, desc="data docs", unit="table", disable=None):
        page = "-".join(path.with_suffix("").parts)  # names of pages may hold neither slashes nor dots
        asset = validator._source.add_dataframe_asset(page)
        batch = asset.add_batch_definition_whole_dataframe("all")
        own = suite(TABLES[name])
        own.name = page
        definition = gx.ValidationDefinition(name=page, data=batch, suite=context.suites.add(own))
        context.validation_definitions.add(definition).run(batch_parameters={"dataframe": read(name, path)})
    context.build_data_docs(site_names=["cose"])
    return folder / "index.html"
