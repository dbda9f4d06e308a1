"""A model's words as HTML: what is drawn, and that nothing of it is ever HTML of the model's own."""

from __future__ import annotations

import time

import pytest

from agents.views.markdown import render_markdown


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("One.\nTwo.\n\nThree.", "<p>One.<br>Two.</p><p>Three.</p>"),
        ("**Bold** and *soft*", "<p><strong>Bold</strong> and <em>soft</em></p>"),
        ("2 * 3 * 4 and a_b_c", "<p>2 * 3 * 4 and a_b_c</p>"),
        ("Run `rm **x**`", "<p>Run <code>rm **x**</code></p>"),
        (
            "- a\n- **b**\n  more\n  - in",
            '<ul><li>a</li><li><strong>b</strong><br>more</li><li class="inner">in</li></ul>',
        ),
        ("1. a\n2. b", "<ol><li>a</li><li>b</li></ol>"),
        ("3) c", '<ol start="3"><li>c</li></ol>'),
        ("Then:\n- a", "<p>Then:</p><ul><li>a</li></ul>"),
        ("## Title ##", '<p class="heading"><strong>Title</strong></p>'),
        ("---", "<hr>"),
        ("", ""),
    ],
)
def test_simple_markdown_is_drawn(text: str, html: str) -> None:
    assert render_markdown(text) == html


def test_code_and_tables_keep_their_form() -> None:
    html = render_markdown("```py\nif a:\n  **b**\n```\nafter")
    assert html.endswith(">if a:\n  **b**</pre><p>after</p>")
    assert "| a | b |\n|---|---|</pre>" in render_markdown("| a | b |\n|---|---|")
    assert "never closed</pre>" in render_markdown("```\nnever closed")


def test_links_lead_to_the_web_alone() -> None:
    html = render_markdown("[docs](https://example.com/a?b=1&c=2) and https://example.com/x.")
    assert (
        '<a href="https://example.com/a?b=1&amp;c=2" target="_blank" rel="noopener noreferrer nofollow">docs</a>'
        in html
    )
    assert ">https://example.com/x</a>.</p>" in html
    for address in ("javascript:alert(1)", "data:text/html,x", "//evil.test", "/hub/"):
        assert "<a " not in render_markdown(f"[x]({address})")


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>", "**<img src=x onerror=alert(1)>**", "`<b>`", "```\n<b>\n```", "- <b>", "# <b>",
        "| <b> |", '[<b>](https://x.test/"onmouseover="alert(1))', "https://x.test/<b>", "![<b>](https://x.test/<b>)",
        "1. <b>\n   <b>",
    ],
)  # fmt: skip
def test_nothing_the_model_writes_is_html(text: str) -> None:
    html = render_markdown(text)
    assert "<b>" not in html and "<script" not in html and "<img" not in html and '"onmouseover' not in html


@pytest.mark.parametrize(
    "piece", ["[", "**", "*a", "`", "[a](", "https://", "- ", "  ", "#", "|", "```\n", "1. ", "\n"]
)
def test_no_text_takes_long(piece: str) -> None:
    started = time.monotonic()
    render_markdown(piece * (100_000 // len(piece)))
    assert time.monotonic() - started < 3
