import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.glyph import glyph_svg

_SVG = "{http://www.w3.org/2000/svg}"


def _circles(svg: str) -> set[tuple[float, float, float]]:
    return {
        (float(node.attrib["cx"]), float(node.attrib["cy"]), float(node.attrib["r"]))
        for node in ElementTree.fromstring(svg).iter(f"{_SVG}circle")
    }


def test_the_same_seed_gives_the_same_drawing_and_another_seed_another() -> None:
    drawings = {glyph_svg(f"bafy{number}", size_px=20, label="x") for number in range(500)}
    assert len(drawings) == 500
    assert glyph_svg("a", size_px=20, label="x") == glyph_svg("a", size_px=20, label="x")


@given(st.text(max_size=80), st.integers(16, 128))
def test_every_glyph_is_symmetric_inside_its_view_and_free_of_inline_style(
    seed: str, size_px: int
) -> None:
    svg = glyph_svg(seed, size_px=size_px, label="label")
    root = ElementTree.fromstring(svg)
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    circles = _circles(svg)
    assert circles == {(64 - column, row, radius) for column, row, radius in circles}
    for column, row, radius in circles:
        assert left <= column - radius < column + radius <= left + width
        assert top <= row - radius < row + radius <= top + height
    assert root.attrib["width"] == root.attrib["height"] == str(size_px)
    assert not re.search(r"style=|#[0-9a-fA-F]{3}|rgb", svg)


def test_the_label_is_the_title_and_is_escaped() -> None:
    svg = glyph_svg("x", size_px=20, label='<script>"&')
    root = ElementTree.fromstring(svg)
    title = root.find(f"{_SVG}title")
    assert title is not None
    assert title.text == '<script>"&'
    assert root.attrib["role"] == "img"
    assert "<script>" not in svg
