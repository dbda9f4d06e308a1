"""The icon set: the inside of a 24 by 24 SVG drawn with a round 1.75 px stroke in the text's colour."""

from __future__ import annotations

_CIRCLE = '<circle cx="12" cy="12" r="9"/>'
_PERSON = '<circle cx="12" cy="8" r="4"/><path d="M4.5 20.5c.8-3.8 3.8-6 7.5-6s6.7 2.2 7.5 6"/>'
_EYE = '<path d="M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z"/>'
_SLASH = '<path d="M4 4l16 16"/>'
_SHIELD = '<path d="M12 3l7.5 2.8v5.7c0 4.5-3 7.7-7.5 9.5-4.5-1.8-7.5-5-7.5-9.5V5.8z"/>'

ICONS: dict[str, str] = {
    # Places
    "agents": '<rect x="4" y="8" width="16" height="11" rx="3"/><path d="M12 8V4.5M1.8 12.5v3M22.2 12.5v3'
    'M9 13v1M15 13v1"/>'
    '<circle cx="12" cy="3.5" r="1"/>',
    "integrations": '<path d="M9 3v5M15 3v5M6.5 8h11v3.5a5.5 5.5 0 0 1-11 0zM12 17v4"/>',
    "connectors": '<path d="'
    'M10 5.5a2 2 0 1 1 4 0V7h3.5v3.5H19a2 2 0 1 1 0 4h-1.5V19H13v-1.5a2 2 0 1 0-4 0V19H5V7h5z"/>',
    "activity": '<path d="M2.5 12H7l3-8 4.5 16 3-8h4"/>',
    "members": '<circle cx="9" cy="8" r="3.5"/><path d="M2.5 20c.6-3.5 3.2-5.5 6.5-5.5s5.9 2 6.5 5.5"/>'
    '<path d="M15.5 4.8a3.5 3.5 0 0 1 0 6.4M18 15c1.9.8 3.1 2.5 3.5 5"/>',
    "server": '<rect x="3.5" y="4" width="17" height="7" rx="2"/><rect x="3.5" y="13" width="17" height="7" rx="2"/>'
    '<path d="M7.5 7.5h.01M7.5 16.5h.01M11 7.5h5.5M11 16.5h5.5"/>',
    "key": '<circle cx="7.5" cy="15.5" r="4"/><path d="M10.4 12.6L20 3M16 7l3 3M13.2 9.8l2 2"/>',
    "chat": '<path d="M4 5h16a1 1 0 0 1 1 1v10a1 1 0 0 1-1 1h-8l-5 4v-4H4a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1z"/>',
    "home": '<path d="M4 10.5L12 4l8 6.5V19a1 1 0 0 1-1 1h-4.5v-5.5h-5V20H5a1 1 0 0 1-1-1z"/>',
    "settings": '<path d="M4 7h9M17 7h3M4 17h3M11 17h9"/><circle cx="15" cy="7" r="2"/><circle cx="9" cy="17" r="2"/>',
    "building": '<path d="M5 21V4.5A1.5 1.5 0 0 1 6.5 3h7A1.5 1.5 0 0 1 15 4.5V21M15 10h3a1 1 0 0 1 1 1v10M3 21h18"/>'
    '<path d="M9 7.5h2M9 11.5h2M9 15.5h2"/>',
    "calendar": '<rect x="3.5" y="5" width="17" height="15.5" rx="2"/><path d="M3.5 10h17M8 3v4M16 3v4"/>',
    "book": '<path d="M5 4.5A1.5 1.5 0 0 1 6.5 3H19v18H6.5A1.5 1.5 0 0 1 5 19.5zM5 18h14M9 7.5h6"/>',
    # States
    "check": '<path d="M5 12.5l4.5 4.5L19 7.5"/>',
    "check-circle": _CIRCLE + '<path d="M8 12.3l2.8 2.8L16 9.5"/>',
    "alert": _CIRCLE + '<path d="M12 7.5v5M12 16h.01"/>',
    "warning": '<path d="M12 4L2.8 19.5h18.4zM12 10v4.5M12 17h.01"/>',
    "info": _CIRCLE + '<path d="M12 11v5.5M12 7.8h.01"/>',
    "help": _CIRCLE + '<path d="M9.5 9.5a2.5 2.5 0 1 1 3.6 2.3c-.7.4-1.1.9-1.1 1.7M12 16.5h.01"/>',
    "clock": _CIRCLE + '<path d="M12 7v5.3l3.5 2"/>',
    "minus-circle": _CIRCLE + '<path d="M8.5 12h7"/>',
    "link": '<path d="M10 14a4 4 0 0 0 5.7 0l3.6-3.6a4 4 0 0 0-5.7-5.7l-1.3 1.3"/>'
    '<path d="M14 10a4 4 0 0 0-5.7 0l-3.6 3.6a4 4 0 0 0 5.7 5.7l1.3-1.3"/>',
    "unlink": '<path d="M14.5 15l4.8-4.6a4 4 0 0 0-5.7-5.7l-1.3 1.3M9.5 9l-4.8 4.6a4 4 0 0 0 5.7 5.7l1.3-1.3"/>'
    + _SLASH,
    "shield": _SHIELD,
    "shield-check": _SHIELD + '<path d="M8.8 12l2.3 2.3 4.2-4.5"/>',
    "lock": '<rect x="5" y="10.5" width="14" height="10" rx="2"/><path d="M8 10.5V7.5a4 4 0 0 1 8 0v3"/>',
    "eye": _EYE + '<circle cx="12" cy="12" r="2.8"/>',
    "eye-off": _EYE + _SLASH,
    "star": '<path d="M12 3.5l2.6 5.4 5.9.8-4.3 4.1 1 5.9-5.2-2.8-5.2 2.8 1-5.9L3.5 9.7l5.9-.8z"/>',
    "bolt": '<path d="M13 3L5 13.5h6L10.5 21 19 10.5h-6.5z"/>',
    # Verbs
    "play": '<path d="M7.5 4.8v14.4L19 12z"/>',
    "pause": '<path d="M8 5v14M16 5v14"/>',
    "stop": '<rect x="6" y="6" width="12" height="12" rx="2"/>',
    "edit": '<path d="M4 20l.8-4L16 4.8a1.7 1.7 0 0 1 2.4 0l.8.8a1.7 1.7 0 0 1 0 2.4L8 19.2zM14 6.8l3.2 3.2"/>',
    "trash": '<path d="M4 6.5h16M9 6.5V4h6v2.5M6 6.5l.9 13.5h10.2L18 6.5M10 10.5v6M14 10.5v6"/>',
    "plus": '<path d="M12 5v14M5 12h14"/>',
    "minus": '<path d="M5 12h14"/>',
    "copy": '<rect x="8.5" y="8.5" width="12" height="12" rx="2"/>'
    '<path d="M15.5 8.5v-3a2 2 0 0 0-2-2h-8a2 2 0 0 0-2 2v8a2 2 0 0 0 2 2h3"/>',
    "external": '<path d="M14 4h6v6M20 4l-9 9'
    'M18 14v4.5a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 4 18.5v-11A1.5 1.5 0 0 1 5.5 6H10"/>',
    "search": '<circle cx="10.8" cy="10.8" r="6.8"/><path d="M20.5 20.5l-4.9-4.9"/>',
    "filter": '<path d="M3.5 6h17M7 12h10M10.5 18h3"/>',
    "download": '<path d="M12 3.5V15M7 10.5l5 5 5-5M4 20.5h16"/>',
    "upload": '<path d="M12 15.5V4M7 8.5l5-5 5 5M4 20.5h16"/>',
    "refresh": '<path d="M20 11a8 8 0 0 0-14-4.5L3.5 9M3.5 4v5h5M4 13a8 8 0 0 0 14 4.5l2.5-2.5M20.5 20v-5h-5"/>',
    "send": '<path d="M12 20V5M5.5 11.5L12 5l6.5 6.5"/>',
    "logout": '<path d="M10 4H6a1.5 1.5 0 0 0-1.5 1.5v13A1.5 1.5 0 0 0 6 20h4M15.5 8l4 4-4 4M19.5 12H10"/>',
    "tool": '<path d="'
    "M14.7 6.3a4.5 4.5 0 0 1 5.8-1.6L17.5 7.7l.4 2.4 2.4.4 1-1a4.5 4.5 0 0 1-6.8 4.2l-6.8 6.8a2 2 0 0 1-2.9-2.9"
    'l6.8-6.8a4.5 4.5 0 0 1 3.1-4.5z"/>',
    "user": _PERSON,
    # Signs
    "chevron-down": '<path d="M6.5 9.5L12 15l5.5-5.5"/>',
    "chevron-up": '<path d="M6.5 14.5L12 9l5.5 5.5"/>',
    "chevron-right": '<path d="M9.5 6.5L15 12l-5.5 5.5"/>',
    "chevron-up-down": '<path d="M8 9.5l4-4 4 4M8 14.5l4 4 4-4"/>',
    "arrow-right": '<path d="M4.5 12h15M13.5 6l6 6-6 6"/>',
    "arrow-left": '<path d="M19.5 12h-15M10.5 6l-6 6 6 6"/>',
    "menu": '<path d="M4 7h16M4 12h16M4 17h16"/>',
    "close": '<path d="M6 6l12 12M18 6L6 18"/>',
    "more": '<path stroke-width="3" d="M5.5 12h.01M12 12h.01M18.5 12h.01"/>',
    "sun": '<circle cx="12" cy="12" r="4"/><path d="M12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4'
    "M17.3 17.3l1.4 1.4"
    'M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4"/>',
    "moon": '<path d="M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z"/>',
    "monitor": '<rect x="3" y="4.5" width="18" height="12" rx="2"/><path d="M8.5 20.5h7M12 16.5v4"/>',
}
ICONS["wrench"] = ICONS["tool"]
ICONS["bot"] = ICONS["agents"]
ICONS["plug"] = ICONS["integrations"]
ICONS["puzzle"] = ICONS["connectors"]
