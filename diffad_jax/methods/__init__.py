"""The methods that the paper compares with, behind the same contract (``contracts.Method``)."""
