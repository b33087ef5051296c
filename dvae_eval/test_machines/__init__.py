"""Test machines: Boltzmann machines by name whose log Z is known exactly, for anybody's estimator.

    from dvae_eval import test_machines

    case = test_machines.make("planted-16x64")
    case.machine.W, case.machine.b_left, case.machine.b_right, case.log_z

Every exact value comes from closed forms, counting, sums over states or transfer matrices in NumPy, none from the
code that this package measures others with.  `dvae-eval benchmark` runs estimators on the suites.
"""

from .catalogue import TestMachine, make, names, suite

__all__ = ["TestMachine", "make", "names", "suite"]
