"""The adaptation methods, one file each; the file's name is the public name. `contract.py` is what each one keeps.

Looked at and left out, since a name that is not the method is worse than none:

- TeRA (arXiv 2509.03234): its tensor modes, ranks and start values could not be read, only its abstract.
- LoSA (arXiv 2402.02887): likewise the exact form of its low-rank mixer.
- InCA (arXiv 2303.04105): trains many heads from one frozen pass and keeps one, where a trial here has one head.
- LST (arXiv 2206.06522): published for language and vision-language models; how its side network feeds the head of a
  vision classifier is still to be settled.
- DR-Tune (arXiv 2308.12058, equations 5 and 6): its feature banks live across steps, so they would have to be part of a
  trial's checkpoint and be gathered over its workers, and its semantic calibration is estimated on them.
"""
