"""curate: raw crawl in, ranked datasets out. Heavy parts load when they are used."""

__version__ = "0.1.0"
