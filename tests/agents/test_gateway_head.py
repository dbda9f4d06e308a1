"""Heads of requests: what repeats is read once, and what differs is told apart."""

from __future__ import annotations

from typing import Any

from agents.gateway.head import MOST_KEPT, Heads

HEADERS = [
    (b"host", b"aster.test"),
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
    (b"authorization", b"Bearer s3cret"),
    (b"mcp-protocol-version", b"2026-07-28"),
]


def scope(*more: tuple[bytes, bytes], path: str = "/mcp/acme/helper") -> dict[str, Any]:
    return {"path": path, "headers": [*HEADERS, *more]}


def heads() -> Heads:
    return Heads(["aster.test"], ["https://aster.test"])


def test_the_same_client_is_read_once_whatever_it_calls() -> None:
    known = heads()
    first, name = known.read(scope((b"content-length", b"10"), (b"mcp-name", b"echo")))
    again, other = known.read(scope((b"content-length", b"999"), (b"mcp-name", b"add ")))
    assert first is again and (name, other) == ("echo", "add")
    assert (first.key, first.version, first.is_expected, first.accepts_both) == ("s3cret", "2026-07-28", True, True)


def test_another_key_path_or_header_is_another_head() -> None:
    known = heads()
    first, _ = known.read(scope())
    assert known.read(scope(path="/mcp/acme/other"))[0] is not first
    assert known.read(scope((b"origin", b"https://evil.test")))[0] is not first
    changed = scope()
    changed["headers"][3] = (b"authorization", b"Bearer another")
    assert known.read(changed)[0].key == "another"
    assert known.read(scope((b"origin", b"https://evil.test")))[0].is_expected is False


def test_what_comes_twice_says_nothing() -> None:
    head, name = heads().read(scope((b"mcp-name", b"a"), (b"mcp-name", b"b"), (b"authorization", b"Bearer other")))
    assert name is None and head.key == "" and "authorization" not in head.headers


def test_heads_that_somebody_made_up_take_no_memory() -> None:
    known = heads()
    for number in range(2 * MOST_KEPT):
        known.read(scope((b"x-made-up", b"%d" % number)))
    assert len(known._known) <= MOST_KEPT


def test_no_repr_tells_of_the_key() -> None:
    head, _ = heads().read(scope())
    assert "s3cret" not in repr(head)
