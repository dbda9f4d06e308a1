"""Steps that are tried again after faults that may pass."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from aster.errors import AsterError
from integrations.mcp_client.failures import Refusal, was_never_sent

BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 2.0
Result = TypeVar("Result")


async def repeat(
    step: Callable[[], Awaitable[Result]],
    attempts: int,
    *,
    ends: float = math.inf,
    after: str | None = None,
    failed: AsterError | Refusal | None = None,
) -> Result:
    """Run a step that may be repeated, up to so many times again after retryable faults.

    Not beyond `ends` (monotonic seconds), and only after faults of the step `after`, if given. Has it been run once
    already, `failed` is what came of that.
    """
    earlier: Exception | None = None
    attempt = 0
    while True:
        pause = min(BACKOFF_SECONDS * 2**attempt, MAX_BACKOFF_SECONDS)
        try:
            if failed and not attempt:
                raise failed
            return await step()
        except (AsterError, Refusal) as failure:
            error = failure.error if isinstance(failure, Refusal) else failure
            # What may have run stays that, also if the next try does not even get through.
            earlier = earlier if earlier and was_never_sent(error) else failure
            fits = error.retryable and (after is None or getattr(error, "step", "") == after)
            if not fits or attempt >= attempts or time.monotonic() + pause >= ends:
                raise earlier from None
        attempt += 1
        await anyio.sleep(pause)
