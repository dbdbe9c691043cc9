"""`python -m ranker`: the `ranker` command."""

from ranker.cli import main

main()
