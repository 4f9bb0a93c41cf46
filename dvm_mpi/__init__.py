"""DVM: one big virtual machine, with one memory, from the ranks of an MPI job.

Importing the package starts nothing: no MPI, no numba, no reservation of memory.
"""

__version__ = "0.1.0"
