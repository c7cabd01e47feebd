"""Two programs that ought to be one, whoever wrote them: which tensor of one is which of the other, and how it lies.

Side `a` is the program whose layout tensors are kept in; `b` runs on what a `Match` carries over from it. A match moves
elements and computes nothing, so that gradients through it are gradients with respect to a's own tensors.
"""
