"""Heads of requests: what repeats is read once, and what differs is told apart."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from agents.gateway.head import MOST_BYTES, MOST_KEPT, Heads

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
    async def read() -> None:
        known = heads()
        first, name = known.read(scope((b"content-length", b"10"), (b"mcp-name", b"echo"), (b"cf-ray", b"1")))
        known.keep(first)
        again, other = known.read(scope((b"content-length", b"999"), (b"mcp-name", b"add "), (b"cf-ray", b"2")))
        assert first is again and (name, other) == ("echo", "add")
        assert (first.key, first.version, first.is_expected, first.accepts_both) == ("s3cret", "2026-07-28", True, True)
        known.close()

    asyncio.run(read())


def test_another_key_path_or_origin_is_another_head() -> None:
    async def read() -> None:
        known = heads()
        first, _ = known.read(scope())
        known.keep(first)
        assert known.read(scope(path="/mcp/acme/other"))[0] is not first
        assert known.read(scope((b"origin", b"https://evil.test")))[0].is_expected is False
        changed = scope()
        changed["headers"][3] = (b"authorization", b"Bearer another")
        assert known.read(changed)[0].key == "another"
        known.close()

    asyncio.run(read())


def test_what_comes_twice_says_nothing() -> None:
    head, name = heads().read(scope((b"mcp-name", b"a"), (b"mcp-name", b"b"), (b"authorization", b"Bearer other")))
    assert name is None and head.key == "" and "authorization" not in head.headers


def test_what_somebody_made_up_takes_no_memory() -> None:
    async def read() -> None:
        known = heads()
        for number in range(3 * MOST_KEPT):
            stranger, _ = known.read(scope((b"x-api-key", b"%d" % number)))  # who was not let in is not kept
        assert not known._young
        for number in range(3 * MOST_KEPT):
            known.keep(known.read(scope((b"x-api-key", b"%d" % number)))[0])
        assert len(known._young) <= MOST_KEPT and stranger not in known._young.values()
        known._young.clear()
        known.keep(known.read(scope((b"origin", b"x" * MOST_BYTES)))[0])
        assert not known._young
        known.close()

    asyncio.run(read())


def test_many_headers_cost_no_more_than_their_number() -> None:
    def steps(count: int) -> int:
        """How many functions are called to read so many headers."""
        calls = [0]

        def count_call(frame: object, event: str, arg: object) -> None:
            calls[0] += event in ("call", "c_call")

        made_up = scope(*((b"accept", b"%d" % number) for number in range(count)))
        sys.setprofile(count_call)
        try:
            heads().read(made_up)
        finally:
            sys.setprofile(None)
        return calls[0]

    assert steps(2_000) < 3 * steps(1_000)


def test_a_head_that_nobody_repeats_is_forgotten() -> None:
    async def read() -> None:
        known = heads()
        known.keep(known.read(scope())[0])
        known._turn()
        still, _ = known.read(scope())  # repeated: young again
        known._turn()
        assert known.read(scope())[0] is still
        known._turn()
        known._turn()
        assert not known._young and not known._old and known._turning is None

    asyncio.run(read())


def test_no_repr_tells_of_the_key() -> None:
    head, _ = heads().read(scope())
    assert "s3cret" not in repr(head)
