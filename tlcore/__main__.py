"""`python -m tlcore` is the command line."""

from tlcore.cli import run

run()
