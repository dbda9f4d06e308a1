"""How an API is signed in to: what its document says of it, and the auth config that comes of what an admin enters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aster.errors import InvalidInput
from connectors.base import Kind
from connectors.openapi.addresses import server_url
from connectors.openapi.schemas import References, clean_text
from integrations.models import AuthConfig, AuthType, ClientMode, ResourceMode

MOST_SCOPES = 100
NONE, API_KEY, HEADER, BASIC, OAUTH = "none", "api_key", "header", "basic", "oauth"
KINDS = {
    NONE: "No sign-in",
    API_KEY: "API key",
    HEADER: "API key in a header of its own",
    BASIC: "User name and password",
    OAUTH: "OAuth, each person signs in",
}


@dataclass(frozen=True)
class SignIn:
    """A way to sign in that a document describes. `words` say what Aster does not take over."""

    kind: str = NONE
    header: str = ""
    authorization_url: str = ""
    token_url: str = ""
    scopes: dict[str, str] = field(default_factory=dict)  # what each is for
    words: str = ""


def propose_sign_in(raw: Mapping[str, Any], source_url: str = "") -> SignIn:
    """The first way that Aster can go, those that the document asks for everywhere before others."""
    components = raw.get("components")
    schemes = components.get("securitySchemes") if isinstance(components, dict) else None
    if not isinstance(schemes, dict) or not schemes:
        return SignIn()
    asked = raw.get("security")
    first = [name for each in (asked if isinstance(asked, list) else []) if isinstance(each, dict) for name in each]
    references = References(raw)
    read = [
        _read(references, schemes[name], source_url) for name in dict.fromkeys([*first, *schemes]) if name in schemes
    ]
    usable = next((each for each in read if each.kind != NONE), None)
    return usable or next((each for each in read if each.words), SignIn())


def _read(references: References, value: Any, source_url: str) -> SignIn:
    try:
        scheme = references.follow(value)
    except ValueError:
        return SignIn()
    match scheme.get("type"), str(scheme.get("scheme", "")).lower(), scheme.get("in"):
        case "http", "basic", _:
            return SignIn(BASIC)
        case "http", _, _:
            return SignIn(API_KEY)
        case "apiKey", _, "header":
            name = clean_text(scheme.get("name"), 100)
            return SignIn(API_KEY) if name.lower() == "authorization" else SignIn(HEADER, header=name)
        case "apiKey", _, "query":
            name = clean_text(scheme.get("name"), 60)
            words = (
                f"The API takes its key in the address (?{name}=…). Aster does not send keys there, where they end up"
            )
            return SignIn(words=f"{words} in logs. See whether it takes the key in a header as well.")
        case "apiKey", _, _:
            return SignIn(words="The API takes its key as a cookie, which Aster does not send.")
        case "oauth2", _, _:
            return _oauth(scheme.get("flows"), source_url)
        case "openIdConnect", _, _:
            words = "Its sign-in is OpenID Connect: take the two addresses from the provider's documentation."
            return SignIn(OAUTH, words=words)
    return SignIn()


def _oauth(flows: Any, source_url: str) -> SignIn:
    flow = flows.get("authorizationCode") if isinstance(flows, dict) else None
    if not isinstance(flow, dict):
        return SignIn(words="Its OAuth has no sign-in for people (authorization code).")
    urls = [server_url([{"url": flow.get(name)}], source_url)[0] for name in ("authorizationUrl", "tokenUrl")]
    return SignIn(OAUTH, authorization_url=urls[0], token_url=urls[1], scopes=dict(_scopes(flow.get("scopes"))))


def _scopes(scopes: Any) -> Iterator[tuple[str, str]]:
    for name, words in list(scopes.items() if isinstance(scopes, dict) else [])[:MOST_SCOPES]:
        if name and " " not in name and len(name) <= 200:
            yield name, clean_text(words, 200)


@dataclass(frozen=True)
class Credentials:
    """What an admin enters; None leaves a value as it is. Its repr shows no secrets."""

    sign_in: str | None = None
    api_key: str | None = field(default=None, repr=False)
    header: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    authorization_url: str | None = None
    token_url: str | None = None
    scopes: list[str] | None = None
    allow_end_user_auth: bool | None = None
    require_auth: bool | None = None


_OF_KIND = {
    NONE: (),
    API_KEY: ("api_key",),
    HEADER: ("api_key", "header"),
    BASIC: ("username", "password"),
    OAUTH: (
        *("client_id", "client_secret", "authorization_url", "token_url", "scopes"),
        *("allow_end_user_auth", "require_auth"),
    ),
}


def kind_of(auth: AuthConfig | None) -> str:
    if auth is None or auth.auth_type == AuthType.NONE:
        return NONE
    if auth.auth_type == AuthType.BASIC:
        return BASIC
    if auth.auth_type == AuthType.BEARER:
        return API_KEY if auth.token else HEADER
    return OAUTH


def new_auth(kind: str, name: str) -> AuthConfig | None:
    own: dict[str, Any] = {API_KEY: {"auth_type": AuthType.BEARER}, HEADER: {"auth_type": AuthType.BEARER},
                           BASIC: {"auth_type": AuthType.BASIC}}.get(kind, {})  # fmt: skip
    if kind == OAUTH:
        # REST APIs are no MCP resources (RFC 8707), and their providers promise PKCE nowhere that can be asked.
        own = {"auth_type": AuthType.AUTHORIZATION_CODE, "client_mode": ClientMode.KNOWN,
               "resource_mode": ResourceMode.OMIT, "assume_pkce": True}  # fmt: skip
    return AuthConfig(name=name, **own) if own else None


def apply_credentials(given: Credentials, auth: AuthConfig | None, kind: str) -> None:
    """Raises InvalidInput for what this way to sign in does not have, and for what it lacks."""
    values = {name: value for name in _ALL if (value := getattr(given, name)) is not None}
    if foreign := [name for name in values if name not in _OF_KIND[kind]]:
        words = f"“{KINDS[kind]}” takes none."
        raise InvalidInput(f"{foreign[0]}: {words}", fields={name: [words] for name in foreign})
    if auth is None:
        return
    if kind == HEADER:
        _apply_header(given, auth)
        return
    if "api_key" in values:
        auth.token = values.pop("api_key")
    for name, value in values.items():
        setattr(auth, name, value)
    needed = {
        API_KEY: {"api_key": auth.token},
        BASIC: {"username": auth.username},
        OAUTH: {name: getattr(auth, name) for name in ("client_id", "authorization_url", "token_url")},
    }
    if missing := [name for name, value in needed[kind].items() if not value]:
        raise InvalidInput("The sign-in is not complete.", fields={name: ["This is needed."] for name in missing})


def _apply_header(given: Credentials, auth: AuthConfig) -> None:
    had = next(iter(auth.custom_headers.items()), ("", ""))
    name = given.header if given.header is not None else had[0]
    value = given.api_key if given.api_key is not None else had[1]
    missing = [field_name for field_name, entered in (("header", name), ("api_key", value)) if not entered]
    if missing:
        raise InvalidInput("The sign-in is not complete.", fields={each: ["This is needed."] for each in missing})
    auth.custom_headers = {name: value}


def as_catalogue_kind(kind: str) -> Kind:
    return Kind.OAUTH if kind == OAUTH else Kind.API_KEY


_ALL = tuple(dict.fromkeys(name for names in _OF_KIND.values() for name in names))
