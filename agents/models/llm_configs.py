"""Where agents' models are."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Lower

from aster.accounts.models import AuditedModel, Organization
from aster.crypto import EncryptedTextField


class LlmProtocol(models.TextChoices):
    OPENAI = "openai", "OpenAI compatible"
    ANTHROPIC = "anthropic", "Anthropic"


class LlmConfig(AuditedModel):
    """Where an agent's model is, and the protocol spoken there."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="llm_configs")
    name = models.CharField(max_length=100)
    protocol = models.CharField(max_length=20, choices=LlmProtocol.choices, default=LlmProtocol.OPENAI)
    base_url = models.CharField("base URL", max_length=2000)
    model = models.CharField(max_length=200)
    api_key = EncryptedTextField("API key", blank=True, default="")
    max_tokens = models.PositiveIntegerField(
        "longest answer", default=4096, validators=[MinValueValidator(1), MaxValueValidator(200_000)]
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    AUDITED: ClassVar = ("name", "protocol", "base_url", "model", "api_key", "max_tokens")

    class Meta:
        ordering = [Lower("name")]
        verbose_name = "LLM config"
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="llm_config_name_once")]

    def __str__(self) -> str:
        return self.name
