"""This machine: a queue, and the process that carries an attempt out. See README.md one folder up."""
