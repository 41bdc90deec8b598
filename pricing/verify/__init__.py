"""Do budgets, ledger and requests agree: in all, and in each cap's window. What does not is named."""
