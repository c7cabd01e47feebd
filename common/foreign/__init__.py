"""What trainings that Twinscale never ran have left: loss curves and checkpoints. Read as numbers; nothing is built,
run or unpickled."""
