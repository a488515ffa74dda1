"""A SLURM cluster, through submitit. See README.md one folder up."""
