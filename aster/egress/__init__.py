"""The only way out: every HTTP request Aster makes goes through here. Nothing else imports httpx2's clients.

`client()` is for sync code, `async with async_client() as http` for the async edge, `Pool` for its calls of tools, and
`AsyncLine` for very many requests to few addresses; `check_url(url)` belongs before a URL is stored, and
`explain(error, url)` turns whatever went wrong into words for the person who typed it.
"""

from aster.egress.addresses import Policy, Resolver, check_url
from aster.egress.body import MAX_RESPONSE_BYTES, ResponseTooLarge
from aster.egress.clients import ASYNC_TIMEOUT, TIMEOUT, async_client, client, keep_async_pool
from aster.egress.deadline import DeadlineExceeded, deadline
from aster.egress.failures import explain
from aster.egress.guard import AsyncEgressTransport, EgressTransport, NameNotFound, RequestRefused, tls_context
from aster.egress.lines import AsyncLine, Reply
from aster.egress.pool import Pool, kept_pool
from aster.egress.wire import Answer

__all__ = [
    "ASYNC_TIMEOUT",
    "MAX_RESPONSE_BYTES",
    "TIMEOUT",
    "Answer",
    "AsyncEgressTransport",
    "AsyncLine",
    "DeadlineExceeded",
    "EgressTransport",
    "NameNotFound",
    "Policy",
    "Pool",
    "Reply",
    "RequestRefused",
    "Resolver",
    "ResponseTooLarge",
    "async_client",
    "check_url",
    "client",
    "deadline",
    "explain",
    "keep_async_pool",
    "kept_pool",
    "tls_context",
]
