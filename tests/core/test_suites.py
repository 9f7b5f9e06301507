"""Great Expectations' suites and our own quick check: two statements of each rule, which have to agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import UserError
from pipeline.core.suites import _validator, run_suite
from pipeline.core.tables import Column, Rule, Table, at_least, check
from pipeline.data.prepared import PLAN, ROW_KINDS
from tests.tables import TABLES, changed, example

REFERENCE_TWICE = {"kind": "reference", "transform": "identity", "magnitude": None}
BREAKS: dict[str, tuple[int, dict[str, Any]]] = {
    # meaning of a rule: a row of the example, and the values that break that rule there and no other
    "right is more than left": (1, {"left": 3.1, "right": 3.1}),
    "bottom is more than top": (2, {"top": 9.0, "bottom": 8.9}),
    'progress is not null where kind=="checkpoint"': (3, {"progress": None}),
    'progress is null where kind!="checkpoint"': (1, {"progress": 10}),
    'layers is not null where kind=="layers"': (2, {"kind": "layers", "layers": None}),
    'layers is null where kind!="layers"': (1, {"layers": 2}),
    'magnitude is null where kind!="transform"': (0, {"magnitude": 1.0}),
    "only rows of kind transform have one": (2, {"transform": "rotate"}),
    "rows of kind transform have one": (1, {"transform": "identity"}),
    "an image has one reference row": (2, REFERENCE_TWICE | {"reference": 2}),
    "a reference row is its own reference": (0, {"reference": 1}),
    "maximum is at least minimum": (3, {"minimum": 0.5, "maximum": 0.4}),
    "cose_high is at least cose_low": (2, {"cose_low": 0.5, "cose_high": 0.4}),
    "reason is null where value.notnull()": (1, {"reason": "why"}),
    "reason is not null where value.isnull()": (2, {"value": None}),
    "greatest is at least least": (2, {"least": 0.5, "greatest": 0.4}),
    "high is at least low": (2, {"low": 0.5, "high": 0.4}),
    "mean is null where images==0": (1, {"images": 0}),
    "consistency_high is at least consistency_low": (3, {"consistency_low": 0.5, "consistency_high": 0.4}),
}
RULES = [(table, rule) for table in TABLES.values() for rule in table.rules]


def finds(rule: Rule, results: Any) -> list[bool]:
    """Return what Great Expectations says of a rule: whether it found rows that break it."""
    name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in rule.expectation)[1:]
    wanted = dict(rule.arguments)
    found = []
    for one in results:
        configuration = one.expectation_config
        where = configuration.kwargs.get("row_condition", {}).get("pass_through_filter")
        columns = ("column", "column_A", "column_B")
        same = all(configuration.kwargs.get(key) == wanted.get(key) for key in columns)
        if same and where == rule.where and configuration.type == name:
            found.append(not one.success)
    return found


def test_every_rule_has_a_row_that_breaks_it() -> None:
    assert {rule.meaning for _, rule in RULES} == set(BREAKS)


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_valid_table_passes_both(table: Table) -> None:
    check(table, example(table), "test")
    report = run_suite(table, example(table), "test")
    assert report["rows"] == 4
    assert report["expectations"] >= 3 + len(table.rules) + sum(not column.nullable for column in table.columns)


@pytest.mark.slow
@pytest.mark.parametrize(("table", "rule"), RULES, ids=[f"{table.name}: {rule.meaning}" for table, rule in RULES])
def test_a_row_that_breaks_a_rule_is_refused_by_both(table: Table, rule: Rule) -> None:
    row, values = BREAKS[rule.meaning]
    broken = changed(table, row, **values)
    assert np.flatnonzero(np.asarray(rule.breaks(broken), bool)).tolist() == [row]
    with pytest.raises(UserError) as caught:
        check(table, broken, "test")
    assert str(caught.value).startswith(f"test: table {table.name}, row {row} (")
    assert str(caught.value).endswith(f"breaks the rule that {rule.meaning}")
    with pytest.raises(UserError) as caught:
        run_suite(table, broken, "test")
    assert str(caught.value).startswith(f"test: table {table.name}: expect_column_")
    assert "\n" not in str(caught.value)
    results = _validator().validate(table, broken).results
    assert finds(rule, results) == [True]
    assert sum(not one.success for one in results) == 1, "the suite finds this and nothing else"


LOOSE = replace(PLAN, name="rules of the plan", columns=tuple(replace(c, nullable=True) for c in PLAN.columns))


@pytest.mark.slow
def test_both_say_the_same_of_drawn_tables() -> None:
    rng = np.random.default_rng(0)
    said: dict[str, set[bool]] = {rule.meaning: set() for rule in PLAN.rules}
    for _ in range(20):
        lines = []
        for row in range(4):
            kind = str(rng.choice(ROW_KINDS if rng.random() < 0.6 else ["reference"]))
            odd = rng.random(3) < [0.2, 0.2, 0.3]  # rarely, or no frame would keep any rule
            lines.append(
                {
                    "row": row,
                    "turn": 0,
                    "image": int(rng.integers(5, 7)),
                    "kind": kind,
                    "transform": str(rng.choice(["identity", "rotate"], p=[0.7, 0.3])),
                    "magnitude": rng.choice([None, 3.5], p=[0.8, 0.2]),
                    "progress": 10 if (kind == "checkpoint") != odd[0] else None,
                    "layers": 2 if (kind == "layers") != odd[1] else None,
                    "reference": 0 if odd[2] else row,
                }
            )
        frame = LOOSE.from_lines(lines)
        results = _validator().validate(LOOSE, frame).results
        for rule in PLAN.rules:
            broken = bool(np.asarray(rule.breaks(frame), bool).any())
            assert finds(rule, results) == [broken], (rule.meaning, lines)
            said[rule.meaning].add(broken)
    assert all(both == {True, False} for both in said.values()), said


EVERYTHING = Table(
    "everything",
    "A column of every kind that is bounded in every way.",
    (
        Column("key", "int64", "a number", minimum=0),
        Column("other", "int64", "another"),
        Column("part", "float64", "a part", nullable=True, minimum=0, maximum=1),
        Column("word", "string", "one of two", allowed=("yes", "no")),
        Column("state", "string", "as a pattern says", pattern=r"a|b\d+"),
        Column("low", "float64", "an end", nullable=True),
        Column("high", "float64", "another", nullable=True),
        Column("truth", "bool", "a truth"),
    ),
    ("key", "other"),
    (at_least("high", "low"), at_least("part", "low", more=True)),
)
LINE = {"key": 0, "other": 0, "part": 0.5, "word": "yes", "state": "b12", "low": 0.1, "high": 0.1, "truth": True}
GOOD: list[dict[str, Any]] = [
    {},
    {"part": 1.0},
    {"low": None},
    {"high": None},
    {"part": None},
    {"low": None, "high": None},
    {"state": "a"},
    {"key": 0, "other": 1},
]
BAD: dict[str, dict[str, Any]] = {
    "values_to_be_between": {"key": -1},
    "compound_columns_to_be_unique": {"key": 7},
    r"values_to_be_between\(column='part'": {"part": 1.01},
    "values_to_be_in_set": {"word": "maybe"},
    r"to_match_regex.*found \['c'\]": {"state": "c"},
    r"to_match_regex.*found \['xa'\]": {"state": "xa"},
    r"to_match_regex.*found \['b1x'\]": {"state": "b1x"},
    r"to_match_regex.*found \['a\\n'\]": {"state": "a\n"},
    "pair_values_a_to_be_greater_than_b.*'high'": {"high": 0.05},
    "pair_values_a_to_be_greater_than_b.*'part'": {"part": 0.1},
}


def of(values: dict[str, Any]) -> pd.DataFrame:
    return EVERYTHING.from_lines([LINE | {"key": 7}, LINE | values])


@pytest.mark.parametrize("values", GOOD, ids=str)
def test_columns_that_are_as_declared_pass_both(values: dict[str, Any]) -> None:
    check(EVERYTHING, of(values), "test")
    run_suite(EVERYTHING, of(values), "test")


@pytest.mark.parametrize(("message", "values"), BAD.items())
def test_columns_that_are_not_as_declared_are_refused_by_both(message: str, values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^test: table everything"):
        check(EVERYTHING, of(values), "test")
    with pytest.raises(UserError, match=rf"^test: table everything: expect_.*{message}") as caught:
        run_suite(EVERYTHING, of(values), "test")
    assert "\n" not in str(caught.value)


SPOILT: list[Callable[[pd.DataFrame], pd.DataFrame]] = [
    lambda frame: frame.iloc[:0],
    lambda frame: frame.drop(columns="truth"),
    lambda frame: frame.assign(more=1),
    lambda frame: frame.assign(word=[None, "yes"]),
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_tables_of_another_shape_are_refused_by_both(spoil: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    broken = spoil(of({}))
    with pytest.raises(UserError, match=r"^test: table everything"):
        check(EVERYTHING, broken, "test")
    with pytest.raises(UserError, match=r"^test: table everything: expect_"):
        run_suite(EVERYTHING, broken, "test")
