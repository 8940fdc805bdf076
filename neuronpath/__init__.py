"""neuronpath: which units, block by block, a vision transformer's decision hangs on.

The public names are listed in ``__init__.pyi``; each is loaded when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
