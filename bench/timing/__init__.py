"""Time, memory and kernels of a step, in a process of its own; what the device can do at most; where this was."""
