"""``python -m neuronpath`` is the command ``neuronpath``."""

from .cli.start import main

main()
