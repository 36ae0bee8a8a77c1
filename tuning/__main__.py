"""`python -m tuning` is the program `adaptertune`."""

from tuning.cli import main

main()
