"""`python -m narae` is the command `narae`."""

from narae.cli import main

raise SystemExit(main())
