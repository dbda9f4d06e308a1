"""What connectors keep: the OpenAPI documents that some are made from."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from aster.accounts.access import Actor
from aster.accounts.models import Organization, User


class ApiDocumentQuerySet(models.QuerySet["ApiDocument"]):
    def visible_to(self, actor: Actor) -> ApiDocumentQuerySet:
        return self.filter(organization=actor.organization)

    def drafts(self) -> ApiDocumentQuerySet:
        return self.filter(operations=[])


class ApiDocument(models.Model):
    """An OpenAPI document, and the operations of it that are tools.

    A row never changes: other operations are another row, to which the connector's server then points (`args`). So
    whatever was kept in memory by its id is right, in every process. One without operations is a draft, and no server
    ever points to it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="api_documents")
    title = models.CharField(max_length=100)
    # What its tools' names begin with, and the slug of its server if that was free
    slug = models.SlugField(max_length=50)
    source_url = models.CharField(max_length=2000, blank=True)
    text = models.TextField()  # as JSON, whatever it came as
    # Each as connectors.openapi.document.Operation has it, with the names that an admin chose
    operations: models.JSONField[list[dict[str, Any]]] = models.JSONField(default=list)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ApiDocumentQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "OpenAPI document"

    def __str__(self) -> str:
        return self.title
