"""From a run's directory to its processes. See README.md in this folder."""
