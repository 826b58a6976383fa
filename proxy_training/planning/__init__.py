"""What is decided before training: ladders as files, rules, schedules, plans with their costs, tuning, launch files."""
