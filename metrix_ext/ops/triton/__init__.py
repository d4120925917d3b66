"""The ops as Triton kernels: any GPU that Triton knows, and its interpreter on CPU (TRITON_INTERPRET=1).

Only the other modules here import Triton, so that the package works without it.
"""
