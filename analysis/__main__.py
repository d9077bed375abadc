"""`python -m analysis`: the commands of analysis alone; `forgetting-sweep` has them too."""

from analysis.cli import main

if __name__ == "__main__":
    main(prog_name="python -m analysis")
