"""One module per figure or table; each result draws itself and writes itself as JSON."""
