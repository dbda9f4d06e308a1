"""What the tools of the admin MCP server share: how one is described, its schemas, and lists that a model can read."""
