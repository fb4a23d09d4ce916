"""Checks every row of a table in one test: a thousand tests of a millisecond each cost seconds to set up and report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Row = TypeVar("Row")


def check_each(rows: Iterable[tuple[str, Row]], check: Callable[[Row], object]) -> None:
    """Check all rows, then raise what failed as one group, in which each failure names its row."""
    failures: list[Exception] = []
    table = list(rows)
    assert table, "the table is empty"
    for name, row in table:
        try:
            check(row)
        except Exception as failure:
            failure.add_note(f"the row: {name}")
            failures.append(failure)
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(table)} rows", failures)


def by_id(cases: Iterable[dict[str, Row]]) -> Iterable[tuple[str, dict[str, Row]]]:
    """Cases with the ids that name them."""
    return [(str(case["id"]), case) for case in cases]
