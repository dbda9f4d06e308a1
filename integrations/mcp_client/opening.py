"""A session for as long as somebody needs it."""

from __future__ import annotations

from types import TracebackType

from integrations.mcp_client.session import Session
from integrations.mcp_client.target import Target


class open_target:
    """A `Session` at `target`, ready for calls, for the length of an `async with`; may be entered and left in different
    tasks.

    Raises UpstreamError (AuthChallenge for 401 and 403), ForbiddenAddress, or what `target.token` raises.
    """

    __slots__ = ("_session",)

    def __init__(self, target: Target) -> None:
        self._session = Session(target)

    async def __aenter__(self) -> Session:
        try:
            await self._session.open()
        except BaseException as error:
            await self._session.close(politely=isinstance(error, Exception))
            raise
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        # Cancelled: no time for goodbyes
        await self._session.close(politely=error is None or isinstance(error, Exception))
