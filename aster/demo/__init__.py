"""The demo world: a sign-in provider and two MCP servers on loopback, so that a first visit works without the internet.

`aster.demo.world.DemoWorld` starts all of it in one thread; the tests use the same parts with their knobs turned.
Nothing here knows Aster or Django, and importing `aster.demo.world` loads neither Starlette nor the MCP SDK.
"""
