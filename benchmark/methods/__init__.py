"""The adaptation methods, one file each; the file's name is the public name. `contract.py` is what each one keeps."""
