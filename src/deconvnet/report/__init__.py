"""The whole paper on one page: every figure and table that the data allows, beside what the paper says of its own."""

from deconvnet.report.gather import gather
from deconvnet.report.plan import Materials
from deconvnet.report.reproduce import reproduce

__all__ = ["Materials", "gather", "reproduce"]
