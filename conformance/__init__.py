"""The public MCP conformance suite, run against Aster. See CONTRIBUTING.md."""
