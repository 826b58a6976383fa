"""What a model is worth: evaluators, tasks, the rows of measurements."""
