"""`python -m voxthread`: the command line."""

from voxthread.cli import main

main(prog_name="voxthread")
