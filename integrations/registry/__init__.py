"""MCP registries: asking one for its entries, and what an entry (server.json) says. Knows neither rows nor services."""
