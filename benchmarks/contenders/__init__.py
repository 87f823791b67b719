"""One file a contender, whose ``run(setting, steps, stopwatch)`` takes training steps as its users would."""
