"""Ten page templates: blog, news, docs, forum, wiki, shop, old-table portal, bare, and the print and mobile versions.

A template turns a `Page` (title, blocks, provenance) on a `Site` (host, menus, character set) into the HTML that such a
site would serve: head, navigation, cookie notice, advertisements, share buttons, related links, comments, footer,
inline script and style. The furniture is the same on all pages of a site, as on the web, and lean: it ships.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from random import Random

from examples.sample.sources import Block


@dataclass(frozen=True)
class Site:
    """One made-up host of the crawl; all its pages share template, menus and character set."""

    host: str
    name: str
    template: str
    charset: str = "utf-8"
    declares: str = "header"
    """Where the character set is said: header, meta or both."""
    menu: tuple[str, ...] = ("Home", "About", "Archive", "Contact")
    scheme: str = "https"
    lang: str = "en"


@dataclass(frozen=True)
class Page:
    """What a template shows."""

    title: str
    blocks: tuple[Block, ...]
    path: str
    date: str
    author: str = ""
    credit: str = ""
    """Attribution in HTML for text whose licence asks for it; empty for public-domain and made-up text."""
    comments: tuple[str, ...] = ()
    related: tuple[tuple[str, str], ...] = field(default=())
    """(path, title) of other pages of the site."""


def render_blocks(blocks: tuple[Block, ...], *, level: int = 2, sloppy: bool = False) -> str:
    """Blocks as HTML; `sloppy` leaves out the end tags that HTML lets one leave out."""
    out: list[str] = []
    in_list = False
    end_p, end_li = ("", "") if sloppy else ("</p>", "</li>")
    for kind, text in blocks:
        if in_list and kind != "li":
            out.append("</ul>")
            in_list = False
        body = escape(text, quote=False)
        if kind == "h":
            out.append(f"<h{level}>{body}</h{level}>")
        elif kind == "pre":
            out.append(f"<pre><code>{body}</code></pre>")
        elif kind == "li":
            if not in_list:
                out.append("<ul>")
                in_list = True
            out.append(f"<li>{body}{end_li}")
        elif kind == "html":  # junk brings its own markup
            out.append(text)
        else:
            out.append(f"<p>{body}{end_p}")
    if in_list:
        out.append("</ul>")
    return "\n".join(out)


def _head(site: Site, page: Page, extra: str = "") -> str:
    meta = f'<meta charset="{site.charset}">\n' if site.declares in ("meta", "both") else ""
    return (
        f"<head>\n{meta}<title>{escape(page.title)} - {escape(site.name)}</title>\n"
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n{extra}</head>'
    )


def _links(items: tuple[tuple[str, str], ...], tag: str = "li") -> str:
    return "".join(f'<{tag}><a href="{escape(href)}">{escape(text)}</a></{tag}>' for href, text in items)


def _menu(site: Site) -> str:
    return _links(tuple((f"/{name.lower().replace(' ', '-')}/", name) for name in site.menu))


def _comments(page: Page, css: str = "comment") -> str:
    return "".join(
        f'<div class="{css}"><b>guest{i}</b> <p>{escape(text)}</p></div>' for i, text in enumerate(page.comments, 1)
    )


_COOKIES = (
    '<div id="cookie-consent" class="cookie-banner">We use cookies to give you the best experience on our website. '
    "<button>Accept all</button> <button>Settings</button></div>"
)


def blog(site: Site, page: Page) -> str:
    """A weblog: article element, share buttons, comments, side bar."""
    head = _head(
        site,
        page,
        f'<meta property="og:title" content="{escape(page.title)}">\n'
        "<style>body{max-width:60em;margin:auto}</style>\n",
    )
    return f"""<!DOCTYPE html>
<html lang="{site.lang}">
{head}
<body class="single-post">
<header class="site-header"><a href="/" rel="home">{escape(site.name)}</a><nav><ul>{_menu(site)}</ul></nav></header>
<main><article class="post"><h1 class="entry-title">{escape(page.title)}</h1>
<div class="entry-meta">Posted on <time datetime="{page.date}">{page.date}</time> by {escape(page.author)}</div>
<div class="entry-content">
{render_blocks(page.blocks)}
{page.credit}
</div>
<div class="share">Share this: <a href="#tw">Tweet</a> <a href="#fb">Facebook</a> <a href="#mail">Email</a></div>
</article>
<section id="comments" class="comments"><h3>Leave a Reply</h3>{_comments(page)}</section></main>
<aside class="sidebar"><h3>Recent posts</h3><ul>{_links(page.related)}</ul></aside>
<footer class="site-footer">&copy; {page.date[:4]} {escape(site.name)}. Powered by a blog engine.</footer>
{_COOKIES}
<script>(function(){{var d=document;d.body.className+=" js";}})();</script>
</body></html>"""


def news(site: Site, page: Page) -> str:
    """A news site: breadcrumb, advertisements between paragraphs, most-read list, newsletter box."""
    half = len(page.blocks) // 2
    return f"""<!doctype html>
<html lang="{site.lang}">
{_head(site, page, f'<meta name="author" content="{escape(page.author)}">' + chr(10))}
<body>
{_COOKIES}
<div class="topbar"><a href="/subscribe">Subscribe</a> | <a href="/login">Sign in</a></div>
<nav class="main-nav"><ul>{_menu(site)}</ul></nav>
<div class="breadcrumb"><a href="/">Home</a> &raquo; <a href="/news/">News</a> &raquo; {escape(page.title)}</div>
<div id="content"><h1>{escape(page.title)}</h1>
<p class="byline">By {escape(page.author)} | Updated {page.date}</p>
<div class="article-body">
{render_blocks(page.blocks[:half])}
<div class="ad-slot" id="ad-mid"><span>Advertisement</span></div>
{render_blocks(page.blocks[half:])}
{page.credit}
</div>
<div class="newsletter"><p>Sign up for our daily newsletter. Enter your email address below.</p></div>
</div>
<div class="most-read"><h4>Most read</h4><ol>{_links(page.related)}</ol></div>
<footer><ul>{_links((("/terms", "Terms of use"), ("/privacy", "Privacy"), ("/ads", "Advertise with us")))}</ul></footer>
<script>window.dataLayer=window.dataLayer||[];function gtag(){{dataLayer.push(arguments)}}</script>
</body></html>"""


def docs(site: Site, page: Page) -> str:
    """A manual: table of contents on the left, "was this helpful" at the end."""
    toc = tuple((f"#s{i}", text) for i, (kind, text) in enumerate(page.blocks) if kind == "h")[:8]
    return f"""<!DOCTYPE html>
<html lang="{site.lang}">
{_head(site, page, '<link rel="stylesheet" href="/static/docs.css">' + chr(10))}
<body>
<div class="navbar">{escape(site.name)} <form action="/search"><input name="q" placeholder="Search docs"></form></div>
<div class="sidebar-nav"><ul>{_menu(site)}{_links(page.related)}</ul></div>
<div class="document" role="main"><h1>{escape(page.title)}</h1>
<div class="toc"><p>On this page</p><ul>{_links(toc)}</ul></div>
{render_blocks(page.blocks)}
{page.credit}
<div class="feedback">Was this page helpful? <button>Yes</button> <button>No</button></div>
</div>
<div class="prev-next"><a href="prev.html">Previous</a> <a href="next.html">Next</a></div>
<footer>Last updated on {page.date}. Edit this page.</footer>
</body></html>"""


def forum(site: Site, page: Page) -> str:
    """A thread or question page: posts as divs with user and date, vote counters, login prompt."""
    posts: list[list[Block]] = [[]]
    for block in page.blocks:
        if block == ("h", "Answer"):
            posts.append([])
        else:
            posts[-1].append(block)
    body = "\n".join(
        f'<div class="post" id="p{i}">'
        f'<div class="user">member{(len(page.title) * 7 + i * 31) % 997} &middot; {page.date}</div>'
        f'<div class="votes">{(len(page.title) + 3 * i) % 17} votes</div>\n'
        f'<div class="post-body">{render_blocks(tuple(post), level=3)}</div></div>'
        for i, post in enumerate(posts)
    )
    return f"""<!DOCTYPE html>
<html lang="{site.lang}">
{_head(site, page)}
<body>
<div class="header"><a href="/">{escape(site.name)}</a> <a href="/login">Log in</a> <a href="/signup">Sign up</a></div>
<ul class="crumbs">{_menu(site)}</ul>
<div class="thread"><h1>{escape(page.title)}</h1>
{body}
{_comments(page)}
{page.credit}
</div>
<div class="reply-box"><p>You must log in to reply to this thread.</p></div>
<div class="related-threads"><h4>Similar threads</h4><ul>{_links(page.related)}</ul></div>
<div class="footer">All times are GMT. Board software by Example Boards.</div>
</body></html>"""


def wiki(site: Site, page: Page) -> str:
    """A wiki article: tabs, edit links at headings, tools, categories."""
    body = render_blocks(page.blocks).replace(
        "</h2>", ' <span class="mw-editsection">[<a href="?action=edit">edit</a>]</span></h2>'
    )
    return f"""<!DOCTYPE html>
<html class="client-nojs" lang="{site.lang}" dir="ltr">
{_head(site, page, '<meta name="generator" content="WikiEngine 1.4">' + chr(10))}
<body class="mediawiki">
<div id="mw-page-base"></div>
<div id="content" class="mw-body" role="main"><h1 id="firstHeading">{escape(page.title)}</h1>
<div id="siteSub">From {escape(site.name)}</div>
<div id="mw-content-text" class="mw-parser-output">
{body}
{page.credit}
</div>
<div id="catlinks">Categories: {_links(page.related, "span")}</div></div>
<div id="mw-navigation"><h2>Navigation menu</h2><ul>{_menu(site)}<li>Random page</li><li>Recent changes</li></ul></div>
<div id="footer"><ul><li>This page was last edited on {page.date}.</li><li>Privacy policy</li></ul></div>
</body></html>"""


def shop(site: Site, page: Page) -> str:
    """A shop: categories, cart, price box, the text as product description."""
    return f"""<!DOCTYPE html>
<html lang="{site.lang}">
{_head(site, page, '<script type="application/ld+json">{"@type":"Product"}</script>' + chr(10))}
<body>
<div class="shop-top"><a href="/cart">0 items in cart</a> <a href="/account">My account</a> Free shipping</div>
<ul class="categories">{_menu(site)}</ul>
<div class="product"><h1>{escape(page.title)}</h1>
<div class="buy">$ {len(page.title)}.99 <button>Add to cart</button> <button>Add to wishlist</button></div>
<div class="description">
{render_blocks(page.blocks, level=3)}
{page.credit}
</div></div>
<div class="also-bought"><h3>Customers also bought</h3><ul>{_links(page.related)}</ul></div>
<div class="footer">Shipping | Returns | Gift cards | Track your order</div>
{_COOKIES}
<script>var cart={{items:[],total:0}};</script>
</body></html>"""


def portal(site: Site, page: Page) -> str:
    """A page of about 2003: layout tables, upper-case tags, unquoted attributes, tags left open."""
    return f"""<HTML><HEAD><TITLE>{escape(page.title)}</TITLE>
{f'<META http-equiv=Content-Type content="text/html; charset={site.charset}">' if site.declares != "header" else ""}
</HEAD><BODY bgcolor=#ffffff link=#0000cc>
<TABLE width=100% border=0 cellpadding=4><TR><TD colspan=2><FONT size=+2>{escape(site.name)}</FONT>
<TR valign=top><TD width=140 bgcolor=#eeeeee><UL>{_menu(site)}</UL>
<TD><CENTER><H1>{escape(page.title)}</H1></CENTER>
{render_blocks(page.blocks, level=3, sloppy=True)}
{page.credit}
<HR><P align=center><B>Best viewed at 800x600</B>
</TABLE>
<P>Visitors since {page.date[:4]}: {1000 + 37 * len(page.title)}
</BODY>"""


def bare(site: Site, page: Page) -> str:
    """A hand-made page: nothing but the text."""
    return f"""<!DOCTYPE html>
<html>{_head(site, page)}
<body>
<h1>{escape(page.title)}</h1>
{render_blocks(page.blocks, sloppy=True)}
{page.credit}
<hr><address>{escape(page.author)}, {page.date}</address>
</body></html>"""


def printout(site: Site, page: Page) -> str:
    """The print version: text, and where it came from."""
    return f"""<html lang="{site.lang}">{_head(site, page, '<meta name="robots" content="noindex">' + chr(10))}
<body class="print" onload="window.print()">
<div class="print-head">{escape(site.name)} - printer-friendly version</div>
<h1>{escape(page.title)}</h1>
{render_blocks(page.blocks)}
{page.credit}
<p>Printed from {site.scheme}://{site.host}{page.path}</p>
</body></html>"""


def mobile(site: Site, page: Page) -> str:
    """The mobile version: collapsed menu, application banner."""
    return f"""<!DOCTYPE html>
<html lang="{site.lang}" class="touch">
{_head(site, page, '<meta name="theme-color" content="#336699">' + chr(10))}
<body>
<div class="app-banner">Get the {escape(site.name)} app. <a href="/app">Open</a></div>
<button class="hamburger">Menu</button><ul class="m-nav" hidden>{_menu(site)}</ul>
<div class="m-article"><h1>{escape(page.title)}</h1><div class="m-date">{page.date}</div>
{render_blocks(page.blocks)}
{page.credit}
</div>
<div class="m-more"><h4>More stories</h4><ul>{_links(page.related)}</ul></div>
<footer><a href="/">Full site</a> <a href="#top">Back to top</a></footer>
</body></html>"""


TEMPLATES: dict[str, Callable[[Site, Page], str]] = {
    function.__name__: function for function in (blog, news, docs, forum, wiki, shop, portal, bare, printout, mobile)
}


def render(site: Site, page: Page, template: str | None = None) -> str:
    """The HTML of `page` on `site` (in the site's template unless another is named)."""
    return TEMPLATES[template or site.template](site, page)


_ADJECTIVES = "Green River North Silver Open Old Bright Cedar Harbor Maple Stone Blue Quiet Summit Union Valley".split()
_NOUNS = {
    "blog": ["Notebook", "Journal", "Diary", "Letters"],
    "news": ["Herald", "Courier", "Post", "Gazette"],
    "docs": ["Docs", "Handbook", "Guide", "Reference"],
    "forum": ["Forum", "Answers", "Boards", "Community"],
    "wiki": ["Wiki", "Pedia", "Encyclopedia", "Commons"],
    "shop": ["Store", "Outlet", "Market", "Deals"],
    "portal": ["Portal", "Web Ring", "Archive", "Online"],
    "bare": ["Pages", "Home Page", "Texts", "Papers"],
    "mobile": ["Mobile", "App", "Reader", "Pocket"],
}
_MENUS = {
    "blog": ("Home", "About", "Archive", "Contact"),
    "news": ("World", "Politics", "Business", "Science", "Culture", "Sport", "Opinion"),
    "docs": ("Getting started", "Tutorials", "Reference", "FAQ", "Release notes"),
    "forum": ("Forums", "New posts", "Members", "Rules"),
    "wiki": ("Main page", "Contents", "Current events", "Help"),
    "shop": ("New in", "Home and garden", "Electronics", "Toys", "Sale"),
    "portal": ("Index", "Library", "Links", "Guestbook"),
    "bare": ("Index",),
    "mobile": ("Top", "Saved", "Search"),
}


def make_site(rng: Random, template: str, number: int, *, lang: str = "en", charset: str | None = None) -> Site:
    """The `number`-th site: its host is unique and lies under .example, which nobody can register."""
    adjective, noun = rng.choice(_ADJECTIVES), rng.choice(_NOUNS[template])
    old = template in ("portal", "bare") and rng.random() < 0.6
    return Site(
        host=f"{rng.choice(['www.', 'www.', ''])}{adjective}-{noun.replace(' ', '')}{number}.example".lower(),
        name=f"{adjective} {noun}",
        template=template,
        charset=charset or (rng.choice(["iso-8859-1", "windows-1252"]) if old else "utf-8"),
        declares=rng.choice(["header", "meta", "both"]),
        menu=_MENUS[template],
        scheme="http" if old else "https",
        lang=lang,
    )
