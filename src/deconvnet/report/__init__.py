"""The whole paper on one page: every figure and table that the data allows, next to what the paper says about it."""
