"""The commands of the command line, one file each: `add` defines the options, the handler does the work by calling it.

Heavy parts load inside the handlers, so that `curate --help` answers at once.
"""
