"""Signing in to the gateway: MCP clients get tokens here, each for one person and one URL (OAuth 2.1, MCP).

django-oauth-toolkit keeps clients, codes and tokens and reads the requests; what they mean is decided here.
"""
