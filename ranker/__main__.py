"""`python -m ranker`: the `ranker` command."""

from ranker.cli.main import main

main()
