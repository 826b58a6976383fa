"""What plan.py works with: what is known, the chance of deciding, the search over ladders, the plan's values."""
