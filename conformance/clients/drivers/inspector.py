"""The Inspector's command line: one process a request, the second with what the first has stored."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

# Its exit code after a result that says isError.
TOOL_IS_ERROR = 5
URL, KEY = os.environ["ASTER_URL"], os.environ.get("ASTER_API_KEY")


def ask(*options: str) -> Any:
    command = [os.environ["NODE"], os.environ["INSPECTOR"], "--cli", URL, "--transport", "http", "--format", "json"]
    command += ["--protocol-era", os.environ["MODE"], *options]
    if KEY:
        command += ["--header", f"Authorization: Bearer {KEY}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode not in (0, TOOL_IS_ERROR):
        raise SystemExit(f"{done.stdout}\n{done.stderr}\nexit code {done.returncode}")
    answer = json.loads(done.stdout)
    return answer.get("result", answer)


listed = [tool["name"] for tool in ask("--method", "tools/list")["tools"]]
name = next(tool for tool in listed if tool.endswith(os.environ["ASTER_TOOL"]))
arguments = ["--tool-name", name, "--tool-args-json", os.environ["ASTER_ARGUMENTS"]]
# Signed in once: the second process is to find the tokens of the first.
stored = [] if KEY else ["--stored-auth-only"]
result = ask("--method", "tools/call", *arguments, *stored)
linked = next(tool for tool in listed if tool.endswith(os.environ["ASTER_LINK_TOOL"]))
link = ask("--method", "tools/call", "--tool-name", linked, *stored)
print(json.dumps({"tools": listed, "result": result, "link": link}))
