"""Ways to a smaller model side by side: the plan, its runs in a folder that goes on, their table."""

from .experiment import compress
from .plan import Plan
from .tables import RESULTS, write_results

__all__ = ["RESULTS", "Plan", "compress", "write_results"]
