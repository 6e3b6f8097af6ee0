"""What a publisher may put on our page."""

import pytest

from marketplace.storefront.markdown import markdown_html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "[x](data:text/html,hi)",
        "![x](http://tracker.example/pixel.png)",
        "<a href='x' onclick='y'>z</a>",
        "<style>*{display:none}</style>",
        '<img src="x" onerror="y">',
    ],
)
def test_nothing_that_runs_or_fetches_gets_through(text: str) -> None:
    html = markdown_html(text)
    for tag in ("<script", "<img", "<style", 'href="javascript', 'href="data', "<a href='x'"):
        assert tag not in html


def test_headings_begin_below_the_page_heading() -> None:
    assert markdown_html("# A\n\n###### B") == "<h2>A</h2>\n<h6>B</h6>\n"


def test_tables_and_links_are_kept() -> None:
    html = markdown_html("| a |\n|---|\n| b |\n\n[x](https://example.org)")
    assert "<td>b</td>" in html
    assert '<a href="https://example.org" rel="nofollow noopener noreferrer ugc">x</a>' in html
