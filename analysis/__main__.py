"""Makes `python -m analysis` the same command as `forgetting-analysis`."""

from analysis.cli import main

if __name__ == "__main__":
    main(prog_name="python -m analysis")
