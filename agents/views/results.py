"""A tool's result as blocks to draw. What a server sends is text until proven otherwise: nothing here runs or loads."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

MAX_TEXT = 256 * 1024
MAX_IMAGE = 4 * 1024 * 1024
MAX_BLOCKS = 100
# What a browser draws without running anything; SVG can run scripts.
IMAGE_STARTS = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}


@dataclass(frozen=True)
class Block:
    """`kind` is text, json, image, link or note; `note` says what was left out or what cannot be shown."""

    kind: str
    title: str
    text: str = ""
    href: str = ""
    note: str = ""


def describe_size(count: int) -> str:
    if count < 1024:
        return f"{count} bytes"
    if count < 1024 * 1024:
        return f"{count / 1024:.1f} kB"
    return f"{count / 1024 / 1024:.1f} MB"


def result_size(result: dict[str, Any]) -> int:
    return len(json.dumps(result, ensure_ascii=False).encode())


def result_blocks(result: dict[str, Any]) -> list[Block]:
    """The content of a tool result, in order. A text that only repeats the structured result is left out."""
    content = result.get("content")
    content = content if isinstance(content, list) else []
    structured = result.get("structuredContent")
    blocks = [
        block
        for each in content[:MAX_BLOCKS]
        for block in _blocks_of(each)
        if not (structured is not None and _repeats(each, structured))
    ]
    if len(content) > MAX_BLOCKS:
        blocks.append(Block("note", "More", note=f"{len(content) - MAX_BLOCKS} more blocks are not shown."))
    return blocks


def _repeats(block: Any, structured: Any) -> bool:
    """Whether a text block is the structured result over again, as servers send it for older clients."""
    if not isinstance(block, dict) or block.get("type") != "text":
        return False
    try:
        return bool(json.loads(str(block.get("text"))) == structured)
    except (ValueError, RecursionError):
        return False


def _blocks_of(block: Any) -> Iterator[Block]:
    if not isinstance(block, dict):
        yield _json_block("Unknown content", block)
        return
    kind = block.get("type")
    if kind == "text":
        yield text_block("Text", str(block.get("text", "")))
    elif kind == "image":
        yield _image_block(block)
    elif kind == "audio":
        mime, size = _mime_and_size(block, "data")
        yield Block("note", "Audio", note=f"{mime}, {size}. Sound is not played here.")
    elif kind == "resource" and isinstance(block.get("resource"), dict):
        yield _resource_block(block["resource"])
    elif kind == "resource_link":
        yield _link_block(block)
    else:
        yield _json_block(f"Content of type {str(kind)[:40]}", block)


def text_block(title: str, text: str, note: str = "") -> Block:
    """A text, drawn as JSON when it is a JSON object or list; cut when it is very long."""
    if len(text) > MAX_TEXT:
        cut = f"The first {describe_size(MAX_TEXT)} of {describe_size(len(text.encode()))} are shown."
        return Block("text", title, text[:MAX_TEXT], note=" ".join(filter(None, (note, cut))))
    try:
        parsed = json.loads(text) if text.lstrip()[:1] in ("{", "[") else None
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict | list):
        return Block("json", f"{title} (JSON)", json.dumps(parsed, indent=2, ensure_ascii=False), note=note)
    return Block("text", title, text, note=note)


def _json_block(title: str, value: Any) -> Block:
    return text_block(title, json.dumps(value, indent=2, ensure_ascii=False))


def _mime_and_size(block: dict[str, Any], name: str) -> tuple[str, str]:
    data = str(block.get(name, ""))
    return str(block.get("mimeType") or "no type given")[:100], describe_size(len(data) * 3 // 4)


def _image_block(block: dict[str, Any]) -> Block:
    mime, size = _mime_and_size(block, "data")
    data = str(block.get("data", ""))
    if len(data) > MAX_IMAGE * 4 // 3:
        return Block("note", "Image", note=f"{mime}, {size}: too large to show.")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return Block("note", "Image", note=f"{mime}: the data is not base64.")
    if not raw.startswith(IMAGE_STARTS.get(mime, ())):
        return Block("note", "Image", note=f"{mime}, {size}: only PNG, JPEG, GIF and WebP are shown.")
    return Block("image", "Image", href=f"data:{mime};base64,{base64.b64encode(raw).decode()}", note=f"{mime}, {size}")


def _resource_block(resource: dict[str, Any]) -> Block:
    where = str(resource.get("uri", ""))[:500]
    if isinstance(resource.get("text"), str):
        mime = str(resource.get("mimeType", ""))[:100]
        return text_block("Resource", resource["text"], note=" · ".join(filter(None, (where, mime))))
    mime, size = _mime_and_size(resource, "blob")
    return Block("note", "Resource", note=f"{where} · {mime}, {size}. Binary data is not shown.")


def _link_block(block: dict[str, Any]) -> Block:
    uri = str(block.get("uri", ""))[:2000]
    title = str(block.get("title") or block.get("name") or uri)[:200]
    note = str(block.get("description") or "")[:500]
    return Block("link", "Link to a resource", text=title, href=uri if is_web_link(uri) else "", note=note or uri)


def is_web_link(uri: str) -> bool:
    """Only what a browser opens as a page may become a link: not javascript:, data: or file:."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and uri.isprintable()
