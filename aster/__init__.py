"""Aster: a self-hosted control plane for MCP connections."""

from aster.celery import app as celery_app

__all__ = ["celery_app"]
__version__ = "0.1.0"
