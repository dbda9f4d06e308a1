"""The models agents think with: two streaming protocols behind one small vocabulary (docs/decisions/0010).

Knows neither database nor pages: `client_of` takes whatever has the fields of an LlmConfig.
"""

from __future__ import annotations

from typing import Protocol

from agents.llm.anthropic import AnthropicClient
from agents.llm.base import Client, Endpoint
from agents.llm.openai import OpenAiClient

__all__ = ["Client", "Endpoint", "client_of"]


class Configured(Protocol):
    protocol: str
    base_url: str
    model: str
    api_key: str
    max_tokens: int


def client_of(config: Configured) -> Client:
    """The client that speaks what `config` says is spoken there."""
    endpoint = Endpoint(config.base_url.rstrip("/"), config.model, config.api_key, config.max_tokens)
    return AnthropicClient(endpoint) if config.protocol == "anthropic" else OpenAiClient(endpoint)
