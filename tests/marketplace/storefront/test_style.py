"""The visual language: tokens name everything, and every pair that carries text can be read."""

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[3] / "static"
TEMPLATES = Path(__file__).parents[3] / "templates"
TOKENS = (STATIC / "css/tokens.css").read_text()
COLOURS = {
    name: (light, dark)
    for name, light, dark in re.findall(
        r"--([a-z-]+): light-dark\((#[0-9A-F]{6}), (#[0-9A-F]{6})\)", TOKENS
    )
}
PAIRS = [
    (text, ground)
    for text in ("ink", "muted", "signal", "good", "warn", "bad", "info")
    for ground in ("paper", "surface")
] + [
    ("ink", "sunken"),
    ("muted", "sunken"),
    ("signal", "sunken"),
    ("good", "sunken"),
    ("ink", "signal-wash"),
    ("muted", "signal-wash"),
    ("signal", "signal-wash"),
    ("on-signal", "signal"),
    ("paper", "ink"),
]
SHEETS = [path for path in sorted((STATIC / "css").glob("*.css")) if path.name != "tokens.css"]


def _luminance(colour: str) -> float:
    channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_every_pair_that_carries_text_has_enough_contrast(
    text: str, ground: str, theme: int
) -> None:
    assert _contrast(COLOURS[text][theme], COLOURS[ground][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "surface"])
def test_the_edges_of_controls_can_be_seen(ground: str, theme: int) -> None:
    assert _contrast(COLOURS["rule-strong"][theme], COLOURS[ground][theme]) >= 3


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda path: path.name)
def test_only_the_tokens_name_a_colour_a_size_or_a_font(sheet: Path) -> None:
    rules = re.sub(r"/\*.*?\*/|@(media|container)[^{]*\{", "", sheet.read_text(), flags=re.DOTALL)
    declarations = re.findall(r"[a-z-]+:\s*[^;{}]+;", rules)
    named = [
        each
        for each in declarations
        if re.search(r"#[0-9a-fA-F]{3,8}\b|\brgba?\(|\bhsl|\d(px|rem)\b|\"[A-Z][a-z]+ ", each)
    ]
    assert named == []


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda path: path.name)
def test_every_token_that_is_used_exists(sheet: Path) -> None:
    declared = set(re.findall(r"(--[a-z0-9-]+):", TOKENS))
    assert set(re.findall(r"var\((--[a-z0-9-]+)", sheet.read_text())) - declared == set()


def test_templates_carry_no_inline_style_or_script() -> None:
    """The content security policy would refuse them, in the browser alone."""
    for path in TEMPLATES.rglob("*.html"):
        text = path.read_text()
        assert not re.search(r'\sstyle="|\son[a-z]+="|hx-on|javascript:', text), path
        for script in re.findall(r"<script[^>]*>", text):
            assert "src=" in script, path
