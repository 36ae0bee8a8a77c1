"""The data sets, one file each; the file's name is the public name. `contract.py` says what each one states."""
