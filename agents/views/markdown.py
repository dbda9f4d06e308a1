"""A model's words as HTML: paragraphs, headings, lists, code, bold, italics and links.

Nothing in the text is HTML: every piece goes through `escape`, and the only tags are those written here. Links lead to
http and https alone, pictures are not loaded. Each pattern is bounded, so that no text takes long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

_FENCE = re.compile(r"^\s{0,3}```")
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+(.*?)\s*#*$")
_BULLET = re.compile(r"^(\s*)[-*+]\s+(.*)$")
_NUMBER = re.compile(r"^(\s*)(\d{1,6})[.)]\s+(.*)$")
_RULE = re.compile(r"^\s{0,3}(?:-{3,}|\*{3,}|_{3,})\s*$")
_INLINE = re.compile(
    r"`(?P<code>[^`\n]{1,2000})`"
    r"|\[(?P<label>[^\[\]\n]{1,300})\]\((?P<target>https?://[^\s()<>]{1,2000})\)"
    r"|(?P<url>https?://[^\s()<>\"'`*]{1,2000})"
    r"|\*\*(?P<bold>[^\s*](?:[^*\n]{0,1000}[^\s*])?)\*\*"
    r"|(?<![\w*])\*(?P<italic>[^\s*](?:[^*\n]{0,1000}[^\s*])?)\*(?![\w*])",
    re.IGNORECASE,
)


def render_markdown(text: str) -> SafeString:
    """Safe HTML for what a model wrote."""
    return mark_safe("".join(_blocks(text.replace("\r\n", "\n").split("\n"))))  # noqa: S308  (each part is escaped below)


def _blocks(lines: list[str]) -> Iterator[str]:
    position = 0
    while position < len(lines):
        line = lines[position]
        if _FENCE.match(line):
            end = next((n for n in range(position + 1, len(lines)) if _FENCE.match(lines[n])), len(lines))
            yield _code(lines[position + 1 : end])
            position = end + 1
        elif line.lstrip().startswith("|"):
            end = _end(lines, position, lambda each: each.lstrip().startswith("|"))
            yield _code(lines[position:end])  # a table keeps its columns as it was written
            position = end
        elif _is_item(line):
            end = _end(lines, position, lambda each: _is_item(each) or each.startswith("  "))
            yield _list(lines[position:end])
            position = end
        elif heading := _HEADING.match(line):
            yield f'<p class="heading"><strong>{_inline(heading[1])}</strong></p>'
            position += 1
        elif _RULE.match(line):
            yield "<hr>"
            position += 1
        elif not line.strip():
            position += 1
        else:
            end = _end(lines, position, _is_plain)
            yield f"<p>{'<br>'.join(_inline(each.strip()) for each in lines[position:end])}</p>"
            position = end


def _end(lines: list[str], start: int, belongs: Callable[[str], bool]) -> int:
    return next((n for n in range(start + 1, len(lines)) if not belongs(lines[n])), len(lines))


def _is_item(line: str) -> bool:
    return bool(_BULLET.match(line) or _NUMBER.match(line)) and not _RULE.match(line)


def _is_plain(line: str) -> bool:
    begins = _FENCE.match(line) or _HEADING.match(line) or _RULE.match(line) or line.lstrip().startswith("|")
    return bool(line.strip()) and not begins and not _is_item(line)


def _code(lines: list[str]) -> str:
    return f'<pre tabindex="0" role="group" aria-label="Code">{escape(chr(10).join(lines))}</pre>'


def _list(lines: list[str]) -> str:
    """One list; an item further in than the first is drawn one step in, and a line that is no item continues one."""
    numbered = _NUMBER.match(lines[0])
    first = len(lines[0]) - len(lines[0].lstrip())
    items: list[str] = []
    for line in lines:
        bullet, number = _BULLET.match(line), _NUMBER.match(line)
        if found := bullet or number:
            inner = ' class="inner"' if len(found[1]) > first + 1 else ""
            items.append(f"<li{inner}>{_inline(found[found.lastindex or 1])}")
        else:
            items[-1] += f"<br>{_inline(line.strip())}"
    start = f' start="{int(numbered[2])}"' if numbered and int(numbered[2]) != 1 else ""
    tag = "ol" if numbered else "ul"
    return f"<{tag}{start}>{''.join(f'{item}</li>' for item in items)}</{tag}>"


def _inline(text: str) -> str:
    parts: list[str] = []
    end = 0
    for found in _INLINE.finditer(text):
        parts += [escape(text[end : found.start()]), _span(found)]
        end = found.end()
    return "".join([*parts, escape(text[end:])])


def _span(found: re.Match[str]) -> str:
    if found["code"] is not None:
        return f"<code>{escape(found['code'])}</code>"
    if found["target"] is not None:
        return _link(found["target"], found["label"])
    if found["url"] is not None:
        address = found["url"].rstrip(".,;:!?")
        return _link(address, address) + escape(found["url"][len(address) :])
    if found["bold"] is not None:
        return f"<strong>{_inline(found['bold'])}</strong>"
    return f"<em>{_inline(found['italic'])}</em>"


def _link(address: str, label: str) -> str:
    return f'<a href="{escape(address)}" target="_blank" rel="noopener noreferrer nofollow">{escape(label)}</a>'
