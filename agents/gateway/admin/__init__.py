"""The admin MCP server at `/mcp/{organization}/admin` (features M4): Aster managed through MCP tools."""
