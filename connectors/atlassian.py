"""What Atlassian's cloud products share: one sign-in for several sites, and how refusals are put.

https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from aster.errors import InvalidInput
from connectors.rest import Answer, Problem, Rest, problem_of

Site = Annotated[str, Field(description="Its address, such as acme.atlassian.net, for those who have several")]


def problem(answer: Answer) -> Problem | None:
    """A token that lacks a scope gets a 401; other refusals come as lists of words, some of them by field."""
    said = answer.body if answer.failed and isinstance(answer.body, dict) else {}
    if answer.status == 401 and "scope does not match" in str(said.get("message")):
        return Problem(403, said["message"], lacks_scope=True)
    words = [*said.get("errorMessages", ()), *(f"{name}: {why}" for name, why in said.get("errors", {}).items())]
    return problem_of(answer, "; ".join(words))


async def at_site(api: Rest, product: str, site: str) -> Rest:
    """The API of `product` at one of the sites that the person has opened. Raises InvalidInput unless it is clear
    which."""
    found = await api.get("oauth/token/accessible-resources")
    sites = {each["url"].partition("://")[2]: each["id"] for each in found if product in " ".join(each["scopes"])}
    wanted = [one for one in sites if site in ("", one)]
    if len(wanted) != 1:
        raise InvalidInput(f"Give `site`, which is one of: {', '.join(sites) or 'none'}.")
    return replace(api, url=f"{api.url.rstrip('/')}/ex/{product}/{sites[wanted[0]]}")
