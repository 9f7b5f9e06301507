"""Great Expectations suites for tables, and running them.

The suites follow from the declarations (`pipeline.core.tables`). This is the only file that imports Great Expectations,
which takes seconds. It is imported when the first table is written and never in a thread beside a stage's own imports:
packages that import each other in a circle then wait for each other, and Python ends one import with an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import pandas as pd

from pipeline.core.errors import UserError
from pipeline.core.tables import Column, Rule, Table

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when Great Expectations is imported

SAMPLES = 5


def run_suite(table: Table, frame: pd.DataFrame, source: str) -> dict[str, int]:
    """Run the suite of a table.

    Args:
        table: the declaration.
        frame: the table.
        source: what to call it in the message, usually its file.

    Returns:
        The number of rows and of expectations that they met.

    Raises:
        UserError: it breaks one; the message names the table, the expectation and values that break it.
    """
    result = _validator().validate(table, frame, samples=False)
    if not result.success:
        result = _validator().validate(table, frame)
    for one in result.results:
        if not one.success:
            raise UserError(f"{source}: table {table.name}", describe(one))
    return {"rows": len(frame), "expectations": len(result.results)}


def _of_column(gxe: Any, column: Column) -> Iterator[Any]:
    if not column.nullable:
        yield gxe.ExpectColumnValuesToNotBeNull(column=column.name)
    if column.allowed is not None:
        yield gxe.ExpectColumnValuesToBeInSet(column=column.name, value_set=list(column.allowed))
    if column.pattern is not None:
        yield gxe.ExpectColumnValuesToMatchRegex(column=column.name, regex=rf"^(?:{column.pattern})\Z")
    if column.minimum is not None or column.maximum is not None:
        yield gxe.ExpectColumnValuesToBeBetween(column=column.name, min_value=column.minimum, max_value=column.maximum)


def _of_rule(gxe: Any, rule: Rule) -> Any:
    some = {} if rule.where is None else {"row_condition": rule.where, "condition_parser": "pandas"}
    return getattr(gxe, rule.expectation)(**rule.arguments, **some)


def suite(table: Table) -> Any:
    """Return the suite of a table."""
    import great_expectations as gx
    from great_expectations import expectations as gxe

    expectations: list[Any] = [
        gxe.ExpectTableRowCountToBeBetween(min_value=0 if table.may_be_empty else 1),
        gxe.ExpectTableColumnsToMatchOrderedList(column_list=[column.name for column in table.columns]),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=list(table.key))
        if len(table.key) > 1
        else gxe.ExpectColumnValuesToBeUnique(column=table.key[0]),
    ]
    for column in table.columns:
        expectations += _of_column(gxe, column)
    expectations += [_of_rule(gxe, rule) for rule in table.rules]
    return gx.ExpectationSuite(name=table.name, expectations=expectations, meta={"notes": table.meaning})


class Validator:
    """An ephemeral context without progress bars and telemetry, and the suites that were needed so far."""

    def __init__(self) -> None:
        """Make the context."""
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        self.context: Any = gx.get_context(mode="ephemeral")
        self.context.variables.progress_bars = ProgressBarsConfig(globally=False)
        self.source = self.context.data_sources.add_pandas("tables")
        self._known: dict[str, tuple[Any, Any]] = {}

    def validate(self, table: Table, frame: pd.DataFrame, *, samples: bool = True) -> Any:
        """Return Great Expectations' result for a table; without samples of what breaks it, it takes half the time."""
        if table.name not in self._known:
            asset = self.source.add_dataframe_asset(table.name)
            self._known[table.name] = (asset.add_batch_definition_whole_dataframe("all"), suite(table))
        batch, expectations = self._known[table.name]
        result_format = "SUMMARY" if samples else "BOOLEAN_ONLY"
        return batch.get_batch({"dataframe": frame}).validate(expectations, result_format=result_format)


@cache
def _validator() -> Validator:
    return Validator()


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
