"""The charts: text in, SVG text out, honest about missing data."""

import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from marketplace.storefront.charts import bars_svg, columns_svg, sparkline_svg

values = st.lists(st.none() | st.floats(0, 1e9, allow_nan=False), max_size=40)


def _parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_fewer_than_two_values_are_drawn_as_not_enough_data() -> None:
    svg = sparkline_svg([None, 3.0, None], label="Calls")
    assert _parsed(svg).findtext("title") == "Calls: not enough data"
    assert _parsed(svg).findtext("text") == "not enough data"
    assert "chart-line" not in svg


def test_the_line_starts_at_zero_so_that_a_steady_series_reads_as_steady() -> None:
    steady = sparkline_svg([90.0, 91.0, 90.0], label="ms", width=100, height=40)
    line = re.search(r'chart-line" d="([^"]+)"', steady)
    assert line is not None
    heights = [float(point.split()[1]) for point in line[1][1:].split("L")]
    assert max(heights) - min(heights) < 1


def test_a_gap_parts_the_line() -> None:
    svg = sparkline_svg([1.0, 2.0, None, 2.0, 1.0], label="x")
    assert svg.count('class="chart-line"') == 2


def test_the_label_is_escaped() -> None:
    svg = sparkline_svg([1.0, 2.0], label='<script>"&')
    assert _parsed(svg).findtext("title") == '<script>"&'


def test_only_a_full_share_is_a_full_bar() -> None:
    parsed = _parsed(bars_svg([1.0, 0.999, 0.0, None], label="x", height=36))
    bars = [(bar.get("class"), float(bar.get("height") or 0)) for bar in parsed.iter("rect")]
    assert [kind for kind, _ in bars] == [
        "chart-bar",
        "chart-bar-partial",
        "chart-bar-down",
        "chart-bar-none",
    ]
    assert bars[0][1] - bars[1][1] >= 2
    assert bars[2][1] == 3.0


def test_bars_without_any_value_say_so() -> None:
    assert "not enough data" in bars_svg([None, None], label="Success")


@given(values)
def test_every_series_gives_well_formed_svg_inside_its_box(series: list[float | None]) -> None:
    svg = sparkline_svg(series, label="x", width=120, height=36)
    _parsed(svg)
    for path in re.findall(r'chart-line" d="M([^"]+)"', svg):
        for point in path.split("L"):
            x, y = map(float, point.split())
            assert 0 <= x <= 120
            assert 0 <= y <= 36
    _parsed(bars_svg([None if v is None else min(v, 1.0) for v in series], label="x"))


def test_a_lone_value_is_a_dot_where_one_is_enough() -> None:
    svg = sparkline_svg([None, 3.0, None], label="ms", minimum_points=1)
    assert svg.count("<circle") == 1
    assert "not enough data" not in svg


def test_a_column_stands_for_each_period_that_counted_something() -> None:
    parsed = _parsed(columns_svg([0, 1, 4], label="Calls", width=30, height=37, hints="abc"))
    columns = [bar for bar in parsed.iter("rect") if bar.get("class") != "chart-hint"]
    assert [float(bar.get("height") or 0) for bar in columns] == [8.0, 32.0]
    hints = [
        bar.findtext("title") for bar in parsed.iter("rect") if bar.get("class") == "chart-hint"
    ]
    assert hints == ["a", "b", "c"]


def test_columns_without_any_count_say_so() -> None:
    assert "not enough data" in columns_svg([0, 0], label="Calls")
    assert "not enough data" in columns_svg([], label="Calls")


@given(st.lists(st.integers(0, 10**12), max_size=40))
def test_every_count_gives_a_well_formed_column_inside_its_box(counts: list[int]) -> None:
    parsed = _parsed(columns_svg(counts, label="x", width=120, height=36))
    for bar in parsed.iter("rect"):
        assert 0 <= float(bar.get("y") or 0) <= 36
        assert 0 < float(bar.get("height") or 0) <= 36
