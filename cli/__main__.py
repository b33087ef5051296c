"""Run `python -m cli` from a checkout, without installing."""

from dvae_cli.main import main

main()
