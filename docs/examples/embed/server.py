"""A small app that embeds Aster. Its API key stays here; the page gets tickets that end by themselves.

ASTER_URL=http://127.0.0.1:8000 ASTER_KEY=ask_… ASTER_AGENT=research-assistant python server.py 9000
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2

HERE = Path(__file__).parent
ASTER, KEY, AGENT = (os.environ[name] for name in ("ASTER_URL", "ASTER_KEY", "ASTER_AGENT"))
PORT = int(sys.argv[1])
ORIGIN = f"http://127.0.0.1:{PORT}"
FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        name, kind = FILES.get(self.path, ("", ""))
        text = (HERE / name).read_text() if name else "Not found."
        text = text.replace("{aster}", ASTER).replace("{agent}", AGENT) if kind == "text/html" else text
        self.answer(200 if name else 404, text, kind or "text/plain")

    def do_POST(self):
        # Only for pages of our own: another site must not get a ticket for whoever visits it.
        if self.path != "/ticket" or self.headers.get("Origin") != ORIGIN:
            return self.answer(403, "{}", "application/json")
        # "user" is who is signed in to *this* app; left out, the ticket is for the key's owner.
        asked = {"agents": [AGENT], "scopes": ["aster:connect", "aster:call"], "origin": ORIGIN}
        headers = {"Authorization": f"Bearer {KEY}"}
        made = httpx2.post(f"{ASTER}/api/v1/session-tickets", json=asked, headers=headers)
        self.answer(made.status_code, json.dumps({"ticket": made.json().get("ticket")}), "application/json")

    def answer(self, status, text, kind):
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", PORT), App).serve_forever()
