"""The pretrained backbones, one file a family. `contract.py` says what each one states."""
