"""The options of run.py, a file for each group of its --help. Those without a default here get theirs in `defaults`."""
