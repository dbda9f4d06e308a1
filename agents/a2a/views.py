"""The addresses below /a2a/: an agent's card, its JSON-RPC endpoint, and the list of an organization's cards."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions
from rest_framework.request import Request

from agents.a2a.admission import A2aView, version_of
from agents.a2a.card import CARD_PATH, card_of, catalog_of, etag_of
from agents.a2a.following import Events
from agents.a2a.methods import answer
from agents.a2a.reading import id_of, read_request
from agents.a2a.refusals import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, Refused
from agents.api_chat import event_stream
from agents.models import Agent
from agents.services.skills import skills_of
from aster.api import error_body
from aster.api_bodies import BodyTooLarge
from aster.errors import AsterError

CARD_SECONDS = 60
log = logging.getLogger(__name__)


@extend_schema(exclude=True)
class AgentCard(A2aView):
    def get(self, request: Request, organization: str, agent: str) -> HttpResponseBase:
        found = self.agent(organization, agent)
        return document(request, card_of(found, skills_of(found, actor=self.actor)))


@extend_schema(exclude=True)
class AgentCatalog(A2aView):
    def get(self, request: Request, organization: str) -> HttpResponseBase:
        self.require_organization(organization)
        agents = Agent.objects.usable_by(self.actor).select_related("organization")
        return document(request, catalog_of(self.actor.organization, agents))


def document(request: Request, content: dict[str, Any]) -> HttpResponseBase:
    """A document that its reader may keep for a while, and ask for again at little cost (A2A 1.0 §8.6)."""
    tag = etag_of(content)
    kept = [each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")]
    is_known = tag.removeprefix("W/") in kept or "*" in kept  # RFC 9110 §13.1.2
    response = HttpResponse(status=304) if is_known else JsonResponse(content)
    response["ETag"] = tag
    response["Cache-Control"] = f"private, max-age={CARD_SECONDS}"
    patch_vary_headers(response, ["Authorization", "X-API-Key"])
    return response


def no_single_card(request: HttpRequest) -> HttpResponse:
    """This host has many agents, and tells strangers about none."""
    words = f"Each agent has a card of its own: /a2a/ORGANIZATION/AGENT{CARD_PATH}, to be read with an API key."
    return JsonResponse(error_body("not_found", words), status=404)


@extend_schema(exclude=True)
class AgentEndpoint(A2aView):
    """JSON-RPC: what goes wrong with a request is an error in a 200, except where HTTP has its own word for it."""

    def post(self, request: Request, organization: str, agent: str) -> HttpResponseBase:
        found = self.agent(organization, agent)
        request_id: str | int | None = None
        try:
            body = self._body(request)
            request_id = id_of(body)
            result = answer(found, self.actor, read_request(body), version_of(request))
        except Refused as refused:
            return JsonResponse(refused.body(request_id), status=refused.status)
        except AsterError as error:
            return JsonResponse(Refused.of(error).body(request_id))
        if isinstance(result, AsyncGenerator):
            return event_stream(_stream(result, request_id))
        return _uncached(JsonResponse({"jsonrpc": "2.0", "id": request_id, "result": result}))

    def _body(self, request: Request) -> Any:
        try:
            return request.data
        except RequestDataTooBig:  # by Django's own measure
            raise Refused(INVALID_REQUEST, BodyTooLarge.default_detail, status=413) from None
        except exceptions.UnsupportedMediaType:
            raise Refused(INVALID_REQUEST, "Send the request as application/json.", status=415) from None
        except exceptions.ValidationError:
            raise Refused(INVALID_PARAMS, "Null characters and lone surrogates are not allowed.") from None
        except exceptions.APIException as error:
            if error.status_code == 413:
                raise Refused(INVALID_REQUEST, str(error.detail), status=413) from None
            raise Refused(PARSE_ERROR, str(error.detail)) from None


def _uncached(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response


async def _stream(events: Events, request_id: str | int | None) -> AsyncGenerator[bytes, None]:
    """The events as responses of JSON-RPC in a `text/event-stream` (A2A 1.0 §9.4.2)."""
    try:
        async with aclosing(events):
            async for event in events:
                if event is None:
                    yield b": still there\n\n"
                else:
                    yield _line({"jsonrpc": "2.0", "id": request_id, "result": event})
    except AsterError as error:  # deleted meanwhile
        yield _line(Refused.of(error).body(request_id))
    except Exception:
        log.exception("A stream of an A2A task failed")
        yield _line(Refused(INTERNAL_ERROR, "Aster failed; this is a bug. Its log has the reason.").body(request_id))


def _line(response: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(response)}\n\n".encode()
