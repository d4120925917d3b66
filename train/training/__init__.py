"""What learns and how: `learner`, `criterion` (the loss, with mixup or without), `recipe`, and an epoch in `loop`."""
