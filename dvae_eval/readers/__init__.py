"""Boltzmann machines from anywhere: one module for each family of files, and a registry that recognises them.

`read_machine` takes a file, recognises it by its content, and returns a machine over {0,1} with the constant that
takes its log Z to the file's own convention.  No reader runs what a file holds.
"""

from .options import ReadConfig, Reading
from .registry import read_machine, recognise
from .trajectories import read_trajectory

__all__ = ["ReadConfig", "Reading", "read_machine", "read_trajectory", "recognise"]
