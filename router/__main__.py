"""`python -m router` is the command `sluice`, where the package is there and its command is not."""

from router.cli.main import main

main()
