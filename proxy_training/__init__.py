"""Proxy training: small models, one procedure, cooled-down losses that make datasets comparable (see `ladder.py`)."""
