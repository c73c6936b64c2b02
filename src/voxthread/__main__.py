"""`python -m voxthread`: the command line."""

from voxthread.cli import main

if __name__ == "__main__":  # a worker process imports this too
    main(prog_name="voxthread")
