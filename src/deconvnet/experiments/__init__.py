"""The paper's figures and tables, one folder for each. Each result draws its own figures and converts itself to JSON."""
