"""What backtest.py works with: hold-outs, the choice of a form, conformal bands, decision accuracy, and its result."""
