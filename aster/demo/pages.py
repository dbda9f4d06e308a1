"""The few pages the demo world shows: consent, a problem with a sign-in link, and the front page.

Standalone HTML without scripts or outside assets. Everything that came in from a request is escaped here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape

from aster.demo.records import Person

STYLE = """
:root { color-scheme: light dark;
  --page: light-dark(#f4efe6, #14110d); --tint: light-dark(#e9dcc6, #241c13); --card: light-dark(#fffdf9, #1f1b16);
  --ink: light-dark(#241c13, #f5efe6); --soft: light-dark(#665a4b, #b9ad9d); --line: light-dark(#e2d8c8, #3a332a);
  --edge: light-dark(#8f8271, #857a6b); --brand: light-dark(#a63c12, #ff9a66); --on-brand: light-dark(#ffffff, #2b1005);
  --wash: light-dark(#fbeadf, #3a2216); --alert: light-dark(#a3131f, #ff9c97); }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100svh; display: grid; grid-template-columns: minmax(0, 1fr); place-items: center;
  padding: 32px 16px; color: var(--ink);
  font: 16px/1.5 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Inter, Roboto, sans-serif;
  background: radial-gradient(80rem 40rem at 50% -12rem, var(--tint), transparent 70%) var(--page) no-repeat; }
main { width: 100%; max-width: 468px; }
main.wide { max-width: 680px; }
.top { display: flex; align-items: center; gap: 10px; margin: 0 4px 14px; }
.top svg { width: 30px; height: 30px; flex: none; }
.brand { font-weight: 700; font-size: 18px; letter-spacing: -.01em; }
.pill { margin-left: auto; padding: 3px 11px; border: 1px solid var(--edge); border-radius: 99px; color: var(--soft);
  font-size: 13px; font-weight: 600; white-space: nowrap; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 20px; padding: 30px;
  box-shadow: 0 1px 2px rgb(40 20 0 / .05), 0 18px 50px -22px rgb(60 30 0 / .28); }
h1 { margin: 0; font-size: 25px; line-height: 1.22; letter-spacing: -.022em; font-weight: 700; text-wrap: balance;
  overflow-wrap: anywhere; }
.lead { margin: 8px 0 0; color: var(--soft); overflow-wrap: anywhere; text-wrap: pretty; }
strong { font-weight: 600; color: var(--ink); }
fieldset { border: 0; margin: 24px 0 0; padding: 0; min-width: 0; }
legend, h2 { padding: 0; margin: 0 0 9px; font-size: 14px; line-height: 1.4; font-weight: 600; color: var(--soft);
  overflow-wrap: anywhere; }
.people { display: grid; border: 1px solid var(--line); border-radius: 14px; overflow: clip; }
.person { display: flex; align-items: center; gap: 13px; padding: 11px 15px; cursor: pointer; position: relative; }
.person + .person { border-top: 1px solid var(--line); }
.person:hover, .person:has(:checked) { background: var(--wash); }
.person:has(:focus-visible) { outline: 3px solid var(--brand); outline-offset: -3px; border-radius: 13px; }
.person input { position: absolute; inset: 0; opacity: 0; margin: 0; cursor: pointer; }
.face { flex: none; width: 38px; height: 38px; border-radius: 50%; display: grid; place-items: center; font-size: 14px;
  font-weight: 700; color: #241c13; background: #f7c59b; }
.face.f1 { background: #b9d9b4; } .face.f2 { background: #b5d3ec; } .face.f3 { background: #e3c3e6; }
.who { flex: 1; min-width: 0; line-height: 1.3; overflow-wrap: anywhere; }
.who b { display: block; font-weight: 600; }
.who span { color: var(--soft); font-size: 14px; }
.dot { flex: none; width: 20px; height: 20px; border-radius: 50%; border: 2px solid var(--edge); }
:checked ~ .dot { border: 6px solid var(--brand); }
section { margin: 24px 0 0; }
.scopes { list-style: none; margin: 0; padding: 0; display: grid; gap: 8px; }
.scopes li { display: flex; gap: 11px; align-items: flex-start; }
.scopes svg { flex: none; width: 20px; height: 20px; margin-top: 2px; color: var(--brand); }
dl { display: grid; grid-template-columns: auto 1fr; gap: 5px 18px; margin: 24px 0 0; padding: 17px 0 0;
  font-size: 14px; border-top: 1px solid var(--line); }
dt { color: var(--soft); } dd { margin: 0; font-weight: 500; overflow-wrap: anywhere; }
code { font: 500 .92em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.actions { display: grid; grid-template-columns: 1.6fr 1fr; gap: 10px; margin: 26px 0 0; }
button { font: inherit; font-weight: 600; min-height: 48px; padding: 0 18px; border-radius: 13px; cursor: pointer;
  border: 1px solid var(--edge); background: transparent; color: var(--ink); }
button:hover { background: var(--wash); }
button.yes { border-color: var(--brand); background: var(--brand); color: var(--on-brand); }
button.yes:hover { filter: brightness(1.09); }
button:focus-visible, a:focus-visible { outline: 3px solid var(--brand); outline-offset: 3px; }
.problem { margin: 18px 0 0; padding: 10px 14px; border-left: 4px solid var(--alert); color: var(--alert);
  background: var(--wash); border-radius: 0 10px 10px 0; font-weight: 600; }
.problem + .lead { margin-top: 16px; }
.foot { margin: 16px 4px 0; color: var(--soft); font-size: 13.5px; text-align: center; text-wrap: balance; }
.rows { list-style: none; margin: 24px 0 0; padding: 0; }
.rows li { padding: 17px 0; border-top: 1px solid var(--line); }
.rows li:last-child { padding-bottom: 0; }
.rows h2 { color: var(--ink); font-size: 17px; margin: 0; }
.rows p { margin: 2px 0 7px; color: var(--soft); }
.rows code { display: inline-block; padding: 2px 9px; border-radius: 8px; background: var(--wash); }
@media (max-width: 480px) { body { padding: 18px 12px; place-items: start center; } .card { padding: 22px 18px; }
  h1 { font-size: 22px; } fieldset, section, dl { margin-top: 18px; }
  dl { grid-template-columns: 1fr; gap: 0; } dd + dt { margin-top: 8px; } }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

# No form-action: Chromium applies it to the redirect that follows the form too, and the client may live anywhere.
SECURITY_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_MARK = (
    '<svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="9" fill="#a63c12"/>'
    '<path d="M8 23 16 8l8 15" fill="none" stroke="#fff" stroke-width="3.2" stroke-linecap="round" '
    'stroke-linejoin="round"/><circle cx="16" cy="20.4" r="2.5" fill="#ffc9a6"/></svg>'
)
_CHECK = (
    '<svg viewBox="0 0 20 20" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2" '
    'stroke-linecap="round" stroke-linejoin="round"><path d="m4.5 10.5 3.7 3.7 7.3-8"/></svg>'
)


def render_consent_page(
    *,
    client_name: str,
    returns_to: str,
    resource: str,
    people: Sequence[Person],
    chosen: str,
    permissions: Sequence[str],
    hidden: Mapping[str, str],
    problem: str = "",
) -> str:
    """Return the page that asks a person who they are and what they allow.

    `returns_to` is the host the answer goes to, `resource` the URL the permission is for ("" hides it), `hidden` what
    the form sends back unchanged, `problem` a sentence about the last attempt.
    """
    name = f"<bdi>{escape(_shortened(client_name, 60))}</bdi>"
    rows = "".join(_person_row(person, position, person.name == chosen) for position, person in enumerate(people))
    scopes = "".join(f"<li>{_CHECK}<span>{escape(words)}</span></li>" for words in permissions)
    fields = "".join(f'<input type="hidden" name="{escape(k)}" value="{escape(v)}">' for k, v in hidden.items())
    alert = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    used_for = f"<dt>For use at</dt><dd>{escape(_shortened(resource))}</dd>" if resource else ""
    allows = f"<section><h2>{name} will be able to</h2><ul class='scopes'>{scopes}</ul></section>" if scopes else ""
    body = f"""
<form method="post" class="card">{fields}
<h1>Allow {name} to use your Acme account?</h1>
<p class="lead">Pick who you are. There is no password, because these people are made up.</p>{alert}
<fieldset><legend>Sign in as</legend><div class="people">{rows}</div></fieldset>
{allows}
<dl><dt>Sends you back to</dt><dd>{escape(_shortened(returns_to))}</dd>{used_for}</dl>
<div class="actions"><button class="yes" name="decision" value="allow">Allow</button>
<button name="decision" value="deny">Deny</button></div>
</form>
<p class="foot">Acme ID is made for trying things out and runs on this computer only.</p>"""
    return _page("Sign in with Acme ID", body)


def render_problem_page(problem: str) -> str:
    """Return the page for a sign-in link that leads nowhere safe."""
    body = f"""
<div class="card"><h1>This sign-in link does not work</h1>
<p class="problem" role="alert">{escape(problem)}</p>
<p class="lead">Nothing was shared. Go back to the app you came from and start the connection again there.</p></div>"""
    return _page("Sign-in problem · Acme ID", body)


def render_front_page(servers: Sequence[tuple[str, str, str]]) -> str:
    """Return the page at the root of the demo world; `servers` are (name, what it is, URL)."""
    rows = "".join(
        f"<li><h2>{escape(name)}</h2><p>{escape(about)}</p><code>{escape(url)}</code></li>"
        for name, about, url in servers
    )
    body = f"""
<div class="card"><h1>A small world to connect to</h1>
<p class="lead">Everything here is made up and runs on this computer: a sign-in provider, two MCP servers and a
scripted model. Add a server by its address in Aster, connect, and try its tools. No internet, no account.</p>
<ul class="rows">{rows}</ul></div>"""
    return _page("Acme demo world", body, wide=True, brand="Acme", label="Demo world")


def _person_row(person: Person, position: int, checked: bool) -> str:
    initials = escape("".join(part[0] for part in person.name.split()[:2]).upper())
    return (
        f'<label class="person"><input type="radio" name="person" value="{escape(person.name)}" required'
        f'{" checked" if checked else ""}><span class="face f{position % 4}" aria-hidden="true">{initials}</span>'
        f'<span class="who"><b>{escape(person.name)}</b><span>{escape(person.email)}</span></span>'
        f'<span class="dot" aria-hidden="true"></span></label>'
    )


def _shortened(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _page(title: str, body: str, *, wide: bool = False, brand: str = "Acme ID", label: str = "Demo provider") -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{escape(title)}</title><style>{STYLE}</style></head>
<body><main{' class="wide"' if wide else ""}>
<div class="top">{_MARK}<span class="brand">{brand}</span><span class="pill">{label}</span></div>{body}
</main></body></html>"""
