"""One run of a program, from options to exit code: in this process, or on the ranks of a job."""
