"""The version, told in one place: to pip, to results and to ``neuronpath.__version__``."""

__version__ = "1.0.0"
