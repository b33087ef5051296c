"""Test machines: Boltzmann machines, by name, whose log Z is known exactly, for testing any estimator.

    from dvae_eval import test_machines

    case = test_machines.make("planted-16x64")
    case.machine.W, case.machine.b_left, case.machine.b_right, case.log_z

Every exact value comes from closed forms, counting, sums over states or transfer matrices in NumPy, and is
independent of this package's estimators.  `make_model` makes small discrete VAEs whose log p(x) is known from sums
and quadrature.  `dvae-eval benchmark` runs estimators on all of them.
"""

from .catalogue import TestMachine, make, names, suite
from .models import TestModel, make_model, model_names

__all__ = ["TestMachine", "TestModel", "make", "make_model", "model_names", "names", "suite"]
