"""What `manage.py mcp …` can do: a module for each group of verbs, thin faces on the same services as pages and API."""
