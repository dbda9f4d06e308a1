"""Real MCP clients against Aster's gateway: `make clients`."""
