"""Reading a data set once and saying what is wrong with it: ``synreal data check``, and the gate that loading needs."""
