"""What keeps datasets in order after they were made: gc, verify, remove, card, diff. One file a command.

A dataset is published output (a folder or URL with a manifest) or a recipe with its work folder; see `datasets`.
"""
