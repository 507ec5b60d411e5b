"""The whole paper on one page: every figure and table that the data allows, beside what the paper says of its own."""
