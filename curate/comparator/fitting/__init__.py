"""What fit.py works with: estimators, starts, descent (NumPy and compiled), certificates, the likelihood's scale."""
