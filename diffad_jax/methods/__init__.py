"""DiffAD and the methods that it is compared with, behind one contract (``contract.Method``)."""
