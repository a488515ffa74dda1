from __future__ import annotations

from segctl.cli.table import Column, Row, table

COLUMNS = (Column("RUN"), Column("MIOU", right=True), Column("EMPTY"), Column("MODEL"))
ROWS = [Row(("a-run", "5.0", "", "enet")), Row(("b", "15.0", "", "deeplabv3"), note="no sign of life for 3 min")]


def test_all_columns_that_say_something_are_shown_where_there_is_room() -> None:
    assert str(table(COLUMNS, ROWS, 100)).splitlines() == [
        "RUN    MIOU  MODEL",
        "a-run   5.0  enet",
        "b      15.0  deeplabv3  no sign of life for 3 min",
    ]


def test_the_last_columns_go_first_and_notes_go_below() -> None:
    assert str(table(COLUMNS, ROWS, 20)).splitlines() == [
        "RUN    MIOU",
        "a-run   5.0",
        "b      15.0",
        "    no sign of life",
        "    for 3 min",
    ]


def test_the_first_column_is_never_cut() -> None:
    assert str(table(COLUMNS, ROWS[:1], 3)).splitlines() == ["RUN", "a-run"]
