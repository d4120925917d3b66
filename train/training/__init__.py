"""What learns and how.

`learner`, `criterion` (the loss, with mixup or without), `recipe`, an epoch in `loop`; `optimizers` with groups of
parameters, `schedules` of the learning rate, `averaging` of the weights.
"""
